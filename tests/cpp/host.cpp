// What a program brings along (a log, a pool, a matrix product), and tables that grow.
#include "check.hpp"
#include "fixture.hpp"

#include <atomic>
#include <cmath>
#include <thread>

TEST(test_cpp_texts_and_log) {
    fixture f;
    std::string name = "h.0.mlp.w";
    f.tensors[0].set_name(name.c_str());
    auto made = kls::optimizer::create(f.group, f.tensors);
    name.assign(name.size(), 'x');
    std::vector<std::pair<kls::log_level, std::string>> messages;
    const auto log = [&](kls::log_level level, const char *message) { messages.emplace_back(level, message); };
    made.set_log(log);
    kls::optimizer optimizer = std::move(made);
    CHECK(*optimizer.last_error() == 0);
    f.matrix_grad[2] = NAN;
    const char *const expected = "kls_optimizer_step_with: tensor 0 \"h.0.mlp.w\", slice 0: A gradient has a NaN or an infinity.";
    REFUSED(kls::status::gradient_not_finite, expected, optimizer.step({f.matrix, f.vector}, {f.matrix_grad, f.vector_grad}, 0.1f));
    CHECK(std::string(optimizer.last_error()) == expected);
    CHECK(messages.size() == 1 && messages[0] == std::pair(kls::log_level::error, std::string(expected)));
    // What the header finds it says itself.
    REFUSED(kls::status::buffer_length, "gradient of tensor 0: 5 elements", optimizer.step({f.matrix, f.vector}, {f.vector_grad, f.vector_grad}, 0.1f));
    CHECK(messages.size() == 1 && std::string(optimizer.last_error()) == expected);
    optimizer.set_log(nullptr);
    REFUSED(kls::status::index, "kls_optimizer_counters", optimizer.counters(9));
    CHECK(messages.size() == 1);

    // A step that goes on without a slice warns.
    auto skipping = kls::optimizer::create(f.group.set(kls::bad_gradient::skip), f.tensors);
    skipping.set_log(log);
    skipping.step({f.matrix, f.vector}, {f.matrix_grad, f.vector_grad}, 0.1f);
    CHECK(messages.size() == 2 && messages[1].first == kls::log_level::warning && messages[1].second.find("slices skipped: 1") != std::string::npos);

    REFUSED(kls::status::zero_dim, "kls_optimizer_create: tensor 1 \"b\", dims[0]", [&] {
        const std::vector<kls::tensor> tensors{kls::tensor(3), kls::tensor(0).set_name("b")};
        return kls::optimizer::create(f.group, tensors);
    }());
    CHECK(std::string(kls::last_error()).find("tensor 1 \"b\"") != std::string::npos);
    kls::optimizer empty;
    REFUSED(kls::status::null, "kls_optimizer_set_log", empty.set_log(log));
    REFUSED(kls::status::null, "kls_optimizer_counters: optimizer", empty.counters(0));
    return nullptr;
}

