/*
 * KL-Shampoo on the caller's own threads and with the caller's own matrix product: the library starts no thread, and asks for products of
 * large matrices. Both are simple here; a program would pass on to its thread pool and its BLAS (cblas_sgemm with CblasRowMajor).
 *   cc -O2 -Iinclude bindings-c/examples/plugins.c libklshampoo_ffi.a -lm -lpthread -ldl
 */
#include "klshampoo.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { WORKERS = 3, LAYERS = 4, ROWS = 96, COLUMNS = 128, SIZE = ROWS * COLUMNS, STEPS = 100 };

/* A pool of threads that wait for work. The calling thread works too. */
typedef struct pool {
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    pthread_t threads[WORKERS];
    kls_task task;
    void *context;
    size_t next, count, unfinished;
    int stop;
} pool;

/* Runs tasks while there are any; the lock is held on entry and on return. */
static void run_tasks(pool *p) {
    while (p->next < p->count) {
        const size_t index = p->next++;
        pthread_mutex_unlock(&p->lock);
        p->task(p->context, index);
        pthread_mutex_lock(&p->lock);
        if (--p->unfinished == 0) pthread_cond_signal(&p->done);
    }
}

static void *worker(void *pointer) {
    pool *p = pointer;
    pthread_mutex_lock(&p->lock);
    while (!p->stop) {
        run_tasks(p);
        pthread_cond_wait(&p->work, &p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* A kls_parallel_for: every task once, and back when all are done. */
static void parallel_for(void *user, size_t count, kls_task task, void *context) {
    pool *p = user;
    pthread_mutex_lock(&p->lock);
    p->task = task, p->context = context;
    p->next = 0, p->count = p->unfinished = count;
    pthread_cond_broadcast(&p->work);
    run_tasks(p);
    while (p->unfinished > 0) pthread_cond_wait(&p->done, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

/* A kls_sgemm: C <- alpha op(A) op(B) + beta C, all row-major. With beta 0 it does not read C. */
static void sgemm(void *user, int32_t transpose_a, int32_t transpose_b, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda,
                  const float *b, size_t ldb, float beta, float *c, size_t ldc) {
    (void)user;
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) c[i * ldc + j] = beta == 0 ? 0 : beta * c[i * ldc + j];
        for (size_t p = 0; p < k; p++) {
            const float x = alpha * (transpose_a ? a[p * lda + i] : a[i * lda + p]);
            for (size_t j = 0; j < n; j++) c[i * ldc + j] += x * (transpose_b ? b[j * ldb + p] : b[p * ldb + j]);
        }
    }
}

static void report(void *user, int32_t level, const char *message) {
    (void)user;
    fprintf(stderr, "%s: %s\n", level == KLS_LOG_ERROR ? "error" : "warning", message);
}

static float weights[LAYERS][SIZE], targets[LAYERS][SIZE], gradients[LAYERS][SIZE];

/* Mean distance of the weights to their targets; their gradients, of which those of later columns are much smaller. */
static float distance_and_gradients(void) {
    float sum = 0;
    for (int l = 0; l < LAYERS; l++) {
        for (int i = 0; i < SIZE; i++) {
            const float distance = weights[l][i] - targets[l][i];
            gradients[l][i] = distance / (float)(1 + i % COLUMNS);
            sum += distance < 0 ? -distance : distance;
        }
    }
    return sum / (LAYERS * SIZE);
}

int main(void) {
    static pool p = {.lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};
    static const char *const names[LAYERS] = {"layer 0", "layer 1", "layer 2", "layer 3"};
    float *params[LAYERS], first = 0, last = 0;
    const float *grads[LAYERS];
    const uint64_t dims[2] = {ROWS, COLUMNS};
    kls_config config;
    kls_tensor tensors[LAYERS];
    kls_options options;
    kls_optimizer *optimizer;
    for (int i = 0; i < WORKERS; i++)
        if (pthread_create(&p.threads[i], NULL, worker, &p) != 0) return 1;

    kls_status status = kls_config_init(&config, sizeof config, KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13);
    for (int l = 0; !status && l < LAYERS; l++) {
        status = kls_tensor_init(&tensors[l], sizeof tensors[l], 2, dims);
        tensors[l].name = names[l];
        params[l] = weights[l];
        grads[l] = gradients[l];
        for (int i = 0; i < SIZE; i++) targets[l][i] = (float)rand() / (float)RAND_MAX - 0.5f;
    }
    if (!status) status = kls_options_init(&options, sizeof options);
    options.num_threads = WORKERS + 1; /* tasks at once */
    options.parallel_for = parallel_for;
    options.parallel_for_user = &p;
    options.sgemm = sgemm;
    if (!status) status = kls_optimizer_create(&optimizer, &config, 1, tensors, LAYERS, &options);
    if (status) {
        fprintf(stderr, "%s\n", kls_last_error(NULL));
        return 1;
    }
    kls_optimizer_set_log(optimizer, report, NULL);
    for (int step = 0; !status && step < STEPS; step++) {
        last = distance_and_gradients();
        if (step == 0) first = last;
        status = kls_optimizer_step(optimizer, params, grads, LAYERS, 0.05f * (1 - (float)step / STEPS));
    }
    printf("mean distance %.3g before, %.3g after %d steps\n", (double)first, (double)last, STEPS);
    kls_optimizer_destroy(&optimizer);

    pthread_mutex_lock(&p.lock);
    p.stop = 1;
    pthread_cond_broadcast(&p.work);
    pthread_mutex_unlock(&p.lock);
    for (int i = 0; i < WORKERS; i++) pthread_join(p.threads[i], NULL);
    return !status && last < 0.2f * first ? 0 : 1;
}
