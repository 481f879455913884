// Modules, functions, launches.
#include "mock.h"

#include <stdio.h>
#include <string.h>
#include <set>
#include <string>

extern "C" size_t kls_emulator_params_size(const char *name);
extern "C" unsigned kls_emulator_threads(const char *name);
extern "C" int kls_emulator_launch(const char *name, unsigned x, unsigned y, unsigned z, unsigned threads, const void *params);

extern thread_local std::string module_log;

struct module;

struct function {
    module *of;
    std::string name;
};

struct module {
    context *of;
    std::set<std::string> names; // of PTX; compiled code is not read
    bool compiled;
    std::vector<std::unique_ptr<function>> functions;
};

namespace {
std::set<module *> modules;
std::set<function *> functions;

// The names of the kernels in PTX.
std::set<std::string> entries(const char *ptx) {
    std::set<std::string> names;
    for (const char *at = ptx; (at = strstr(at, ".entry ")); ) {
        at += strlen(".entry ");
        names.emplace(at, strcspn(at, "( \n"));
    }
    return names;
}
} // namespace

API int cuModuleLoadDataEx(module **to, const void *image, unsigned count, const int *options, void *const *values) {
    BEGIN(cuModuleLoadDataEx)
    if (!current()) return INVALID_CONTEXT;
    if (const int refused = outside_captures()) return refused;
    uint32_t magic;
    memcpy(&magic, image, sizeof magic);
    const bool compiled = magic == 0xba55ed50;
    const char *text = static_cast<const char *>(image);
    if (!module_log.empty() || (!compiled && !strstr(text, ".version "))) {
        char *log = nullptr;
        size_t size = 0;
        for (unsigned i = 0; i < count; i++) {
            if (options[i] == 5) log = static_cast<char *>(values[i]);
            if (options[i] == 6) size = reinterpret_cast<size_t>(values[i]);
        }
        if (log && size && !module_log.empty())
            snprintf(log, size, "%s", module_log.c_str());
        else if (log && size)
            snprintf(log, size, "ptxas application ptx input, line 1; fatal   : Missing .version directive at start of file '%.8s'", text);
        return INVALID_PTX;
    }
    std::unique_ptr<module> made(new module{current(), compiled ? std::set<std::string>() : entries(text), compiled, {}});
    modules.insert(made.get());
    *to = made.release();
    return SUCCESS;
}

API int cuModuleLoadData(module **to, const void *image) { return cuModuleLoadDataEx(to, image, 0, nullptr, nullptr); }

API int cuModuleUnload(module *m) {
    BEGIN(cuModuleUnload)
    if (!modules.count(m)) return INVALID_HANDLE;
    if (m->of != current()) return INVALID_CONTEXT;
    if (const int refused = outside_captures()) return refused;
    counters.synchronisations++;
    finish();
    for (auto &f : m->functions) functions.erase(f.get());
    modules.erase(m);
    delete m;
    return SUCCESS;
}

API int cuModuleGetFunction(function **to, module *m, const char *name) {
    BEGIN(cuModuleGetFunction)
    if (!modules.count(m)) return INVALID_HANDLE;
    counters.lookups++;
    if (!m->compiled && !m->names.count(name)) return NOT_FOUND;
    if (!kls_emulator_params_size(name)) return NOT_FOUND;
    m->functions.emplace_back(new function{m, name});
    functions.insert(m->functions.back().get());
    *to = m->functions.back().get();
    return SUCCESS;
}

API int cuFuncGetAttribute(int *value, int attribute, function *f) {
    BEGIN(cuFuncGetAttribute)
    if (!functions.count(f)) return INVALID_HANDLE;
    if (attribute != 0) return INVALID_VALUE; // the most threads in a block
    *value = int(kls_emulator_threads(f->name.c_str()));
    return SUCCESS;
}

API int cuLaunchKernel(function *f, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned block_y, unsigned block_z, unsigned shared,
                       void *on, void **params, void **extra) {
    BEGIN(cuLaunchKernel)
    if (!functions.count(f) || f->of->of != current()) return INVALID_HANDLE;
    stream *s = find_stream(on);
    if (!s) return INVALID_HANDLE;
    if (x == 0 || y == 0 || z == 0 || x > 0x7fffffff || y > 65535 || z > 65535) return INVALID_VALUE;
    // A kernel's blocks are bounded by what it was compiled for; these kernels take one struct and no more shared memory than they name.
    if (threads != kls_emulator_threads(f->name.c_str()) || block_y != 1 || block_z != 1 || shared != 0) return INVALID_VALUE;
    if (!params || !params[0] || extra) return INVALID_VALUE;
    if (const int refused = usable(s)) return refused;
    const char *bytes = static_cast<const char *>(params[0]);
    const std::vector<char> copy(bytes, bytes + kls_emulator_params_size(f->name.c_str()));
    counters.launches++;
    const std::string name = f->name;
    return enqueue(s, [name, x, y, z, threads, copy] { kls_emulator_launch(name.c_str(), x, y, z, threads, copy.data()); });
}
