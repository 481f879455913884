// Looking into an optimizer: state, plans, diagnostics.
#include "check.hpp"
#include "fixture.hpp"

#include <cmath>

TEST(test_cpp_state) {
    fixture f;
    auto optimizer = kls::optimizer::create(f.group, f.tensors);
    std::vector<float> basis(ROWS * ROWS);
    for (std::size_t i = 0; i < ROWS; i++) basis[i * ROWS + i] = i % 2 == 0 ? 1.0f : -1.0f;
    REFUSED(kls::status::not_started, "eigenbasis", optimizer.set_basis(0, 0, 0, basis));
    optimizer.step({f.matrix, f.vector}, {f.matrix_grad, f.vector_grad}, 0.01f);
    const auto before = optimizer.read_state(0, 0, kls::state_part::factor, 0);
    CHECK(before.size() == ROWS * ROWS && before[1] == before[ROWS]);
    optimizer.set_basis(0, 0, 0, basis);
    CHECK(optimizer.read_state(0, 0, kls::state_part::basis, 0) == basis);
    const auto after = optimizer.read_state(0, 0, kls::state_part::factor, 0);
    for (std::size_t i = 0; i < after.size(); i++) CHECK(std::fabs(after[i] - before[i]) < 1e-5f);
    CHECK(optimizer.state_len(0, 0, kls::state_part::eigenvalues, 1) == COLUMNS);
    float eigenvalues[COLUMNS];
    optimizer.read_state(0, 0, kls::state_part::eigenvalues, 1, eigenvalues);
    CHECK(eigenvalues[0] > 0 && optimizer.read_state(0, 0, kls::state_part::eigenvalues, 1)[2] == eigenvalues[2]);
    CHECK(optimizer.read_state(0, 0, kls::state_part::momentum).size() == ELEMENTS);
    CHECK(optimizer.read_state(1, 0, kls::state_part::second_moment).size() == VECTOR);
    const std::size_t bytes = optimizer.state_bytes();
    const kls_memory memory = optimizer.memory();
    CHECK(memory.state_bytes == bytes && memory.threads == 1 && memory.scratch_bytes > 0);
    CHECK(bytes == 2 * 64 + 4 * (16 + 9 + 10 + 6 + 4 + 3 + 12) + 4 * (5 + 5));

    basis[0] = 2;
    REFUSED(kls::status::not_orthogonal, "orthogonal", optimizer.set_basis(0, 0, 0, basis));
    basis.pop_back();
    REFUSED(kls::status::buffer_length, "elements", optimizer.set_basis(0, 0, 0, basis));
    REFUSED(kls::status::buffer_length, "elements", optimizer.read_state(0, 0, kls::state_part::factor, 0, basis));
    REFUSED(kls::status::no_such_state, "state", optimizer.read_state(0, 0, kls::state_part::second_moment));
    REFUSED(kls::status::no_such_state, "state", optimizer.state_len(1, 0, kls::state_part::factor));
    REFUSED(kls::status::index, "no such", optimizer.read_state(2, 0, kls::state_part::momentum));
    REFUSED(kls::status::unknown_value, "constants", optimizer.read_state(0, 0, kls::state_part(77)));
    REFUSED(kls::status::index, "no such", optimizer.counters(0, 1));
    return nullptr;
}

TEST(test_cpp_plans) {
    kls::config config(kls::method::soap, kls::convention::reference_soap);
    config.block_size = 3;
    config.refresh_period = 2;
    // 7 rows in parts of 4 and 3, in blocks of 3: 3, 1, 3. 5 columns: 3 and 2.
    auto optimizer = kls::optimizer::create(config, kls::tensor(7, 5).set_row_parts(4, 3).set_slices(2));
    const kls_plan plan = optimizer.plan(0);
    CHECK(plan.order == 2 && plan.segments[0] == 3 && plan.segments[1] == 2 && plan.slices == 2 && plan.pieces == 6);
    CHECK(kls::mode(plan.modes[0]) == kls::mode::full);
    std::vector<float> param(70), grad(70, 0.5f);
    optimizer.step({param}, {grad}, 0.1f);
    // Piece 3 of the second slice is row 3 of columns 3 and 4.
    CHECK(optimizer.read_state(0, 9, kls::state_part::basis, 0).size() == 1 && optimizer.read_state(0, 9, kls::state_part::basis, 1).size() == 4);
    CHECK(optimizer.read_state(0, 9, kls::state_part::momentum).size() == 2 && optimizer.read_state(0, 6, kls::state_part::momentum).size() == 9);
    CHECK(optimizer.predicted_flops(2) == plan.step_flops && optimizer.predicted_flops(3) == plan.step_flops + plan.refresh_flops);
    REFUSED(kls::status::index, "no such", optimizer.plan(1));
    // Step 3 refreshes; on a budget for less than one slice it is one of the two: six pieces of two bases.
    optimizer.set_refresh_budget(1);
    optimizer.step({param}, {grad}, 0.1f);
    optimizer.step({param}, {grad}, 0.1f);
    std::uint32_t refreshes = 0;
    for (std::size_t slice = 0; slice < 12; slice++) refreshes += optimizer.counters(0, slice).refreshes;
    CHECK(refreshes == 12);
    return nullptr;
}

