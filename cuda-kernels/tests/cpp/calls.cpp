// What an optimizer can be asked for, and what it refuses.
#include "gpu.hpp"

#include <cmath>
#include <cstdint>
#include <cstdlib>

TEST(test_requests) {
    device_fixture f, g;
    auto by_value = kls::cuda::optimizer::create(f.group, f.tensors);
    auto from_device = kls::cuda::optimizer::create(g.group, g.tensors);
    const on_device<float> numbers(std::array{0.02f, 0.5f});
    float norm = 0;
    REFUSED(kls::status::no_such_state, "bound", from_device.copy_norm(&norm));
    for (int t = 0; t < 4; t++) {
        by_value.step({f.weights, f.bias}, {f.weights_grad, f.bias_grad}, kls::cuda::request(0.02f).set_grad_scale(0.5f).set_max_norm(0.25f));
        // No rate but the device's.
        from_device.step({g.weights, g.bias}, {g.weights_grad, g.bias_grad},
                         kls::cuda::request().set_device_lr(numbers.data()).set_device_grad_scale(numbers.data() + 1).set_max_norm(0.25f));
    }
    CHECK(f.equals(g) && f.bias.host() != std::vector<float>(VECTOR, 1));
    double squares = 0;
    for (const float x : f.matrix_grad) squares += double(x) * double(x);
    for (const float x : f.vector_grad) squares += double(x) * double(x);
    by_value.copy_norm(&norm);
    CHECK(std::fabs(norm - 0.5 * std::sqrt(squares)) < 1e-6 && norm > 0.25f);

    // Frozen: of neither parameter nor gradient.
    const auto bias = f.bias.host(), weights = f.weights.host();
    by_value.step({f.weights, f.bias}, {f.weights_grad, nullptr}, kls::cuda::request(0.02f));
    CHECK(f.bias.host() == bias && f.weights.host() != weights);
    return nullptr;
}

TEST(test_formats) {
    const auto group = kls::config(kls::method::adamw);
    const std::vector<std::uint16_t> ones(12, 0x3f80), halves(12, 0x3f00);
    const on_device<std::uint16_t> param(ones), grad(halves);
    const on_device<float> wrong(std::vector<float>(12));
    auto optimizer = kls::cuda::optimizer::create(
        group, kls::tensor(4, 3).set_formats(kls::format::bf16, kls::format::bf16).set_master_weights().set_rounding(kls::rounding::stochastic, 7));
    optimizer.step({param}, {grad}, kls::cuda::request(0.1f));
    CHECK(param.host() != ones);
    CHECK(optimizer.read_state(0, 0, kls::state_part::master).size() == 12);
    const auto before = param.host();
    REFUSED(kls::status::not_f32, "parameter of tensor 0: 4 bytes per element instead of 2", optimizer.step({wrong}, {grad}, kls::cuda::request(0.1f)));
    REFUSED(kls::status::not_f32, "gradient of tensor 0: 4 bytes", optimizer.step({param}, {wrong}, kls::cuda::request(0.1f)));
    auto floats = kls::cuda::optimizer::create(group, kls::tensor(4, 3));
    REFUSED(kls::status::format, "gradient of tensor 0: 2 bytes per element instead of 4", floats.step({wrong}, {grad}, kls::cuda::request(0.1f)));
    CHECK(param.host() == before);
    return nullptr;
}

