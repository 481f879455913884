// Streams, events.
#include "mock.h"

#include <chrono>
#include <deque>
#include <map>
#include <set>

extern thread_local unsigned queries_until_done;
extern thread_local bool deferred;

struct event {
    context *of;
    std::shared_ptr<capture> in; // recorded into a graph
    stream *on = nullptr;
    uint64_t work = 0;
    unsigned queries = 0;
    bool recorded = false;
    bool timed = true;
    std::chrono::steady_clock::time_point at{};
};

namespace {
std::set<stream *> streams;
std::set<event *> events;
std::map<context *, std::unique_ptr<stream>> legacy;
thread_local std::map<context *, std::unique_ptr<stream>> per_thread;
std::set<std::shared_ptr<capture>> captures; // that have not ended
std::deque<std::function<void()>> later;
thread_local int mode;                       // this thread's: 0 global, 1 thread-local, 2 relaxed

void catch_up() {
    for (; !later.empty(); later.pop_front()) later.front()();
}

void catch_up(stream *s) {
    for (; !s->held.empty(); s->held.pop_front()) s->held.front()();
}

void note(stream *s) {
    s->work++;
    if (!s->into || s == s->into->origin) return;
    for (auto &other : s->into->others)
        if (other.first == s) return;
    s->into->others.emplace_back(s, 0);
}
} // namespace

stream *find_stream(void *handle) {
    context *c = current();
    if (!c) return nullptr;
    const auto number = reinterpret_cast<uintptr_t>(handle);
    if (number <= 2) {
        auto &found = number == 2 ? per_thread[c] : legacy[c];
        if (!found) found.reset(new stream{c, true, nullptr});
        return found.get();
    }
    auto *s = static_cast<stream *>(handle);
    return streams.count(s) && s->of == c ? s : nullptr;
}

int usable(stream *s) {
    if (s->into) return s->into->invalid ? CAPTURE_INVALIDATED : SUCCESS;
    if (s != legacy[s->of].get()) return SUCCESS;
    for (auto &c : captures) {
        if (c->origin->of != s->of || !c->origin->blocking) continue;
        c->invalid = true;
        return CAPTURE_IMPLICIT;
    }
    return SUCCESS;
}

void finish() {
    catch_up();
    for (stream *s : streams) catch_up(s);
}

// What is given to the stream is done no sooner than another stream, or the host, waits for it.
API void kls_mock_set_lagging(stream *s, int lags) {
    std::lock_guard<std::recursive_mutex> locked(everything);
    finish();
    if (streams.count(s)) s->lags = lags != 0;
}

// How much of what was given to it a stream that lags has still to do.
API uint64_t kls_mock_held(stream *s) {
    std::lock_guard<std::recursive_mutex> locked(everything);
    return streams.count(s) ? s->held.size() : 0;
}

int enqueue(stream *s, std::function<void()> work) {
    note(s);
    if (s->into) {
        counters.recorded++;
        s->into->nodes.push_back(std::move(work));
    } else if (s->lags) {
        s->held.push_back(std::move(work));
    } else if (deferred) {
        later.push_back(std::move(work));
    } else {
        catch_up();
        work();
    }
    return SUCCESS;
}

int outside_captures() {
    if (mode == 2) return SUCCESS;
    int status = SUCCESS;
    for (auto &c : captures) {
        const bool own = c->thread == std::this_thread::get_id();
        if ((own && c->mode != 2) || (!own && mode == 0 && c->mode == 0)) {
            c->invalid = true;
            status = CAPTURE_UNSUPPORTED;
        }
    }
    return status;
}

int may_wait(stream *s) {
    if (s->into) {
        s->into->invalid = true;
        return CAPTURE_UNSUPPORTED;
    }
    if (const int refused = usable(s)) return refused;
    finish();
    return outside_captures();
}

API int cuStreamCreate(stream **to, unsigned flags) {
    BEGIN(cuStreamCreate)
    if (!current()) return INVALID_CONTEXT;
    *to = new stream{current(), !(flags & 1), nullptr};
    streams.insert(*to);
    return SUCCESS;
}

API int cuStreamDestroy_v2(stream *s) {
    BEGIN(cuStreamDestroy_v2)
    if (!streams.count(s)) return INVALID_HANDLE;
    catch_up(s);
    streams.erase(s);
    delete s;
    return SUCCESS;
}

API int cuStreamSynchronize(void *on) {
    BEGIN(cuStreamSynchronize)
    stream *s = find_stream(on);
    if (!s) return INVALID_HANDLE;
    counters.synchronisations++;
    return may_wait(s);
}

API int cuStreamQuery(void *on) {
    BEGIN(cuStreamQuery)
    stream *s = find_stream(on);
    return s ? may_wait(s) : int(INVALID_HANDLE);
}

