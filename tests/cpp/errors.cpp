// What is refused, with which status and text, and that nothing has changed then.
#include "check.hpp"
#include "fixture.hpp"

#include <cmath>

TEST(test_cpp_errors) {
    fixture f;
    // Of the library.
    REFUSED(kls::status::beta, "beta1 and beta2", [&] {
        kls::config config;
        config.beta1 = 1;
        return kls::optimizer::create(config, f.tensors);
    }());
    REFUSED(kls::status::zero_dim, "zero", kls::optimizer::create(f.group, kls::tensor(4, 0)));
    REFUSED(kls::status::overflow, "address space", kls::optimizer::create(f.group, kls::tensor(-1, 4)));
    REFUSED(kls::status::group, "no such group", kls::optimizer::create({}, f.tensors));
    REFUSED(kls::status::threads, "num_threads", kls::optimizer::create(f.group, f.tensors, kls::options().set_threads(0)));
    REFUSED(kls::status::unknown_value, "constants", kls::config(kls::method(99)));
    REFUSED(kls::status::unknown_value, "constants", kls::config(kls::method::adamw, kls::convention(-1)));
    REFUSED(kls::status::combination, "do not go together",
            kls::optimizer::create(kls::config(kls::method::adamw).set(kls::direction::kronecker_power), f.tensors));
    auto optimizer = kls::optimizer::create(f.group, f.tensors);
    const auto matrix = f.matrix;
    f.vector_grad[2] = NAN;
    REFUSED(kls::status::gradient_not_finite, "NaN", optimizer.step({f.matrix, f.vector}, {f.matrix_grad, f.vector_grad}, 0.1f));
    f.vector_grad[2] = 1e30f;
    REFUSED(kls::status::gradient_too_large, "too large", optimizer.step({f.matrix, f.vector}, {f.matrix_grad, f.vector_grad}, 0.1f));
    f.vector_grad[2] = 0;
    REFUSED(kls::status::learning_rate, "learning rate", optimizer.step({f.matrix, f.vector}, {f.matrix_grad, f.vector_grad}, -1));
    REFUSED(kls::status::overlap, "overlap", optimizer.step({f.matrix, f.vector}, {f.matrix, f.vector_grad}, 0.1f));
    REFUSED(kls::status::null, "NULL", optimizer.step({nullptr, f.vector}, {f.matrix_grad, f.vector_grad}, 0.1f));
    CHECK(f.matrix == matrix && optimizer.counters(0).steps == 0);
    // A kls::error is a std::runtime_error, and goes on after it is copied.
    try {
        optimizer.step({f.matrix, f.vector}, {f.matrix_grad, f.vector_grad}, NAN);
        return "a step with a learning rate of NaN";
    } catch (const std::runtime_error &error) {
        const auto &own = dynamic_cast<const kls::error &>(error);
        const kls::error copy = own;
        CHECK(copy.status() == kls::status::learning_rate && std::string(copy.what()) == error.what() && copy.what()[0] != 0);
    }
    optimizer.step({f.matrix, f.vector}, {f.matrix_grad, f.vector_grad}, 0.1f);
    CHECK(f.matrix != matrix);
    return nullptr;
}

