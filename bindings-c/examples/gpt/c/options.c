#define _GNU_SOURCE
#include "options.h"
#include "die.h"
#include "methods.h"
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
    const char *(*choice)(long row); /* NULL beyond the last one */
    const char *initial;
    const char *help;
} option_row;

static const char *expert_tensors_name(long row) {
    static const char *const names[] = {[EXPERT_TENSORS_3D] = "3d", [EXPERT_TENSORS_MATRICES] = "matrices"};
    return row < 2 ? names[row] : NULL;
}

#define FIELD(name) offsetof(options, name)
#define UNBOUNDED 1e30

static const option_row rows[] = {
    {"data", TEXT, FIELD(data), 0, 0, NULL, NULL, "text file, or folder whose .txt files are separate works (required)"},
    {"layers", WHOLE, FIELD(layers), 1, 256, NULL, "4", "transformer blocks"},
    {"channels", WHOLE, FIELD(channels), 1, 16384, NULL, "128", "width of the residual stream, a multiple of --heads"},
    {"heads", WHOLE, FIELD(heads), 1, 1024, NULL, "4", "attention heads"},
    {"context", WHOLE, FIELD(context), 1, 8192, NULL, "64", "bytes per training sequence"},
    {"batch", WHOLE, FIELD(batch), 1, 65536, NULL, "12", "sequences per step"},
    {"experts", WHOLE, FIELD(experts), 0, 4096, NULL, "0", "experts of every block's MLP; 0: a dense MLP"},
    {"experts-per-token", WHOLE, FIELD(experts_per_token), 1, 4096, NULL, "2", "experts that every token is given to"},
    {"expert-width", WHOLE, FIELD(expert_width), 0, 65536, NULL, "0", "hidden width of an expert; 0: 4 channels / experts per token"},
    {"expert-tensors", CHOICE, FIELD(expert_tensors), 0, 0, expert_tensors_name, "3d", "a layer's experts for the optimizer"},
    {"balance", NUMBER, FIELD(balance), 0, 1e3, NULL, "0.01", "coefficient of the experts' load-balancing loss"},
    {"steps", WHOLE, FIELD(steps), 1, INT_MAX, NULL, "1500", "training steps"},
    {"eval-every", WHOLE, FIELD(eval_every), 1, INT_MAX, NULL, "25", "steps between evaluations; the last step is always evaluated"},
    {"eval-bytes", WHOLE, FIELD(eval_bytes), 1, INT_MAX, NULL, "102400", "size of the fixed validation subset"},
    {"seed", WHOLE, FIELD(seed), 0, INT_MAX, NULL, "1", "of the initial weights and the batches"},
    {"threads", WHOLE, FIELD(threads), 1, 1024, NULL, "1", "threads of the optimizer; the model has one"},
    {"method", CHOICE, FIELD(method), 0, 0, method_name, "kl-shampoo", "optimizer of the hidden matrices, see below"},
    {"convention", CHOICE, FIELD(convention), 0, 0, convention_name, "figure13", "published variant of the method"},
    {"graft", CHOICE, FIELD(graft), 0, 0, graft_name, NULL, "whose length the update takes (the method's)"},
    {"lr", NUMBER, FIELD(lr), 0, 1e3, NULL, NULL, "peak learning rate of the method (see below)"},
    {"adamw-lr", NUMBER, FIELD(adamw_lr), 0, 1e3, NULL, NULL, "peak rate of AdamW beside the method (see below)"},
    {"beta1", NUMBER, FIELD(beta1), 0, 0.999999, NULL, NULL, "the method's momentum (see below)"},
    {"beta2", NUMBER, FIELD(beta2), 0, 0.999999, NULL, NULL, "the method's average of factors, eigenvalues and second moments (see below)"},
    {"adamw-beta1", NUMBER, FIELD(adamw_beta1), 0, 0.999999, NULL, NULL, "momentum of AdamW beside the method (that of adamw)"},
    {"adamw-beta2", NUMBER, FIELD(adamw_beta2), 0, 0.999999, NULL, NULL, "second moment of AdamW beside the method (that of adamw)"},
    {"refresh-period", WHOLE, FIELD(refresh_period), 1, INT_MAX, NULL, "10", "T, steps between updates of the eigenbases"},
    {"lambda0", LAMBDA, FIELD(lambda0), 1e-30, UNBOUNDED, NULL, NULL, "initial eigenvalue, or scale-free (the method's)"},
    {"weight-decay", NUMBER, FIELD(weight_decay), 0, 1e3, NULL, "0.1", "of matrices and embeddings"},
    {"vector-weight-decay", NUMBER, FIELD(vector_weight_decay), 0, 1e3, NULL, "0", "of biases and layer norms"},
    {"warmup", NUMBER, FIELD(warmup), 0, 1, NULL, "0.05", "part of the steps with a linearly growing rate"},
    {"final-lr", NUMBER, FIELD(final_lr), 0, 1, NULL, "0.1", "end of the cosine decay, as a part of the peak"},
    {"clip", NUMBER, FIELD(clip), 0, UNBOUNDED, NULL, "0", "largest global gradient norm; 0: no clipping"},
    {"save", TEXT, FIELD(save), 0, 0, NULL, NULL, "keep model and optimizer there (and in PATH.optimizer-STEP) when the training ends"},
    {"save-every", WHOLE, FIELD(save_every), 0, INT_MAX, NULL, "0", "and every so many steps; 0: only then"},
    {"resume", TEXT, FIELD(resume), 0, 0, NULL, NULL, "go on from what --save kept, with the same other options"},
    {"stop-after", WHOLE, FIELD(stop_after), 0, INT_MAX, NULL, "0", "stop after so many of the --steps; 0: after all"},
    {"faulty-every", WHOLE, FIELD(faulty_every), 0, INT_MAX, NULL, "0", "steps between faulty gradients, which are to be refused and tried again; 0: none"},
    {"similarity-every", WHOLE, FIELD(similarity_every), 0, INT_MAX, NULL, "0", "steps between measurements of Kronecker similarity; 0: none"},
    {"similarity-window", WHOLE, FIELD(similarity_window), 1, 4096, NULL, "32", "gradients before a measurement that it sees"},
    {"similarity-layer", WHOLE, FIELD(similarity_layer), 0, 255, NULL, "0", "layer whose hidden matrices are measured, from 0"},
};