TEST(test_cpp_pool_and_product) {
    constexpr std::size_t side = 48, count = side * side;
    std::atomic<int> calls{0}, products{0};
    // A thread for each task; on the calling one where none can be had.
    auto pool = [&](std::size_t tasks, kls::task task) {
        std::vector<std::thread> threads;
        calls++;
        for (std::size_t i = 0; i < tasks; i++) threads.emplace_back(task, i);
        for (std::thread &thread : threads) thread.join();
    };
    const auto product = [&](bool transpose_a, bool transpose_b, std::size_t m, std::size_t n, std::size_t k, float alpha, const float *a,
                             std::size_t lda, const float *b, std::size_t ldb, float beta, float *c, std::size_t ldc) {
        products++;
        for (std::size_t i = 0; i < m; i++)
            for (std::size_t j = 0; j < n; j++) {
                float sum = 0;
                for (std::size_t l = 0; l < k; l++) sum += (transpose_a ? a[l * lda + i] : a[i * lda + l]) * (transpose_b ? b[j * ldb + l] : b[l * ldb + j]);
                c[i * ldc + j] = alpha * sum + (beta == 0 ? 0 : beta * c[i * ldc + j]);
            }
    };
    const std::vector<kls::tensor> tensors(3, kls::tensor(side, 2 * side));
    std::vector<std::vector<float>> plain(3, std::vector<float>(2 * count)), pooled = plain, multiplied = plain, grads = plain;
    auto alone = kls::optimizer::create(kls::config(), tensors);
    auto shared = kls::optimizer::create(kls::config(), tensors, kls::options().set_threads(3).set_parallel_for(pool));
    auto own = kls::optimizer::create(kls::config(), tensors, kls::options().set_sgemm(product));
    unsigned seed = 3;
    for (int t = 0; t < 3; t++) {
        for (auto &grad : grads)
            for (float &x : grad) x = noise(seed);
        alone.step(plain, grads, 0.01f);
        shared.step(pooled, grads, 0.01f);
        own.step(multiplied, grads, 0.01f);
    }
    CHECK(calls > 0 && products > 0 && plain == pooled);
    for (std::size_t i = 0; i < 2 * count; i++) CHECK(std::fabs(plain[0][i] - multiplied[0][i]) < 1e-4f);
    // One that leaves out a task is found out; the step is made all the same.
    auto lazy = [](std::size_t tasks, kls::task task) {
        for (std::size_t i = 1; i < tasks; i++) task(i);
    };
    auto careless = kls::optimizer::create(kls::config(), tensors, kls::options().set_threads(2).set_parallel_for(lazy));
    REFUSED(kls::status::parallel_for, "parallel_for", careless.step(pooled, grads, 0.01f));
    kls::optimizer::create(kls::config(), tensors).step(plain, grads, 0.01f);
    CHECK(plain == pooled);
    REFUSED(kls::status::unsupported, "sgemm", kls::optimizer::create(kls::config(), tensors, kls::options().set(kls::backend::portable).set_sgemm(product)));
    return nullptr;
}

TEST(test_cpp_tables_that_grow) {
    fixture f, g;
    // An optimizer that grew is one that had them all.
    f.group.stagger = g.group.stagger = 0;
    auto grown = kls::optimizer::create(f.group, f.tensors[0]);
    auto whole = kls::optimizer::create(g.group, g.tensors);
    for (int t = 0; t < 3; t++) {
        grown.step({f.matrix}, {f.matrix_grad}, 0.01f);
        whole.step({g.matrix, g.vector}, {g.matrix_grad, nullptr}, 0.01f);
    }
    grown.add_tensors(f.tensors[1]);
    CHECK(grown.tensor_count() == 2);
    for (int t = 0; t < 3; t++) {
        grown.step({f.matrix, f.vector}, {f.matrix_grad, f.vector_grad}, 0.01f);
        whole.step({g.matrix, g.vector}, {g.matrix_grad, g.vector_grad}, 0.01f);
    }
    CHECK(f.matrix == g.matrix && f.vector == g.vector && grown.save() == whole.save());
    // The new one's sizes are known, the old one's still are, and a refused addition changes nothing.
    REFUSED(kls::status::buffer_length, "gradient of tensor 1: 12 elements instead of 5", grown.step_tensor(1, f.vector, f.matrix_grad, 0.1f));
    REFUSED(kls::status::buffer_length, "gradient of tensor 0: 5 elements instead of 12", grown.step_tensor(0, f.matrix, f.vector_grad, 0.1f));
    REFUSED(kls::status::zero_dim, "dims[1]", grown.add_tensors(kls::tensor(3, 0)));
    REFUSED(kls::status::group, "group", grown.add_tensors(kls::tensor(3, 4).set_group(1)));
    CHECK(grown.tensor_count() == 2);
    grown.step({f.matrix, f.vector}, {f.matrix_grad, f.vector_grad}, 0.01f);
    // From nothing; and not in lent memory, nor in none.
    auto none = kls::optimizer::create(f.group, kls::span<const kls::tensor>());
    none.add_tensors(f.tensors);
    none.step({f.matrix, f.vector}, {f.matrix_grad, f.vector_grad}, 0.01f);
    alignas(64) static std::array<std::byte, 64 * 1024> memory;
    auto lent = kls::optimizer::create_in(memory, f.group, f.tensors);
    REFUSED(kls::status::unsupported, "kls_optimizer_add_tensors", lent.add_tensors(f.tensors));
    lent.step({f.matrix, f.vector}, {f.matrix_grad, f.vector_grad}, 0.01f);
    lent = {};
    REFUSED(kls::status::null, "NULL", lent.add_tensors(f.tensors));
    CHECK(!lent && lent.tensor_count() == 0);
    return nullptr;
}
