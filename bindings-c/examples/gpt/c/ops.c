#include "ops.h"
#include "fastmath.h"
#include <math.h>
#include <stddef.h>

/* Sums run in this many independent lanes: C forbids the compiler to reorder a single one, and then it cannot vectorise it. */
#define LANES 16

#define SUM_LANES(lanes, total)                                                                                                            \
    do {                                                                                                                                   \
        (total) = 0;                                                                                                                       \
        for (int l_ = 0; l_ < LANES; l_++) (total) += (lanes)[l_];                                                                         \
    } while (0)

static real sum(int n, const real *x) {
    real lanes[LANES] = {0}, total;
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int l = 0; l < LANES; l++) lanes[l] += x[i + l];
    }
    SUM_LANES(lanes, total);
    for (; i < n; i++) total += x[i];
    return total;
}

static real sum_squared_distance(int n, const real *x, real center) {
    real lanes[LANES] = {0}, total;
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int l = 0; l < LANES; l++) lanes[l] += (x[i + l] - center) * (x[i + l] - center);
    }
    SUM_LANES(lanes, total);
    for (; i < n; i++) total += (x[i] - center) * (x[i] - center);
    return total;
}

real dot(int n, const real *x, const real *y) {
    real lanes[LANES] = {0}, total;
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int l = 0; l < LANES; l++) lanes[l] += x[i + l] * y[i + l];
    }
    SUM_LANES(lanes, total);
    for (; i < n; i++) total += x[i] * y[i];
    return total;
}

/* Sum of x y (z - center). */
static real dot_centered(int n, const real *x, const real *y, const real *z, real center) {
    real lanes[LANES] = {0}, total;
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int l = 0; l < LANES; l++) lanes[l] += x[i + l] * y[i + l] * (z[i + l] - center);
    }
    SUM_LANES(lanes, total);
    for (; i < n; i++) total += x[i] * y[i] * (z[i] - center);
    return total;
}

static real maximum(int n, const real *x) {
    real lanes[LANES], best = x[0];
    for (int l = 0; l < LANES; l++) lanes[l] = x[0];
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int l = 0; l < LANES; l++) lanes[l] = x[i + l] > lanes[l] ? x[i + l] : lanes[l];
    }
    for (int l = 0; l < LANES; l++) best = lanes[l] > best ? lanes[l] : best;
    for (; i < n; i++) best = x[i] > best ? x[i] : best;
    return best;
}

/* out = exp(scale (x - shift)), may be in place; returns the sum of out. */
static real exp_and_sum(int n, const real *x, real scale, real shift, real *out) {
    for (int i = 0; i < n; i++) out[i] = fast_exp(scale * (x[i] - shift));
    return sum(n, out);
}

void layernorm_forward(int rows, int n, const real *x, const real *weight, const real *bias, real *out, real *mean, real *rstd) {
    for (int r = 0; r < rows; r++, x += n, out += n) {
        const real m = sum(n, x) / (real)n;
        const real s = 1 / (real)sqrt((double)(sum_squared_distance(n, x, m) / (real)n) + 1e-5);
        for (int i = 0; i < n; i++) out[i] = (x[i] - m) * s * weight[i] + bias[i];
        mean[r] = m;
        rstd[r] = s;
    }
}

void layernorm_backward(int rows, int n, const real *x, const real *weight, const real *mean, const real *rstd, const real *dout,
                        real *restrict dx, real *restrict dweight, real *restrict dbias) {
    for (int r = 0; r < rows; r++, x += n, dout += n, dx += n) {
        const real m = mean[r], s = rstd[r];
        const real dnorm_mean = dot(n, dout, weight) / (real)n;
        const real product_mean = s * dot_centered(n, dout, weight, x, m) / (real)n;
        for (int i = 0; i < n; i++) {
            const real norm = (x[i] - m) * s;
            dx[i] += (dout[i] * weight[i] - dnorm_mean - norm * product_mean) * s;
            dweight[i] += dout[i] * norm;
            dbias[i] += dout[i];
        }
    }
}

/* x (1 + tanh u) / 2 = x sigmoid(2u) with u = sqrt(2/pi) (x + 0.044715 x^3): one exp, no cancellation. */
#define GELU_SCALE ((real)1.5957691216057308) /* 2 sqrt(2/pi) */
#define GELU_CUBIC ((real)0.044715)

