#include "methods.h"
#include "klshampoo.h"
#include <stddef.h>

enum { ADAMW = 0 };
const long method_adamw = ADAMW;

/* The lengths of SGD's and of plain Shampoo's updates follow the gradient's by other laws than AdamW's. */
const method_row methods[] = {
    [ADAMW] = {"adamw", KLS_METHOD_ADAMW, 4e-3, 0, 0.9, 0.99},
    {"kl-shampoo", KLS_METHOD_KL_SHAMPOO, 4e-3, 0, 0.9, 0.95},
    {"kl-soap", KLS_METHOD_KL_SOAP, 8e-3, 0, 0.9, 0.95},
    {"soap", KLS_METHOD_SOAP, 8e-3, 0, 0.9, 0.95},
    {"shampoo", KLS_METHOD_SHAMPOO, 0.1, 4e-3, 0.9, 0.95},
    {"shampoo-half", KLS_METHOD_SHAMPOO_HALF, 0.3, 4e-3, 0.9, 0.95},
    {"shampoo-quarter", KLS_METHOD_SHAMPOO_QUARTER, 0.1, 4e-3, 0.9, 0.95},
    {"vn-shampoo-1", KLS_METHOD_VN_SHAMPOO_1, 8e-3, 0, 0.9, 0.95},
    {"vn-shampoo-2", KLS_METHOD_VN_SHAMPOO_2, 16e-3, 0, 0.9, 0.95},
    {"f-shampoo-1", KLS_METHOD_F_SHAMPOO_1, 4e-3, 0, 0.9, 0.95},
    {"f-shampoo-2", KLS_METHOD_F_SHAMPOO_2, 4e-3, 0, 0.9, 0.95},
    {"idealized-kl", KLS_METHOD_IDEALIZED_KL, 8e-3, 0, 0.9, 0.95},
    {"idealized-vn-1", KLS_METHOD_IDEALIZED_VN_1, 8e-3, 0, 0.9, 0.95},
    {"idealized-vn-2", KLS_METHOD_IDEALIZED_VN_2, 2e-3, 0, 0.9, 0.95},
    {"idealized-f-1", KLS_METHOD_IDEALIZED_F_1, 4e-3, 0, 0.9, 0.95},
    {"idealized-f-2", KLS_METHOD_IDEALIZED_F_2, 4e-3, 0, 0.9, 0.95},
    {"instantaneous-kl", KLS_METHOD_INSTANTANEOUS_KL, 8e-3, 0, 0.9, 0.95},
    {"one-sided", KLS_METHOD_ONE_SIDED, 16e-3, 0, 0.9, 0.95},
    {"rmsprop", KLS_METHOD_RMSPROP, 4e-3, 0, 0.9, 0.99},
    {"adafactor", KLS_METHOD_ADAFACTOR, 2e-3, 0, 0.9, 0.99},
    {"sgd", KLS_METHOD_SGD, 0.03, 4e-3, 0.9, 0.99},
};

const named_constant conventions[] = {
    {"figure13", KLS_CONVENTION_FIGURE13},
    {"reference-kl", KLS_CONVENTION_REFERENCE_KL},
    {"reference-soap", KLS_CONVENTION_REFERENCE_SOAP},
    {"reference-meta", KLS_CONVENTION_REFERENCE_META},
};

const named_constant grafts[] = {
    {"none", KLS_GRAFT_NONE},
    {"adam", KLS_GRAFT_ADAM},
    {"sgd", KLS_GRAFT_SGD},
    {"rmsprop", KLS_GRAFT_RMSPROP},
    {"adagrad", KLS_GRAFT_ADAGRAD},
};

#define NAME(table, row) ((size_t)(row) < sizeof(table) / sizeof(table)[0] ? (table)[row].name : NULL)

const char *method_name(long row) { return NAME(methods, row); }
const char *convention_name(long row) { return NAME(conventions, row); }
const char *graft_name(long row) { return NAME(grafts, row); }
