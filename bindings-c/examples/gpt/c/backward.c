#include "gemm.h"
#include "model.h"
#include "moe.h"
#include "ops.h"
#include <math.h>

/* The layer out = x weight^T + bias: adds to the gradients of tensors `weight` and `weight + 1` (its bias), and dx = dout weight. */
static void linear_backward(gpt_model *model, gpt_tensor_id weight, int layer, int rows, const real *x, const real *dout, real *dx) {
    const int n = model->tensors[weight].rows, k = model->tensors[weight].columns;
    gemm(GEMM_TN, n, k, rows, dout, n, x, k, gpt_slice(model, model->grads, weight, layer), k, true, NULL);
    bias_backward(rows, n, dout, gpt_slice(model, model->grads, weight + 1, layer));
    gemm(GEMM_NN, rows, k, n, dout, n, gpt_slice(model, model->params, weight, layer), k, dx, k, false, NULL);
}

/* The layer norm with weight tensor `weight` and bias tensor `weight + 1`; adds to dx. */
static void norm_backward(gpt_model *model, gpt_tensor_id weight, int layer, int rows, const real *x, const real *mean, const real *rstd,
                          const real *dout, real *dx) {
    layernorm_backward(rows, model->config.channels, x, gpt_slice(model, model->params, weight, layer), mean, rstd, dout, dx,
                       gpt_slice(model, model->grads, weight, layer), gpt_slice(model, model->grads, weight + 1, layer));
}

/* d_heads -> d_qkv. */
static void attention_backward(const gpt_model *model, const gpt_layer *layer) {
    const int t = model->config.context, c = model->config.channels, heads = model->config.heads, d = c / heads;
    const real scale = 1 / (real)sqrt((double)d);
    real *dscore = model->d_attention;
    for (int b = 0; b < model->batch; b++) {
        for (int h = 0; h < heads; h++) {
            const ptrdiff_t at = (ptrdiff_t)b * t * 3 * c + h * d;
            const real *q = layer->qkv + at, *k = q + c, *v = k + c;
            real *dq = model->d_qkv + at, *dk = dq + c, *dv = dk + c;
            const real *prob = layer->attention + (ptrdiff_t)(b * heads + h) * t * t;
            const real *dout = model->d_heads + (ptrdiff_t)b * t * c + h * d;
            gemm(GEMM_TN, t, d, t, prob, t, dout, c, dv, 3 * c, false, NULL);
            gemm(GEMM_NT, t, t, d, dout, c, v, 3 * c, dscore, t, false, NULL);
            causal_softmax_backward(t, scale, prob, dscore);
            gemm(GEMM_NN, t, d, t, dscore, t, k, 3 * c, dq, 3 * c, false, NULL);
            gemm(GEMM_TN, t, d, t, dscore, t, q, 3 * c, dk, 3 * c, false, NULL);
        }
    }
}

static void dense_mlp_backward(gpt_model *model, int l, const gpt_layer *layer, const real *dout, real *dx) {
    const int rows = model->batch * model->config.context;
    linear_backward(model, GPT_FCPROJW, l, rows, layer->gelu, dout, model->d_fc);
    gelu_backward(rows * 4 * model->config.channels, layer->fc, model->d_fc, model->d_fc);
    linear_backward(model, GPT_FCW, l, rows, layer->ln2, model->d_fc, dx);
}

void gpt_backward(gpt_model *model) {
    const int t = model->config.context, c = model->config.channels, rows = model->batch * t, last = model->config.layers - 1;
    real *d_residual = model->d_residual, *d_channels = model->d_channels;
    real *d_wte = gpt_slice(model, model->grads, GPT_WTE, 0);
    /* The tied head; its gradient meets the embedding's below. */
    gemm(GEMM_TN, GPT_VOCABULARY, c, rows, model->logits, GPT_VOCABULARY, model->lnf, c, d_wte, c, true, NULL);
    gemm(GEMM_NN, rows, c, GPT_VOCABULARY, model->logits, GPT_VOCABULARY, gpt_slice(model, model->params, GPT_WTE, 0), c, d_channels, c,
         false, NULL);
    for (int i = 0; i < rows * c; i++) d_residual[i] = 0;
    norm_backward(model, GPT_LNFW, 0, rows, model->layers[last].out, model->lnf_mean, model->lnf_rstd, d_channels, d_residual);
    for (int l = last; l >= 0; l--) {
        const gpt_layer *layer = &model->layers[l];
        const real *x = l > 0 ? model->layers[l - 1].out : model->embedded;
        if (model->config.experts)
            moe_backward(model, l, layer, d_residual, d_channels);
        else
            dense_mlp_backward(model, l, layer, d_residual, d_channels);
        norm_backward(model, GPT_LN2W, l, rows, layer->after_attention, layer->ln2_mean, layer->ln2_rstd, d_channels, d_residual);

        linear_backward(model, GPT_ATTPROJW, l, rows, layer->heads, d_residual, model->d_heads);
        attention_backward(model, layer);
        linear_backward(model, GPT_QKVW, l, rows, layer->ln1, model->d_qkv, d_channels);
        norm_backward(model, GPT_LN1W, l, rows, x, layer->ln1_mean, layer->ln1_rstd, d_channels, d_residual);
    }
    embed_backward(model->batch, t, c, model->tokens, d_residual, d_wte, gpt_slice(model, model->grads, GPT_WPE, 0));
}
