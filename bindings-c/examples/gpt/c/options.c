#define _GNU_SOURCE
#include "options.h"
#include "die.h"
#include "real.h"
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum { TEXT, WHOLE, NUMBER, CHOICE, LAMBDA } option_kind;

/* One row per option: parsing, defaults, limits and help all come from here. */
typedef struct {
    const char *name;
    option_kind kind;
    size_t field; /* offset in `options` */
    double lowest, highest;
    const char *choices[3];
    const char *initial;
    const char *help;
} option_row;

#define FIELD(name) offsetof(options, name)
#define UNBOUNDED 1e30

static const option_row rows[] = {
    {"data", TEXT, FIELD(data), 0, 0, {0}, NULL, "text file, or folder whose .txt files are separate works (required)"},
    {"layers", WHOLE, FIELD(layers), 1, 256, {0}, "4", "transformer blocks"},
    {"channels", WHOLE, FIELD(channels), 1, 16384, {0}, "128", "width of the residual stream, a multiple of --heads"},
    {"heads", WHOLE, FIELD(heads), 1, 1024, {0}, "4", "attention heads"},
    {"context", WHOLE, FIELD(context), 1, 8192, {0}, "64", "bytes per training sequence"},
    {"batch", WHOLE, FIELD(batch), 1, 65536, {0}, "12", "sequences per step"},
    {"experts", WHOLE, FIELD(experts), 0, 4096, {0}, "0", "experts of every block's MLP; 0: a dense MLP"},
    {"experts-per-token", WHOLE, FIELD(experts_per_token), 1, 4096, {0}, "2", "experts that every token is given to"},
    {"expert-width", WHOLE, FIELD(expert_width), 0, 65536, {0}, "0", "hidden width of an expert; 0: 4 channels / experts per token"},
    {"expert-tensors", CHOICE, FIELD(expert_tensors), 0, 0, {"3d", "matrices"}, "3d", "a layer's experts for the optimizer"},
    {"balance", NUMBER, FIELD(balance), 0, 1e3, {0}, "0.01", "coefficient of the experts' load-balancing loss"},
    {"steps", WHOLE, FIELD(steps), 1, INT_MAX, {0}, "1500", "training steps"},
    {"eval-every", WHOLE, FIELD(eval_every), 1, INT_MAX, {0}, "25", "steps between evaluations; the last step is always evaluated"},
    {"eval-bytes", WHOLE, FIELD(eval_bytes), 1, INT_MAX, {0}, "102400", "size of the fixed validation subset"},
    {"seed", WHOLE, FIELD(seed), 0, INT_MAX, {0}, "1", "of the initial weights and the batches"},
    {"threads", WHOLE, FIELD(threads), 1, 1024, {0}, "1", "threads of the optimizer; the model has one"},
    {"method", CHOICE, FIELD(method), 0, 0, {"adamw", "kl-shampoo"}, "kl-shampoo", "optimizer of the hidden matrices"},
    {"convention", CHOICE, FIELD(convention), 0, 0, {"figure13", "reference-kl"}, "figure13", "published variant of KL-Shampoo"},
    {"lr", NUMBER, FIELD(lr), 0, 1e3, {0}, "0.004", "peak learning rate of the method"},
    {"adamw-lr", NUMBER, FIELD(adamw_lr), 0, 1e3, {0}, "0", "peak rate of all else beside kl-shampoo; 0: as --lr"},
    {"beta1", NUMBER, FIELD(beta1), 0, 0.999999, {0}, "0.9", "KL-Shampoo's momentum"},
    {"beta2", NUMBER, FIELD(beta2), 0, 0.999999, {0}, "0.95", "KL-Shampoo's average of factors and eigenvalues"},
    {"adamw-beta1", NUMBER, FIELD(adamw_beta1), 0, 0.999999, {0}, "0.9", "AdamW's momentum"},
    {"adamw-beta2", NUMBER, FIELD(adamw_beta2), 0, 0.999999, {0}, "0.99", "AdamW's second moment"},
    {"refresh-period", WHOLE, FIELD(refresh_period), 1, INT_MAX, {0}, "10", "T, steps between updates of the eigenbases"},
    {"lambda0", LAMBDA, FIELD(lambda0), 1e-30, UNBOUNDED, {0}, "scale-free", "initial eigenvalue, or scale-free"},
    {"weight-decay", NUMBER, FIELD(weight_decay), 0, 1e3, {0}, "0.1", "of matrices and embeddings"},
    {"vector-weight-decay", NUMBER, FIELD(vector_weight_decay), 0, 1e3, {0}, "0", "of biases and layer norms"},
    {"warmup", NUMBER, FIELD(warmup), 0, 1, {0}, "0.05", "part of the steps with a linearly growing rate"},
    {"final-lr", NUMBER, FIELD(final_lr), 0, 1, {0}, "0.1", "end of the cosine decay, as a part of the peak"},
    {"clip", NUMBER, FIELD(clip), 0, UNBOUNDED, {0}, "0", "largest global gradient norm; 0: no clipping"},
};

