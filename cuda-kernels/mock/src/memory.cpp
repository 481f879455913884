// Device memory, page-locked memory, copies.
#include "mock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <map>

namespace {
constexpr size_t GUARD = 256;
constexpr int FRESH = 0xff, GUARDED = 0xa5; // fresh floats are NaN

struct block {
    size_t bytes;
    int device;
    bool managed; // the host's too: no guards
};
std::map<uint64_t, block> blocks;
std::map<void *, size_t> locked_blocks;
std::map<int, uint64_t> used;

void check_guards(uint64_t at, const block &b) {
    if (b.managed) return;
    const auto *before = reinterpret_cast<const unsigned char *>(at) - GUARD, *after = before + GUARD + b.bytes;
    for (size_t i = 0; i < GUARD; i++) {
        if (before[i] == GUARDED && after[i] == GUARDED) continue;
        fprintf(stderr, "mock CUDA driver: %zu bytes at %#llx were written beyond\n", b.bytes, static_cast<unsigned long long>(at));
        abort();
    }
}

std::map<uint64_t, block>::iterator find(uint64_t at) {
    auto next = blocks.upper_bound(at);
    if (next == blocks.begin()) return blocks.end();
    --next;
    return at - next->first < next->second.bytes ? next : blocks.end();
}

int copy(void *to, const void *from, size_t bytes, void *on) {
    stream *s = find_stream(on);
    if (!s) return INVALID_HANDLE;
    if (const int refused = usable(s)) return refused;
    counters.copies++;
    return enqueue(s, [to, from, bytes] { memcpy(to, from, bytes); });
}

void *host(uint64_t at) { return reinterpret_cast<void *>(at); }
} // namespace

bool is_device_memory(uint64_t at, size_t bytes) {
    const auto found = find(at);
    return bytes == 0 || (found != blocks.end() && bytes <= found->second.bytes - (at - found->first));
}

API int cuMemAlloc_v2(uint64_t *to, size_t bytes) {
    BEGIN(cuMemAlloc_v2)
    if (!current()) return INVALID_CONTEXT;
    if (const int refused = outside_captures()) return refused;
    if (bytes == 0) return INVALID_VALUE;
    counters.allocations++;
    uint64_t &in_use = used[current()->device];
    if (bytes > device_memory || in_use > device_memory - bytes) return OUT_OF_MEMORY;
    auto *memory = static_cast<unsigned char *>(aligned_alloc(256, (bytes + 2 * GUARD + 255) / 256 * 256));
    if (!memory) return OUT_OF_MEMORY;
    memset(memory, GUARDED, GUARD);
    memset(memory + GUARD, FRESH, bytes);
    memset(memory + GUARD + bytes, GUARDED, GUARD);
    in_use += bytes;
    *to = reinterpret_cast<uint64_t>(memory + GUARD);
    blocks[*to] = {bytes, current()->device, false};
    return SUCCESS;
}

API int cuMemFree_v2(uint64_t at) {
    BEGIN(cuMemFree_v2)
    if (!current()) return INVALID_CONTEXT;
    if (const int refused = outside_captures()) return refused;
    if (at == 0) return SUCCESS;
    const auto found = blocks.find(at);
    if (found == blocks.end()) return INVALID_VALUE;
    counters.frees++;
    counters.synchronisations++;
    finish();
    check_guards(at, found->second);
    used[found->second.device] -= found->second.bytes;
    const block freed = found->second;
    blocks.erase(found);
    if (freed.managed)
        munmap(host(at), freed.bytes);
    else
        free(reinterpret_cast<unsigned char *>(at) - GUARD);
    return SUCCESS;
}

// Zeros, and pages are taken as they are used: what is allocated so is large.
API int cuMemAllocManaged(uint64_t *to, size_t bytes, unsigned flags) {
    BEGIN(cuMemAllocManaged)
    if (!current()) return INVALID_CONTEXT;
    if (const int refused = outside_captures()) return refused;
    if (bytes == 0 || (flags != 1 && flags != 2)) return INVALID_VALUE;
    counters.allocations++;
    uint64_t &in_use = used[current()->device];
    if (managed == managed_memory::none || bytes > device_memory || in_use > device_memory - bytes) return OUT_OF_MEMORY;
    void *memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return OUT_OF_MEMORY;
    in_use += bytes;
    *to = reinterpret_cast<uint64_t>(memory);
    blocks[*to] = {bytes, current()->device, true};
    return SUCCESS;
}

