#include "resume.h"
#include "die.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What stands before the parameters in a model file. */
typedef struct {
    char magic[8];
    uint64_t parameters, step, batches;
} file_head;

static const char MAGIC[8] = "gpt-0001";

static char *with_suffix(const char *path, const char *suffix) {
    char *name = malloc(strlen(path) + strlen(suffix) + 1);
    if (!name) die("out of memory for a file's name");
    strcpy(name, path);
    return strcat(name, suffix);
}

static void check_optimizer(kls_status status, const char *what, const char *name) {
    if (status != KLS_OK) die("cannot %s the optimizer's state '%s': %s", what, name, kls_status_string(status));
}

void resume_save(const char *path, long step, const rng *batches, const gpt_model *model, kls_optimizer *optimizer) {
    file_head head = {.parameters = model->parameter_count, .step = (uint64_t)step, .batches = batches->state};
    memcpy(head.magic, MAGIC, sizeof MAGIC);
    char *state = with_suffix(path, ".optimizer"), *fresh = with_suffix(path, ".new");
    check_optimizer(kls_optimizer_save_file(optimizer, state), "write", state);
    FILE *file = fopen(fresh, "wb");
    const bool written = file && fwrite(&head, sizeof head, 1, file) == 1 &&
                         fwrite(model->params, sizeof *model->params, model->parameter_count, file) == model->parameter_count;
    /* The old file stays until the new one is whole. */
    if (!file || fclose(file) != 0 || !written || rename(fresh, path) != 0) die("cannot write '%s': %s", path, strerror(errno));
    free(state);
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
    char *state = with_suffix(path, ".optimizer");
    check_optimizer(kls_optimizer_load_file(optimizer, state), "read", state);
    kls_counters counters;
    check_optimizer(kls_optimizer_counters(optimizer, 0, 0, &counters, sizeof counters), "read", state);
    if (counters.steps != head.step)
        die("'%s' is of step %llu, '%s' of step %llu; give files that were saved together", path, (unsigned long long)head.step, state,
            (unsigned long long)counters.steps);
    batches->state = head.batches;
    free(state);
    return (long)head.step;
}