API int cuStreamIsCapturing(void *on, int *status) {
    BEGIN(cuStreamIsCapturing)
    stream *s = find_stream(on);
    if (!s) return INVALID_HANDLE;
    if (!s->into && s == legacy[s->of].get())
        for (auto &c : captures)
            if (c->origin->of == s->of && c->origin->blocking) return CAPTURE_IMPLICIT;
    *status = !s->into ? 0 : s->into->invalid ? 2 : 1;
    return SUCCESS;
}

API int cuThreadExchangeStreamCaptureMode(int *to) {
    BEGIN(cuThreadExchangeStreamCaptureMode)
    std::swap(*to, mode);
    return SUCCESS;
}

API int cuStreamBeginCapture_v2(void *on, int how) {
    BEGIN(cuStreamBeginCapture_v2)
    stream *s = find_stream(on);
    if (!s) return INVALID_HANDLE;
    if (s == legacy[s->of].get()) return CAPTURE_UNSUPPORTED;
    if (s->into) return INVALID_VALUE;
    s->into.reset(new capture{{}, s, how, std::this_thread::get_id(), false, {}});
    captures.insert(s->into);
    return SUCCESS;
}

// Takes the graph of a capture; see graphs.cpp.
int end_capture(void *on, std::vector<std::function<void()>> &nodes) {
    stream *s = find_stream(on);
    if (!s) return INVALID_HANDLE;
    if (!s->into || s->into->origin != s) return s->into ? CAPTURE_UNMATCHED : INVALID_VALUE;
    const std::shared_ptr<capture> c = s->into;
    if (c->mode != 2 && c->thread != std::this_thread::get_id()) return CAPTURE_WRONG_THREAD;
    captures.erase(c);
    int status = c->invalid ? CAPTURE_INVALIDATED : SUCCESS;
    for (auto &other : c->others) {
        if (other.second < other.first->work && status == SUCCESS) status = CAPTURE_UNJOINED;
        other.first->into.reset();
    }
    s->into.reset();
    if (status == SUCCESS) nodes = std::move(c->nodes);
    return status;
}

API int cuEventCreate(event **to, unsigned flags) {
    BEGIN(cuEventCreate)
    if (!current()) return INVALID_CONTEXT;
    *to = new event{current(), nullptr};
    (*to)->timed = !(flags & 2);
    events.insert(*to);
    return SUCCESS;
}

API int cuEventDestroy_v2(event *e) {
    BEGIN(cuEventDestroy_v2)
    if (!events.erase(e)) return INVALID_HANDLE;
    delete e;
    return SUCCESS;
}

API int cuEventRecord(event *e, void *on) {
    BEGIN(cuEventRecord)
    stream *s = find_stream(on);
    if (!s || !events.count(e) || e->of != s->of) return INVALID_HANDLE;
    if (const int refused = usable(s)) return refused;
    e->in = s->into;
    e->on = s;
    e->work = s->work;
    e->queries = queries_until_done;
    e->recorded = true;
    e->at = std::chrono::steady_clock::now();
    return SUCCESS;
}

// By the host's clock, which is the one that kernels run by.
API int cuEventElapsedTime(float *milliseconds, event *from, event *to) {
    BEGIN(cuEventElapsedTime)
    for (const event *e : {from, to})
        if (!events.count(const_cast<event *>(e)) || !e->timed || !e->recorded || e->in) return INVALID_HANDLE;
    if (from->queries || to->queries) return NOT_READY;
    *milliseconds = std::chrono::duration<float, std::milli>(to->at - from->at).count();
    return SUCCESS;
}

API int cuEventQuery(event *e) {
    BEGIN(cuEventQuery)
    if (!events.count(e)) return INVALID_HANDLE;
    counters.queries++;
    if (e->in) return CAPTURED_EVENT;
    if (const int refused = outside_captures()) return refused;
    if (e->queries == 0) {
        finish();
        return SUCCESS;
    }
    e->queries--;
    return NOT_READY;
}

API int cuEventSynchronize(event *e) {
    BEGIN(cuEventSynchronize)
    if (!events.count(e)) return INVALID_HANDLE;
    if (e->in) return CAPTURED_EVENT;
    counters.synchronisations++;
    e->queries = 0;
    finish();
    return outside_captures();
}

API int cuStreamWaitEvent(void *on, event *e, unsigned flags) {
    BEGIN(cuStreamWaitEvent)
    (void)flags;
    stream *s = find_stream(on);
    if (!s || !events.count(e)) return INVALID_HANDLE;
    if (const int refused = usable(s)) return refused;
    if (!e->in) {
        if (s->into && e->recorded) { // on work that is in no graph
            s->into->invalid = true;
            return CAPTURE_ISOLATION;
        }
        if (e->on != s && streams.count(e->on)) catch_up(e->on);
        return SUCCESS;
    }
    if (!s->into) { // drawn into the capture
        s->into = e->in;
        note(s);
    } else if (s == e->in->origin) {
        for (auto &other : e->in->others)
            if (other.first == e->on && other.second < e->work) other.second = e->work;
    }
    return SUCCESS;
}
