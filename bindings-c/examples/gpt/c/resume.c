#define _POSIX_C_SOURCE 200809L
#include "resume.h"
#include "die.h"
#include <dirent.h>
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

static void check_read(const kls_optimizer *optimizer, kls_status status, const char *name) {
    if (status != KLS_OK) die("cannot read the optimizer's state '%s': %s", name, kls_last_error(optimizer));
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

/* Writes the model file beside its place and renames it. */
static bool save_model(const char *path, const file_head *head, const gpt_model *model) {
    char *fresh = malloc(strlen(path) + 5);
    if (!fresh) die("out of memory for a file's name");
    sprintf(fresh, "%s.new", path);
    FILE *file = fopen(fresh, "wb");
    bool written = file && fwrite(head, sizeof *head, 1, file) == 1 &&
                   fwrite(model->params, sizeof *model->params, model->parameter_count, file) == model->parameter_count;
    written = written && fflush(file) == 0 && fsync(fileno(file)) == 0;
    int error = errno;
    if (file && fclose(file) != 0 && written) {
        written = false;
        error = errno;
    }
    if (written && rename(fresh, path) != 0) {
        written = false;
        error = errno;
    }
    if (!written) {
        fprintf(stderr, "gpt-train: cannot write '%s': %s\n", path, strerror(error));
        remove(fresh);
    }
    free(fresh);
    return written;
}

/* Removes the optimizer's files of all steps but one: that of the save before, and what a process has left that was killed while it saved. */
static void remove_others(const char *path, const char *keep) {
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    char *folder = strdup(slash ? path : ".");
    if (!folder) die("out of memory for a file's name");
    if (slash) folder[slash == path ? 1 : slash - path] = '\0';
    DIR *entries = opendir(folder);
    /* The model file's new name is to last before anything goes. */
    if (entries && fsync(dirfd(entries)) != 0) {
        closedir(entries);
        entries = NULL;
    }
    const struct dirent *entry;
    while (entries && (entry = readdir(entries))) {
        const size_t length = strlen(base);
        if (strncmp(entry->d_name, base, length) != 0 || strncmp(entry->d_name + length, ".optimizer-", 11) != 0) continue;
        char *name = optimizer_file(path, strtoull(entry->d_name + length + 11, NULL, 10));
        if (strcmp(name, keep) != 0) remove(name);
        free(name);
    }
    if (entries) closedir(entries);
    free(folder);
}

/* The optimizer's file has its step in its name, and the model file, which names the step, is renamed last: at any time it and the file that it
 * names are whole and of one step. */
bool resume_save(const char *path, long step, const rng *batches, const gpt_model *model, kls_optimizer *optimizer) {
    file_head head = {.parameters = model->parameter_count, .step = (uint64_t)step, .batches = batches->state};
    memcpy(head.magic, MAGIC, sizeof MAGIC);
    char *state = optimizer_file(path, head.step);
    const kls_status status = kls_optimizer_save_file(optimizer, state);
    if (status != KLS_OK) fprintf(stderr, "gpt-train: cannot write the optimizer's state '%s': %s\n", state, kls_last_error(optimizer));
    const bool saved = status == KLS_OK && save_model(path, &head, model);
    if (saved) remove_others(path, state);
    else if (status == KLS_OK && read_head(path).step != head.step) remove(state);
    free(state);
    return saved;
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
    check_read(optimizer, kls_optimizer_load_file(optimizer, state), state);
    kls_counters counters;
    check_read(optimizer, kls_optimizer_counters(optimizer, 0, 0, &counters, sizeof counters), state);
    if (counters.steps != head.step)
        die("'%s' is of step %llu, '%s' of step %llu; give files that were saved together", path, (unsigned long long)head.step, state,
            (unsigned long long)counters.steps);
    batches->state = head.batches;
    free(state);
    return (long)head.step;
}