TEST(test_counters) {
    device_fixture f;
    auto optimizer = kls::cuda::optimizer::create(f.group, f.tensors);
    for (int t = 0; t < 3; t++) step(optimizer, f);
    const float nan = NAN;
    to_device(f.bias_grad.data() + 2, &nan, sizeof nan);
    const auto bias = f.bias.host();
    step(optimizer, f);
    CHECK(f.bias.host() == bias);
    std::vector<std::byte> headers(optimizer.headers_size());
    CHECK(!headers.empty());
    optimizer.copy_headers(headers);
    to_host(f.matrix.data(), f.weights.data(), sizeof(float));
    const kls_counters matrix = optimizer.counters(headers, 0), vector = optimizer.counters(headers, 1, 0);
    CHECK(matrix.steps == 4 && matrix.skipped == 0 && vector.steps == 3 && vector.skipped == 1);
    CHECK(optimizer.skipped(headers) == 1);
    REFUSED(kls::status::index, "kls_cuda_counters", optimizer.counters(headers, 2));
    headers.pop_back();
    REFUSED(kls::status::memory_too_short, "kls_cuda_skipped", optimizer.skipped(headers));
    REFUSED(kls::status::memory_too_short, "kls_cuda_copy_headers", optimizer.copy_headers(headers));
    CHECK(std::string(optimizer.last_error()).find("kls_cuda_copy_headers") == 0);
    return nullptr;
}

TEST(test_state) {
    device_fixture f;
    f.stream = device_stream();
    auto optimizer = kls::cuda::optimizer::create(f.group, f.tensors);
    for (int t = 0; t < 3; t++) step(optimizer, f);
    const std::vector<float> basis = optimizer.read_state(0, 0, kls::state_part::basis, 1, f.stream);
    CHECK(basis.size() == COLUMNS * COLUMNS && optimizer.state_len(0, 0, kls::state_part::basis, 0) == ROWS * ROWS);
    for (std::size_t i = 0; i < COLUMNS; i++) {
        double length = 0;
        for (std::size_t j = 0; j < COLUMNS; j++) length += double(basis[i * COLUMNS + j]) * double(basis[i * COLUMNS + j]);
        CHECK(std::fabs(length - 1) < 1e-5);
    }
    std::array<float, VECTOR> momentum{};
    optimizer.read_state(1, 0, kls::state_part::momentum, 0, momentum, f.stream);
    CHECK(momentum[0] != 0);
    REFUSED(kls::status::buffer_length, "kls_cuda_read_state", optimizer.read_state(0, 0, kls::state_part::momentum, 0, momentum));
    REFUSED(kls::status::no_such_state, "kls_cuda_state_len", optimizer.read_state(0, 0, kls::state_part::graft_moment));
    REFUSED(kls::status::index, "kls_cuda_state_len", optimizer.state_len(2, 0, kls::state_part::momentum));
    return nullptr;
}

TEST(test_checkpoints) {
    device_fixture f, g;
    auto optimizer = kls::cuda::optimizer::create(f.group, f.tensors), other = kls::cuda::optimizer::create(g.group, g.tensors);
    for (int t = 0; t < 3; t++) step(optimizer, f);
    const std::vector<std::byte> saved = optimizer.save();
    CHECK(saved.size() == optimizer.save_size());
    std::vector<std::byte> again(saved.size() + 1, std::byte{0x5a});
    optimizer.save(again);
    CHECK(std::equal(saved.begin(), saved.end(), again.begin()) && again.back() == std::byte{0x5a});
    // The CPU takes it, and says the same.
    auto cpu = kls::optimizer::create(f.group, f.tensors);
    cpu.load(saved);
    CHECK(cpu.save() == saved && cpu.counters(0).steps == 3);
    // What was interrupted goes on with the bits of what was not.
    other.load(cpu.save());
    f.matrix = f.weights.host();
    to_device(g.weights.data(), f.matrix.data(), ELEMENTS * sizeof(float));
    to_device(g.bias.data(), f.bias.host().data(), VECTOR * sizeof(float));
    for (int t = 0; t < 3; t++) step(optimizer, f), step(other, g);
    CHECK(f.equals(g));

    const char *const folder = std::getenv("KLS_TEST_FOLDER");
    CHECK(folder != nullptr);
    const std::string path = std::string(folder) + "/state.safetensors";
    other.load(saved);
    other.save_file(path.c_str());
    optimizer.load_file(path.c_str());
    CHECK(optimizer.save() == saved);
    cpu.load_file(path.c_str());
    CHECK(cpu.save() == saved && std::remove(path.c_str()) == 0);
    REFUSED(kls::status::file_not_found, "kls_cuda_load_file", optimizer.load_file(path.c_str()));
    REFUSED(kls::status::checkpoint_truncated, "kls_cuda_load", optimizer.load({saved.data(), saved.size() - 1}));
    REFUSED(kls::status::memory_too_short, "kls_cuda_save", optimizer.save({again.data(), saved.size() - 1}));
    CHECK(optimizer.save() == saved);
    return nullptr;
}

