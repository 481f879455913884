// A table of a matrix and a vector with gradients, for the C++ tests.
#ifndef KLS_TESTS_FIXTURE_HPP
#define KLS_TESTS_FIXTURE_HPP

#include <klshampoo.hpp>

#include <algorithm>
#include <array>
#include <vector>

constexpr std::size_t ROWS = 4, COLUMNS = 3, ELEMENTS = ROWS * COLUMNS, VECTOR = 5;

struct fixture {
    kls::config group{kls::method::kl_shampoo};
    std::vector<kls::tensor> tensors{kls::tensor(ROWS, COLUMNS), kls::tensor(VECTOR)};
    std::vector<float> matrix, matrix_grad;
    std::array<float, VECTOR> vector{}, vector_grad{};

    fixture() : matrix(ELEMENTS), matrix_grad(ELEMENTS) {
        group.refresh_period = 2;
        group.weight_decay = 0.1f;
        for (std::size_t i = 0; i < ELEMENTS; i++) {
            matrix[i] = 0.1f * static_cast<float>(i % 5) - 0.2f;
            matrix_grad[i] = 0.01f * (static_cast<float>(7 * i % 11) - 5);
        }
        for (std::size_t i = 0; i < VECTOR; i++) {
            vector[i] = 1;
            vector_grad[i] = 0.5f - 0.2f * static_cast<float>(i);
        }
    }
};

// Numbers in [-1, 1).
inline float noise(unsigned &seed) {
    seed = seed * 1664525u + 1013904223u;
    return static_cast<float>(seed >> 8) / 8388608.0f - 1.0f;
}

#endif