// Whether nothing was written beyond any block: the program is ended otherwise.
API void kls_mock_check_memory() {
    std::lock_guard<std::recursive_mutex> locked(everything);
    for (const auto &b : blocks) check_guards(b.first, b.second);
}

// Bytes of a device that are allocated.
API uint64_t kls_mock_device_memory_used(int device) {
    std::lock_guard<std::recursive_mutex> locked(everything);
    return used[device];
}

API int cuMemGetInfo_v2(size_t *unused, size_t *all) {
    BEGIN(cuMemGetInfo_v2)
    if (!current()) return INVALID_CONTEXT;
    *unused = device_memory - used[current()->device];
    *all = device_memory;
    return SUCCESS;
}

API int cuMemAllocHost_v2(void **to, size_t bytes) {
    BEGIN(cuMemAllocHost_v2)
    if (!current()) return INVALID_CONTEXT;
    if (const int refused = outside_captures()) return refused;
    counters.allocations++;
    *to = malloc(bytes);
    if (!*to) return OUT_OF_MEMORY;
    memset(*to, FRESH, bytes);
    locked_blocks[*to] = bytes;
    return SUCCESS;
}

API int cuMemFreeHost(void *at) {
    BEGIN(cuMemFreeHost)
    if (!current()) return INVALID_CONTEXT;
    if (const int refused = outside_captures()) return refused;
    if (!locked_blocks.erase(at)) return INVALID_VALUE;
    counters.frees++;
    counters.synchronisations++;
    finish();
    free(at);
    return SUCCESS;
}

API int cuPointerGetAttribute(void *to, int attribute, uint64_t at) {
    BEGIN(cuPointerGetAttribute)
    auto in_host = locked_blocks.upper_bound(host(at));
    if (attribute == 2 && in_host != locked_blocks.begin() && at - reinterpret_cast<uint64_t>((--in_host)->first) < in_host->second) {
        *static_cast<unsigned *>(to) = 1; // the host's, page-locked
        return SUCCESS;
    }
    const auto found = find(at);
    if (found == blocks.end()) return INVALID_VALUE;
    switch (attribute) {
    case 2: *static_cast<unsigned *>(to) = 2; return SUCCESS; // device memory
    case 9: *static_cast<int *>(to) = found->second.device; return SUCCESS;
    default: return INVALID_VALUE;
    }
}

API int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *on) {
    BEGIN(cuMemcpyHtoDAsync_v2)
    if (!current()) return INVALID_CONTEXT;
    return is_device_memory(to, bytes) ? copy(host(to), from, bytes, on) : int(INVALID_VALUE);
}

API int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *on) {
    BEGIN(cuMemcpyDtoHAsync_v2)
    if (!current()) return INVALID_CONTEXT;
    return is_device_memory(from, bytes) ? copy(to, host(from), bytes, on) : int(INVALID_VALUE);
}

API int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *on) {
    BEGIN(cuMemcpyDtoDAsync_v2)
    if (!current()) return INVALID_CONTEXT;
    return is_device_memory(from, bytes) && is_device_memory(to, bytes) ? copy(host(to), host(from), bytes, on) : int(INVALID_VALUE);
}

API int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes) {
    BEGIN(cuMemcpyHtoD_v2)
    if (!current()) return INVALID_CONTEXT;
    if (const int refused = outside_captures()) return refused;
    if (!is_device_memory(to, bytes)) return INVALID_VALUE;
    counters.synchronisations++;
    finish();
    memcpy(host(to), from, bytes);
    return SUCCESS;
}

API int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes) {
    BEGIN(cuMemcpyDtoH_v2)
    if (!current()) return INVALID_CONTEXT;
    if (const int refused = outside_captures()) return refused;
    if (!is_device_memory(from, bytes)) return INVALID_VALUE;
    counters.synchronisations++;
    finish();
    memcpy(to, host(from), bytes);
    return SUCCESS;
}
