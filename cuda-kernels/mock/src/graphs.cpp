// Graphs: what was recorded, replayed in the order in which it was.
#include "mock.h"

#include <set>

struct graph {
    std::vector<std::function<void()>> nodes;
};

namespace {
std::set<graph *> graphs, executables;
} // namespace

int end_capture(void *on, std::vector<std::function<void()>> &nodes);

API int cuStreamEndCapture(void *on, graph **to) {
    BEGIN(cuStreamEndCapture)
    std::unique_ptr<graph> made(new graph);
    *to = nullptr;
    if (const int refused = end_capture(on, made->nodes)) return refused;
    graphs.insert(made.get());
    *to = made.release();
    return SUCCESS;
}

API int cuGraphGetNodes(graph *g, void **nodes, size_t *count) {
    BEGIN(cuGraphGetNodes)
    if (!graphs.count(g) || nodes) return INVALID_VALUE; // how many there are
    *count = g->nodes.size();
    return SUCCESS;
}

API int cuGraphInstantiateWithFlags(graph **to, graph *g, unsigned long long flags) {
    BEGIN(cuGraphInstantiateWithFlags)
    (void)flags;
    if (!graphs.count(g)) return INVALID_VALUE;
    *to = new graph{g->nodes};
    executables.insert(*to);
    return SUCCESS;
}

API int cuGraphInstantiate_v2(graph **to, graph *g, void **, char *, size_t) { return cuGraphInstantiateWithFlags(to, g, 0); }

API int cuGraphLaunch(graph *g, void *on) {
    BEGIN(cuGraphLaunch)
    stream *s = find_stream(on);
    if (!s || !executables.count(g)) return INVALID_HANDLE;
    if (s->into) return CAPTURE_UNSUPPORTED; // graphs in graphs are not mocked
    if (const int refused = usable(s)) return refused;
    counters.graph_launches++;
    for (auto &node : g->nodes) enqueue(s, node);
    return SUCCESS;
}

API int cuGraphExecDestroy(graph *g) {
    BEGIN(cuGraphExecDestroy)
    if (!executables.erase(g)) return INVALID_VALUE;
    delete g;
    return SUCCESS;
}

API int cuGraphDestroy(graph *g) {
    BEGIN(cuGraphDestroy)
    if (!graphs.erase(g)) return INVALID_VALUE;
    delete g;
    return SUCCESS;
}
