// Who owns an optimizer, where it lies, and that a step is that of C.
#include "gpu.hpp"

#include <cmath>

static_assert(!std::is_copy_constructible_v<kls::cuda::optimizer> && !std::is_copy_assignable_v<kls::cuda::optimizer>);
static_assert(std::is_nothrow_move_constructible_v<kls::cuda::optimizer> && std::is_nothrow_move_assignable_v<kls::cuda::optimizer>);
// Memory of the host is not taken for the device's.
static_assert(!std::is_constructible_v<kls::cuda::buffer, std::vector<float> &>);
static_assert(!std::is_constructible_v<kls::cuda::const_buffer, std::vector<float> &>);
static_assert(!std::is_constructible_v<kls::cuda::buffer, kls::buffer>);
static_assert(!std::is_constructible_v<kls::cuda::buffer, const float *, std::size_t>);

TEST(test_training) {
    device_fixture f, g;
    f.stream = device_stream();
    auto optimizer = kls::cuda::optimizer::create(f.group, f.tensors, kls::cuda::options().set_stream(f.stream));
    CHECK(optimizer && optimizer.tensor_count() == 2 && *optimizer.last_error() == '\0');
    // The same in C.
    kls_cuda *c = nullptr;
    CHECK(kls_cuda_create(&c, &g.group, 1, g.tensors.data(), 2, nullptr) == KLS_OK);
    void *const params[] = {g.weights.data(), g.bias.data()};
    const void *const grads[] = {g.weights_grad.data(), g.bias_grad.data()};
    kls_cuda_request request;
    CHECK(kls_cuda_request_init(&request, sizeof request) == KLS_OK);
    request.lr = 0.01f;
    request.tensor_count = 2;
    request.params = params;
    request.grads = grads;
    for (int t = 0; t < 5; t++) {
        step(optimizer, f);
        CHECK(kls_cuda_step(c, &request) == KLS_OK);
    }
    CHECK(f.equals(g) && f.weights.host() != f.matrix);
    // Lists in containers, and the arrays of C.
    const std::vector<kls::cuda::buffer> all = {f.weights, f.bias};
    const std::array<kls::cuda::const_buffer, 2> gradients = {f.weights_grad, f.bias_grad};
    optimizer.step(all, gradients, kls::cuda::request(0.01f, f.stream));
    optimizer.step(std::array{kls::cuda::buffer(f.weights.data(), ELEMENTS), kls::cuda::buffer(f.bias)}, gradients, kls::cuda::request(0.01f, f.stream));
    for (int t = 0; t < 2; t++) CHECK(kls_cuda_step(c, &request) == KLS_OK);
    CHECK(f.equals(g) && kls_cuda_destroy(&c) == KLS_OK);
    auto other = kls::cuda::optimizer::create(g.group, g.tensors);
    kls::cuda::request own(0.01f);
    own.tensor_count = 2;
    own.params = params;
    own.grads = grads;
    optimizer = kls::cuda::optimizer::create(f.group, f.tensors);
    f.fill();
    g.fill();
    for (int t = 0; t < 3; t++) {
        step(optimizer, f);
        other.step(own);
    }
    CHECK(f.equals(g) && f.weights.host() != f.matrix);
    device_stream_destroy(f.stream);
    return nullptr;
}

TEST(test_moves) {
    device_fixture f, g;
    {
        auto reference = kls::cuda::optimizer::create(g.group, g.tensors);
        auto first = kls::cuda::optimizer::create(f.group, f.tensors);
        kls_cuda *const handle = first.native_handle();
        step(first, f);
        // Constructed, assigned over another and over an empty one, kept in a container, swapped.
        kls::cuda::optimizer second(std::move(first));
        CHECK(!first && first.native_handle() == nullptr && first.tensor_count() == 0);
        CHECK(second && second.native_handle() == handle && second.tensor_count() == 2);
        step(second, f);
        kls::cuda::optimizer third = kls::cuda::optimizer::create(kls::config(kls::method::adamw), kls::tensor(7));
        third = std::move(second);
        step(third, f);
        std::vector<kls::cuda::optimizer> all(3);
        all[1] = std::move(third);
        all.resize(40);
        step(all[1], f);
        swap(all[1], all[39]);
        CHECK(!all[1] && all[39].native_handle() == handle);
        // Moved to itself it stays.
        kls::cuda::optimizer &same = all[39];
        all[39] = std::move(same);
        step(all[39], f);
        for (int t = 0; t < 5; t++) step(reference, g);
        CHECK(f.equals(g));

        // An empty one is refused by every call.
        std::vector<std::byte> bytes(64);
        float norm = 0;
        REFUSED(kls::status::null, "NULL", step(first, f));
        REFUSED(kls::status::null, "NULL", first.step(kls::cuda::request(0.1f)));
        REFUSED(kls::status::null, "NULL", first.step(std::vector<kls::cuda::buffer>(), std::vector<kls::cuda::const_buffer>(), kls::cuda::request(0.1f)));
        REFUSED(kls::status::null, "NULL", first.replayed(1));
        REFUSED(kls::status::null, "NULL", first.headers_size());
        REFUSED(kls::status::null, "NULL", first.copy_headers(bytes));
        REFUSED(kls::status::null, "NULL", first.copy_norm(&norm));
        REFUSED(kls::status::null, "NULL", first.counters(bytes, 0));
        REFUSED(kls::status::null, "NULL", first.skipped(bytes));
        REFUSED(kls::status::null, "NULL", first.state_len(0, 0, kls::state_part::momentum));
        REFUSED(kls::status::null, "NULL", first.read_state(0, 0, kls::state_part::momentum));
        REFUSED(kls::status::null, "NULL", first.save_size());
        REFUSED(kls::status::null, "NULL", first.save());
        REFUSED(kls::status::null, "NULL", first.save(bytes));
        REFUSED(kls::status::null, "NULL", first.load(bytes));
        REFUSED(kls::status::null, "NULL", first.save_file("x"));
        REFUSED(kls::status::null, "kls_cuda_load_file", first.load_file("x"));
        CHECK(first.release() == nullptr);

        // Released, the handle is the caller's.
        kls_cuda *released = all[39].release();
        CHECK(released == handle && !all[39] && all[39].tensor_count() == 0);
        CHECK(kls_cuda_destroy(&released) == KLS_OK && released == nullptr);
    }
    return nullptr;
}