TEST(test_graphs) {
    device_fixture f, g;
    f.stream = device_stream();
    g.stream = device_stream();
    auto optimizer = kls::cuda::optimizer::create(f.group, f.tensors), captured = kls::cuda::optimizer::create(g.group, g.tensors);
    for (int t = 0; t < 4; t++) step(optimizer, f), step(captured, g);
    // A period is two steps.
    begin_capture(g.stream);
    for (int t = 0; t < 2; t++) step(captured, g);
    REFUSED(kls::status::cuda, "captured", captured.save(g.stream));
    void *const graph = end_capture(g.stream);
    for (int t = 0; t < 6; t++) step(optimizer, f);
    for (int t = 0; t < 3; t++) graph_launch(graph, g.stream);
    captured.replayed(4);
    CHECK(f.equals(g) && optimizer.save(f.stream) == captured.save(g.stream));
    REFUSED(kls::status::overflow, "kls_cuda_replayed", captured.replayed(~std::uint64_t{0}));
    graph_destroy(graph);
    return nullptr;
}

TEST(test_refreshes) {
    device_fixture f, g;
    f.stream = device_stream();
    g.stream = device_stream();
    void *const beside = device_stream();
    {
        f.group.step_order = KLS_ORDER_APPLY_FIRST;
        auto within = kls::cuda::optimizer::create(f.group, f.tensors);
        auto optimizer = kls::cuda::optimizer::create(g.group, g.tensors, kls::cuda::options().set_refresh_stream(beside));
        for (int t = 0; t < 5; t++) step(within, f), step(optimizer, g);
        CHECK(f.equals(g));
        // The last step had no refresh, the next one has.
        optimizer.join(g.stream);
        step(within, f), step(optimizer, g);
        begin_capture(g.stream);
        REFUSED(kls::status::cuda, "kls_cuda_join: stream: ", optimizer.join(g.stream));
        graph_destroy(end_capture(g.stream));
        optimizer.join(g.stream);
        CHECK(f.equals(g) && within.read_state(0, 0, kls::state_part::basis, 0, f.stream) == optimizer.read_state(0, 0, kls::state_part::basis, 0, g.stream));
    }
    device_stream_destroy(beside);
    return nullptr;
}

