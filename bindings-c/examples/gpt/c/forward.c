#include "gemm.h"
#include "model.h"
#include "moe.h"
#include "ops.h"
#include <math.h>

/* out (rows, n) = x (rows, k) weight^T + bias, weight (n, k). */
static void linear(int rows, int n, int k, const real *x, const real *weight, const real *bias, real *out) {
    gemm(GEMM_NT, rows, n, k, x, k, weight, k, out, n, false, bias);
}

/* heads = softmax(Q K^T / sqrt(d), causal) V, per sequence and head; the operands are read in place as strided parts of qkv. */
static void attention(const gpt_model *model, int batch, const gpt_layer *layer) {
    const int t = model->config.context, c = model->config.channels, heads = model->config.heads, d = c / heads;
    const real scale = 1 / (real)sqrt((double)d);
    for (int b = 0; b < batch; b++) {
        for (int h = 0; h < heads; h++) {
            const real *q = layer->qkv + (ptrdiff_t)b * t * 3 * c + h * d, *k = q + c, *v = k + c;
            real *prob = layer->attention + (ptrdiff_t)(b * heads + h) * t * t;
            gemm(GEMM_NT, t, t, d, q, 3 * c, k, 3 * c, prob, t, false, NULL);
            causal_softmax_forward(t, scale, prob);
            gemm(GEMM_NN, t, d, t, prob, t, v, 3 * c, layer->heads + (ptrdiff_t)b * t * c + h * d, c, false, NULL);
        }
    }
}

/* out = weight_proj gelu(weight x + bias) + bias_proj, x being the second layer norm's output. */
static void dense_mlp(gpt_model *model, int l, const gpt_layer *layer) {
    const int c = model->config.channels, rows = model->batch * model->config.context;
    real *p = model->params;
    linear(rows, 4 * c, c, layer->ln2, gpt_slice(model, p, GPT_FCW, l), gpt_slice(model, p, GPT_FCB, l), layer->fc);
    gelu_forward(rows * 4 * c, layer->fc, layer->gelu);
    linear(rows, c, 4 * c, layer->gelu, gpt_slice(model, p, GPT_FCPROJW, l), gpt_slice(model, p, GPT_FCPROJB, l), layer->out);
}

void gpt_forward(gpt_model *model, const uint8_t *tokens, int batch, bool keep) {
    const int t = model->config.context, c = model->config.channels, rows = batch * t;
    real *p = model->params;
    model->tokens = tokens;
    model->batch = batch;
    model->balance_loss = 0;
    embed_forward(batch, t, c, tokens, gpt_slice(model, p, GPT_WTE, 0), gpt_slice(model, p, GPT_WPE, 0), model->embedded);
    const real *x = model->embedded;
    for (int l = 0; l < model->config.layers; l++) {
        const gpt_layer *layer = &model->layers[keep ? l : 0];
        layernorm_forward(rows, c, x, gpt_slice(model, p, GPT_LN1W, l), gpt_slice(model, p, GPT_LN1B, l), layer->ln1, layer->ln1_mean,
                          layer->ln1_rstd);
        linear(rows, 3 * c, c, layer->ln1, gpt_slice(model, p, GPT_QKVW, l), gpt_slice(model, p, GPT_QKVB, l), layer->qkv);
        attention(model, batch, layer);
        linear(rows, c, c, layer->heads, gpt_slice(model, p, GPT_ATTPROJW, l), gpt_slice(model, p, GPT_ATTPROJB, l),
               layer->after_attention);
        add(rows * c, x, layer->after_attention, layer->after_attention);

        layernorm_forward(rows, c, layer->after_attention, gpt_slice(model, p, GPT_LN2W, l), gpt_slice(model, p, GPT_LN2B, l), layer->ln2,
                          layer->ln2_mean, layer->ln2_rstd);
        if (model->config.experts)
            moe_forward(model, l, layer);
        else
            dense_mlp(model, l, layer);
        add(rows * c, layer->after_attention, layer->out, layer->out);
        x = layer->out;
    }
    layernorm_forward(rows, c, x, gpt_slice(model, p, GPT_LNFW, 0), gpt_slice(model, p, GPT_LNFB, 0), model->lnf, model->lnf_mean,
                      model->lnf_rstd);
    linear(rows, GPT_VOCABULARY, c, model->lnf, gpt_slice(model, p, GPT_WTE, 0), NULL, model->logits);
}
