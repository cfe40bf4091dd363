// EdgeirKeyGraphAttention with its sizes baked in: the one kernel that TensorRT puts into an engine as PTX
// (edgeir/ops/tensorrt/ahead.py defines the EDGEIR_ names). Arguments are the inputs, then the output, as TensorRT
// passes them.
#include "key_graph_attention.cuh"

static_assert(EDGEIR_N <= edgeir::ATTENTION_MOST_TOKENS, "there is a kernel for at most 1024 tokens of a window");
static_assert(EDGEIR_D <= edgeir::ATTENTION_MOST_WIDTH, "there is a kernel for at most 64 channels of a head");

constexpr edgeir::Launch LAUNCH = edgeir::attention_launch<EDGEIR_T>(EDGEIR_HEADS, EDGEIR_N, EDGEIR_D);

extern "C" __device__ const int EDGEIR_LAUNCH_NAME[4] = {LAUNCH.x, LAUNCH.y, LAUNCH.threads, LAUNCH.shared_bytes};

constexpr int WIDTH = edgeir::attention_width<EDGEIR_T>(EDGEIR_D);

extern "C" __global__ void __launch_bounds__(LAUNCH.threads, edgeir::attention_residents<EDGEIR_T>(WIDTH))
    EDGEIR_NAME(const EDGEIR_T* __restrict__ query, const EDGEIR_T* __restrict__ key, const EDGEIR_T* __restrict__ value,
                const uint8_t* __restrict__ keep, const EDGEIR_T* __restrict__ bias, const EDGEIR_T* __restrict__ scale,
                EDGEIR_T* __restrict__ output) {
    const edgeir::Attention<EDGEIR_T> of{query,  key, value, keep, bias, scale, output, EDGEIR_HEADS,
                                         EDGEIR_N, EDGEIR_D, true};
    edgeir::attention<EDGEIR_T, WIDTH, edgeir::attention_step(EDGEIR_N, EDGEIR_D)>(of);
}
