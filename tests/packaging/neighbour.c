/*
 * klshampoo and another Rust library in one program: each works, each panics, each catches its own panic and works again.
 * No argument of klshampoo's makes it panic, so the machine does: std asserts that pthread_attr_init succeeds.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <klshampoo.h>
#include <pthread.h>
#include <stdio.h>

int neighbour_square(int key);

static int broken;

int pthread_attr_init(pthread_attr_t *attributes) { /* the system's, unless broken */
    int (*real)(pthread_attr_t *);
    if (broken) return 12;
    *(void **)&real = dlsym(RTLD_NEXT, "pthread_attr_init");
    return real(attributes);
}

static kls_status create_and_destroy(void) {
    const uint64_t dims[2] = {8, 8};
    kls_config config;
    kls_tensor tensor;
    kls_options options;
    kls_optimizer *optimizer = NULL;
    kls_status status = kls_config_init(&config, sizeof config, KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13);
    if (!status) status = kls_tensor_init(&tensor, sizeof tensor, 2, dims);
    if (!status) status = kls_options_init(&options, sizeof options);
    options.num_threads = 2;
    if (!status) status = kls_optimizer_create(&optimizer, &config, 1, &tensor, 1, &options);
    if (!status) status = kls_optimizer_destroy(&optimizer);
    return status;
}

#define EXPECT(value, call)                                                               \
    do {                                                                                  \
        const int got = (call);                                                           \
        if (got != (value)) return printf("line %d: %s is %d\n", __LINE__, #call, got);   \
    } while (0)

int main(void) {
    for (int round = 0; round < 3; round++) {
        EXPECT(KLS_OK, create_and_destroy());
        EXPECT(49, neighbour_square(7));
        EXPECT(-1, neighbour_square(10));
        broken = 1;
        EXPECT(KLS_ERROR_INTERNAL, create_and_destroy());
        EXPECT(-1, neighbour_square(7));
        broken = 0;
    }
    return 0;
}
