/* Calls that fail: each must say why, and change nothing. */
#ifndef ERRORS_H
#define ERRORS_H

/* Makes them, in the middle of training, with the gradient of the next step. Prints each with its status; returns how many were not as expected. */
int errors_made(void);

#endif
