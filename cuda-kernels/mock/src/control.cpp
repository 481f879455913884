// What tests see and set.
#include "mock.h"

#include <stdlib.h>
#include <string.h>
#include <string>

std::recursive_mutex everything;
thread_local kls_mock_counters counters;
int device_count = 2;
uint64_t device_memory = uint64_t(1) << 34;
int driver_version = 13000;
int device_capability = 90;
thread_local unsigned queries_until_done;
thread_local bool deferred;
thread_local std::string module_log;
const managed_memory managed = [] {
    const char *asked = getenv("KLS_MOCK_MANAGED");
    if (asked && !strcmp(asked, "exclusive")) return managed_memory::exclusive;
    return asked && !strcmp(asked, "none") ? managed_memory::none : managed_memory::concurrent;
}();

static thread_local std::string failing; // a call's name; empty: any call
static thread_local unsigned fails_in; // 0: none fails
static thread_local int fails_with;

// What puts a thread's context back does not fail where it could be set.
static bool restores(const char *call) { return !strcmp(call, "cuCtxPopCurrent_v2") || !strcmp(call, "cuCtxSetCurrent"); }

int begin(const char *call) {
    if (fails_in == 0 || (failing.empty() ? restores(call) : failing != call)) return SUCCESS;
    return --fails_in == 0 ? fails_with : int(SUCCESS);
}

API void kls_mock_counters_get(kls_mock_counters *to) { *to = counters; }
API void kls_mock_counters_reset() { counters = {}; }

// The nth next call of this name on this thread (of any name but those that restore a context, if it is
// empty) fails with a code; n = 0: none.
API void kls_mock_fail(const char *call, unsigned n, int code) {
    failing = call;
    fails_in = n;
    fails_with = code;
}

// Images that this thread loads are refused, and the compiler says this of them; none are if it is empty.
API void kls_mock_refuse_modules(const char *log) { module_log = log; }

API void kls_mock_set_driver_version(int version) { driver_version = version; }
API void kls_mock_set_device_count(int count) { device_count = count; }
API void kls_mock_set_device_capability(int capability) { device_capability = capability; }
API void kls_mock_set_device_memory(uint64_t bytes) { device_memory = bytes; }
// An event that this thread records is done when it was asked for so many times.
API void kls_mock_set_queries_until_done(unsigned queries) { queries_until_done = queries; }
// What this thread gives to streams is done no sooner than something waits for it.
API void kls_mock_set_deferred(int defer) {
    std::lock_guard<std::recursive_mutex> locked(everything);
    deferred = defer != 0;
    finish();
}
