// Ordinary use: one tensor, and tables of them, beside the same calls in C.
#include "check.hpp"
#include "fixture.hpp"

#include <cstring>

TEST(test_cpp_training) {
    constexpr std::size_t rows = 8, columns = 6;
    std::vector<float> weights(rows * columns), gradient(weights.size()), target(weights.size());
    unsigned seed = 5;
    for (float &x : target) x = noise(seed);
    auto optimizer = kls::optimizer::create(kls::config(kls::method::kl_shampoo), kls::tensor(rows, columns), kls::options().set_threads(2));
    CHECK(optimizer && optimizer.native_handle() != nullptr && optimizer.tensor_count() == 1);
    float first = 0, last = 0;
    for (int step = 0; step < 200; step++) {
        last = 0;
        for (std::size_t i = 0; i < weights.size(); i++) {
            gradient[i] = weights[i] - target[i];
            last += gradient[i] * gradient[i];
        }
        if (step == 0) first = last;
        optimizer.step({weights}, {gradient}, 0.05f * (1 - static_cast<float>(step) / 200));
    }
    CHECK(last < 1e-3f * first);
    CHECK(optimizer.counters(0).steps == 200);
    CHECK(std::strncmp(kls::version(), "0.", 2) == 0 && std::strcmp(kls::text(kls::status::ok), "Success.") == 0);
    return nullptr;
}

// Every way to give a table is the same step, and that of the C interface.
TEST(test_cpp_tables) {
    fixture f, listed, contained, pointed, spanned;
    kls_optimizer *plain = nullptr;
    const kls_config group = f.group;
    CHECK(kls_optimizer_create(&plain, &group, 1, f.tensors.data(), 2, nullptr) == KLS_OK);
    auto by_list = kls::optimizer::create(listed.group, listed.tensors);
    auto by_container = kls::optimizer::create(std::array{contained.group}, contained.tensors);
    auto by_pointer = kls::optimizer::create({&pointed.group, 1}, {pointed.tensors.data(), 2});
    auto by_span = kls::optimizer::create(kls::span<const kls::config>(spanned.group), spanned.tensors);
    std::vector<std::vector<float>> params{contained.matrix, {contained.vector.begin(), contained.vector.end()}};
    const std::vector<std::vector<float>> grads{contained.matrix_grad, {contained.vector_grad.begin(), contained.vector_grad.end()}};
    std::vector<kls::buffer> buffers{spanned.matrix, spanned.vector};
    const std::vector<kls::const_buffer> const_buffers{spanned.matrix_grad, spanned.vector_grad};
    for (int t = 0; t < 6; t++) {
        float *c_params[2] = {f.matrix.data(), f.vector.data()};
        // The matrix is frozen in one of the steps.
        const bool frozen = t == 2;
        const float *c_grads[2] = {frozen ? nullptr : f.matrix_grad.data(), f.vector_grad.data()};
        CHECK(kls_optimizer_step(plain, c_params, c_grads, 2, 0.01f) == KLS_OK);
        if (frozen) {
            by_list.step({listed.matrix, listed.vector}, {nullptr, listed.vector_grad}, 0.01f);
            by_container.step(params, {nullptr, grads[1]}, 0.01f);
            const float *const none = nullptr;
            by_pointer.step({pointed.matrix, pointed.vector}, {{none, ELEMENTS}, {pointed.vector_grad.data(), VECTOR}}, 0.01f);
            by_span.step_tensor(1, spanned.vector, spanned.vector_grad, 0.01f);
        } else {
            by_list.step({listed.matrix, listed.vector}, {listed.matrix_grad, listed.vector_grad}, 0.01f);
            by_container.step(params, grads, 0.01f);
            by_pointer.step({{pointed.matrix.data(), ELEMENTS}, {pointed.vector.data(), VECTOR}},
                            {{pointed.matrix_grad.data(), ELEMENTS}, {pointed.vector_grad.data(), VECTOR}}, 0.01f);
            by_span.step(buffers, const_buffers, 0.01f);
        }
    }
    CHECK(f.matrix == listed.matrix && f.vector == listed.vector);
    CHECK(f.matrix == params[0] && std::equal(f.vector.begin(), f.vector.end(), params[1].begin()));
    CHECK(f.matrix == pointed.matrix && f.vector == pointed.vector);
    CHECK(f.matrix == spanned.matrix && f.vector == spanned.vector);
    CHECK(kls_optimizer_destroy(&plain) == KLS_OK);

    // Groups, and arrays of C.
    float matrix[ELEMENTS] = {}, grad[ELEMENTS] = {1};
    const std::vector<kls::config> groups{kls::config(kls::method::sgd).set(kls::momentum::none), kls::config(kls::method::adamw)};
    const kls::tensor tensors[] = {kls::tensor(ROWS, COLUMNS), kls::tensor(VECTOR).set_group(1)};
    auto optimizer = kls::optimizer::create(groups, tensors);
    optimizer.set_group(0, 2, 0);
    optimizer.step({matrix, f.vector}, {grad, nullptr}, 0.5f);
    CHECK(matrix[0] == -1 && matrix[1] == 0);

    // A table without tensors has steps, of nothing.
    auto empty = kls::optimizer::create(f.group, kls::span<const kls::tensor>());
    empty.step(std::vector<kls::buffer>(), std::vector<kls::const_buffer>(), 0.1f);
    REFUSED(kls::status::tensor_count, "parameters: 1 buffers instead of 0", empty.step({matrix}, {grad}, 0.1f));
    return nullptr;
}
