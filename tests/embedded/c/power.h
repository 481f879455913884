/* The end of the program that is none. */
#ifndef POWER_H
#define POWER_H

enum { POWER_FAILED = 75 }; /* Exit code. */

/* Stops at once: nothing that is not in flash survives. */
_Noreturn void power_fails(void);

#endif