TEST(test_cpp_wrong_sizes) {
    fixture f;
    auto optimizer = kls::optimizer::create(f.group, f.tensors);
    const auto matrix = f.matrix;
    const auto vector = f.vector;
    std::vector<float> shorter(ELEMENTS - 1), longer(ELEMENTS + 1), none;
    std::vector<std::uint16_t> halves(ELEMENTS);
    auto step = [&](kls::buffer a, kls::buffer b, kls::const_buffer x, kls::const_buffer y) { optimizer.step({a, b}, {x, y}, 0.1f); };
    REFUSED(kls::status::buffer_length, "parameter of tensor 0: 11 elements instead of 12. A buffer", step(shorter, f.vector, f.matrix_grad, f.vector_grad));
    REFUSED(kls::status::buffer_length, "parameter of tensor 0: 13 elements instead of 12", step(longer, f.vector, f.matrix_grad, f.vector_grad));
    REFUSED(kls::status::buffer_length, "gradient of tensor 0: 11", step(f.matrix, f.vector, shorter, f.vector_grad));
    REFUSED(kls::status::buffer_length, "gradient of tensor 1: 12 elements instead of 5", step(f.matrix, f.vector, f.matrix_grad, f.matrix_grad));
    // An empty container is no way to freeze a tensor.
    REFUSED(kls::status::buffer_length, "gradient of tensor 0: 0 elements", step(f.matrix, f.vector, none, f.vector_grad));
    // In the order of the table.
    REFUSED(kls::status::buffer_length, "parameter of tensor 0: 5", step(f.vector, f.matrix, f.vector_grad, f.matrix_grad));
    REFUSED(kls::status::format, "gradient of tensor 0: 2 bytes per element instead of 4", step(f.matrix, f.vector, halves, f.vector_grad));
    REFUSED(kls::status::format, "parameter of tensor 0: 2 bytes", step(halves, f.vector, f.matrix_grad, f.vector_grad));
    REFUSED(kls::status::buffer_length, "gradient of tensor 1: 12", optimizer.step_tensor(1, f.vector, f.matrix_grad, 0.1f));
    // Too few and too many.
    REFUSED(kls::status::tensor_count, "parameters: 1 buffers instead of 2", optimizer.step({f.matrix}, {f.matrix_grad}, 0.1f));
    REFUSED(kls::status::tensor_count, "parameters: 3 buffers instead of 2",
            optimizer.step({f.matrix, f.vector, longer}, {f.matrix_grad, f.vector_grad, longer}, 0.1f));
    REFUSED(kls::status::tensor_count, "gradients: 1 buffers instead of 2", optimizer.step({f.matrix, f.vector}, {f.matrix_grad}, 0.1f));
    REFUSED(kls::status::tensor_count, "gradients: 3 buffers instead of 2",
            optimizer.step({f.matrix, f.vector}, {f.matrix_grad, f.vector_grad, longer}, 0.1f));
    REFUSED(kls::status::index, "1 from the first one on instead of 0", optimizer.step_tensor(2, f.matrix, f.matrix_grad, 0.1f));
    REFUSED(kls::status::index, "instead of 0", optimizer.step_tensor(std::size_t(-1), f.matrix, f.matrix_grad, 0.1f));
    REFUSED(kls::status::null, "gradient of tensor 0", optimizer.step_tensor(0, f.matrix, nullptr, 0.1f));
    CHECK(f.matrix == matrix && f.vector == vector && optimizer.counters(0).steps == 0);

    // Tensors with strides: at least as many as they reach.
    auto strided = kls::optimizer::create(f.group, kls::tensor(ROWS, COLUMNS).set_strides(2 * COLUMNS, 1));
    std::vector<float> wide(ROWS * 2 * COLUMNS, 1), gradient(wide.size() - COLUMNS, 0.5f);
    strided.step({wide}, {gradient}, 0.1f);
    gradient.pop_back();
    REFUSED(kls::status::buffer_length, "gradient of tensor 0: 20 elements instead of 21", strided.step({wide}, {gradient}, 0.1f));
    return nullptr;
}

TEST(test_cpp_wrong_tensors) {
    kls::tensor tensor(ROWS, COLUMNS);
    REFUSED(kls::status::order, "dims", kls::tensor(kls::span<const std::uint64_t>()));
    REFUSED(kls::status::order, "dims", kls::tensor(kls::span<const std::uint64_t>(std::vector<std::uint64_t>(7, 1))));
    REFUSED(kls::status::order, "dims", kls::tensor(kls::span<const std::uint64_t>(std::vector<std::uint64_t>(1000, 1))));
    REFUSED(kls::status::index, "mode: 2", tensor.set_mode(2, kls::mode::full));
    REFUSED(kls::status::index, "mode", tensor.set_mode(std::size_t(-1), kls::mode::full));
    REFUSED(kls::status::strides, "strides: 1 numbers instead of 2", tensor.set_strides(1));
    REFUSED(kls::status::strides, "strides: 3 numbers instead of 2", tensor.set_strides(9, 3, 1));
    const kls::config config;
    REFUSED(kls::status::strides, "share", kls::optimizer::create(config, kls::tensor(ROWS, COLUMNS).set_strides(2, 1)));
    REFUSED(kls::status::row_parts, "parts", kls::optimizer::create(config, kls::tensor(ROWS, COLUMNS).set_row_parts(2, 1)));
    REFUSED(kls::status::format, "go together", kls::optimizer::create(config, kls::tensor(4).set_formats(kls::format::f32, kls::format::f16)));
    REFUSED(kls::status::format, "go together", kls::optimizer::create(config, kls::tensor(4).set_master_weights()));
    REFUSED(kls::status::format, "go together", kls::optimizer::create(config, kls::tensor(4).set_rounding(kls::rounding::stochastic, 1)));
    REFUSED(kls::status::slice_stride, "overlap", kls::optimizer::create(config, kls::tensor(4).set_slices(2, 3)));
    REFUSED(kls::status::slices, "slice", kls::optimizer::create(config, kls::tensor(4).set_slices(0)));
    REFUSED(kls::status::unknown_value, "constants", kls::optimizer::create(config, kls::tensor(4, 4).set_mode(1, kls::mode(9))));
    return nullptr;
}
