// Who owns an optimizer, and what is left of one that was given away.
#include "check.hpp"
#include "fixture.hpp"

#include <thread>

static_assert(!std::is_copy_constructible_v<kls::optimizer> && !std::is_copy_assignable_v<kls::optimizer>);
static_assert(std::is_nothrow_move_constructible_v<kls::optimizer> && std::is_nothrow_move_assignable_v<kls::optimizer>);

TEST(test_cpp_moves) {
    fixture f, g;
    auto step = [](kls::optimizer &optimizer, fixture &f) { optimizer.step({f.matrix, f.vector}, {f.matrix_grad, f.vector_grad}, 0.01f); };
    auto reference = kls::optimizer::create(g.group, g.tensors);
    auto first = kls::optimizer::create(f.group, f.tensors);
    kls_optimizer *const handle = first.native_handle();
    step(first, f);

    // Constructed, assigned over another and over an empty one, kept in a container, swapped.
    kls::optimizer second(std::move(first));
    CHECK(!first && first.native_handle() == nullptr && first.tensor_count() == 0);
    CHECK(second && second.native_handle() == handle && second.tensor_count() == 2);
    step(second, f);
    kls::optimizer third = kls::optimizer::create(kls::config(kls::method::adamw), kls::tensor(7));
    third = std::move(second);
    CHECK(!second && third.native_handle() == handle);
    step(third, f);
    std::vector<kls::optimizer> all(3);
    all[1] = std::move(third);
    all.resize(40);
    CHECK(!all[0] && all[1].native_handle() == handle);
    step(all[1], f);
    swap(all[1], all[39]);
    CHECK(!all[1] && all[39].native_handle() == handle);
    step(all[39], f);

    // Moved to itself it stays.
    kls::optimizer &same = all[39];
    all[39] = std::move(same);
    CHECK(all[39].native_handle() == handle);
    step(all[39], f);
    for (int t = 0; t < 6; t++) step(reference, g);
    CHECK(f.matrix == g.matrix && f.vector == g.vector);

    // An empty one can be asked, refused, emptied, and made anew.
    REFUSED(kls::status::null, "NULL", step(first, f));
    REFUSED(kls::status::null, "NULL", first.step(std::vector<kls::buffer>(), std::vector<kls::const_buffer>(), 0.1f));
    REFUSED(kls::status::null, "NULL", first.step_tensor(0, f.matrix, f.matrix_grad, 0.1f));
    REFUSED(kls::status::null, "NULL", first.step_tensor(0, f.matrix, nullptr, 0.1f));
    REFUSED(kls::status::null, "NULL", first.step_with(kls::step(0.1f), {f.matrix}, {f.matrix_grad}));
    REFUSED(kls::status::null, "NULL", first.write_updates(kls::step(), {f.matrix_grad}, {f.matrix}));
    REFUSED(kls::status::null, "NULL", first.state_bytes());
    REFUSED(kls::status::null, "NULL", first.plan(0));
    REFUSED(kls::status::null, "NULL", first.counters(0));
    REFUSED(kls::status::null, "NULL", first.predicted_flops(1));
    REFUSED(kls::status::null, "NULL", first.set_group(0, 1, 0));
    REFUSED(kls::status::null, "NULL", first.set_refresh_budget(0));
    REFUSED(kls::status::null, "NULL", first.read_state(0, 0, kls::state_part::momentum));
    REFUSED(kls::status::null, "NULL", first.state_len(0, 0, kls::state_part::momentum));
    REFUSED(kls::status::null, "NULL", first.mode_report(0, 0, 0));
    REFUSED(kls::status::null, "NULL", first.objective(0, 0, f.matrix_grad));
    REFUSED(kls::status::null, "NULL", first.set_basis(0, 0, 0, f.matrix_grad));
    CHECK(first.release() == nullptr);
    first = {};
    first = std::move(all[39]);
    step(first, f);

    // Released, the handle is the caller's.
    kls_optimizer *released = first.release();
    CHECK(released == handle && !first && first.tensor_count() == 0);
    kls_counters counters{};
    CHECK(kls_optimizer_counters(released, 0, 0, &counters, sizeof counters) == KLS_OK && counters.steps == 7);
    CHECK(kls_optimizer_destroy(&released) == KLS_OK && released == nullptr);
    return nullptr;
}

// Different optimizers at the same time.
TEST(test_cpp_two_optimizers) {
    fixture one, other, alone;
    auto run = [](fixture &f, kls::optimizer optimizer) {
        for (int t = 0; t < 50; t++) optimizer.step({f.matrix, f.vector}, {f.matrix_grad, f.vector_grad}, 0.001f);
    };
    std::thread first(run, std::ref(one), kls::optimizer::create(one.group, one.tensors));
    std::thread second(run, std::ref(other), kls::optimizer::create(other.group, other.tensors));
    first.join();
    second.join();
    run(alone, kls::optimizer::create(alone.group, alone.tensors));
    CHECK(one.matrix == alone.matrix && other.matrix == alone.matrix && other.vector == alone.vector);
    return nullptr;
}

TEST(test_cpp_lent_memory) {
    fixture f, g;
    const kls::memory_needs needs = kls::query(f.group, f.tensors);
    alignas(64) static std::array<std::byte, 64 * 1024> memory;
    CHECK(needs.size > 0 && needs.size <= memory.size() && needs.alignment <= 64);
    const kls::span<std::byte> exact(memory.data(), needs.size);
    auto heap = kls::optimizer::create(g.group, g.tensors, kls::options().set(kls::backend::portable));

    // Too short, misaligned: nothing is written.
    memory.fill(std::byte{0xa5});
    const auto before = memory;
    REFUSED(kls::status::memory_too_short, std::to_string(needs.size - 1) + " bytes instead of " + std::to_string(needs.size),
            kls::optimizer::create_in({memory.data(), needs.size - 1}, f.group, f.tensors));
    REFUSED(kls::status::misaligned, "aligned", kls::optimizer::create_in({memory.data() + 4, needs.size}, f.group, f.tensors));
    REFUSED(kls::status::memory_too_short, "0 bytes", kls::optimizer::create_in({}, f.group, f.tensors));
    CHECK(memory == before);
    for (int round = 0; round < 2; round++) {
        // The second one finds the memory as the first one left it.
        auto lent = kls::optimizer::create_in(exact, f.group, f.tensors);
        CHECK(static_cast<void *>(lent.native_handle()) == memory.data());
        kls::optimizer moved = std::move(lent);
        for (int t = 0; t < 5 && round == 0; t++) {
            moved.step({f.matrix, f.vector}, {f.matrix_grad, f.vector_grad}, 0.01f);
            heap.step({g.matrix, g.vector}, {g.matrix_grad, g.vector_grad}, 0.01f);
        }
        CHECK(moved.counters(0).steps == (round == 0 ? 5 : 0));
        CHECK(std::all_of(memory.begin() + static_cast<std::ptrdiff_t>(needs.size), memory.end(), [](std::byte x) { return x == std::byte{0xa5}; }));
    }
    CHECK(f.matrix == g.matrix && f.vector == g.vector);
    REFUSED(kls::status::group, "group", kls::query(f.group, kls::tensor(3).set_group(1)));
    return nullptr;
}
