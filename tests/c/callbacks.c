#include "check.h"
#include "fixture.h"
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { TENSORS = 5, SIDE = 12, THREADS = 4, STEPS = 6, SIZE = SIDE * SIDE };

/* What a pool has been asked for. */
typedef struct pool_calls {
    int calls, wrong_counts;
    size_t expected;
} pool_calls;

static void count_call(void *user, size_t count) {
    pool_calls *c = user;
    c->calls++;
    c->wrong_counts += count != c->expected;
}

static void one_after_another(void *user, size_t count, kls_task task, void *context) {
    count_call(user, count);
    for (size_t i = 0; i < count; i++) task(context, i);
}

static void backwards(void *user, size_t count, kls_task task, void *context) {
    count_call(user, count);
    while (count > 0) task(context, --count);
}

typedef struct job {
    kls_task task;
    void *context;
    size_t index;
} job;

static void *run_job(void *pointer) {
    const job *j = pointer;
    j->task(j->context, j->index);
    return NULL;
}

static void a_thread_each(void *user, size_t count, kls_task task, void *context) {
    pthread_t threads[THREADS];
    job jobs[THREADS];
    int started[THREADS];
    count_call(user, count);
    for (size_t i = 0; i < count; i++) {
        jobs[i].task = task;
        jobs[i].context = context;
        jobs[i].index = i;
        started[i] = pthread_create(&threads[i], NULL, run_job, &jobs[i]) == 0;
        if (!started[i]) run_job(&jobs[i]);
    }
    for (size_t i = 0; i < count; i++)
        if (started[i]) pthread_join(threads[i], NULL);
}

static void nothing(void *user, size_t count, kls_task task, void *context) {
    count_call(user, count);
    (void)task, (void)context;
}

static void not_the_first(void *user, size_t count, kls_task task, void *context) {
    count_call(user, count);
    for (size_t i = 1; i < count; i++) task(context, i);
}

static void the_last_twice(void *user, size_t count, kls_task task, void *context) {
    one_after_another(user, count, task, context);
    task(context, count - 1);
}

static void too_many(void *user, size_t count, kls_task task, void *context) {
    one_after_another(user, count, task, context);
    for (size_t i = count; i < count + 3; i++) task(context, i);
    task(context, SIZE_MAX);
}

/* Steps with a pool, of which `expected` is the status; the parameters that come out. */
static const char *train(kls_parallel_for pool, uint32_t num_threads, int32_t backend, kls_status expected, float params[TENSORS][SIZE]) {
    const uint64_t dims[2] = {SIDE, SIDE};
    static float grads[TENSORS][SIZE];
    float *param[TENSORS];
    const float *grad[TENSORS];
    kls_config group;
    kls_tensor tensors[TENSORS];
    kls_options options;
    kls_optimizer *optimizer = NULL;
    pool_calls calls = {0, 0, num_threads};
    uint32_t random = 12345;

    EXPECT(KLS_OK, kls_config_init(&group, sizeof group, KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13));
    group.refresh_period = 2;
    EXPECT(KLS_OK, kls_options_init(&options, sizeof options));
    CHECK(options.parallel_for == NULL && options.parallel_for_user == NULL && options.sgemm == NULL && options.sgemm_user == NULL);
    options.num_threads = num_threads;
    options.backend = backend;
    options.parallel_for = pool;
    options.parallel_for_user = &calls;
    for (int i = 0; i < TENSORS; i++) {
        EXPECT(KLS_OK, kls_tensor_init(&tensors[i], sizeof tensors[i], 2, dims));
        param[i] = params[i];
        grad[i] = grads[i];
    }
    memset(params, 0, sizeof(float[TENSORS][SIZE]));
    EXPECT(KLS_OK, kls_optimizer_create(&optimizer, &group, 1, tensors, TENSORS, &options));
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < TENSORS; i++)
            for (int j = 0; j < SIZE; j++) {
                random = random * 1664525u + 1013904223u;
                grads[i][j] = (float)(random >> 8) / 16777216.0f - 0.5f;
            }
        EXPECT(expected, kls_optimizer_step(optimizer, param, grad, TENSORS, 0.01f));
        if (expected == KLS_ERROR_PARALLEL_FOR) {
            CHECK(strcmp(kls_last_error(optimizer), "kls_optimizer_step: The caller's parallel_for did not run every task once and to its "
                                                    "end; the step was made in full all the same.") == 0);
        }
    }
    CHECK(calls.wrong_counts == 0);
    CHECK((calls.calls > 0) == (pool != NULL && num_threads > 1));
    EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));
    return NULL;
}