enum { ROWS = sizeof rows / sizeof rows[0] };

static void print_help(void) {
    puts("gpt-train: trains a byte-level GPT-2 with one of klshampoo's methods and prints one JSON object per line.\n\nOptions (default):");
    for (int i = 0; i < ROWS; i++) {
        const option_row *row = &rows[i];
        char usage[64];
        if (row->kind == CHOICE)
            snprintf(usage, sizeof usage, "--%s NAME", row->name);
        else
            snprintf(usage, sizeof usage, "--%s %s", row->name, row->kind == TEXT ? "PATH" : row->kind == WHOLE ? "N" : "X");
        printf("  %-26s %s", usage, row->help);
        for (long c = 0; row->kind == CHOICE && row->choice != method_name && row->choice(c); c++)
            printf("%s%s", c == 0 ? ": " : ", ", row->choice(c));
        if (row->initial)
            printf(" (%s)\n", row->initial);
        else
            putchar('\n');
    }
    puts("  --help                     this text\n\n"
         "Methods of the hidden matrices; AdamW takes the embeddings and vectors:\n"
         "  --method                --lr  --beta1  --beta2  --adamw-lr");
    for (long m = 0; method_name(m); m++) {
        const method_row *row = &methods[m];
        char beside[16] = "as --lr";
        if (row->adamw_lr > 0) snprintf(beside, sizeof beside, "%g", row->adamw_lr);
        printf("  %-18s %9g %8g %8g %11s\n", row->name, row->lr, row->beta1, row->beta2, beside);
    }
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

static long parse_choice(const option_row *row, const char *value) {
    char names[512] = "";
    size_t used = 0;
    for (long i = 0; row->choice(i); i++) {
        if (strcmp(value, row->choice(i)) == 0) return i;
        const int length = snprintf(names + used, sizeof names - used, "%s%s", i == 0 ? "" : ", ", row->choice(i));
        used = used + (size_t)length < sizeof names ? used + (size_t)length : sizeof names - 1;
    }
    die("--%s is one of %s; not '%s'", row->name, names, value);
}

static void set(options *o, const option_row *row, const char *value) {
    void *field = (char *)o + row->field;
    switch (row->kind) {
    case TEXT: *(const char **)field = value; break;
    case WHOLE: *(long *)field = parse_whole(row, value); break;
    case NUMBER: *(double *)field = parse_number(row, value); break;
    case LAMBDA: *(double *)field = strcmp(value, "scale-free") == 0 ? 0 : parse_number(row, value); break;
    case CHOICE:
        *(long *)field = parse_choice(row, value);
        break;
    }
}

static void prefer(double *given, double otherwise) {
    if (*given < 0) *given = otherwise;
}

/* Puts in the defaults that depend on other options. */
static void complete(options *o) {
    const method_row *method = &methods[o->method], *adamw = &methods[method_adamw];
    prefer(&o->lr, method->lr);
    prefer(&o->adamw_lr, method->adamw_lr);
    if (o->adamw_lr <= 0) o->adamw_lr = o->lr;
    if (o->method == method_adamw) {
        /* AdamW beside AdamW is one and the same. */
        prefer(&o->adamw_beta1, o->beta1);
        prefer(&o->adamw_beta2, o->beta2);
    }
    prefer(&o->adamw_beta1, adamw->beta1);
    prefer(&o->adamw_beta2, adamw->beta2);
    prefer(&o->beta1, o->method == method_adamw ? o->adamw_beta1 : method->beta1);
    prefer(&o->beta2, o->method == method_adamw ? o->adamw_beta2 : method->beta2);
    if (o->expert_width == 0) o->expert_width = o->channels * 4 / o->experts_per_token;
    if (o->expert_width == 0) o->expert_width = 1;
}

/* What no single option can tell. */
static void check_together(const options *o) {
    if (!o->data) die("no text to train on; give --data a text file or a folder of .txt files");
    if (o->save_every > 0 && !o->save) die("--save-every %ld has nowhere to save to; give --save a file", o->save_every);
    if (o->channels % o->heads != 0)
        die("--channels %ld cannot be shared by --heads %ld; give a multiple of the heads", o->channels, o->heads);
    if (o->experts > 0 && o->experts_per_token > o->experts)
        die("--experts-per-token %ld is more than --experts %ld; give at most as many", o->experts_per_token, o->experts);
    if (o->similarity_every > 0 && o->similarity_window > o->similarity_every)
        die("--similarity-window %ld is more than --similarity-every %ld; give at most as many", o->similarity_window, o->similarity_every);
    if (o->similarity_layer >= o->layers)
        die("--similarity-layer %ld is not among --layers %ld; they count from 0", o->similarity_layer, o->layers);
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
    /* Not given: below every limit. What stays so is the method's. */
    options o = {.graft = -1, .lr = -1, .adamw_lr = -1, .beta1 = -1, .beta2 = -1, .adamw_beta1 = -1, .adamw_beta2 = -1, .lambda0 = -1};
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
    complete(&o);
    check_together(&o);
    return o;
}
