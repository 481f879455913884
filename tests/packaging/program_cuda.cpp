// The same in C++.
#include <klshampoo_cuda.hpp>

#include <cstring>
#include <iostream>

int main() try {
    constexpr std::size_t rows = 24, columns = 40;
    const kls::config config(kls::method::kl_shampoo);
    const kls::tensor tensor(rows, columns);
    const kls_cuda_memory memory = kls::cuda::query(config, tensor);
    try {
        kls::cuda::optimizer::create(config, tensor);
        std::cerr << "there is a driver\n";
        return 1;
    } catch (const kls::error &error) {
        if (error.status() != kls::status::cuda_no_driver || std::strstr(error.what(), "no CUDA driver") == nullptr) throw;
    }
    std::vector<float> weights(rows * columns, 1), gradient(rows * columns, 0.5f);
    auto optimizer = kls::optimizer::create(config, tensor);
    optimizer.step({weights}, {gradient}, 0.01f);
    std::cout << "klshampoo " << kls::version() << ": no driver, " << memory.total_bytes << " bytes of device memory\n";
    return weights[0] < 1 ? 0 : 1;
} catch (const std::exception &error) {
    std::cerr << error.what() << '\n';
    return 1;
}
