/* The network's operations between the matrix products, forward and backward, on row-major (rows, n) arrays.
 *
 * `d` in front of a name is the derivative of the loss by it. Weight gradients are added to, activation gradients are overwritten unless
 * a comment says otherwise. */
#ifndef GPT_OPS_H
#define GPT_OPS_H

#include "real.h"
#include <stdint.h>

/* out = (x - mean) rstd weight + bias, per row; mean and rstd (rows) are kept for the backward pass. */
void layernorm_forward(int rows, int n, const real *x, const real *weight, const real *bias, real *out, real *mean, real *rstd);
/* Adds to dx, dweight and dbias. */
void layernorm_backward(int rows, int n, const real *x, const real *weight, const real *mean, const real *rstd, const real *dout, real *dx,
                        real *dweight, real *dbias);

/* GELU in GPT-2's tanh form. The backward pass may be in place (dx == dout). */
void gelu_forward(int count, const real *x, real *out);
void gelu_backward(int count, const real *x, const real *dout, real *dx);

/* In place, per row. */
void softmax_forward(int rows, int n, real *scores);

/* In place, per row of a (t, t) square: softmax of scale * row over columns 0..=row, zero beyond. */
void causal_softmax_forward(int t, real scale, real *scores);
/* In place: dprob becomes the derivative by the unscaled scores. */
void causal_softmax_backward(int t, real scale, const real *prob, real *dprob);

/* Sum over the rows of -log softmax(logits)[target]. */
double cross_entropy(int rows, int n, const real *logits, const uint8_t *targets);
/* The same sum; logits becomes scale * (softmax(logits) - onehot(target)), the derivative of scale * sum. */
double cross_entropy_backward(int rows, int n, real scale, const uint8_t *targets, real *logits);

void embed_forward(int batch, int t, int n, const uint8_t *tokens, const real *wte, const real *wpe, real *out);
void embed_backward(int batch, int t, int n, const uint8_t *tokens, const real *dout, real *dwte, real *dwpe);

real dot(int n, const real *x, const real *y);
/* out = x + y. */
void add(int count, const real *x, const real *y, real *out);
/* dbias += column sums of dout. */
void bias_backward(int rows, int n, const real *dout, real *dbias);

#endif
