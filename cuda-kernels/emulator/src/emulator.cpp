// See emulator.h, which redefines min and max and comes last for that.
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#include "emulator.h"

kls_dim3 threadIdx, blockIdx, blockDim, gridDim;
static kls_kernel *kernels;

kls_kernel::kls_kernel(const char *name, unsigned threads, size_t size, int barriers, void (*run)(const void *))
    : name(name), threads(threads), size(size), barriers(barriers), run(run), next(kernels) {
    kernels = this;
}

namespace {
constexpr size_t STACK = 128 << 10;

struct fiber {
    ucontext_t context;
    char *stack;
    bool done;
    unsigned barriers;
};

struct {
    std::vector<fiber> fibers;
    ucontext_t scheduler;
    const kls_kernel *kernel;
    const void *params;
    unsigned running;
    // Of the conditions that threads bring to a barrier: gathered, and of the barrier before.
    int any, all, last_any, last_all;
#if defined(__SANITIZE_ADDRESS__)
    const void *scheduler_stack;
    size_t scheduler_stack_size;
#endif
} block;

void enter(ucontext_t *from, ucontext_t *to, bool to_fiber, bool ends) {
#if defined(__SANITIZE_ADDRESS__)
    void *fake = nullptr;
    if (to_fiber)
        __sanitizer_start_switch_fiber(ends ? nullptr : &fake, block.fibers[block.running].stack, STACK);
    else
        __sanitizer_start_switch_fiber(ends ? nullptr : &fake, block.scheduler_stack, block.scheduler_stack_size);
    swapcontext(from, to);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
    (void)to_fiber, (void)ends;
    swapcontext(from, to);
#endif
}

void start() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &block.scheduler_stack, &block.scheduler_stack_size);
#endif
    block.kernel->run(block.params);
    fiber &own = block.fibers[block.running];
    own.done = true;
    enter(&own.context, &block.scheduler, false, true);
}

void run_block(unsigned threads) {
    while (block.fibers.size() < threads) block.fibers.push_back({{}, static_cast<char *>(malloc(STACK)), false, 0});
    for (unsigned i = 0; i < threads; i++) {
        fiber &f = block.fibers[i];
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack;
        f.context.uc_stack.ss_size = STACK;
        f.context.uc_link = nullptr;
        f.done = false;
        f.barriers = 0;
        makecontext(&f.context, start, 0);
    }
    for (unsigned round = 0, live = threads; live > 0; round++) {
        block.any = 0, block.all = 1;
        for (unsigned i = 0; i < threads; i++) {
            if (block.fibers[i].done) continue;
            block.running = i;
            threadIdx = {i, 0, 0};
            enter(&block.scheduler, &block.fibers[i].context, true, false);
            if (block.fibers[i].done) live--;
        }
        // A thread that ended while others wait at a barrier is the kernel's error.
        bool waits = false, ended = false;
        for (unsigned i = 0; i < threads; i++) (block.fibers[i].done ? ended : waits) = true;
        if (waits && ended) {
            fprintf(stderr, "%s: some threads of a block left before a barrier that others wait at\n", block.kernel->name);
            abort();
        }
        block.last_any = block.any, block.last_all = block.all;
    }
}

void wait(int condition) {
    block.any |= condition != 0;
    block.all &= condition != 0;
    fiber &own = block.fibers[block.running];
    own.barriers++;
    enter(&own.context, &block.scheduler, false, false);
}
} // namespace

static void meet(int condition) {
    if (!block.kernel->barriers) {
        fprintf(stderr, "%s: a barrier in a kernel that is declared to have none\n", block.kernel->name);
        abort();
    }
    wait(condition);
}
void __syncthreads() { meet(0); }
int __syncthreads_or(int condition) {
    meet(condition);
    return block.last_any;
}
int __syncthreads_and(int condition) {
    meet(condition);
    return block.last_all;
}

static const kls_kernel *find(const char *name) {
    const kls_kernel *k = kernels;
    while (k && strcmp(k->name, name) != 0) k = k->next;
    return k;
}

extern "C" {
// The size of a kernel's parameters; 0 if there is no such kernel.
size_t kls_emulator_params_size(const char *name) {
    const kls_kernel *k = find(name);
    return k ? k->size : 0;
}

// Threads in a block of it.
unsigned kls_emulator_threads(const char *name) {
    const kls_kernel *k = find(name);
    return k ? k->threads : 0;
}

// Runs a kernel; returns 0, 1 if there is none of this name, 2 if a block of it has another number of threads.
int kls_emulator_launch(const char *name, unsigned x, unsigned y, unsigned z, unsigned threads, const void *params) {
    const kls_kernel *k = find(name);
    if (!k) return 1;
    if (k->threads != threads) return 2;
    block.kernel = k;
    block.params = params;
    gridDim = {x, y, z};
    blockDim = {threads, 1, 1};
    for (unsigned bz = 0; bz < z; bz++)
        for (unsigned by = 0; by < y; by++)
            for (unsigned bx = 0; bx < x; bx++) {
                blockIdx = {bx, by, bz};
                if (k->barriers) {
                    run_block(threads);
                } else {
                    for (unsigned i = 0; i < threads; i++) {
                        threadIdx = {i, 0, 0};
                        k->run(params);
                    }
                }
            }
    return 0;
}
}