namespace {

struct pool {
    void *block = nullptr;
    std::size_t bytes = 0, alignment = 0;
    int given = 0, taken = 0;
    bool empty = false;

    void *allocate(std::size_t size, std::size_t multiple) {
        bytes = size;
        alignment = multiple;
        given++;
        return empty ? nullptr : block = device_alloc(size);
    }
    void deallocate(void *memory, std::size_t size) {
        taken += memory == block && size == bytes;
        device_free(memory);
    }
};

}  // namespace

TEST(test_places) {
    device_fixture f, g, h;
    const kls_cuda_memory needs = kls::cuda::query(f.group, f.tensors);
    CHECK(needs.total_bytes >= needs.state_bytes + needs.header_bytes + needs.workspace_bytes && needs.state_bytes > 0 && needs.alignment == 256);
    // Every field of the options can be set by name.
    kls::cuda::options less;
    CHECK(less.struct_size == sizeof less && less.workspace_limit == std::uint64_t{4} << 30 && less.device == 0);
    less.workspace_limit = 4096;
    const kls::tensor stack = kls::tensor(ROWS, COLUMNS).set_slices(50);
    CHECK(kls::cuda::query(f.group, stack, less).workspace_bytes < kls::cuda::query(f.group, stack).workspace_bytes);
    REFUSED(kls::status::cuda_unsupported, "kls_cuda_query", kls::cuda::query(kls::config().set_factor_format(kls::format::bf16), stack));
    REFUSED(kls::status::group, "group", kls::cuda::query(f.group, kls::tensor(3).set_group(1)));

    pool p;
    {
        auto own = kls::cuda::optimizer::create(f.group, f.tensors);
        auto pooled = kls::cuda::optimizer::create(g.group, g.tensors, kls::cuda::options().set_pool(p));
        CHECK(p.given == 1 && p.taken == 0 && p.bytes == needs.total_bytes && p.alignment == needs.alignment);
        void *const lent = device_alloc(needs.total_bytes);
        {
            auto borrowed = kls::cuda::optimizer::create(h.group, h.tensors, kls::cuda::options().set_memory(lent, needs.total_bytes));
            for (int t = 0; t < 4; t++) step(own, f), step(pooled, g), step(borrowed, h);
        }
        CHECK(f.equals(g) && f.equals(h));
        REFUSED(kls::status::memory_too_short, "memory_size",
                kls::cuda::optimizer::create(h.group, h.tensors, kls::cuda::options().set_memory(lent, needs.total_bytes - 1)));
        REFUSED(kls::status::unsupported, "exclude each other",
                kls::cuda::optimizer::create(h.group, h.tensors, kls::cuda::options().set_memory(lent, needs.total_bytes).set_pool(p)));
        device_free(lent);
    }
    CHECK(p.given == 1 && p.taken == 1);
    p.empty = true;
    REFUSED(kls::status::cuda_out_of_memory, "memory", kls::cuda::optimizer::create(g.group, g.tensors, kls::cuda::options().set_pool(p)));
    REFUSED(kls::status::cuda_no_device, "device: There is no such CUDA device.",
            kls::cuda::optimizer::create(f.group, f.tensors, kls::cuda::options().set_device(1000)));
    REFUSED(kls::status::beta, "beta1 and beta2", [&] {
        f.group.beta1 = 1;
        return kls::cuda::optimizer::create(f.group, f.tensors);
    }());
    return nullptr;
}