const char *test_parallel_for(void) {
    static float expected[TENSORS][SIZE], params[TENSORS][SIZE];
    const kls_parallel_for good[] = {NULL, one_after_another, backwards, a_thread_each};
    const kls_parallel_for bad[] = {nothing, not_the_first, the_last_twice, too_many};
    const int32_t backends[] = {KLS_BACKEND_PORTABLE, KLS_BACKEND_FAER};
    for (int b = 0; b < 2; b++) {
        const char *failure = train(NULL, 1, backends[b], KLS_OK, expected);
        if (failure) return failure;
        CHECK(expected[0][0] != 0 && expected[TENSORS - 1][SIZE - 1] != 0);
        for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
            for (uint32_t num_threads = 1; num_threads <= THREADS; num_threads++) {
                if ((failure = train(good[i], num_threads, backends[b], KLS_OK, params))) return failure;
                CHECK(memcmp(params, expected, sizeof params) == 0);
            }
        }
        /* A pool that does not do its work: the step is made all the same, and the status tells. */
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
            for (uint32_t num_threads = 2; num_threads <= THREADS; num_threads++) {
                if ((failure = train(bad[i], num_threads, backends[b], KLS_ERROR_PARALLEL_FOR, params))) return failure;
                CHECK(memcmp(params, expected, sizeof params) == 0);
            }
            /* It is not asked for one task. */
            if ((failure = train(bad[i], 1, backends[b], KLS_OK, params))) return failure;
            CHECK(memcmp(params, expected, sizeof params) == 0);
        }
    }
    return NULL;
}

enum { ROWS_2 = 80, COLUMNS_2 = 64, SIZE_2 = ROWS_2 * COLUMNS_2 };

/* How often a product was asked for, and which of them comes out wrong. */
typedef struct products {
    int calls, wrong_arguments, bad_call, transposed;
    float bad;
} products;

/* By the definition. */
static void naive(void *user, int32_t transpose_a, int32_t transpose_b, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda,
                  const float *b, size_t ldb, float beta, float *c, size_t ldc) {
    products *p = user;
    p->wrong_arguments += m == 0 || n == 0 || k == 0 || ldc < n || lda < (transpose_a ? m : k) || ldb < (transpose_b ? k : n);
    p->wrong_arguments += beta != 0 && beta != 1;
    p->transposed += transpose_a != 0 || transpose_b != 0;
    for (size_t i = 0; i < m; i++) {
        float *row = c + i * ldc;
        for (size_t j = 0; j < n; j++) row[j] = beta != 0 ? row[j] : 0;
        for (size_t l = 0; l < k; l++) {
            const float x = alpha * (transpose_a ? a[l * lda + i] : a[i * lda + l]);
            for (size_t j = 0; j < n; j++) row[j] += x * (transpose_b ? b[j * ldb + l] : b[l * ldb + j]);
        }
    }
    if (p->calls++ == p->bad_call) c[(m - 1) * ldc + n / 2] = p->bad;
}

/* The gradients of one step, different in every element and of full rank. */
static void make_gradient(float *grad, int step) {
    uint32_t random = 99u + (uint32_t)step;
    for (int i = 0; i < SIZE_2; i++) {
        random = random * 1664525u + 1013904223u;
        grad[i] = (float)(random >> 8) / 16777216.0f - 0.5f;
    }
}

