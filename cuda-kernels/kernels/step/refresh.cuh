// What is done around the refresh of one mode.
#pragma once
#include "estimate.cuh"

// Delta~_k becomes the factor of after this step, both triangles, and its diagonal is kept: in the weights' place, which are not in use between
// the estimate and the direction. `option`: that factor is the state's already.
KLS_FLAT_KERNEL(kls_step_form_factor, kls_step_params, 256) {
    const uint32_t item = kls_step_item(p), k = p.mode, d = p.dims[k];
    if (!kls_step_takes(p, item)) return;
    const float *factor = p.factor[k].of(item), alpha = p.scalars[item].alpha[k];
    float *square = p.delta[k].of(item), *diagonal = p.weight[k].of(item);
    KLS_EACH(i, (uint64_t)d * d) {
        const uint32_t row = (uint32_t)i / d, column = (uint32_t)i - row * d;
        if (column > row) continue;
        const float s = factor[(uint64_t)row * (row + 1) / 2 + column];
        const float x = p.option ? s : kls_average(p.beta2, s, alpha * square[i]);
        square[i] = x;
        if (row == column)
            diagonal[row] = x;
        else
            square[(uint64_t)column * d + row] = x;
    }
}

// Which items' bases are to be turned: those that are stale.
KLS_KERNEL(kls_step_stale, kls_step_params, KLS_BLOCK) {
    const uint32_t item = kls_step_item(p), k = p.mode, d = p.dims[k];
    if (!kls_step_takes(p, item)) return;
    bool stale = true;
    if (p.staleness > 0) {
        const float *square = p.delta[k].of(item);
        double sum = 0;
        for (uint32_t i = 1; i < d; i++) {
            const float own = square[(uint64_t)i * d + i];
            KLS_OWN(j, i) {
                const float x = square[(uint64_t)i * d + j], other = square[(uint64_t)j * d + j];
                // Divided one by one: the product of two diagonal elements may leave the range.
                if (own > 0 && other > 0) sum += (double)((x / own) * (x / other));
            }
        }
        sum = kls_reduce(sum, kls_sum());
        stale = d > 1 && (float)(sum / (0.5 * d * (d - 1.0))) > p.staleness;
    }
    // Every thread has looked at the flags before one changes them.
    __syncthreads();
    if (threadIdx.x == 0) p.flags[item] = (p.flags[item] & ~(KLS_TURN | KLS_TURNED)) | (stale ? KLS_TURN : 0);
}

// Counts what became of a mode's refresh, and sees to its eigenvalues, and where it failed to the basis.
KLS_KERNEL(kls_step_refreshed, kls_step_params, KLS_BLOCK) {
    const uint32_t item = kls_step_item(p), k = p.mode, d = p.dims[k];
    if (!kls_step_takes(p, item)) return;
    const uint32_t flags = p.flags[item];
    const bool turned = flags & KLS_TURNED, tried = flags & KLS_TURN;
    kls_header &header = p.next[item];
    if (threadIdx.x == 0) kls_count(turned ? &header.refreshes : tried ? &header.refresh_failures : &header.refreshes_skipped, 1);
    if (!turned) {
        const float *old = p.basis[k].of(item);
        float *basis = p.new_basis[k].of(item);
        for (uint64_t i = threadIdx.x; i < (uint64_t)d * d; i += blockDim.x) basis[i] = old[i];
    }
    if (!p.has_lambda || (tried && !turned)) return;
    float *lambda = p.new_lambda[k].of(item);
    if (p.eigenvalues == KLS_AT_REFRESH || p.eigenvalues == KLS_INSTANTANEOUS_AFTER_REFRESH) {
        const float *square = p.delta[k].of(item);
        KLS_OWN(i, d) lambda[i] = p.scalars[item].factor * square[i * ((uint64_t)d + 1)];
        kls_count_raised(p, header, kls_settle(lambda, d, p.lowest[k]));
    } else if (turned && p.sorts) {
        // Each with its eigenvector.
        float *old = p.values.of(item);
        const float *key = p.weight[k].of(item);
        KLS_OWN(i, d) old[i] = lambda[i];
        __syncthreads();
        KLS_OWN(i, d) lambda[kls_rank(key, d, i)] = old[i];
    }
}

// product = the second moment with mode k in descending order of the old diagonal.
KLS_FLAT_KERNEL(kls_step_permute, kls_step_params, 256) {
    const uint32_t item = kls_step_item(p), k = p.mode, d = p.dims[k];
    if (!kls_step_takes(p, item)) return;
    const uint32_t left = kls_left(p, k), right = kls_right(p, k);
    const float *x = p.new_second_moment.of(item), *key = p.weight[k].of(item);
    float *out = p.product.of(item);
    // Fibre by fibre of one index: its place is counted once.
    const uint32_t block = blockIdx.x % p.blocks;
    for (uint32_t j = block; j < d; j += p.blocks) {
        const uint32_t to = kls_rank(key, d, j);
        for (uint64_t e = threadIdx.x; e < (uint64_t)left * right; e += blockDim.x) {
            const uint32_t l = (uint32_t)(e / right), r = (uint32_t)(e - (uint64_t)l * right);
            out[((uint64_t)l * d + to) * right + r] = x[((uint64_t)l * d + j) * right + r];
        }
    }
}

// The factor of after this step becomes the state's. `option`: the flag of items in whose refresh it was formed.
KLS_FLAT_KERNEL(kls_step_commit_factor, kls_step_params, 256) {
    const uint32_t item = kls_step_item(p), k = p.mode, d = p.dims[k];
    if (!kls_step_takes(p, item)) return;
    const bool formed = p.flags[item] & p.option;
    const float *square = p.delta[k].of(item), alpha = p.scalars[item].alpha[k];
    float *factor = p.factor[k].of(item);
    // A row of the triangle and the one as far from its end are together d + 1 elements: no thread has nothing to do.
    KLS_EACH(i, (uint64_t)((d + 1) / 2) * (d + 1)) {
        const uint32_t pair = (uint32_t)i / (d + 1), at = (uint32_t)i - pair * (d + 1);
        const bool upper = at <= pair;
        const uint32_t row = upper ? pair : d - 1 - pair, column = upper ? at : at - pair - 1;
        // The row in the middle is a pair of its own.
        if (!upper && row == pair) continue;
        float &s = factor[(uint64_t)row * (row + 1) / 2 + column];
        const float x = square[(uint64_t)row * d + column];
        s = formed ? x : kls_average(p.beta2, s, alpha * x);
    }
}
