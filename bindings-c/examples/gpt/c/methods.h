/* The methods of the library, and what each is trained with unless the command line says otherwise. */
#ifndef GPT_METHODS_H
#define GPT_METHODS_H

#include <stdint.h>

typedef struct {
    const char *name;
    int32_t constant; /* KLS_METHOD_* */
    double lr;        /* tuned peak rate */
    double adamw_lr;  /* peak rate of AdamW beside it, where the method's own is no measure; 0: as the method's */
    double beta1, beta2;
} method_row;

extern const method_row methods[];

/* Row of AdamW, whose betas are also those of AdamW beside another method. */
extern const long method_adamw;

typedef struct {
    const char *name;
    int32_t constant;
} named_constant;

extern const named_constant conventions[], grafts[];

/* The name of a row, NULL beyond the last one. */
const char *method_name(long row);
const char *convention_name(long row);
const char *graft_name(long row);

#endif
