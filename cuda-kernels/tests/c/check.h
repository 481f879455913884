/* What the C tests share: a check that names its line. Every test returns NULL or what failed. */
#ifndef KLS_CUDA_TESTS_CHECK_H
#define KLS_CUDA_TESTS_CHECK_H

#include "../../../tests/c/condition.h"
#include "klshampoo_cuda.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* On another status it prints what the call says of itself. */
#define EXPECT_OF(optimizer, status, call)                                                    \
    do {                                                                                      \
        const kls_status expected_ = (status), found_ = (call);                               \
        if (found_ == expected_) break;                                                       \
        fprintf(stderr, "%d: %s\n", (int)found_, kls_cuda_last_error(optimizer));             \
        return __FILE__ ":" KLS_TEXT(__LINE__) ": " #call;                                    \
    } while (0)
#define EXPECT(status, call) EXPECT_OF(NULL, status, call)
/* A call fails with a status and says exactly this. */
#define SAYS(status, call, optimizer, text)                                                   \
    do {                                                                                      \
        EXPECT_OF(optimizer, status, call);                                                   \
        if (strcmp(kls_cuda_last_error(optimizer), (text)) == 0) break;                       \
        fprintf(stderr, "%s\n", kls_cuda_last_error(optimizer));                              \
        return __FILE__ ":" KLS_TEXT(__LINE__) ": " text;                                     \
    } while (0)
#define TRY(call)                                                                             \
    do {                                                                                      \
        const char *failure_ = (call);                                                        \
        if (failure_) return failure_;                                                        \
    } while (0)

/* Need a device. */
const char *test_create(void);
const char *test_step(void);
const char *test_step_errors(void);
const char *test_formats(void);
const char *test_skipping(void);
const char *test_checkpoints(void);
const char *test_checkpoint_files(void);
const char *test_checkpoints_after_skips(void);
const char *test_state(void);
const char *test_graphs(void);
const char *test_groups(void);
const char *test_forged_counters(void);
const char *test_refreshes(void);
const char *test_llmc(void);
const char *test_llmc_bf16(void);
const char *test_precisions(void);
const char *test_blas(void);
const char *test_llmc_ranks(void);
/* Need what stands in for the driver. */
const char *test_failures(void);
const char *test_late_refreshes(void);
const char *test_old_driver(void);
const char *test_nothing_hidden(void);
const char *test_blas_failures(void);
/* Need none. */
const char *test_query(void);
const char *test_options(void);
const char *test_llmc_shares(void);
const char *test_no_driver(void);
const char *test_no_device(void);

#endif
