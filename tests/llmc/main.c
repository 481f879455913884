/* The C tests of the adapters as one program, to be built with llm.c's flags: -Ofast links code that makes denormals zero.
 *   main flushed | main kept    what the processor is expected to do with denormals */
#include "tests.h"
#include <stdio.h>
#include <string.h>
#ifdef __SSE2__
#include <immintrin.h>
#endif

/* Whether results (bit 15) and operands (bit 6) that are denormal become zero; -1 where that is not known. */
static int flushes(void) {
#ifdef __SSE2__
    return (_mm_getcsr() & 0x8040) == 0x8040;
#else
    return -1;
#endif
}

int main(int argc, char **argv) {
    static const struct {
        const char *name, *(*run)(void);
    } tests[] = {
        {"the table", test_gpt2_table},
        {"rules of a flat buffer", test_flat_rules},
        {"places in a flat buffer", test_flat_places},
        {"steps of a flat buffer", test_flat_steps},
        {"errors", test_llmc_errors},
        {"choices", test_llmc_choices},
        {"AdamW", test_llmc_adamw},
        {"training", test_llmc_training},
        {"tiny gradients", test_llmc_tiny_gradients},
        {"saving and resuming", test_llmc_resume},
    };
    int failed = 0;
    if (argc != 2 || (strcmp(argv[1], "flushed") != 0 && strcmp(argv[1], "kept") != 0)) {
        fputs("usage: main flushed | main kept\n", stderr);
        return 2;
    }
    if (flushes() < 0) {
        puts("NOT CHECKED: what this processor does with denormals");
    } else if (flushes() != (strcmp(argv[1], "flushed") == 0)) {
        printf("denormals are %s, not %s\n", flushes() ? "flushed" : "kept", argv[1]);
        return 1;
    }
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        const char *failure = tests[i].run();
        printf("%s: %s\n", tests[i].name, failure ? failure : "ok");
        failed += failure != NULL;
    }
    /* The library leaves the processor as it was. */
    if (flushes() >= 0 && flushes() != (strcmp(argv[1], "flushed") == 0)) {
        puts("the treatment of denormals has changed");
        failed++;
    }
    return failed != 0;
}
