/* gpt-train: trains a byte-level GPT-2 with the optimizers of klshampoo, which it knows by klshampoo.h alone.
 *
 * stdout carries one JSON object per line: `start`, `step` (a sign of life, a few per second), `eval`, `similarity` if asked for, `saved`, `refused`
 * and `unsaved` where something goes wrong and the training goes on, and `end`.
 * Exit status: 0 done, 1 the library or memory failed, 2 wrong usage, 3 the loss left the finite numbers. */
#define _POSIX_C_SOURCE 200809L
#include "die.h"
#include "methods.h"
#include "model.h"
#include "optimizer.h"
#include "options.h"
#include "resume.h"
#include "similarity.h"
#include "text.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct {
    options o;
    text text;
    gpt_model *model;
    kls_optimizer *optimizer;
    similarity *similarity; /* NULL: nothing is measured */
    rng batches;
    uint8_t *tokens, *targets;
    long windows; /* of the fixed validation subset */
    double model_seconds, optimizer_seconds;
    double loss_sum; /* since the latest evaluation */
    long loss_count;
} trainer;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Linear warm-up to the peak, then a half cosine down to final_lr of it. */
static double learning_rate(const options *o, long step) {
    const double warmup = ceil(o->warmup * (double)o->steps), at = (double)step;
    if (at < warmup) return o->lr * (at + 1) / warmup;
    const double progress = (at - warmup) / fmax(1, (double)o->steps - warmup);
    return o->lr * (o->final_lr + (1 - o->final_lr) * 0.5 * (1 + cos(3.141592653589793 * progress)));
}

static void clip_gradient(gpt_model *model, double limit) {
    double square = 0;
    for (size_t i = 0; i < model->parameter_count; i++) square += (double)model->grads[i] * (double)model->grads[i];
    const double norm = sqrt(square);
    if (norm <= limit) return;
    const real factor = (real)(limit / norm);
    for (size_t i = 0; i < model->parameter_count; i++) model->grads[i] *= factor;
}

/* Mean loss over windows spread evenly over all validation text; the same windows every time and for every seed. */
static double evaluate(trainer *t) {
    const long batch = t->o.batch, context = t->o.context;
    double sum = 0;
    for (long done = 0; done < t->windows; done += batch) {
        const long count = t->windows - done < batch ? t->windows - done : batch;
        for (long w = 0; w < count; w++) {
            const size_t index = (size_t)(done + w) * t->text.windows / (size_t)t->windows;
            text_window(&t->text, index, t->tokens + w * context, t->targets + w * context);
        }
        sum += (double)count * gpt_loss(t->model, t->tokens, t->targets, (int)count);
    }
    return sum / (double)t->windows;
}

static void print_timing(const trainer *t, long step) {
    const double seconds = t->model_seconds + t->optimizer_seconds, steps = step > 0 ? (double)step : 1;
    const double rate = seconds > 0 ? (double)(step * t->o.batch * t->o.context) / seconds : 0;
    printf("\"seconds\":%.4f,\"model_ms\":%.4f,\"optimizer_ms\":%.4f,\"tokens_per_second\":%.0f", seconds,
           1e3 * t->model_seconds / steps, 1e3 * t->optimizer_seconds / steps, rate);
}

/* `before`: the steps of an earlier process, which have no timing here. */
static double report_evaluation(trainer *t, long step, long before) {
    const double loss = evaluate(t);
    /* Rounded for people, and exactly for who compares. */
    printf("{\"event\":\"eval\",\"step\":%ld,\"val_loss\":%.6f,\"val_loss_exact\":\"%a\",", step, loss, loss);
    if (t->loss_count > 0) printf("\"train_loss\":%.6f,", t->loss_sum / (double)t->loss_count);
    print_timing(t, step - before);
    puts("}");
    fflush(stdout);
    t->loss_sum = 0;
    t->loss_count = 0;
    return loss;
}

static void report_start(const trainer *t) {
    size_t state = 0;
    kls_optimizer_state_bytes(t->optimizer, &state);
    printf("{\"event\":\"start\",\"method\":\"%s\",\"library\":\"%s\",\"parameters\":%zu,\"steps\":%ld,\"tokens_per_step\":%ld,"
           "\"works\":%zu,\"training_bytes\":%zu,\"validation_bytes\":%zu,\"eval_bytes\":%ld,\"state_bytes\":%zu}\n",
           method_name(t->o.method), kls_version(), t->model->parameter_count, t->o.steps,
           t->o.batch * t->o.context, t->text.works, t->text.training_bytes, t->text.validation_bytes, t->windows * t->o.context, state);
    fflush(stdout);
}

static _Noreturn void diverged(const trainer *t, long step) {
    fprintf(stderr, "gpt-train: the loss is no longer finite at step %ld; give a smaller learning rate (now %g) or clip the gradient\n",
            step, t->o.lr);
    exit(EXIT_DIVERGED);
}

/* Measures the gradients of this step and those before it where that is due; the clock stands still. */
static void watch(const trainer *t, long done) {
    if (!t->similarity) return;
    const kls_status status = similarity_watch(t->similarity, t->model, done);
    if (status == KLS_OK) return;
    fprintf(stderr, "gpt-train: no similarity at step %ld: %s\n", done, kls_status_string(status));
    exit(EXIT_FAILURE);
}

/* What a faulty batch would do: a step with a gradient that has a NaN or an infinity somewhere, which the library must refuse. Then the gradient is
 * as it was. */
