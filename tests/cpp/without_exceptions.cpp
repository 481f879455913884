// The header with KLS_NO_EXCEPTIONS, compiled without exceptions and run-time types, in a program whose other files have both.
#define KLS_NO_EXCEPTIONS
#include "check.hpp"

#include <array>
#include <cstring>

TEST(test_cpp_without_exceptions) {
    std::vector<float> matrix(12, 1), gradient(12, 0.5f);
    kls::result<kls::optimizer> made = kls::optimizer::create(kls::config(), kls::tensor(4, 3));
    CHECK(made && made.status() == kls::status::ok);
    CHECK(made->step({matrix}, {gradient}, 0.1f) == kls::status::ok && matrix[0] < 1);
    kls::optimizer optimizer = std::move(made).value();
    CHECK(!made.value() && optimizer);
    CHECK(optimizer.step_tensor(0, matrix, gradient, 0.1f) == kls::status::ok);
    CHECK(optimizer.step_with(kls::step(0.1f).set_grad_scale(2), {matrix}, {gradient}) == kls::status::ok);
    std::vector<float> update(12);
    CHECK(optimizer.write_updates(kls::step(), {gradient}, {update}) == kls::status::ok && update[11] != 0);
    CHECK(optimizer.set_group(0, 1, 0.1f) == kls::status::ok && optimizer.set_refresh_budget(1000) == kls::status::ok);
    const auto counters = optimizer.counters(0);
    CHECK(counters && counters->steps == 4);
    auto basis = optimizer.read_state(0, 0, kls::state_part::basis, 1);
    CHECK(basis && basis->size() == 9 && optimizer.set_basis(0, 0, 1, *basis) == kls::status::ok);
    CHECK(*optimizer.state_bytes() > 0 && *optimizer.predicted_flops(1) > 0 && optimizer.plan(0)->pieces == 1);
    CHECK(optimizer.mode_report(0, 0, 1)->lambda_max > 0 && optimizer.objective(0, 0, gradient));
    const auto similarity = kls::window_similarity(gradient, 2, 2, 3);
    CHECK(similarity && similarity->optimal > 0.99f && *kls::window_scratch_len(2, 2, 3) > 0);

    const auto saved = optimizer.save();
    CHECK(saved && saved->size() == *optimizer.save_size() && optimizer.load(*saved) == kls::status::ok);
    std::size_t taken = 0;
    const auto take = [&](kls::span<const std::byte> bytes) { return (taken += bytes.size()) > 0; };
    CHECK(optimizer.save_to(take) == kls::status::ok && taken == saved->size());
    CHECK(optimizer.add_tensors(kls::tensor(4)) == kls::status::ok && optimizer.tensor_count() == 2);

    alignas(64) static std::array<std::byte, 32 * 1024> memory;
    const auto needs = kls::query(kls::config(), kls::tensor(4, 3));
    CHECK(needs && needs->size <= memory.size() && needs->alignment <= 64);
    auto lent = kls::optimizer::create_in({memory.data(), needs->size}, kls::config(), kls::tensor(4, 3));
    CHECK(lent && lent->step({matrix}, {gradient}, 0.1f) == kls::status::ok);
    return nullptr;
}

TEST(test_cpp_without_exceptions_wrong) {
    std::vector<float> matrix(12, 1), gradient(11, 0.5f);
    const auto status = [](const kls::config &config, const kls::tensor &tensor) { return kls::optimizer::create(config, tensor).status(); };
    // What a value was refused for is said by the call that is given it.
    const kls::config config;
    CHECK(status(kls::config(kls::method(99)), kls::tensor(4)) == kls::status::unknown_value);
    CHECK(status(config, kls::tensor(kls::span<const std::uint64_t>())) == kls::status::order);
    CHECK(status(config, kls::tensor(kls::span<const std::uint64_t>(std::vector<std::uint64_t>(7, 1)))) == kls::status::order);
    CHECK(status(config, kls::tensor(4, 3).set_mode(2, kls::mode::full)) == kls::status::order);
    CHECK(status(config, kls::tensor(4, 3).set_strides(1)) == kls::status::order);
    CHECK(status(config, kls::tensor(0, 3)) == kls::status::zero_dim);
    auto failed = kls::optimizer::create(config, kls::tensor(4, 0));
    CHECK(!failed && !failed.value() && failed->step({matrix}, {gradient}, 0.1f) == kls::status::null);
    CHECK(kls::optimizer::create_in({}, config, kls::tensor(4)).status() == kls::status::memory_too_short);

    auto optimizer = std::move(kls::optimizer::create(config, kls::tensor(4, 3)).value());
    CHECK(optimizer.step({matrix}, {gradient}, 0.1f) == kls::status::buffer_length && matrix[0] == 1);
    CHECK(optimizer.step({matrix}, {matrix}, 0.1f) == kls::status::overlap);
    CHECK(optimizer.step({matrix, matrix}, {nullptr, nullptr}, 0.1f) == kls::status::tensor_count);
    CHECK(optimizer.step_tensor(1, matrix, matrix, 0.1f) == kls::status::index);
    CHECK(optimizer.step_tensor(0, matrix, nullptr, 0.1f) == kls::status::null);
    CHECK(optimizer.counters(7).status() == kls::status::index && optimizer.counters(7)->steps == 0);
    const auto nothing = optimizer.read_state(0, 0, kls::state_part::graft_moment);
    CHECK(!nothing && nothing.value().empty() && nothing.status() == kls::status::no_such_state);
    CHECK(kls::window_similarity(gradient, 2, 2, 3).status() == kls::status::buffer_length);
    CHECK(kls::text(kls::status::buffer_length)[0] == 'A');

    // Where it failed.
    int messages = 0;
    const auto count = [&](kls::log_level level, const char *) { messages += level == kls::log_level::error; };
    CHECK(optimizer.set_log(count) == kls::status::ok && optimizer.load({}) == kls::status::checkpoint_truncated && messages == 1);
    CHECK(std::strstr(optimizer.last_error(), "kls_optimizer_load") != nullptr);
    CHECK(optimizer.save_to([](kls::span<const std::byte>) { return false; }) == kls::status::checkpoint_callback);
    CHECK(optimizer.load_from([](std::uint64_t, kls::span<std::byte>) { return false; }) == kls::status::checkpoint_callback);
    CHECK(optimizer.save_file("/there/is/no/such/file") == kls::status::file_not_found);
    CHECK(status(config, kls::tensor(0).set_name("bias")) == kls::status::zero_dim && std::strstr(kls::last_error(), "\"bias\"") != nullptr);
    return nullptr;
}