enum { ROWS = sizeof rows / sizeof rows[0] };

static void print_help(void) {
    puts("gpt-train: trains a byte-level GPT-2 with AdamW or KL-Shampoo and prints one JSON object per line.\n\nOptions (default):");
    for (int i = 0; i < ROWS; i++) {
        const option_row *row = &rows[i];
        char usage[64];
        if (row->kind == CHOICE)
            snprintf(usage, sizeof usage, "--%s %s|%s", row->name, row->choices[0], row->choices[1]);
        else
            snprintf(usage, sizeof usage, "--%s %s", row->name, row->kind == TEXT ? "PATH" : row->kind == WHOLE ? "N" : "X");
        printf("  %-40s %s", usage, row->help);
        if (row->initial)
            printf(" (%s)\n", row->initial);
        else
            putchar('\n');
    }
    puts("  --help                                   this text");
}

static double parse_number(const option_row *row, const char *value) {
    char *end;
    errno = 0;
    const double number = strtod(value, &end);
    if (end == value || *end || !is_finite(number) || number < row->lowest || number > row->highest) {
        const char *also = row->kind == LAMBDA ? ", or scale-free" : "";
        if (row->highest >= UNBOUNDED) die("--%s wants a number of at least %g%s, not '%s'", row->name, row->lowest, also, value);
        die("--%s wants a number from %g to %g%s, not '%s'", row->name, row->lowest, row->highest, also, value);
    }
    return number;
}

static long parse_whole(const option_row *row, const char *value) {
    char *end;
    errno = 0;
    const long number = strtol(value, &end, 10);
    if (end == value || *end || errno || (double)number < row->lowest || (double)number > row->highest)
        die("--%s wants a whole number from %.0f to %.0f, not '%s'", row->name, row->lowest, row->highest, value);
    return number;
}

static void set(options *o, const option_row *row, const char *value) {
    void *field = (char *)o + row->field;
    switch (row->kind) {
    case TEXT: *(const char **)field = value; break;
    case WHOLE: *(long *)field = parse_whole(row, value); break;
    case NUMBER: *(double *)field = parse_number(row, value); break;
    case LAMBDA: *(double *)field = strcmp(value, "scale-free") == 0 ? 0 : parse_number(row, value); break;
    case CHOICE:
        for (long i = 0; i < 2; i++) {
            if (strcmp(value, row->choices[i]) == 0) {
                *(long *)field = i;
                return;
            }
        }
        die("--%s is %s or %s, not '%s'", row->name, row->choices[0], row->choices[1], value);
    }
}

/* What no single option can tell. */
static void check_together(const options *o) {
    if (!o->data) die("no text to train on; give --data a text file or a folder of .txt files");
    if (o->channels % o->heads != 0)
        die("--channels %ld cannot be shared by --heads %ld; give a multiple of the heads", o->channels, o->heads);
    if (o->experts > 0 && o->experts_per_token > o->experts)
        die("--experts-per-token %ld is more than --experts %ld; give at most as many", o->experts_per_token, o->experts);
    /* The longest row of any activation. */
    long row = o->channels * 4 > GPT_VOCABULARY ? o->channels * 4 : GPT_VOCABULARY;
    if (o->experts > 0) {
        const long width = o->expert_width > o->channels ? o->expert_width : o->channels;
        if (width * o->experts_per_token > row) row = width * o->experts_per_token;
        if (o->experts > row) row = o->experts;
    }
    if (o->batch * o->context > INT_MAX / row || o->batch * o->context > INT_MAX / (o->context * o->heads))
        die("the model is too large; give a smaller --batch, --context%s or --channels", o->experts > 0 ? ", --expert-width" : "");
}

options options_parse(int argc, char **argv) {
    options o = {0};
    struct option table[ROWS + 2] = {{0}};
    for (int i = 0; i < ROWS; i++) {
        table[i] = (struct option){rows[i].name, required_argument, NULL, i + 1};
        if (rows[i].initial) set(&o, &rows[i], rows[i].initial);
    }
    table[ROWS] = (struct option){"help", no_argument, NULL, ROWS + 1};
    opterr = 0;
    for (int found; (found = getopt_long(argc, argv, ":", table, NULL)) != -1;) {
        if (found == ROWS + 1) {
            print_help();
            exit(EXIT_SUCCESS);
        }
        if (found == ':') die("option '%s' lacks its value; see gpt-train --help", argv[optind - 1]);
        if (found < 1 || found > ROWS) die("unknown option '%s'; see gpt-train --help", argv[optind - 1]);
        set(&o, &rows[found - 1], optarg);
    }
    if (optind < argc) die("unexpected argument '%s'; see gpt-train --help", argv[optind]);
    if (o.adamw_lr <= 0) o.adamw_lr = o.lr;
    if (o.expert_width == 0) o.expert_width = o.channels * 4 / o.experts_per_token;
    if (o.expert_width == 0) o.expert_width = 1;
    check_together(&o);
    return o;
}
