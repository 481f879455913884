/*
 * A flash memory, emulated. As in a microcontroller's, a sector is erased as a whole, a unit of 8 bytes can be programmed once after that,
 * and what is stored can be read where it lies. It outlives the power: a file on the host holds it.
 *
 * The power can be made to fail in the middle of any operation.
 */
#ifndef FLASH_H
#define FLASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FLASH_UNIT = 8, FLASH_SECTOR = 4096, FLASH_SECTORS = 32, FLASH_SIZE = FLASH_SECTOR * FLASH_SECTORS };

/* Reads the file, or makes it, all erased. The power fails in the `failure`-th operation, an erasure or a unit, from 1; 0: in none. */
bool flash_power_on(const char *file, uint32_t failure);

/* Where an address lies. */
const uint8_t *flash_at(uint32_t address);

bool flash_erase(uint32_t sector);

/* Programs whole units. False, and nothing more is done, at the first one that has been programmed since it was erased. */
bool flash_program(uint32_t address, const uint8_t *bytes, size_t len);

/* Operations since the power came on. */
uint32_t flash_operations(void);

#endif
