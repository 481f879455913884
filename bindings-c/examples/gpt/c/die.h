/* The end of a program that was asked for something impossible: one line that says what to do. */
#ifndef GPT_DIE_H
#define GPT_DIE_H

/* Exit statuses. */
enum { EXIT_USAGE = 2, EXIT_DIVERGED = 3 };

/* Prints "gpt-train: ..." to stderr and exits with EXIT_USAGE. */
_Noreturn void die(const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 1, 2)))
#endif
    ;

#endif
