/* A check that names its line, of a function that returns NULL or what failed. */
#ifndef KLS_TESTS_CONDITION_H
#define KLS_TESTS_CONDITION_H

#define KLS_TEXT_(x) #x
#define KLS_TEXT(x) KLS_TEXT_(x)
#define CHECK(condition)                                                                      \
    do {                                                                                      \
        if (!(condition)) return __FILE__ ":" KLS_TEXT(__LINE__) ": " #condition;             \
    } while (0)

#endif
