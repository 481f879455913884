#include "flash.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "power.h"

static struct {
    uint8_t bytes[FLASH_SIZE];
    uint8_t programmed[FLASH_SIZE / FLASH_UNIT]; /* Whether a unit has been programmed since it was erased. */
} cells;

static int file;
static uint32_t operations, failing_operation;

/* Writes a part of the cells through to the file. */
static bool keep(const uint8_t *part, size_t len) {
    const off_t offset = part - (const uint8_t *)&cells;
    return lseek(file, offset, SEEK_SET) == offset && write(file, part, len) == (ssize_t)len;
}

bool flash_power_on(const char *name, uint32_t failure) {
    operations = 0;
    failing_operation = failure;
    file = open(name, O_RDWR);
    if (file >= 0) return read(file, &cells, sizeof cells) == sizeof cells;
    file = open(name, O_RDWR | O_CREAT | O_TRUNC, 0666);
    memset(cells.bytes, 0xff, sizeof cells.bytes);
    memset(cells.programmed, 0, sizeof cells.programmed);
    return file >= 0 && keep((const uint8_t *)&cells, sizeof cells);
}

const uint8_t *flash_at(uint32_t address) { return cells.bytes + address; }

uint32_t flash_operations(void) { return operations; }

bool flash_erase(uint32_t sector) {
    uint8_t *bytes = cells.bytes + sector * FLASH_SECTOR, *programmed = cells.programmed + sector * (FLASH_SECTOR / FLASH_UNIT);
    const bool fails = ++operations == failing_operation;
    /* Without power in the middle of it, half of the sector is erased, and of the rest some bits. */
    const size_t erased = fails ? FLASH_SECTOR / 2 : FLASH_SECTOR;
    memset(bytes, 0xff, erased);
    memset(programmed, 0, erased / FLASH_UNIT);
    for (size_t i = erased; i < FLASH_SECTOR; i++) bytes[i] |= 0x35;
    if (!keep(bytes, FLASH_SECTOR) || !keep(programmed, FLASH_SECTOR / FLASH_UNIT)) return false;
    if (fails) power_fails();
    return true;
}

bool flash_program(uint32_t address, const uint8_t *bytes, size_t len) {
    uint8_t *to = cells.bytes + address, *programmed = cells.programmed + address / FLASH_UNIT;
    if (address % FLASH_UNIT || len % FLASH_UNIT || address > FLASH_SIZE || len > FLASH_SIZE - address) return false;
    size_t done = 0;
    bool good = true, fails = false;
    while (done < len && good && !fails) {
        good = !programmed[done / FLASH_UNIT];
        if (!good) break;
        fails = ++operations == failing_operation;
        /* Without power in the middle of it, some of the bits are programmed. */
        for (size_t i = done; i < done + FLASH_UNIT; i++) to[i] = fails ? bytes[i] | 0xa6 : bytes[i];
        programmed[done / FLASH_UNIT] = 1;
        done += FLASH_UNIT;
    }
    if (!keep(to, done) || !keep(programmed, done / FLASH_UNIT)) return false;
    if (fails) power_fails();
    return good;
}
