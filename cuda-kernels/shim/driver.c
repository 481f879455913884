// The functions of the CUDA driver that cust and this crate name, so that a program links and starts where there is no driver: each forwards to
// a library that is opened when the first of them is called.
//
// cust's result type is a Rust enum of the codes of CUDA 11.4; another value in it would be undefined behaviour. So a code that is none of them
// becomes CUDA_ERROR_UNKNOWN on the way, and the true one stays readable beside it.
#include "library.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

typedef uint32_t result;

enum {
    SUCCESS = 0,
    SYMBOL_NOT_FOUND = 302,
    LIBRARY_NOT_FOUND = 303,
    UNKNOWN = 999,
};

static pthread_once_t opened = PTHREAD_ONCE_INIT;
static void *library;
static _Thread_local result last; // of this thread's last call, as the driver gave it

static void open_library(void) {
    const char *name = secure_getenv("KLS_CUDA_DRIVER");
    library = kls_shim_open(name && *name ? name : "libcuda.so.1");
}

// The driver's function of this name, or NULL with `last` set.
static void *function(void *_Atomic *slot, const char *name) {
    void *found = atomic_load_explicit(slot, memory_order_acquire);
    if (found) return found;
    pthread_once(&opened, open_library);
    if (!library) {
        last = LIBRARY_NOT_FOUND;
        return NULL;
    }
    found = kls_shim_symbol(library, name);
    if (!found) {
        last = SYMBOL_NOT_FOUND;
        return NULL;
    }
    // Threads that meet here store the same address.
    atomic_store_explicit(slot, found, memory_order_release);
    return found;
}

static int is_known(result code) {
    switch (code) {
#define CODE(code) case code:
#include "codes.h"
#undef CODE
        return 1;
    default:
        return 0;
    }
}

static result told(result code) {
    last = code;
    return is_known(code) ? code : UNKNOWN;
}

// What this thread's last call of the driver gave.
result kls_shim_last_code(void) { return last; }

#define FORWARD(name, parameters, types, arguments)                                                                         \
    result name parameters {                                                                                               \
        static void *_Atomic slot;                                                                                         \
        void *found = function(&slot, #name);                                                                              \
        return found ? told(((result(*) types)found)arguments) : last;                                                     \
    }
#define CALL0(name) FORWARD(name, (void), (void), ())
#define CALL1(name, A) FORWARD(name, (A a), (A), (a))
#define CALL2(name, A, B) FORWARD(name, (A a, B b), (A, B), (a, b))
#define CALL3(name, A, B, C) FORWARD(name, (A a, B b, C c), (A, B, C), (a, b, c))
#define CALL4(name, A, B, C, D) FORWARD(name, (A a, B b, C c, D d), (A, B, C, D), (a, b, c, d))
#define CALL5(name, A, B, C, D, E) FORWARD(name, (A a, B b, C c, D d, E e), (A, B, C, D, E), (a, b, c, d, e))
#define CALL6(name, A, B, C, D, E, F)                                                                                       \
    FORWARD(name, (A a, B b, C c, D d, E e, F f), (A, B, C, D, E, F), (a, b, c, d, e, f))
#define CALL7(name, A, B, C, D, E, F, G)                                                                                    \
    FORWARD(name, (A a, B b, C c, D d, E e, F f, G g), (A, B, C, D, E, F, G), (a, b, c, d, e, f, g))
#define CALL8(name, A, B, C, D, E, F, G, H)                                                                                 \
    FORWARD(name, (A a, B b, C c, D d, E e, F f, G g, H h), (A, B, C, D, E, F, G, H), (a, b, c, d, e, f, g, h))
#define CALL9(name, A, B, C, D, E, F, G, H, I)                                                                              \
    FORWARD(name, (A a, B b, C c, D d, E e, F f, G g, H h, I i), (A, B, C, D, E, F, G, H, I), (a, b, c, d, e, f, g, h, i))
#define CALL11(name, A, B, C, D, E, F, G, H, I, J, K)                                                                       \
    FORWARD(name, (A a, B b, C c, D d, E e, F f, G g, H h, I i, J j, K k), (A, B, C, D, E, F, G, H, I, J, K),              \
            (a, b, c, d, e, f, g, h, i, j, k))
#include "functions.h"

// What the driver says of a code, if there is a driver that knows it.
static const char *said(result code, void *_Atomic *slot, const char *name) {
    const result before = last;
    result (*ask)(result, const char **) = (result(*)(result, const char **))function(slot, name);
    const char *text = NULL;
    const int known = ask && ask(code, &text) == SUCCESS;
    last = before;
    return known ? text : NULL;
}

// The name of a code, also of one that cust does not know; never NULL.
const char *kls_shim_error_name(result code) {
    static void *_Atomic slot;
    const char *name = said(code, &slot, "cuGetErrorName");
    if (name) return name;
    switch (code) {
    case SUCCESS: return "CUDA_SUCCESS";
    case SYMBOL_NOT_FOUND: return "CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND";
    case LIBRARY_NOT_FOUND: return "CUDA_ERROR_SHARED_OBJECT_INIT_FAILED";
    default: return "CUDA_ERROR_UNKNOWN";
    }
}

// The text of a code, also of one that cust does not know; never NULL.
const char *kls_shim_error_text(result code) {
    static void *_Atomic slot;
    const char *text = said(code, &slot, "cuGetErrorString");
    if (text) return text;
    switch (code) {
    case SUCCESS: return "no error";
    case SYMBOL_NOT_FOUND: return "the CUDA driver has no such function";
    case LIBRARY_NOT_FOUND: return "no CUDA driver";
    default: return "unknown error";
    }
}

// cust asks with the codes that it has: UNKNOWN may stand for this thread's last one.
static result meant(result code) { return code == UNKNOWN && !is_known(last) ? last : code; }

result cuGetErrorName(result code, const char **name) {
    *name = kls_shim_error_name(meant(code));
    return SUCCESS;
}

result cuGetErrorString(result code, const char **text) {
    *text = kls_shim_error_text(meant(code));
    return SUCCESS;
}