void gelu_forward(int count, const real *restrict x, real *restrict out) {
    for (int i = 0; i < count; i++) {
        const real v = x[i];
        out[i] = v / (1 + fast_exp(-GELU_SCALE * v * (1 + GELU_CUBIC * v * v)));
    }
}

void gelu_backward(int count, const real *x, const real *dout, real *dx) {
    for (int i = 0; i < count; i++) {
        const real v = x[i];
        const real gate = 1 / (1 + fast_exp(-GELU_SCALE * v * (1 + GELU_CUBIC * v * v)));
        const real slope = GELU_SCALE * (1 + 3 * GELU_CUBIC * v * v);
        dx[i] = dout[i] * gate * (1 + v * (1 - gate) * slope);
    }
}

void softmax_forward(int rows, int n, real *scores) {
    for (int r = 0; r < rows; r++, scores += n) {
        const real inverse = 1 / exp_and_sum(n, scores, 1, maximum(n, scores), scores);
        for (int i = 0; i < n; i++) scores[i] *= inverse;
    }
}

void causal_softmax_forward(int t, real scale, real *scores) {
    for (int r = 0; r < t; r++) {
        real *row = scores + (ptrdiff_t)r * t;
        const real inverse = 1 / exp_and_sum(r + 1, row, scale, maximum(r + 1, row), row);
        for (int i = 0; i <= r; i++) row[i] *= inverse;
        for (int i = r + 1; i < t; i++) row[i] = 0;
    }
}

void causal_softmax_backward(int t, real scale, const real *restrict prob, real *restrict dprob) {
    for (int r = 0; r < t; r++) {
        const real *p = prob + (ptrdiff_t)r * t;
        real *d = dprob + (ptrdiff_t)r * t;
        const real center = dot(r + 1, p, d);
        for (int i = 0; i <= r; i++) d[i] = scale * p[i] * (d[i] - center);
        for (int i = r + 1; i < t; i++) d[i] = 0;
    }
}

double cross_entropy(int rows, int n, const real *logits, const uint8_t *targets) {
    double total = 0;
    for (int r = 0; r < rows; r++, logits += n) {
        real exponentials[LANES], lanes[LANES] = {0}, partition;
        const real top = maximum(n, logits);
        int i = 0;
        for (; i + LANES <= n; i += LANES) {
            for (int l = 0; l < LANES; l++) exponentials[l] = fast_exp(logits[i + l] - top);
            for (int l = 0; l < LANES; l++) lanes[l] += exponentials[l];
        }
        SUM_LANES(lanes, partition);
        for (; i < n; i++) partition += fast_exp(logits[i] - top);
        total += log((double)partition) + (double)(top - logits[targets[r]]);
    }
    return total;
}

double cross_entropy_backward(int rows, int n, real scale, const uint8_t *targets, real *logits) {
    double total = 0;
    for (int r = 0; r < rows; r++, logits += n) {
        const real top = maximum(n, logits), target = logits[targets[r]];
        const real partition = exp_and_sum(n, logits, 1, top, logits);
        const real factor = scale / partition;
        for (int i = 0; i < n; i++) logits[i] *= factor;
        logits[targets[r]] -= scale;
        total += log((double)partition) + (double)(top - target);
    }
    return total;
}

void embed_forward(int batch, int t, int n, const uint8_t *tokens, const real *wte, const real *wpe, real *out) {
    for (int r = 0; r < batch * t; r++) {
        const real *token = wte + (ptrdiff_t)tokens[r] * n, *position = wpe + (ptrdiff_t)(r % t) * n;
        add(n, token, position, out + (ptrdiff_t)r * n);
    }
}

void embed_backward(int batch, int t, int n, const uint8_t *tokens, const real *dout, real *restrict dwte, real *restrict dwpe) {
    for (int r = 0; r < batch * t; r++, dout += n) {
        real *token = dwte + (ptrdiff_t)tokens[r] * n, *position = dwpe + (ptrdiff_t)(r % t) * n;
        for (int i = 0; i < n; i++) token[i] += dout[i];
        for (int i = 0; i < n; i++) position[i] += dout[i];
    }
}

void add(int count, const real *x, const real *y, real *restrict out) {
    for (int i = 0; i < count; i++) out[i] = x[i] + y[i];
}

void bias_backward(int rows, int n, const real *dout, real *restrict dbias) {
    for (int r = 0; r < rows; r++, dout += n) {
        for (int i = 0; i < n; i++) dbias[i] += dout[i];
    }
}
