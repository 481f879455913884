// What the C++ tests share: checks that name their line, and tests that let nothing out. Every test returns NULL or what failed.
#ifndef KLS_TESTS_CHECK_HPP
#define KLS_TESTS_CHECK_HPP

#include "tests.h"

#include <klshampoo.hpp>

#define KLS_TEXT_(x) #x
#define KLS_TEXT(x) KLS_TEXT_(x)
#define CHECK(...)                                                                          \
    do {                                                                                    \
        if (!(__VA_ARGS__)) return __FILE__ ":" KLS_TEXT(__LINE__) ": " #__VA_ARGS__;       \
    } while (0)

#ifdef KLS_NO_EXCEPTIONS

#define TEST(name)                                   \
    static const char *body_of_##name();             \
    const char *name() { return body_of_##name(); }  \
    static const char *body_of_##name()

#else

#include <cstring>
#include <string>

// What `call` throws is a kls::error with this status, whose text has `part` in it.
#define REFUSED(expected, part, ...)                                                                      \
    do {                                                                                                  \
        kls::status met_ = kls::status::ok;                                                               \
        std::string said_;                                                                                \
        try {                                                                                             \
            static_cast<void>(__VA_ARGS__);                                                               \
        } catch (const kls::error &error) {                                                               \
            met_ = error.status();                                                                        \
            said_ = error.what();                                                                         \
        }                                                                                                 \
        if (met_ != (expected) || said_.find(part) == std::string::npos)                                  \
            return kept(__FILE__ ":" KLS_TEXT(__LINE__) ": " #__VA_ARGS__ ": " + std::to_string(int(met_)) + ' ' + said_);  \
    } while (0)

// A text that outlives the test.
inline const char *kept(const std::string &text) {
    static std::string last;
    last = text;
    return last.c_str();
}

#define TEST(name)                                                                         \
    static const char *body_of_##name();                                                   \
    const char *name() {                                                                   \
        try {                                                                              \
            return body_of_##name();                                                       \
        } catch (const std::exception &exception) {                                        \
            return kept(std::string(#name " did not catch: ") + exception.what());         \
        }                                                                                  \
    }                                                                                      \
    static const char *body_of_##name()

#endif
#endif
