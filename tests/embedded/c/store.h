/*
 * Where training stands, kept in flash. There are two slots: what is saved goes into the one that does not hold the last good save, so that
 * the power may fail at any time.
 */
#ifndef STORE_H
#define STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "training.h"

/* Saves where training stands, through the optimizer's write callback. */
kls_status store_save(void);

/* Goes on from the last good save. `*slot` says from which; -1 if there is none, and nothing is then changed. */
kls_status store_load(int *slot);

#endif
