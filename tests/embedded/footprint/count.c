/*
 * A plugin of QEMU that counts the instructions executed from one address to another, each time: begin=ADDRESS, end=ADDRESS. It is exact:
 * every instruction adds one when it is executed. The instruction at `end` is not counted, and so are none of the caller's but one call.
 *
 * The interface is declared here because distributions leave qemu-plugin.h out of their packages; it is version 1 of QEMU's plugin API.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t plugin_id;
typedef struct translation_block translation_block;
typedef struct instruction instruction;

extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, translation_block *));
extern size_t qemu_plugin_tb_n_insns(const translation_block *);
extern instruction *qemu_plugin_tb_get_insn(const translation_block *, size_t);
extern uint64_t qemu_plugin_insn_vaddr(const instruction *);
extern void qemu_plugin_register_vcpu_insn_exec_cb(instruction *, void (*)(unsigned, void *), int, void *);
extern void qemu_plugin_register_vcpu_insn_exec_inline(instruction *, int, void *, uint64_t);

enum { ADD_U64 = 0, NO_REGISTERS = 0 };

extern const int qemu_plugin_version;
const int qemu_plugin_version = 1;

static uint64_t executed, at_begin, begin, end;

static void on_begin(unsigned cpu, void *user) {
    (void)cpu, (void)user;
    at_begin = executed;
}

static void on_end(unsigned cpu, void *user) {
    (void)cpu, (void)user;
    fprintf(stderr, "instructions %llu\n", (unsigned long long)(executed - at_begin));
}

static void on_translation(plugin_id id, translation_block *block) {
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(block); i++) {
        instruction *const one = qemu_plugin_tb_get_insn(block, i);
        const uint64_t address = qemu_plugin_insn_vaddr(one);
        if (address == begin) qemu_plugin_register_vcpu_insn_exec_cb(one, on_begin, NO_REGISTERS, NULL);
        if (address == end) qemu_plugin_register_vcpu_insn_exec_cb(one, on_end, NO_REGISTERS, NULL);
        qemu_plugin_register_vcpu_insn_exec_inline(one, ADD_U64, &executed, 1);
    }
}

extern int qemu_plugin_install(plugin_id, const void *, int, char **);

int qemu_plugin_install(plugin_id id, const void *info, int count, char **arguments) {
    (void)info;
    for (int i = 0; i < count; i++) {
        /* The lowest bit of a function's address says which instruction set it is in. */
        if (strncmp(arguments[i], "begin=", 6) == 0) begin = strtoull(arguments[i] + 6, NULL, 16) & ~1ull;
        if (strncmp(arguments[i], "end=", 4) == 0) end = strtoull(arguments[i] + 4, NULL, 16) & ~1ull;
    }
    if (begin == 0 || end == 0) {
        fprintf(stderr, "count: begin=ADDRESS,end=ADDRESS are needed\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    return 0;
}
