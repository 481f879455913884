// The adapter as nvcc sees it with MULTI_GPU, after declarations like those of NCCL and of llmc/zero.cuh.
#define MULTI_GPU
#include <cstddef>

typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
typedef struct ncclComm *ncclComm_t;
enum ncclDataType_t { ncclFloat = 7, ncclBfloat16 = 9 };
enum ncclRedOp_t { ncclSum = 0, ncclAvg = 4 };
int cudaEventRecord(cudaEvent_t event, cudaStream_t stream = 0);
int cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
int ncclGroupStart();
int ncclGroupEnd();
int ncclReduce(const void *from, void *to, std::size_t count, ncclDataType_t type, ncclRedOp_t op, int root, ncclComm_t comm, cudaStream_t stream);
int ncclBroadcast(const void *from, void *to, std::size_t count, ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream);
void check(int result);
#define cudaCheck(call) check(call)
#define ncclCheck(call) (check(call))

struct floatX {
    unsigned short bits;
};
const ncclDataType_t ncclFloatX = ncclBfloat16;

struct MultiGpuConfig {
    int process_rank, num_processes, local_device_idx, zero_stage;
    std::size_t shard_num_parameters;
    ncclComm_t nccl_comm;
    cudaStream_t nccl_stream;
    cudaEvent_t compute_nccl_sync;
};

template <int N>
void multi_gpu_async_reduce_gradient(floatX *const (&)[N], const std::size_t (&)[N], MultiGpuConfig *, cudaStream_t) {}

#include "klshampoo_llmc_cuda.h"

struct model_config {
    int max_seq_len, vocab_size, padded_vocab_size, num_layers, num_heads, channels;
};

struct GPT2 {
    model_config config;
    std::size_t param_sizeof[16];
    void *params_memory, *grads_memory;
    std::size_t num_parameters;
    int use_master_weights;
};

kls_llmc_cuda optimizer;

std::size_t train(GPT2 *model, MultiGpuConfig &config, floatX *const wte, floatX *const wpe, std::size_t C, cudaStream_t main_stream) {
    floatX *const pointers[] = {wte, wpe};
    const std::size_t nelem[] = {50304 * C, 1024 * C};
    optimizer = KLS_LLMC_CUDA_CREATE(model, &config, main_stream, nullptr);
    kls_llmc_cuda_load_or_exit(&optimizer, "log", 1, main_stream);
    KLS_LLMC_CUDA_REDUCE(&optimizer, model, pointers, nelem, &config, main_stream);
    KLS_LLMC_CUDA_STEP(&optimizer, model, 1e-3f, 1.0f, main_stream);
    KLS_LLMC_CUDA_BROADCAST(&optimizer, model, &config, main_stream);
    kls_llmc_cuda_save_or_exit(&optimizer, "log", 2, main_stream);
    return kls_llmc_cuda_owned(&optimizer, 0, optimizer.rank).count;
}