TEST(test_wrong_steps) {
    device_fixture f;
    auto optimizer = kls::cuda::optimizer::create(f.group, f.tensors);
    const kls::cuda::request request(0.1f);
    const kls::cuda::buffer matrix = f.weights, vector = f.bias;
    const kls::cuda::const_buffer matrix_grad = f.weights_grad, vector_grad = f.bias_grad;
    REFUSED(kls::status::buffer_length, "parameter of tensor 0: 11 elements instead of 12. A buffer",
            optimizer.step({{f.weights.data(), ELEMENTS - 1}, vector}, {matrix_grad, vector_grad}, request));
    REFUSED(kls::status::buffer_length, "gradient of tensor 1: 12 elements instead of 5", optimizer.step({matrix, vector}, {matrix_grad, matrix_grad}, request));
    REFUSED(kls::status::tensor_count, "parameters: 1 buffers instead of 2", optimizer.step({matrix}, {matrix_grad}, request));
    REFUSED(kls::status::tensor_count, "parameters: 3 buffers instead of 2",
            optimizer.step({matrix, vector, vector}, {matrix_grad, vector_grad, vector_grad}, request));
    REFUSED(kls::status::tensor_count, "gradients: 1 buffers instead of 2", optimizer.step({matrix, vector}, {matrix_grad}, request));
    REFUSED(kls::status::null, "params", optimizer.step({{static_cast<float *>(nullptr), ELEMENTS}, vector}, {matrix_grad, vector_grad}, request));
    REFUSED(kls::status::overlap, "overlap", optimizer.step({matrix, vector}, {matrix, vector_grad}, request));
    REFUSED(kls::status::learning_rate, "kls_cuda_step: lr: ", optimizer.step({matrix, vector}, {matrix_grad, vector_grad}, kls::cuda::request()));
    REFUSED(kls::status::grad_scale, "max_norm", optimizer.step({matrix, vector}, {matrix_grad, vector_grad}, kls::cuda::request(0.1f).set_max_norm(-1)));
    REFUSED(kls::status::tensor_count, "tensor_count", optimizer.step(request));
    CHECK(f.weights.host() == f.matrix);
    REFUSED(kls::status::group, "kls_cuda_set_group", optimizer.set_group(1, 0, 0));
    REFUSED(kls::status::lr_scale, "kls_cuda_set_group", optimizer.set_group(0, -1, 0));
    optimizer.set_group(0, 0, 0);
    optimizer.step({matrix, vector}, {matrix_grad, vector_grad}, request);
    CHECK(f.weights.host() == f.matrix);
    optimizer.set_group(0, 1, 0);
    // A wrong step is forgotten.
    optimizer.step({matrix, vector}, {matrix_grad, vector_grad}, request);
    CHECK(f.weights.host() != f.matrix);
    return nullptr;
}

// On what stands in for a driver: its words come through, and nothing is left behind.
TEST(test_failures) {
    using fail_function = void (*)(const char *, unsigned, int);
    using used_function = std::uint64_t (*)(int);
    const auto fail = reinterpret_cast<fail_function>(driver_function("kls_mock_fail"));
    const auto used = reinterpret_cast<used_function>(driver_function("kls_mock_device_memory_used"));
    device_fixture f;
    const std::uint64_t before = used(0);
    {
        auto optimizer = kls::cuda::optimizer::create(f.group, f.tensors);
        CHECK(used(0) > before);
        step(optimizer, f);
        fail("cuLaunchKernel", 1, 719);
        REFUSED(kls::status::cuda, "kls_cuda_step: cuLaunchKernel: CUDA error 719: unspecified launch failure.", step(optimizer, f));
        CHECK(std::string(optimizer.last_error()).find("CUDA error 719") != std::string::npos);
        fail("cuMemcpyDtoHAsync_v2", 1, 719);
        REFUSED(kls::status::cuda, "kls_cuda_save: ", optimizer.save());
        fail("cuMemAlloc_v2", 1, 2);
        REFUSED(kls::status::cuda_out_of_memory, "kls_cuda_create: ", kls::cuda::optimizer::create(f.group, f.tensors));
        auto second = kls::cuda::optimizer::create(f.group, f.tensors, kls::cuda::options().set_device(1));
        CHECK(used(1) > 0);
    }
    CHECK(used(0) == before && used(1) == 0);
    return nullptr;
}

TEST(test_no_driver) {
    fixture f;
    REFUSED(kls::status::cuda_no_driver, "kls_cuda_create: There is no CUDA driver on this machine.", kls::cuda::optimizer::create(f.group, f.tensors));
    CHECK(std::string(kls::last_error()).find("kls_cuda_create") == 0);
    CHECK(kls_cuda_memory(kls::cuda::query(f.group, f.tensors)).total_bytes > 0);
    // The CPU's optimizer is there.
    auto cpu = kls::optimizer::create(f.group, f.tensors);
    cpu.step({f.matrix, f.vector}, {f.matrix_grad, f.vector_grad}, 0.1f);
    CHECK(cpu.counters(0).steps == 1);
    return nullptr;
}