static const char *create(kls_optimizer **optimizer, int32_t convention, kls_sgemm sgemm, products *p, int32_t backend) {
    const uint64_t dims[2] = {ROWS_2, COLUMNS_2};
    kls_config group;
    kls_tensor tensor;
    kls_options options;
    EXPECT(KLS_OK, kls_config_init(&group, sizeof group, KLS_METHOD_KL_SHAMPOO, convention));
    group.refresh_period = 1;
    EXPECT(KLS_OK, kls_tensor_init(&tensor, sizeof tensor, 2, dims));
    tensor.name = "w";
    EXPECT(KLS_OK, kls_options_init(&options, sizeof options));
    options.backend = backend;
    options.sgemm = sgemm;
    options.sgemm_user = p;
    EXPECT(KLS_OK, kls_optimizer_create(optimizer, &group, 1, &tensor, 1, &options));
    return NULL;
}

/* All that there is to see of an optimizer's state. */
typedef struct state {
    float momentum[SIZE_2], factors[2][ROWS_2 * ROWS_2], bases[2][ROWS_2 * ROWS_2], eigenvalues[2][ROWS_2];
    kls_counters counters;
} state;

static const char *look(kls_optimizer *optimizer, state *s) {
    memset(s, 0, sizeof *s);
    EXPECT(KLS_OK, kls_optimizer_read_state(optimizer, 0, 0, KLS_STATE_MOMENTUM, 0, s->momentum, SIZE_2));
    for (size_t mode = 0; mode < 2; mode++) {
        const size_t d = mode == 0 ? ROWS_2 : COLUMNS_2;
        EXPECT(KLS_OK, kls_optimizer_read_state(optimizer, 0, 0, KLS_STATE_FACTOR, mode, s->factors[mode], d * d));
        EXPECT(KLS_OK, kls_optimizer_read_state(optimizer, 0, 0, KLS_STATE_BASIS, mode, s->bases[mode], d * d));
        EXPECT(KLS_OK, kls_optimizer_read_state(optimizer, 0, 0, KLS_STATE_EIGENVALUES, mode, s->eigenvalues[mode], d));
    }
    EXPECT(KLS_OK, kls_optimizer_counters(optimizer, 0, 0, &s->counters, sizeof s->counters));
    return NULL;
}

static int all_finite(const state *s, const float *param) {
    for (int i = 0; i < SIZE_2; i++)
        if (!isfinite(s->momentum[i]) || !isfinite(param[i])) return 0;
    for (int mode = 0; mode < 2; mode++)
        for (int i = 0; i < ROWS_2 * ROWS_2; i++)
            if (!isfinite(s->factors[mode][i]) || !isfinite(s->bases[mode][i]) || !isfinite(s->eigenvalues[mode][i / ROWS_2])) return 0;
    return 1;
}

static void note_warning(void *user, int32_t level, const char *message) {
    if (level == KLS_LOG_WARNING) strcpy(user, message);
}