TEST(test_cpp_partition) {
    const kls::tensor table[] = {kls::tensor(8, 8).set_slices(4), kls::tensor(3)};
    std::vector<std::uint64_t> firsts(2 * 3), costs(2);
    kls::partition(kls::config(), table, 2, firsts, costs);
    CHECK(firsts == (std::vector<std::uint64_t>{0, 2, 4, 0, 1, 1}) && costs[0] > costs[1] && costs[1] > 0);
    kls::partition(kls::config(), table, 2, firsts);
    CHECK(firsts[1] == 2);
    // What is empty is not written to, whatever it points to.
    std::uint64_t beside[2] = {7, 8};
    kls::partition(kls::config(), table, 2, firsts, kls::span<std::uint64_t>(beside, 0));
    CHECK(beside[0] == 7 && beside[1] == 8);
    REFUSED(kls::status::ranks, "rank", kls::partition(kls::config(), table, 0, firsts));
    REFUSED(kls::status::buffer_length, "elements", kls::partition(kls::config(), table, 3, firsts));
    REFUSED(kls::status::buffer_length, "numbers", kls::partition(kls::config(), table, 2, firsts, kls::span<std::uint64_t>(costs.data(), 1)));
    return nullptr;
}

TEST(test_cpp_diagnostics) {
    fixture f;
    f.group.measure = 1;
    auto optimizer = kls::optimizer::create(f.group, f.tensors);
    REFUSED(kls::status::not_started, "eigenbasis", optimizer.mode_report(0, 0, 0));
    optimizer.step({f.matrix, f.vector}, {f.matrix_grad, f.vector_grad}, 0.01f);
    const kls_mode_report report = optimizer.mode_report(0, 0, 0);
    CHECK(report.lambda_min > 0 && report.lambda_max >= report.lambda_min && report.effective_rank >= 1 && report.effective_rank <= ROWS);
    CHECK(std::isfinite(optimizer.objective(0, 0, f.matrix_grad)));
    REFUSED(kls::status::buffer_length, "elements", optimizer.objective(0, 0, f.vector_grad));
    REFUSED(kls::status::no_such_state, "state", optimizer.mode_report(1, 0, 0));
    const kls_counters counters = optimizer.counters(0);
    CHECK(counters.steps == 1 && counters.update_rms > 0 && counters.update_cosine > 0);

    // A window of gradients of rank one is a Kronecker product.
    std::vector<float> window;
    for (int sample = 0; sample < 6; sample++) window.insert(window.end(), {1, 2, 2, 4});
    kls_similarity similarity = kls::window_similarity(window, 2, 2, 6);
    CHECK(std::fabs(similarity.optimal - 1) < 1e-4f && similarity.rounds > 0);
    std::vector<float> scratch(kls::window_scratch_len(2, 2, 6));
    similarity = kls::window_similarity(window, 2, 2, 6, scratch);
    CHECK(std::fabs(similarity.shampoo_squared - 1) < 1e-4f);
    scratch.pop_back();
    REFUSED(kls::status::memory_too_short, "shorter", kls::window_similarity(window, 2, 2, 6, scratch));
    REFUSED(kls::status::buffer_length, "gradients: 24 elements instead of 28", kls::window_similarity(window, 2, 2, 7));
    REFUSED(kls::status::zero_dim, "zero", kls::window_similarity(window, 0, 2, 6));
    REFUSED(kls::status::overflow, "address space", kls::window_similarity(window, std::size_t(-1), 4, 6));
    REFUSED(kls::status::overflow, "address space", kls::window_scratch_len(std::size_t(-1), 4, 6));
    return nullptr;
}

