// The header with KLS_NO_EXCEPTIONS, compiled without exceptions and run-time types, in a program whose other files have both.
#define KLS_NO_EXCEPTIONS
#include "gpu.hpp"

#include <cstring>

TEST(test_returning) {
    device_fixture f;
    kls::result<kls::cuda::optimizer> made = kls::cuda::optimizer::create(f.group, f.tensors);
    CHECK(made && made.status() == kls::status::ok);
    const auto step = [&](kls::cuda::optimizer &optimizer) {
        return optimizer.step({f.weights, f.bias}, {f.weights_grad, f.bias_grad}, kls::cuda::request(0.01f).set_max_norm(1));
    };
    CHECK(step(*made) == kls::status::ok && f.weights.host() != f.matrix);
    kls::cuda::optimizer optimizer = std::move(made).value();
    CHECK(!made.value() && optimizer && step(optimizer) == kls::status::ok);
    float norm = 0;
    CHECK(optimizer.copy_norm(&norm) == kls::status::ok && norm > 0);
    std::vector<std::byte> headers(*optimizer.headers_size());
    CHECK(optimizer.copy_headers(headers) == kls::status::ok);
    CHECK(optimizer.counters(headers, 0)->steps == 2 && *optimizer.skipped(headers) == 0);
    const auto basis = optimizer.read_state(0, 0, kls::state_part::basis, 1);
    CHECK(basis && basis->size() == COLUMNS * COLUMNS && *optimizer.state_len(0, 0, kls::state_part::basis, 1) == basis->size());
    const auto saved = optimizer.save();
    CHECK(saved && saved->size() == *optimizer.save_size() && optimizer.load(*saved) == kls::status::ok);
    CHECK(optimizer.replayed(2) == kls::status::ok && kls::cuda::query(f.group, f.tensors)->total_bytes > 0);
    return nullptr;
}

TEST(test_returning_wrong) {
    device_fixture f;
    const auto status = [](const kls::config &config, const kls::tensor &tensor) { return kls::cuda::optimizer::create(config, tensor).status(); };
    // What a value was refused for is said by the call that is given it.
    CHECK(status(kls::config(kls::method(99)), kls::tensor(4)) == kls::status::unknown_value);
    CHECK(status(kls::config(), kls::tensor(4, 3).set_strides(1)) == kls::status::order);
    auto failed = kls::cuda::optimizer::create(f.group, f.tensors, kls::cuda::options().set_device(-1));
    CHECK(!failed && failed.status() == kls::status::cuda_no_device && !failed.value());
    CHECK(std::strstr(kls::last_error(), "kls_cuda_create: device") != nullptr);
    CHECK(failed->step(kls::cuda::request(0.1f)) == kls::status::null && failed->save().status() == kls::status::null);
    auto optimizer = std::move(kls::cuda::optimizer::create(f.group, f.tensors).value());
    const kls::cuda::request request(0.1f);
    CHECK(optimizer.step({f.weights, f.bias}, {f.bias_grad, f.bias_grad}, request) == kls::status::buffer_length);
    CHECK(optimizer.step({f.weights}, {f.weights_grad}, request) == kls::status::tensor_count);
    CHECK(optimizer.step({f.weights, f.bias}, {f.weights_grad, f.bias_grad}, kls::cuda::request()) == kls::status::learning_rate);
    CHECK(std::strstr(optimizer.last_error(), "kls_cuda_step: lr") != nullptr && f.weights.host() == f.matrix);
    const std::array<std::byte, 4> bytes{};
    CHECK(optimizer.counters(bytes, 0).status() == kls::status::memory_too_short && optimizer.load(bytes) == kls::status::checkpoint_truncated);
    CHECK(optimizer.save_file("/there/is/no/such/file") == kls::status::file_not_found);
    CHECK(kls::cuda::query(f.group, kls::tensor(0)).status() == kls::status::zero_dim);
    return nullptr;
}