/* One product of a step comes out with a NaN or an infinity, each in its turn: the slice is as it was, or the refresh did not happen. */
static const char *one_bad_product(int32_t convention, float bad) {
    static float param[SIZE_2], before[SIZE_2], grad[SIZE_2];
    static state s, s_before;
    products p = {0, 0, -1, 0, 0};
    float *const params[1] = {param};
    const float *const grads[1] = {grad};
    char warning[MESSAGE];
    int errors = 0, failed_refreshes = 0, reached = 1;
    p.bad = bad;
    for (int call = 0; reached; call++) {
        kls_optimizer *optimizer;
        const char *failure = create(&optimizer, convention, naive, &p, KLS_BACKEND_AUTO);
        if (failure) return failure;
        EXPECT(KLS_OK, kls_optimizer_set_log(optimizer, note_warning, warning));
        warning[0] = '\0';
        memset(param, 0, sizeof param);
        p.bad_call = -1;
        for (int step = 0; step < 2; step++) {
            make_gradient(grad, step);
            EXPECT(KLS_OK, kls_optimizer_step(optimizer, params, grads, 1, 0.01f));
        }
        if ((failure = look(optimizer, &s_before))) return failure;
        memcpy(before, param, sizeof before);
        make_gradient(grad, 2);
        p.calls = 0;
        p.bad_call = call;
        const kls_status status = kls_optimizer_step(optimizer, params, grads, 1, 0.01f);
        reached = p.calls > call;
        p.bad_call = -1;
        if ((failure = look(optimizer, &s))) return failure;
        CHECK(all_finite(&s, param));
        if (!reached) {
            CHECK(status == KLS_OK && warning[0] == '\0');
        } else if (status == KLS_OK) {
            CHECK(s.counters.refresh_failures == s_before.counters.refresh_failures + 1);
            CHECK(strcmp(warning, "kls_optimizer_step: refreshes failed: 1, the first in tensor 0 \"w\". The eigenbases stay as they were.") == 0);
            failed_refreshes++;
        } else {
            CHECK(status == KLS_ERROR_LINALG && warning[0] == '\0');
            CHECK(strcmp(kls_last_error(optimizer), "kls_optimizer_step: tensor 0 \"w\", slice 0: A matrix product failed.") == 0);
            CHECK(memcmp(&s, &s_before, sizeof s) == 0 && memcmp(param, before, sizeof param) == 0);
            errors++;
        }
        /* It goes on. */
        EXPECT(KLS_OK, kls_optimizer_step(optimizer, params, grads, 1, 0.01f));
        EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));
    }
    CHECK(errors >= 4 && failed_refreshes >= 4 && p.wrong_arguments == 0);
    return NULL;
}

/* A product that is off by far leaves the range further on, where the step looks again. */
static const char *huge_product(void) {
    static float param[SIZE_2], before[SIZE_2], grad[SIZE_2];
    static state s, s_before;
    products p = {0, 0, -1, 0, 0};
    float *const params[1] = {param};
    const float *const grads[1] = {grad};
    kls_optimizer *optimizer;
    const char *failure = create(&optimizer, KLS_CONVENTION_FIGURE13, naive, &p, KLS_BACKEND_AUTO);
    if (failure) return failure;
    memset(param, 0, sizeof param);
    make_gradient(grad, 0);
    EXPECT(KLS_OK, kls_optimizer_step(optimizer, params, grads, 1, 0.01f));
    if ((failure = look(optimizer, &s_before))) return failure;
    memcpy(before, param, sizeof before);
    p.bad = 1e30f;
    p.bad_call = p.calls;
    make_gradient(grad, 1);
    EXPECT(KLS_ERROR_ESTIMATE_NOT_FINITE, kls_optimizer_step(optimizer, params, grads, 1, 0.01f));
    if ((failure = look(optimizer, &s))) return failure;
    CHECK(memcmp(&s, &s_before, sizeof s) == 0 && memcmp(param, before, sizeof param) == 0);
    EXPECT(KLS_OK, kls_optimizer_step(optimizer, params, grads, 1, 0.01f));
    EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));
    return NULL;
}

/* As one_bad_product, of the first step, which sets the bases. */
static const char *bad_first_step(int32_t convention, float bad) {
    static float param[SIZE_2], grad[SIZE_2];
    static state s;
    products p = {0, 0, -1, 0, 0};
    float *const params[1] = {param};
    const float *const grads[1] = {grad};
    int reached = 1, failed = 0;
    p.bad = bad;
    make_gradient(grad, 0);
    for (int call = 0; reached; call++) {
        kls_optimizer *optimizer;
        const char *failure = create(&optimizer, convention, naive, &p, KLS_BACKEND_AUTO);
        if (failure) return failure;
        memset(param, 0, sizeof param);
        p.calls = 0;
        p.bad_call = call;
        const kls_status status = kls_optimizer_step(optimizer, params, grads, 1, 0.01f);
        reached = p.calls > call;
        failed += status != KLS_OK;
        p.bad_call = -1;
        CHECK(status == KLS_OK || (status == KLS_ERROR_LINALG && reached));
        if ((failure = look(optimizer, &s))) return failure;
        CHECK(all_finite(&s, param));
        CHECK(s.counters.steps == (status == KLS_OK) && s.counters.refresh_failures == (status == KLS_OK && reached));
        for (int i = 0; i < SIZE_2; i++) CHECK(status == KLS_OK || (param[i] == 0 && s.momentum[i] == 0));
        EXPECT(KLS_OK, kls_optimizer_step(optimizer, params, grads, 1, 0.01f));
        EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));
    }
    CHECK(failed >= 2);
    return NULL;
}

