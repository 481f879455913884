/* Training in C, compiled with -ffast-math. */
#ifndef KLS_STRESS_CALLER_H
#define KLS_STRESS_CALLER_H

#include "klshampoo.h"

/* What a run came to. */
typedef struct caller_result {
    uint64_t steps;          /* made */
    uint64_t refused;        /* of those that had to be: gradients with a NaN or an infinity */
    uint64_t wrongly;        /* calls with another status than they had to have */
    float largest_parameter; /* in absolute value */
    float largest_update;    /* root mean square of the longest one */
    uint64_t recovery;       /* steps from the last disturbance until the updates are as long as at first, to a factor of 2 */
} caller_result;

/* Steps of a matrix whose gradients now and then jump by 1e8, are too small for normal numbers, zero, or not finite. Whether
   everything stayed finite: 1, or 0. */
int32_t kls_stress_caller(int32_t method, uint64_t rounds, caller_result *result);

/* Flushes denormal numbers to zero from now on in this thread, in results and operands, or not; whether this processor can. */
int32_t kls_stress_flush(int32_t flush);

#endif
