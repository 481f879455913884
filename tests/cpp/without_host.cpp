// KL-Shampoo in lent memory through klshampoo.hpp on a machine without heap, threads, exceptions and a C++ library to link:
//   g++ -std=c++17 -fno-exceptions -fno-rtti -Iinclude -Ibindings-c/include -c tests/cpp/without_host.cpp
// 0 if the steps bring a matrix to its target and wrong ones are refused.
#define KLS_NO_HOST
#define KLS_NO_EXCEPTIONS
#include <klshampoo.hpp>

namespace {

constexpr std::size_t rows = 6, columns = 8, count = rows * columns;

float weights[count], gradient[count];
alignas(64) std::byte memory[32 * 1024], saved[8 * 1024];

float loss() {
    float sum = 0;
    for (std::size_t i = 0; i < count; i++) {
        gradient[i] = weights[i] - (static_cast<float>(i * 7919 % 1000) / 500 - 1);
        sum += gradient[i] * gradient[i];
    }
    return sum;
}

}  // namespace

int main() {
    const kls::config config;
    const kls::tensor tensor(rows, columns);
    auto made = kls::optimizer::create_in(memory, config, tensor);
    if (!made) return static_cast<int>(made.status());
    kls::optimizer optimizer = std::move(made).value();
    const float first = loss();
    for (int step = 0; step < 300; step++) {
        loss();
        const kls::status status = optimizer.step({weights}, {gradient}, 0.05f * (1 - static_cast<float>(step) / 300));
        if (status != kls::status::ok) return static_cast<int>(status);
    }
    float basis[rows * rows];
    if (optimizer.read_state(0, 0, kls::state_part::basis, 0, basis) != kls::status::ok) return 101;
    if (optimizer.save(saved) != kls::status::ok || optimizer.load(saved) != kls::status::ok) return 105;
    if (optimizer.load({saved, 100}) != kls::status::checkpoint_truncated || *optimizer.last_error() == 0) return 106;
    if (optimizer.step({weights}, {{gradient, count - 1}}, 0.1f) != kls::status::buffer_length) return 102;
    if (kls::optimizer::create_in({memory, 100}, config, tensor).status() != kls::status::memory_too_short) return 103;
    return loss() < 1e-2f * first ? 0 : 104;
}