// The extent of a tensor is the length that the library takes.
TEST(test_cpp_values) {
    const std::uint64_t dims[] = {3, 4};
    enum { three = 3, four };
    CHECK(kls::tensor(dims).extent() == 12 && kls::tensor(dims).is_dense() && kls::tensor(kls::span<const std::uint64_t>(dims)).order == 2);
    const std::pair<kls::tensor, std::size_t> cases[] = {
        {kls::tensor(5), 5},
        {kls::tensor(three, four), 12},
        {kls::tensor(3, 4).set_slices(3), 36},
        {kls::tensor(3, 4).set_slices(3, 20), 52},
        {kls::tensor(3, 4).set_slices(1, 20), 12},
        {kls::tensor(3, 4).set_strides(10, 2), 27},
        {kls::tensor(3, 4).set_strides(1, 3), 12},
        {kls::tensor(3, 4).set_strides(4, 1).set_slices(2, 30), 42},
        {kls::tensor(3, 4).set_strides(10, 1).set_slices(2), 48},
        {kls::tensor(2, 1, 3).set_strides(1, 0, 2), 6},
        {kls::tensor(2, 3, 2).set_strides(1, 4, 2), 12},
        {kls::tensor(2, 3, 2, 1, 2, 2), 48},
        {kls::tensor(6, 4).set_row_parts(2, 4).set_mode(0, kls::mode::full).set_mode(1, kls::mode::identity), 24},
    };
    for (const auto &[tensor, extent] : cases) {
        CHECK(tensor.extent() == extent);
        auto optimizer = kls::optimizer::create(kls::config(kls::method::adamw), tensor);
        std::vector<float> param(extent), grad(extent, 0.25f), longer(extent + 1);
        optimizer.step({param}, {grad}, 0.1f);
        CHECK(param.front() != 0 && param.back() != 0);
        CHECK(std::isfinite(optimizer.objective(0, 0, grad)));
        REFUSED(kls::status::buffer_length, "elements", optimizer.objective(0, 0, longer));
        grad.pop_back();
        REFUSED(kls::status::buffer_length, "elements", optimizer.objective(0, 0, grad));
        REFUSED(kls::status::buffer_length, "gradient of tensor 0", optimizer.step({param}, {grad}, 0.1f));
        // A dense tensor has no elements to spare, one with gaps may have.
        if (tensor.is_dense()) {
            REFUSED(kls::status::buffer_length, "gradient of tensor 0", optimizer.step({param}, {longer}, 0.1f));
        } else {
            optimizer.step({param}, {longer}, 0.1f);
        }
    }
    // What fits no memory is not made to look short.
    CHECK(kls::tensor(std::uint64_t{1} << 40, std::uint64_t{1} << 40).extent() == std::size_t(-1));
    CHECK(kls::tensor(8, 8).set_slices(std::uint64_t(-1)).extent() == std::size_t(-1));
    CHECK(kls::tensor(8, 8).set_strides(std::uint64_t(-1), 1).extent() == std::size_t(-1));
    CHECK(kls::tensor(0, 8).extent() == 0);

    // The setters reach their fields.
    const kls::config config = kls::config(kls::method::shampoo, kls::convention::reference_meta)
                                   .set(kls::estimator::von_neumann)
                                   .set(kls::estimate_order::reference_kl)
                                   .set(kls::eigenvalues::at_refresh)
                                   .set(kls::refresh::householder_qr)
                                   .set(kls::direction::trace_scaled)
                                   .set(kls::graft::adagrad)
                                   .set(kls::step_order::apply_first)
                                   .set(kls::first_step::factors_only)
                                   .set(kls::first_basis::identity)
                                   .set(kls::factor_init::lambda)
                                   .set(kls::lambda_init::scale_free)
                                   .set(kls::momentum::nesterov)
                                   .set(kls::bias_correction::moments)
                                   .set(kls::damping::factor)
                                   .set(kls::weight_decay_kind::independent)
                                   .set(kls::bad_gradient::skip)
                                   .set_factor_format(kls::format::f16);
    const kls_config &c = config;
    CHECK(c.estimator == KLS_ESTIMATOR_VON_NEUMANN && c.estimate_order == KLS_ESTIMATE_REFERENCE_KL && c.eigenvalues == KLS_EIGENVALUES_AT_REFRESH);
    CHECK(c.refresh == KLS_REFRESH_HOUSEHOLDER_QR && c.direction == KLS_DIRECTION_TRACE_SCALED && c.graft == KLS_GRAFT_ADAGRAD);
    CHECK(c.step_order == KLS_ORDER_APPLY_FIRST && c.first_step == KLS_FIRST_STEP_FACTORS_ONLY && c.first_basis == KLS_FIRST_BASIS_IDENTITY);
    CHECK(c.factor_init == KLS_FACTOR_LAMBDA && c.lambda_init == KLS_LAMBDA_SCALE_FREE && c.momentum == KLS_MOMENTUM_NESTEROV);
    CHECK(c.bias_correction == KLS_BIAS_CORRECTION_MOMENTS && c.damping == KLS_DAMPING_FACTOR && c.bad_gradient == KLS_BAD_GRADIENT_SKIP);
    CHECK(c.weight_decay_kind == KLS_WEIGHT_DECAY_INDEPENDENT && c.factor_format == KLS_FORMAT_F16 && c.struct_size == sizeof c);
    const auto options = kls::options().set_threads(3).set(kls::backend::portable).set(kls::products::bf16);
    CHECK(options.num_threads == 3 && options.kls_options::backend == KLS_BACKEND_PORTABLE && options.kls_options::products == KLS_PRODUCTS_BF16);
    REFUSED(kls::status::unsupported, "portable backend", kls::optimizer::create(kls::config(), kls::tensor(4), options));
    return nullptr;
}