static const char *refusals(void) {
    static fixture f;
    products p = {0};
    kls_options options;
    kls_optimizer *optimizer = NULL;
    const char *failure = fixture_describe(&f);
    if (failure) return failure;
    EXPECT(KLS_OK, kls_options_init(&options, sizeof options));
    options.sgemm = naive;
    options.sgemm_user = &p;
    options.backend = KLS_BACKEND_PORTABLE;
    EXPECT(KLS_ERROR_UNSUPPORTED, kls_optimizer_create(&optimizer, &f.group, 1, f.tensors, 2, &options));
    CHECK(strcmp(kls_last_error(NULL), "kls_optimizer_create: sgemm: The portable backend is the same on every machine and takes no sgemm.") == 0);
    options.backend = KLS_BACKEND_FAER;
    options.products = KLS_PRODUCTS_BF16;
    EXPECT(KLS_ERROR_UNSUPPORTED, kls_optimizer_create(&optimizer, &f.group, 1, f.tensors, 2, &options));
    CHECK(optimizer == NULL && p.calls == 0);
    /* Small products stay with the backend. */
    options.products = KLS_PRODUCTS_F32;
    EXPECT(KLS_OK, kls_optimizer_create(&optimizer, &f.group, 1, f.tensors, 2, &options));
    EXPECT(KLS_OK, kls_optimizer_step(optimizer, f.params, f.grads, 2, 0.01f));
    EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));
    CHECK(p.calls == 0);
    return NULL;
}

const char *test_sgemm(void) {
    static float own[SIZE_2], portable[SIZE_2], grad[SIZE_2];
    float *const own_params[1] = {own}, *const portable_params[1] = {portable};
    const float *const grads[1] = {grad};
    products p = {0, 0, -1, 0, 0};
    kls_optimizer *with_own, *with_portable;
    float largest = 0;
    const char *failure = refusals();
    if (!failure) failure = huge_product();
    if (!failure) failure = create(&with_own, KLS_CONVENTION_FIGURE13, naive, &p, KLS_BACKEND_AUTO);
    if (!failure) failure = create(&with_portable, KLS_CONVENTION_FIGURE13, NULL, NULL, KLS_BACKEND_PORTABLE);
    if (failure) return failure;
    for (int step = 0; step < 5; step++) {
        make_gradient(grad, step);
        EXPECT(KLS_OK, kls_optimizer_step(with_own, own_params, grads, 1, 0.01f));
        EXPECT(KLS_OK, kls_optimizer_step(with_portable, portable_params, grads, 1, 0.01f));
    }
    CHECK(p.calls > 5 * 6 && p.transposed > 0 && p.transposed < p.calls && p.wrong_arguments == 0);
    /* Steps of a hundredth, of which rounding is a small part. */
    for (int i = 0; i < SIZE_2; i++) {
        CHECK(fabsf(own[i]) > 0);
        largest = fmaxf(largest, fabsf(own[i] - portable[i]));
    }
    CHECK(largest < 1e-4f);
    EXPECT(KLS_OK, kls_optimizer_destroy(&with_own));
    EXPECT(KLS_OK, kls_optimizer_destroy(&with_portable));
    failure = one_bad_product(KLS_CONVENTION_FIGURE13, NAN);
    if (!failure) failure = one_bad_product(KLS_CONVENTION_REFERENCE_KL, INFINITY);
    if (!failure) failure = bad_first_step(KLS_CONVENTION_FIGURE13, INFINITY);
    if (!failure) failure = bad_first_step(KLS_CONVENTION_REFERENCE_KL, NAN);
    return failure;
}
