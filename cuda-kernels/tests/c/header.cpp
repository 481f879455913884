// The header and the adapter as C++ and nvcc see them.
#include "klshampoo_cuda.h"
#include "klshampoo_llmc_cuda.h"

struct model_config {
    int max_seq_len, vocab_size, padded_vocab_size, num_layers, num_heads, channels;
};

struct model {
    model_config config;
    size_t param_sizeof[16];
    void *params_memory, *grads_memory;
    size_t num_parameters;
    int use_master_weights;
};

struct multi {
    int local_device_idx, zero_stage, process_rank, num_processes;
};

struct CUstream_st;

int train(model &m, multi &config, CUstream_st *main_stream) {
    kls_llmc_cuda optimizer = KLS_LLMC_CUDA_CREATE(&m, &config, main_stream, nullptr);
    KLS_LLMC_CUDA_STEP(&optimizer, &m, 1e-3f, 1.0f, main_stream);
    return kls_llmc_cuda_destroy(&optimizer);
}
