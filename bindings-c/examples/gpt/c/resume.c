#define _POSIX_C_SOURCE 200809L
#include "resume.h"
#include "die.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What stands before the parameters in a model file. */
typedef struct {
    char magic[8];
    uint64_t parameters, step, batches;
} file_head;

static const char MAGIC[8] = "gpt-0001";

/* The name of the optimizer's file of a step: PATH.optimizer-STEP. */
static char *optimizer_file(const char *path, uint64_t step) {
    const size_t size = strlen(path) + 40;
    char *name = malloc(size);
    if (!name) die("out of memory for a file's name");
    snprintf(name, size, "%s.optimizer-%llu", path, (unsigned long long)step);
    return name;
}

static void check_optimizer(const kls_optimizer *optimizer, kls_status status, const char *what, const char *name) {
    if (status != KLS_OK) die("cannot %s the optimizer's state '%s': %s", what, name, kls_last_error(optimizer));
}

/* The head of a model file; a step of 0 where there is none. */
static file_head read_head(const char *path) {
    file_head head = {.step = 0};
    FILE *file = fopen(path, "rb");
    if (!file) return head;
    if (fread(&head, sizeof head, 1, file) != 1 || memcmp(head.magic, MAGIC, sizeof MAGIC) != 0) head.step = 0;
    fclose(file);
    return head;
}

/* The optimizer's file has its step in its name, and the model file, which names the step, is renamed last: at any time it and the file that it
 * names are whole and of one step. */
void resume_save(const char *path, long step, const rng *batches, const gpt_model *model, kls_optimizer *optimizer) {
    const file_head before = read_head(path);
    file_head head = {.parameters = model->parameter_count, .step = (uint64_t)step, .batches = batches->state};
    memcpy(head.magic, MAGIC, sizeof MAGIC);
    char *state = optimizer_file(path, head.step), *old = optimizer_file(path, before.step), *fresh = malloc(strlen(path) + 5);
    if (!fresh) die("out of memory for a file's name");
    sprintf(fresh, "%s.new", path);
    check_optimizer(optimizer, kls_optimizer_save_file(optimizer, state), "write", state);
    FILE *file = fopen(fresh, "wb");
    bool written = file && fwrite(&head, sizeof head, 1, file) == 1 &&
                   fwrite(model->params, sizeof *model->params, model->parameter_count, file) == model->parameter_count;
    written = written && fflush(file) == 0 && fsync(fileno(file)) == 0;
    if (!file || fclose(file) != 0 || !written || rename(fresh, path) != 0) die("cannot write '%s': %s", path, strerror(errno));
    if (before.step != 0 && before.step != head.step) remove(old);
    free(state);
    free(old);
    free(fresh);
}

long resume_load(const char *path, rng *batches, gpt_model *model, kls_optimizer *optimizer) {
    file_head head;
    FILE *file = fopen(path, "rb");
    if (!file) die("cannot read '%s': %s", path, strerror(errno));
    if (fread(&head, sizeof head, 1, file) != 1 || memcmp(head.magic, MAGIC, sizeof MAGIC) != 0) die("'%s' is no model of this program", path);
    if (head.parameters != model->parameter_count)
        die("'%s' has %llu parameters, the model %zu; give the sizes that it was saved with", path, (unsigned long long)head.parameters,
            model->parameter_count);
    const size_t read = fread(model->params, sizeof *model->params, model->parameter_count, file);
    if (read != model->parameter_count || fgetc(file) != EOF) die("'%s' is not whole", path);
    fclose(file);
    char *state = optimizer_file(path, head.step);
    check_optimizer(optimizer, kls_optimizer_load_file(optimizer, state), "read", state);
    kls_counters counters;
    check_optimizer(optimizer, kls_optimizer_counters(optimizer, 0, 0, &counters, sizeof counters), "read", state);
    if (counters.steps != head.step)
        die("'%s' is of step %llu, '%s' of step %llu; give files that were saved together", path, (unsigned long long)head.step, state,
            (unsigned long long)counters.steps);
    batches->state = head.batches;
    free(state);
    return (long)head.step;
}
