#define _POSIX_C_SOURCE 200809L
#include "text.h"
#include "die.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void *allocate(void *old, size_t bytes) {
    void *memory = realloc(old, bytes ? bytes : 1);
    if (!memory) die("out of memory for the text; give a smaller --data");
    return memory;
}

/* Appends the file to t->bytes; returns its length. */
static size_t append_file(text *t, const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) die("cannot read '%s' (%s); give --data a readable text file or folder", path, strerror(errno));
    const size_t start = t->length;
    size_t capacity = start, got;
    do {
        capacity = t->length + (1u << 20);
        t->bytes = allocate(t->bytes, capacity);
        got = fread(t->bytes + t->length, 1, capacity - t->length, file);
        t->length += got;
    } while (got > 0);
    if (ferror(file)) die("cannot read '%s' (%s); give --data a readable text file or folder", path, strerror(errno));
    fclose(file);
    return t->length - start;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* The paths of the folder's .txt files, sorted. */
static char **list_folder(const char *folder, size_t *count) {
    DIR *directory = opendir(folder);
    if (!directory) die("cannot open the folder '%s' (%s); give --data a readable text file or folder", folder, strerror(errno));
    char **paths = NULL;
    *count = 0;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        const size_t length = strlen(entry->d_name);
        if (length < 5 || strcmp(entry->d_name + length - 4, ".txt") != 0) continue;
        const size_t size = strlen(folder) + length + 2;
        char *path = allocate(NULL, size);
        snprintf(path, size, "%s/%s", folder, entry->d_name);
        paths = allocate(paths, (*count + 1) * sizeof *paths);
        paths[(*count)++] = path;
    }
    closedir(directory);
    if (*count == 0) die("no .txt file in the folder '%s'; give --data a text file or a folder of .txt files", folder);
    qsort(paths, *count, sizeof *paths, by_name);
    return paths;
}

/* Cuts each work in its two parts and counts what can be drawn from them. */
static void split(text *t, const size_t *lengths) {
    const size_t context = (size_t)t->context;
    t->training = allocate(NULL, t->works * sizeof *t->training);
    t->validation = allocate(NULL, t->works * sizeof *t->validation);
    const uint8_t *at = t->bytes;
    for (size_t i = 0; i < t->works; i++) {
        const size_t held_out = lengths[i] * 6 / 100, kept = lengths[i] - held_out;
        t->training[i] = (text_span){at, kept, t->contexts};
        t->validation[i] = (text_span){at + kept, held_out, t->windows};
        t->contexts += kept > context ? kept - context : 0;
        t->windows += held_out > 0 ? (held_out - 1) / context : 0;
        t->training_bytes += kept;
        t->validation_bytes += held_out;
        at += lengths[i];
    }
}

text text_load(const char *path, int context) {
    text t = {.context = context};
    struct stat status;
    if (stat(path, &status) != 0) die("cannot find '%s' (%s); give --data a text file or a folder of .txt files", path, strerror(errno));
    size_t *lengths;
    if (S_ISDIR(status.st_mode)) {
        char **paths = list_folder(path, &t.works);
        lengths = allocate(NULL, t.works * sizeof *lengths);
        for (size_t i = 0; i < t.works; i++) {
            lengths[i] = append_file(&t, paths[i]);
            free(paths[i]);
        }
        free(paths);
    } else {
        t.works = 1;
        lengths = allocate(NULL, sizeof *lengths);
        lengths[0] = append_file(&t, path);
    }
    if (t.length == 0) die("'%s' holds no text; give --data a text that is not empty", path);
    split(&t, lengths);
    free(lengths);
    if (t.contexts == 0 || t.windows == 0)
        die("'%s' is too short: its last 6 %% must hold more than --context %d bytes; give a longer text or a smaller --context", path,
            context);
    return t;
}

void text_free(text *t) {
    free(t->bytes);
    free(t->training);
    free(t->validation);
}

/* The last span that begins at or before `index`; spans of no contexts are stepped over. */
static const text_span *find_span(const text_span *spans, size_t count, size_t index) {
    size_t low = 0, high = count;
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (spans[middle].before <= index)
            low = middle;
        else
            high = middle;
    }
    return &spans[low];
}

void text_sample(const text *t, rng *random, int batch, uint8_t *tokens, uint8_t *targets) {
    const size_t context = (size_t)t->context;
    for (int b = 0; b < batch; b++, tokens += context, targets += context) {
        const size_t index = (size_t)(rng_uniform(random) * (double)t->contexts);
        const text_span *span = find_span(t->training, t->works, index);
        const uint8_t *from = span->bytes + (index - span->before);
        memcpy(tokens, from, context);
        memcpy(targets, from + 1, context);
    }
}

void text_window(const text *t, size_t index, uint8_t *tokens, uint8_t *targets) {
    const size_t context = (size_t)t->context;
    const text_span *span = find_span(t->validation, t->works, index);
    const uint8_t *from = span->bytes + (index - span->before) * context;
    memcpy(tokens, from, context);
    memcpy(targets, from + 1, context);
}