static void try_faulty_gradient(const trainer *t, long step) {
    const size_t at = (size_t)step * 7919 % t->model->parameter_count;
    const uint32_t bits = step % 2 ? 0x7fc00000 : 0xff800000;
    const real number = t->model->grads[at];
    memcpy(&t->model->grads[at], &bits, sizeof bits);
    const kls_status status = optimizer_step(t->optimizer, t->model, learning_rate(&t->o, step));
    t->model->grads[at] = number;
    if (status != KLS_ERROR_GRADIENT_NOT_FINITE) {
        fprintf(stderr, "gpt-train: a faulty gradient was not refused at step %ld: %s\n", step, kls_status_string(status));
        exit(EXIT_FAILURE);
    }
    printf("{\"event\":\"refused\",\"step\":%ld}\n", step + 1);
    fflush(stdout);
}

/* One training step; counts its time. */
static double train_step(trainer *t, long step) {
    const double start = now();
    text_sample(&t->text, &t->batches, (int)t->o.batch, t->tokens, t->targets);
    const double loss = gpt_loss_and_gradient(t->model, t->tokens, t->targets, (int)t->o.batch);
    if (!is_finite(loss)) diverged(t, step);
    if (t->o.clip > 0) clip_gradient(t->model, t->o.clip);
    double between = now();
    t->model_seconds += between - start;
    watch(t, step + 1);
    if (t->o.faulty_every > 0 && (step + 1) % t->o.faulty_every == 0) try_faulty_gradient(t, step);
    between = now();
    const kls_status status = optimizer_step(t->optimizer, t->model, learning_rate(&t->o, step));
    t->optimizer_seconds += now() - between;
    if (status != KLS_OK) {
        const bool large = status == KLS_ERROR_GRADIENT_NOT_FINITE || status == KLS_ERROR_GRADIENT_TOO_LARGE ||
                           status == KLS_ERROR_UPDATE_NOT_FINITE;
        fprintf(stderr, "gpt-train: %s refused step %ld: %s%s\n", method_name(t->o.method), step, kls_status_string(status),
                large ? " Give a smaller learning rate or clip the gradient." : "");
        exit(large ? EXIT_DIVERGED : EXIT_FAILURE);
    }
    return loss;
}

/* Saves. Where that fails the training goes on, with what was saved before, to the next save; but the last one must not fail. */
static void save(const trainer *t, long done, long last) {
    const bool saved = resume_save(t->o.save, done, &t->batches, t->model, t->optimizer);
    if (!saved && done == last) exit(EXIT_FAILURE);
    printf("{\"event\":\"%s\",\"step\":%ld}\n", saved ? "saved" : "unsaved", done);
    fflush(stdout);
}

/* Trains from the steps that were done before to the last one that is wanted now. */
static void train(trainer *t, long before) {
    const long last = t->o.stop_after > 0 && t->o.stop_after < t->o.steps ? t->o.stop_after : t->o.steps;
    double last_sign = now();
    if (before == 0) report_evaluation(t, 0, 0);
    for (long step = before; step < last; step++) {
        const double loss = train_step(t, step);
        const long done = step + 1;
        t->loss_sum += loss;
        t->loss_count++;
        if (now() - last_sign > 0.25) {
            printf("{\"event\":\"step\",\"step\":%ld,\"train_loss\":%.6f,", done, loss);
            print_timing(t, done - before);
            puts("}");
            fflush(stdout);
            last_sign = now();
        }
        if (done % t->o.eval_every == 0 || done == last) {
            const double validation = report_evaluation(t, done, before);
            if (!is_finite(validation)) diverged(t, done);
        }
        if (t->o.save && (done == last || (t->o.save_every > 0 && done % t->o.save_every == 0))) save(t, done, last);
    }
    printf("{\"event\":\"end\",\"step\":%ld,", last);
    print_timing(t, last - before);
    puts("}");
}

int main(int argc, char **argv) {
    trainer t = {.o = options_parse(argc, argv)};
    t.text = text_load(t.o.data, (int)t.o.context);
    const long wanted = (t.o.eval_bytes + t.o.context - 1) / t.o.context;
    t.windows = (size_t)wanted < t.text.windows ? wanted : (long)t.text.windows;
    t.batches = rng_stream((uint64_t)t.o.seed, 1);
    const gpt_config config = {
        .layers = (int)t.o.layers,
        .channels = (int)t.o.channels,
        .heads = (int)t.o.heads,
        .context = (int)t.o.context,
        .experts = (int)t.o.experts,
        .experts_per_token = (int)t.o.experts_per_token,
        .expert_width = (int)t.o.expert_width,
        .balance = (real)t.o.balance,
    };
    t.model = gpt_create(config, (int)t.o.batch);
    const size_t bytes = (size_t)(t.o.batch * t.o.context);
    t.tokens = malloc(2 * bytes);
    if (!t.model || !t.tokens) {
        fputs("gpt-train: out of memory for the model; give smaller sizes\n", stderr);
        return EXIT_FAILURE;
    }
    t.targets = t.tokens + bytes;
    gpt_initialize(t.model, (uint64_t)t.o.seed);

    const kls_status status = optimizer_create(&t.optimizer, t.model, &t.o);
    if (status != KLS_OK) {
        fprintf(stderr, "gpt-train: the library refused %s: %s\n", method_name(t.o.method), kls_status_string(status));
        return EXIT_FAILURE;
    }
    if (t.o.similarity_every > 0) {
        t.similarity = similarity_create(t.model, &t.o);
        if (!t.similarity) {
            fputs("gpt-train: out of memory for the windows of gradients; give a smaller --similarity-window\n", stderr);
            return EXIT_FAILURE;
        }
    }
    const long before = t.o.resume ? resume_load(t.o.resume, &t.batches, t.model, t.optimizer) : 0;
    report_start(&t);
    train(&t, before);

    similarity_destroy(t.similarity);
    kls_optimizer_destroy(&t.optimizer);
    free(t.tokens);
    gpt_destroy(t.model);
    text_free(&t.text);
    return EXIT_SUCCESS;
}
