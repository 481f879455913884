#include "store.h"

#include <string.h>

#include "flash.h"

/*
 * A slot is half of the flash: the progress, the optimizer's checkpoint, and in its last 16 bytes the label. The label is written last, when
 * everything before it is there; one that is whole and whose checksum is right makes the slot good.
 */
enum { SLOT = FLASH_SIZE / 2, PAGE = 256, MAGIC = 0x4b4c5331 };

typedef struct {
    uint32_t magic;
    uint32_t number;   /* Counts the saves. */
    uint32_t length;   /* Of what is before the label. */
    uint32_t checksum; /* Of these bytes, and of the three words above. */
} label;

/* CRC-32 of more bytes; starts with 0. */
static uint32_t crc(uint32_t sum, const void *bytes, size_t len) {
    const uint8_t *byte = bytes;
    sum = ~sum;
    while (len--) {
        sum ^= *byte++;
        for (int bit = 0; bit < 8; bit++) sum = sum >> 1 ^ (sum & 1 ? 0xedb88320u : 0);
    }
    return ~sum;
}

static label label_of(int slot) {
    label found;
    memcpy(&found, flash_at((uint32_t)(slot + 1) * SLOT - sizeof found), sizeof found);
    return found;
}

static bool is_good(int slot) {
    const label found = label_of(slot);
    if (found.magic != MAGIC || found.length < sizeof(progress) || found.length > SLOT - sizeof found) return false;
    const uint32_t sum = crc(0, flash_at((uint32_t)slot * SLOT), found.length);
    return crc(sum, &found, offsetof(label, checksum)) == found.checksum;
}

/* The good slot that was saved last; -1 if there is none. */
static int newest(void) {
    int best = -1;
    for (int slot = 0; slot < 2; slot++) {
        if (is_good(slot) && (best < 0 || label_of(slot).number > label_of(best).number)) best = slot;
    }
    return best;
}

/* Collects what is written into pages. */
typedef struct {
    uint32_t address, end;
    label label;
    uint8_t page[PAGE];
    size_t filled;
} writer;

static bool flush(writer *to) {
    const size_t len = (to->filled + FLASH_UNIT - 1) / FLASH_UNIT * FLASH_UNIT;
    memset(to->page + to->filled, 0xff, len - to->filled);
    if (len > to->end - to->address || !flash_program(to->address, to->page, len)) return false;
    to->address += len;
    to->filled = 0;
    return true;
}

/* The write callback: 0 is success. */
static int32_t append(void *user, const void *bytes, size_t len) {
    writer *to = user;
    to->label.length += len;
    to->label.checksum = crc(to->label.checksum, bytes, len);
    for (const uint8_t *from = bytes; len;) {
        const size_t part = len < PAGE - to->filled ? len : PAGE - to->filled;
        memcpy(to->page + to->filled, from, part);
        to->filled += part;
        from += part;
        len -= part;
        if (to->filled == PAGE && !flush(to)) return 1;
    }
    return 0;
}

kls_status store_save(void) {
    const int last = newest(), slot = last == 0;
    writer to = {.address = (uint32_t)slot * SLOT, .end = (uint32_t)(slot + 1) * SLOT - sizeof(label)};
    to.label.magic = MAGIC;
    to.label.number = last < 0 ? 1 : label_of(last).number + 1;
    for (uint32_t sector = to.address / FLASH_SECTOR; sector < (to.address + SLOT) / FLASH_SECTOR; sector++) {
        if (!flash_erase(sector)) return KLS_ERROR_CHECKPOINT_CALLBACK;
    }
    if (append(&to, &training, sizeof training)) return KLS_ERROR_CHECKPOINT_CALLBACK;
    const kls_status status = kls_optimizer_save_to(optimizer, append, &to);
    if (status) return status;
    if (!flush(&to)) return KLS_ERROR_CHECKPOINT_CALLBACK;
    to.label.checksum = crc(to.label.checksum, &to.label, offsetof(label, checksum));
    return flash_program(to.end, (const uint8_t *)&to.label, sizeof to.label) ? KLS_OK : KLS_ERROR_CHECKPOINT_CALLBACK;
}

kls_status store_load(int *slot) {
    *slot = newest();
    if (*slot < 0) return KLS_OK;
    const uint8_t *from = flash_at((uint32_t)*slot * SLOT);
    const size_t len = label_of(*slot).length - sizeof training;
    /* Where it lies: a flash that cannot be read like memory has kls_optimizer_load_from and a read callback. */
    const kls_status status = kls_optimizer_load(optimizer, from + sizeof training, len);
    if (!status) memcpy(&training, from, sizeof training);
    return status;
}
