#include "moe.h"
#include "gemm.h"
#include "ops.h"

/* The k largest probabilities of a row, in the order of the experts, and their shares of the sum. Ties go to the first. */
static void choose(int experts, int k, const real *prob, int *chosen, real *weight) {
    for (int j = 0; j < k; j++) {
        int best = -1;
        for (int e = 0; e < experts; e++) {
            bool taken = false;
            for (int i = 0; i < j; i++) taken |= chosen[i] == e;
            if (!taken && (best < 0 || prob[e] > prob[best])) best = e;
        }
        int at = j;
        for (; at > 0 && chosen[at - 1] > best; at--) chosen[at] = chosen[at - 1];
        chosen[at] = best;
    }
    real total = 0;
    for (int j = 0; j < k; j++) total += prob[chosen[j]];
    for (int j = 0; j < k; j++) weight[j] = prob[chosen[j]] / total;
}

/* A counting sort: groups the slots by expert, so that every expert's rows are one matrix. */
static void group_by_expert(int slots, int experts, const int *chosen, int *first, int *slot) {
    for (int e = 0; e <= experts; e++) first[e] = 0;
    for (int i = 0; i < slots; i++) first[chosen[i] + 1]++;
    for (int e = 0; e < experts; e++) first[e + 1] += first[e];
    for (int i = 0; i < slots; i++) slot[i] = first[chosen[i]]++;
    /* Every entry has moved on to its successor's start. */
    for (int e = experts; e > 0; e--) first[e] = first[e - 1];
    first[0] = 0;
}

/* Share of all slots that went to expert e. */
static real load(const gpt_routing *routing, int e, int slots) { return (real)(routing->first[e + 1] - routing->first[e]) / (real)slots; }

static double balance_loss(const gpt_config *config, const gpt_routing *routing, int rows) {
    double sum = 0;
    for (int e = 0; e < config->experts; e++) {
        double prob = 0;
        for (int r = 0; r < rows; r++) prob += (double)routing->prob[(ptrdiff_t)r * config->experts + e];
        sum += (double)load(routing, e, rows * config->experts_per_token) * prob / rows;
    }
    return (double)config->balance * config->experts * sum;
}

/* Slot `s` of `routing->in` and `routing->out` belongs to the row whose slot it is: these copy and sum between the two orders. */
static void gather(int rows, int k, int c, const int *slot, const real *x, real *in) {
    for (int i = 0; i < rows * k; i++) memcpy(in + (ptrdiff_t)slot[i] * c, x + (ptrdiff_t)(i / k) * c, (size_t)c * sizeof *in);
}

static void add_scaled(int n, real factor, const real *x, real *restrict y) {
    for (int i = 0; i < n; i++) y[i] += factor * x[i];
}

void moe_forward(gpt_model *model, int l, const gpt_layer *layer) {
    const gpt_config *config = &model->config;
    const gpt_routing *routing = &layer->routing;
    const int c = config->channels, h = config->expert_width, experts = config->experts, k = config->experts_per_token;
    const int rows = model->batch * config->context, slots = rows * k;
    real *p = model->params;
    gemm(GEMM_NT, rows, experts, c, layer->ln2, c, gpt_slice(model, p, GPT_ROUTERW, l), c, routing->prob, experts, false, NULL);
    softmax_forward(rows, experts, routing->prob);
    for (int r = 0; r < rows; r++)
        choose(experts, k, routing->prob + (ptrdiff_t)r * experts, routing->chosen + r * k, routing->weight + r * k);
    group_by_expert(slots, experts, routing->chosen, routing->first, routing->slot);
    model->balance_loss += balance_loss(config, routing, rows);

    gather(rows, k, c, routing->slot, layer->ln2, routing->in);
    for (int e = 0; e < experts; e++) {
        const int begin = routing->first[e], count = routing->first[e + 1] - begin;
        if (count == 0) continue;
        const real *fc_weight = gpt_slice(model, p, GPT_FCW, l) + (ptrdiff_t)e * h * c;
        const real *proj_weight = gpt_slice(model, p, GPT_FCPROJW, l) + (ptrdiff_t)e * c * h;
        real *fc = layer->fc + (ptrdiff_t)begin * h, *gelu = layer->gelu + (ptrdiff_t)begin * h;
        gemm(GEMM_NT, count, h, c, routing->in + (ptrdiff_t)begin * c, c, fc_weight, c, fc, h, false,
             gpt_slice(model, p, GPT_FCB, l) + (ptrdiff_t)e * h);
        gelu_forward(count * h, fc, gelu);
        gemm(GEMM_NT, count, c, h, gelu, h, proj_weight, h, routing->out + (ptrdiff_t)begin * c, c, false,
             gpt_slice(model, p, GPT_FCPROJB, l) + (ptrdiff_t)e * c);
    }
    memset(layer->out, 0, (size_t)rows * (size_t)c * sizeof *layer->out);
    for (int i = 0; i < slots; i++)
        add_scaled(c, routing->weight[i], routing->out + (ptrdiff_t)routing->slot[i] * c, layer->out + (ptrdiff_t)(i / k) * c);
}

