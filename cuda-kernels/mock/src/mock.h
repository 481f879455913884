// A CUDA driver that runs on the CPU, for tests: device memory is the host's, kernels run in the emulator as soon as they are launched, and
// what a caller does wrong is told as the driver would tell it.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

enum : int {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    INVALID_PTX = 218,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    LAUNCH_OUT_OF_RESOURCES = 701,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
    CAPTURE_UNMATCHED = 903,
    CAPTURE_UNJOINED = 904,
    CAPTURE_ISOLATION = 905,
    CAPTURE_IMPLICIT = 906,
    CAPTURED_EVENT = 907,
    CAPTURE_WRONG_THREAD = 908,
};

// What a thread did.
struct kls_mock_counters {
    uint64_t launches;         // of kernels and products, run or recorded
    uint64_t copies;           // asynchronous
    uint64_t allocations;      // of device memory and page-locked memory
    uint64_t frees;
    uint64_t synchronisations; // the host waits: by name, or in a copy or a free
    uint64_t queries;          // of events
    uint64_t recorded;         // into graphs
    uint64_t graph_launches;
    uint64_t lookups;          // of functions
    uint64_t hidden;           // products without a workspace, for which cuBLAS would allocate
};

// What there is of managed memory, as the environment variable KLS_MOCK_MANAGED has it: memory that the host may touch at any time (unset),
// only while no kernel runs ("exclusive"), or none ("none").
enum class managed_memory { concurrent, exclusive, none };
extern const managed_memory managed;

struct context {
    int device;
    unsigned retained = 0;
};

struct capture;

struct stream {
    context *of;
    bool blocking;                    // waits for the legacy default stream, and it for this one
    std::shared_ptr<capture> into;    // NULL: runs
    uint64_t work = 0;                // given to it while captured
    bool lags = false;                // does nothing before somebody waits for it
    std::deque<std::function<void()>> held{};
};

// A graph in the making.
struct capture {
    std::vector<std::function<void()>> nodes;
    stream *origin;
    int mode;
    std::thread::id thread;
    bool invalid = false;
    // Streams that were drawn in by events, and how much of their work the origin waits for.
    std::vector<std::pair<stream *, uint64_t>> others;
};

// One at a time; the emulator has one block.
extern std::recursive_mutex everything;
extern thread_local kls_mock_counters counters;

// Begins every function: the code with which it is to fail, or 0.
int begin(const char *call);
#define BEGIN(call)                                                                                                         \
    std::lock_guard<std::recursive_mutex> locked(everything);                                                              \
    if (const int failed = begin(#call)) return failed;

// The context that is current on this thread, or NULL.
context *current();
// The device of so many that have memory; the memory of each.
extern int device_count;
extern uint64_t device_memory;

// The stream behind a handle, with default streams; NULL if there is none.
stream *find_stream(void *handle);
// Whether a stream may be used now: not if it is captured without knowing.
int usable(stream *s);
// Does all that was put off, in the order in which it was given: one that every stream allows.
void finish();
// Runs work, puts it off, or records it. The stream is usable.
int enqueue(stream *s, std::function<void()> work);
// Whether a call that no capture can hold is allowed now; where it is not, the captures are spoilt.
int outside_captures();
// The same, of a stream that the host would wait for.
int may_wait(stream *s);

// Whether bytes at a device address lie in one allocation.
bool is_device_memory(uint64_t at, size_t bytes);
