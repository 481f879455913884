// See emulator.h, which redefines min and max and comes last for that.
#include <deque>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

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

// A context is entered once, to begin; from then on the jumps of C, which unlike swapcontext ask nothing of the system, lead in and out.
struct context {
    ucontext_t begin;
    jmp_buf at;
    bool begun;
};

struct fiber {
    context own;
    char *stack;
    bool done;
};

struct {
    std::deque<fiber> fibers;
    context scheduler;
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

[[gnu::noinline]] void jump(context &from, context &to) {
    if (_setjmp(from.at) != 0) return;
    if (to.begun) _longjmp(to.at, 1);
    to.begun = true;
    setcontext(&to.begin);
}

void enter_fiber(unsigned number) {
    block.running = number;
    threadIdx = {number, 0, 0};
#if defined(__SANITIZE_ADDRESS__)
    void *fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, block.fibers[number].stack, STACK);
    jump(block.scheduler, block.fibers[number].own);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
    jump(block.scheduler, block.fibers[number].own);
#endif
}

void leave_fiber() {
    context &own = block.fibers[block.running].own;
#if defined(__SANITIZE_ADDRESS__)
    void *fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, block.scheduler_stack, block.scheduler_stack_size);
    jump(own, block.scheduler);
    __sanitizer_finish_switch_fiber(fake, &block.scheduler_stack, &block.scheduler_stack_size);
#else
    jump(own, block.scheduler);
#endif
}

// A fiber serves one block's thread after another.
void start() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &block.scheduler_stack, &block.scheduler_stack_size);
#endif
    for (;;) {
        block.kernel->run(block.params);
        block.fibers[block.running].done = true;
        leave_fiber();
    }
}

[[gnu::noinline]] void add_fiber() {
    // A deque leaves where it is what it has: a context points into itself.
    block.fibers.emplace_back();
    getcontext(&block.fibers.back().own.begin);
    fiber &own = block.fibers.back();
    own.stack = static_cast<char *>(malloc(STACK));
    own.own.begin.uc_stack.ss_sp = own.stack;
    own.own.begin.uc_stack.ss_size = STACK;
    own.own.begin.uc_link = nullptr;
    makecontext(&own.own.begin, start, 0);
}

void run_block(unsigned threads) {
    block.scheduler.begun = true;
    while (block.fibers.size() < threads) add_fiber();
    for (unsigned i = 0; i < threads; i++) block.fibers[i].done = false;
    for (unsigned live = threads; live > 0;) {
        block.any = 0, block.all = 1;
        for (unsigned i = 0; i < threads; i++) {
            if (block.fibers[i].done) continue;
            enter_fiber(i);
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
    leave_fiber();
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

// The name of a kernel, one number each, but for those of tests; NULL after the last.
const char *kls_emulator_name(size_t number) {
    const kls_kernel *k = kernels;
    for (;; k = k->next) {
        while (k && strncmp(k->name, "kls_test_", 9) == 0) k = k->next;
        if (!k || number-- == 0) return k ? k->name : nullptr;
    }
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