/* From the slots' outputs to the router's scores: through the weights, which are a softmax over the chosen experts' scores alone, and
 * through the probabilities of the balance loss. */
static void scores_backward(const gpt_config *config, const gpt_routing *routing, int rows, const real *dout, real *dscores) {
    const int c = config->channels, experts = config->experts, k = config->experts_per_token;
    for (int r = 0; r < rows; r++, dout += c, dscores += experts) {
        const real *prob = routing->prob + (ptrdiff_t)r * experts, *weight = routing->weight + r * k;
        const int *chosen = routing->chosen + r * k, *slot = routing->slot + r * k;
        const real slope = config->balance * (real)experts / (real)rows; /* of the balance loss by a probability, over the expert's load */
        real center = 0;
        for (int e = 0; e < experts; e++) center += prob[e] * load(routing, e, rows * k);
        for (int e = 0; e < experts; e++) dscores[e] = slope * prob[e] * (load(routing, e, rows * k) - center);

        center = 0;
        for (int j = 0; j < k; j++) center += weight[j] * dot(c, dout, routing->out + (ptrdiff_t)slot[j] * c);
        for (int j = 0; j < k; j++)
            dscores[chosen[j]] += weight[j] * (dot(c, dout, routing->out + (ptrdiff_t)slot[j] * c) - center);
    }
}

void moe_backward(gpt_model *model, int l, const gpt_layer *layer, const real *dout, real *dx) {
    const gpt_config *config = &model->config;
    const gpt_routing *routing = &layer->routing;
    const int c = config->channels, h = config->expert_width, experts = config->experts, k = config->experts_per_token;
    const int rows = model->batch * config->context, slots = rows * k;
    real *p = model->params, *g = model->grads, *d_slots = model->d_slots;
    for (int i = 0; i < slots; i++) {
        real *d = d_slots + (ptrdiff_t)routing->slot[i] * c;
        memset(d, 0, (size_t)c * sizeof *d);
        add_scaled(c, routing->weight[i], dout + (ptrdiff_t)(i / k) * c, d);
    }
    for (int e = 0; e < experts; e++) {
        const int begin = routing->first[e], count = routing->first[e + 1] - begin;
        if (count == 0) continue;
        const ptrdiff_t weights = (ptrdiff_t)e * h * c;
        const real *fc = layer->fc + (ptrdiff_t)begin * h, *gelu = layer->gelu + (ptrdiff_t)begin * h;
        real *d = d_slots + (ptrdiff_t)begin * c, *d_fc = model->d_fc + (ptrdiff_t)begin * h;
        gemm(GEMM_TN, c, h, count, d, c, gelu, h, gpt_slice(model, g, GPT_FCPROJW, l) + weights, h, true, NULL);
        bias_backward(count, c, d, gpt_slice(model, g, GPT_FCPROJB, l) + (ptrdiff_t)e * c);
        gemm(GEMM_NN, count, h, c, d, c, gpt_slice(model, p, GPT_FCPROJW, l) + weights, h, d_fc, h, false, NULL);
        gelu_backward(count * h, fc, d_fc, d_fc);
        gemm(GEMM_TN, h, c, count, d_fc, h, routing->in + (ptrdiff_t)begin * c, c, gpt_slice(model, g, GPT_FCW, l) + weights, c, true, NULL);
        bias_backward(count, h, d_fc, gpt_slice(model, g, GPT_FCB, l) + (ptrdiff_t)e * h);
        /* The derivative by the slots' outputs has done its work: its room takes the one by their inputs. */
        gemm(GEMM_NN, count, c, h, d_fc, h, gpt_slice(model, p, GPT_FCW, l) + weights, c, d, c, false, NULL);
    }
    real *d_router = model->d_router;
    scores_backward(config, routing, rows, dout, d_router);
    gemm(GEMM_TN, experts, c, rows, d_router, experts, layer->ln2, c, gpt_slice(model, g, GPT_ROUTERW, l), c, true, NULL);
    gemm(GEMM_NN, rows, c, experts, d_router, experts, gpt_slice(model, p, GPT_ROUTERW, l), c, dx, c, false, NULL);
    for (int i = 0; i < slots; i++) add_scaled(c, 1, d_slots + (ptrdiff_t)routing->slot[i] * c, dx + (ptrdiff_t)(i / k) * c);
}
