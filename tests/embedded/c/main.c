/*
 * A 64-32-10 network learns handwritten digits on a Cortex-M, with KL-Shampoo in lent static memory. Where training stands is saved to flash
 * now and then; a start finds the last good save and goes on from there, and ends with the same weights, bit for bit, as if nothing had
 * happened.
 *
 * Arguments:
 *   steps=N              of the training, 400 by default
 *   power-fails-at=N     the N-th operation of the flash, an erasure or 8 bytes, is the last, and done by half
 *   power-fails-after=N  the N-th step is the last
 *   errors               calls that fail are made now and then, and change nothing
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "errors.h"
#include "flash.h"
#include "power.h"
#include "semihosting.h"
#include "store.h"
#include "training.h"

enum { STEPS = 400, STEPS_BETWEEN_SAVES = 20, STEPS_BETWEEN_ERRORS = 50 };

_Noreturn void power_fails(void) {
    printf("the power fails\n");
    fflush(stdout);
    _exit(POWER_FAILED);
}

/* The number behind `name` in the arguments. */
static uint32_t number_of(const char *arguments, const char *name, uint32_t otherwise) {
    const char *at = strstr(arguments, name);
    return at ? (uint32_t)strtoul(at + strlen(name), NULL, 10) : otherwise;
}

/* Calls that fail, when something has been saved already: of the library, and of the flash, which is programmed once. */
static bool errors_are_right(void) {
    static const uint8_t unit[FLASH_UNIT] = {0};
    return errors_made() == 0 && !flash_program(0, unit, sizeof unit);
}

static int failed(const char *what, kls_status status) {
    printf("FAILED: %s: %s\n%s\n", what, kls_status_string(status), kls_last_error(optimizer));
    return 1;
}

int main(void) {
    char arguments[128];
    semihosting_arguments(arguments, sizeof arguments);
    const uint32_t steps = number_of(arguments, "steps=", STEPS), last_step = number_of(arguments, "power-fails-after=", 0);
    const bool with_errors = strstr(arguments, "errors") != NULL;
    if (!flash_power_on("flash.bin", number_of(arguments, "power-fails-at=", 0))) {
        printf("FAILED: flash.bin\n");
        return 1;
    }

    kls_status status = training_start();
    if (status) return failed("start", status);
    int slot;
    status = store_load(&slot);
    if (status) return failed("load", status);
    if (slot < 0) printf("starts\n");
    else printf("goes on after step %u, from slot %d\n", (unsigned)training.step, slot);

    while (training.step < steps) {
        training_differentiate();
        if (with_errors && training.step % STEPS_BETWEEN_ERRORS == STEPS_BETWEEN_ERRORS - 1 && !errors_are_right()) return 1;
        status = training_step();
        if (status) return failed("step", status);
        if (training.step == last_step) power_fails();
        if (training.step % STEPS_BETWEEN_SAVES == 0) {
            const uint32_t operations = flash_operations();
            status = store_save();
            if (status) return failed("save", status);
            printf("step %u is saved, by %u operations of the flash\n", (unsigned)training.step, (unsigned)(flash_operations() - operations));
            fflush(stdout);
        }
    }
    printf("correct: %u of %d\n", (unsigned)perceptron_correct(&training.model), TEST_IMAGES);
    printf("checksum: %08x\n", (unsigned)training_checksum());
    return 0;
}
