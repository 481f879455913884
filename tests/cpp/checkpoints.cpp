// Saving and going on: through memory, functions and files.
#include "check.hpp"
#include "fixture.hpp"

#include <cstdio>
#include <cstring>

namespace {

void train(kls::optimizer &optimizer, fixture &f, int steps) {
    for (int t = 0; t < steps; t++) {
        for (std::size_t i = 0; i < ELEMENTS; i++) f.matrix_grad[i] = 0.3f * f.matrix[i] - 0.01f * static_cast<float>(i);
        optimizer.step({f.matrix, f.vector}, {f.matrix_grad, f.vector_grad}, 0.01f);
    }
}

// A name in the folder of temporary files, removed at the end.
class temporary_file {
  public:
    explicit temporary_file(const char *name) {
        const char *const folder = std::getenv("TMPDIR");
        path_ = std::string(folder != nullptr ? folder : "/tmp") + "/kls-" + std::to_string(reinterpret_cast<std::uintptr_t>(this)) + name;
    }
    ~temporary_file() { std::remove(path_.c_str()); }
    const char *path() const { return path_.c_str(); }

  private:
    std::string path_;
};

}  // namespace

TEST(test_cpp_checkpoints) {
    fixture f, g;
    auto first = kls::optimizer::create(f.group, f.tensors);
    train(first, f, 5);
    const std::vector<std::byte> saved = first.save();
    CHECK(saved.size() == first.save_size());
    std::vector<std::byte> exact(saved.size()), pieces;
    first.save(exact);
    first.save_to([&](kls::span<const std::byte> bytes) {
        pieces.insert(pieces.end(), bytes.begin(), bytes.end());
        return true;
    });
    CHECK(exact == saved && pieces == saved);
    const temporary_file file("-state.safetensors");
    first.save_file(file.path());
    const fixture middle = f;
    train(first, f, 6);
    // From each of them a new optimizer makes the same steps; that from memory lies in lent memory.
    alignas(64) static std::array<std::byte, 64 * 1024> memory;
    for (int way = 0; way < 3; way++) {
        auto second = way == 0 ? kls::optimizer::create_in(memory, g.group, g.tensors) : kls::optimizer::create(g.group, g.tensors);
        auto portable = kls::optimizer::create(g.group, g.tensors, kls::options().set(kls::backend::portable));
        if (way == 0) second.load(saved);
        if (way == 1) {
            second.load_from([&](std::uint64_t offset, kls::span<std::byte> bytes) {
                if (offset + bytes.size() > saved.size()) return false;
                std::copy_n(saved.begin() + static_cast<std::ptrdiff_t>(offset), bytes.size(), bytes.begin());
                return true;
            });
        }
        if (way == 2) second.load_file(file.path());
        CHECK(second.counters(0).steps == 5 && second.save() == saved);
        portable.load(saved);
        CHECK(portable.save() == saved);
        g = middle;
        train(second, g, 6);
        for (std::size_t i = 0; i < ELEMENTS; i++) CHECK(way == 0 ? std::abs(f.matrix[i] - g.matrix[i]) < 1e-4f : f.matrix[i] == g.matrix[i]);
    }
    return nullptr;
}

TEST(test_cpp_checkpoint_errors) {
    fixture f;
    auto optimizer = kls::optimizer::create(f.group, f.tensors);
    train(optimizer, f, 3);
    auto saved = optimizer.save();
    const auto before = saved;
    std::vector<std::byte> shorter(saved.size() - 1);
    REFUSED(kls::status::memory_too_short, "kls_optimizer_save", optimizer.save(shorter));
    REFUSED(kls::status::checkpoint_truncated, "kls_optimizer_load", optimizer.load({saved.data(), saved.size() - 1}));
    saved[saved.size() / 2] ^= std::byte{1};
    REFUSED(kls::status::checkpoint_checksum, "not those that were saved", optimizer.load(saved));
    REFUSED(kls::status::checkpoint_format, "no checkpoint", optimizer.load(std::vector<std::byte>(1000)));
    auto other = kls::optimizer::create(f.group, kls::tensor(ROWS, COLUMNS + 1));
    REFUSED(kls::status::checkpoint_shapes, "other tensors", other.load(before));
    REFUSED(kls::status::file_not_found, "no such file", optimizer.load_file("/there/is/no/such/file"));
    REFUSED(kls::status::file_not_found, "no such file", optimizer.save_file("/there/is/no/such/file"));
    REFUSED(kls::status::null, "path", optimizer.save_file(nullptr));
    // Functions that give up, and that throw.
    REFUSED(kls::status::checkpoint_callback, "callback", optimizer.save_to([](kls::span<const std::byte>) { return false; }));
    REFUSED(kls::status::checkpoint_callback, "callback", optimizer.load_from([](std::uint64_t, kls::span<std::byte>) { return false; }));
    std::string caught;
    const auto catching = [&](auto &&call) {
        try {
            call();
        } catch (const std::logic_error &error) {
            caught += error.what();
        }
    };
    catching([&] { optimizer.save_to([](kls::span<const std::byte>) -> bool { throw std::logic_error("write "); }); });
    catching([&] { optimizer.load_from([](std::uint64_t, kls::span<std::byte>) -> bool { throw std::logic_error("read"); }); });
    CHECK(caught == "write read" && optimizer.save() == before);
    kls::optimizer empty;
    REFUSED(kls::status::null, "NULL", empty.save());
    REFUSED(kls::status::null, "NULL", empty.save_size());
    REFUSED(kls::status::null, "NULL", empty.load(before));
    REFUSED(kls::status::null, "NULL", empty.save_to([](kls::span<const std::byte>) { return true; }));
    REFUSED(kls::status::null, "NULL", empty.load_file("/there/is/no/such/file"));
    return nullptr;
}
