// Steps with formats, scales, ranges and updates alone.
#include "check.hpp"
#include "fixture.hpp"

#include <cmath>
#include <cstring>

namespace {

// A bfloat16 as a program may have it.
struct bfloat16 {
    std::uint16_t bits;
};

bfloat16 to_bf16(float x) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return {static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}

float from_bf16(bfloat16 half) {
    const std::uint32_t bits = std::uint32_t{half.bits} << 16;
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

}  // namespace

// A bf16 matrix with master weights beside an f32 vector, and the same table in f32.
TEST(test_cpp_formats) {
    fixture f;
    std::vector<bfloat16> matrix(ELEMENTS);
    std::array<std::uint16_t, ELEMENTS> grad;
    for (std::size_t i = 0; i < ELEMENTS; i++) {
        f.matrix[i] = from_bf16(matrix[i] = to_bf16(f.matrix[i]));
        grad[i] = to_bf16(f.matrix_grad[i]).bits;
        f.matrix_grad[i] = from_bf16({grad[i]});
    }
    auto vector = f.vector;
    const std::vector<kls::tensor> tensors{
        kls::tensor(ROWS, COLUMNS).set_formats(kls::format::bf16, kls::format::bf16).set_master_weights(), kls::tensor(VECTOR)};
    auto mixed = kls::optimizer::create(f.group, tensors), plain = kls::optimizer::create(f.group, f.tensors);
    const kls::step request(0.01f);
    for (int t = 0; t < 8; t++) {
        if (t % 2 == 0) {
            mixed.step_with(request, {matrix, vector}, {grad, f.vector_grad});
        } else {
            mixed.step({matrix, vector}, {grad, f.vector_grad}, 0.01f);
        }
        plain.step({f.matrix, f.vector}, {f.matrix_grad, f.vector_grad}, 0.01f);
        for (std::size_t i = 0; i < ELEMENTS; i++) CHECK(matrix[i].bits == to_bf16(f.matrix[i]).bits);
    }
    CHECK(vector == f.vector && mixed.read_state(0, 0, kls::state_part::master) == f.matrix);
    REFUSED(kls::status::not_f32, "parameter of tensor 0: 4 bytes per element instead of 2",
            mixed.step({f.matrix, vector}, {grad, f.vector_grad}, 0.01f));
    REFUSED(kls::status::not_f32, "gradient of tensor 0", mixed.step({matrix, vector}, {f.matrix_grad, f.vector_grad}, 0.01f));
    std::vector<float> update(ELEMENTS);
    REFUSED(kls::status::master_weights, "master weights", mixed.write_updates(kls::step(), {grad, nullptr}, {update, nullptr}));

    // One seed gives one result, and a gradient may be of another format than its parameter.
    const auto rounded = [&](std::uint64_t seed) {
        std::vector<bfloat16> param(ELEMENTS, to_bf16(1));
        auto optimizer = kls::optimizer::create(
            f.group, kls::tensor(ROWS, COLUMNS).set_formats(kls::format::f32, kls::format::bf16).set_rounding(kls::rounding::stochastic, seed));
        for (int t = 0; t < 5; t++) optimizer.step({param}, {f.matrix_grad}, 1e-3f);
        std::vector<std::uint16_t> bits;
        for (bfloat16 x : param) bits.push_back(x.bits);
        return bits;
    };
    CHECK(rounded(1) == rounded(1) && rounded(1) != rounded(2));
    return nullptr;
}

// Updates that are written and applied by hand are the step.
TEST(test_cpp_updates) {
    fixture f, g;
    f.group.weight_decay = g.group.weight_decay = 0;
    auto stepped = kls::optimizer::create(f.group, f.tensors), asked = kls::optimizer::create(g.group, g.tensors);
    std::vector<float> update(ELEMENTS);
    std::array<float, VECTOR> vector_update{};
    for (int t = 0; t < 6; t++) {
        stepped.step({f.matrix, f.vector}, {f.matrix_grad, f.vector_grad}, 0.01f);
        if (t % 2 == 0) {
            asked.write_updates(kls::step(), {g.matrix_grad, g.vector_grad}, {update, vector_update});
        } else {
            asked.write_updates(kls::step(), {g.matrix_grad, g.vector_grad}, {update, vector_update}, {g.matrix, nullptr});
        }
        for (std::size_t i = 0; i < ELEMENTS; i++) g.matrix[i] -= 0.01f * update[i];
        for (std::size_t i = 0; i < VECTOR; i++) g.vector[i] -= 0.01f * vector_update[i];
    }
    CHECK(f.matrix == g.matrix && f.vector == g.vector);
    auto write = [&](kls::buffer a, kls::buffer b) { asked.write_updates(kls::step(), {g.matrix_grad, g.vector_grad}, {a, b}); };
    std::vector<std::uint16_t> halves(ELEMENTS);
    REFUSED(kls::status::null, "NULL", write(update, nullptr));
    REFUSED(kls::status::buffer_length, "update of tensor 1: 12", write(update, update));
    REFUSED(kls::status::format, "update of tensor 0: 2 bytes", write(halves, vector_update));
    REFUSED(kls::status::overlap, "overlap", write(g.matrix_grad, vector_update));
    REFUSED(kls::status::tensor_count, "updates: 1 buffers instead of 2",
            asked.write_updates(kls::step(), {g.matrix_grad, g.vector_grad}, {update}));
    REFUSED(kls::status::tensor_count, "parameters: 1 buffers instead of 2",
            asked.write_updates(kls::step(), {g.matrix_grad, g.vector_grad}, {update, vector_update}, {g.matrix}));
    REFUSED(kls::status::index, "3 from the first one on instead of 2",
            asked.write_updates(kls::step(), {g.matrix_grad, g.vector_grad, nullptr}, {update, vector_update, nullptr}));
    // L2 decay looks at the parameter.
    auto penalised = kls::optimizer::create(f.group.set(kls::weight_decay_kind::l2), f.tensors);
    REFUSED(kls::status::null, "NULL", penalised.write_updates(kls::step(), {g.matrix_grad, g.vector_grad}, {update, vector_update}));
    penalised.write_updates(kls::step(), {g.matrix_grad, g.vector_grad}, {update, vector_update}, {g.matrix, g.vector});
    CHECK(asked.counters(0).steps == 6 && penalised.counters(1).steps == 1);
    return nullptr;
}

// A scaled range of a table.
TEST(test_cpp_requests) {
    fixture f, g;
    auto scaled = kls::optimizer::create(f.group, f.tensors), plain = kls::optimizer::create(g.group, g.tensors);
    auto request = kls::step(0.01f).set_grad_scale(4).set_first_tensor(1);
    for (float &x : g.vector_grad) x *= 4;
    for (int t = 0; t < 4; t++) {
        scaled.step_with(request, {f.vector}, {f.vector_grad});
        plain.step_tensor(1, g.vector, g.vector_grad, 0.01f);
    }
    for (std::size_t i = 0; i < VECTOR; i++) CHECK(std::fabs(f.vector[i] - g.vector[i]) < 1e-6f);
    CHECK(f.vector[0] != 1 && scaled.counters(0).steps == 0 && scaled.counters(1).steps == 4);
    REFUSED(kls::status::grad_scale, "grad_scale", scaled.step_with(kls::step(0.01f).set_grad_scale(0), {f.matrix, f.vector}, {nullptr, f.vector_grad}));
    REFUSED(kls::status::learning_rate, "learning rate", scaled.step_with(kls::step(), {f.matrix}, {f.matrix_grad}));
    REFUSED(kls::status::tensor_count, "tensor_count", scaled.step_with(request, std::vector<kls::buffer>(), std::vector<kls::const_buffer>()));
    REFUSED(kls::status::index, "2 from the first one on instead of 1", scaled.step_with(request, {f.vector, f.vector}, {f.vector_grad, nullptr}));
    // In lent memory a tensor must have asked for that.
    alignas(64) static std::array<std::byte, 64 * 1024> memory;
    REFUSED(kls::status::grad_scale, "grad_scale", kls::optimizer::create_in(memory, f.group, f.tensors).step_with(request, {f.vector}, {f.vector_grad}));
    f.tensors[1].set_grad_scaling();
    kls::optimizer::create_in(memory, f.group, f.tensors).step_with(request, {f.vector}, {f.vector_grad});
    return nullptr;
}
