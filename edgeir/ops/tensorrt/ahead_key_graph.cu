// EdgeirKeyGraph with its sizes baked in: the one kernel that TensorRT puts into an engine as PTX (edgeir/ops/tensorrt/
// ahead.py defines the EDGEIR_ names). Arguments are the inputs, then the output, as TensorRT passes them.
#include "key_graph.cuh"

static_assert(EDGEIR_N <= edgeir::KEY_GRAPH_MOST_TOKENS, "there is a kernel for at most 1024 tokens of a window");
static_assert(EDGEIR_C <= edgeir::KEY_GRAPH_MOST_CHANNELS, "there is a kernel for at most 2048 channels");
static_assert(EDGEIR_K >= 1 && EDGEIR_K <= EDGEIR_N, "k is 1 to n");

extern "C" __device__ const int EDGEIR_LAUNCH_NAME[4] = {
    edgeir::key_graph_launch(EDGEIR_N, EDGEIR_C).x, edgeir::key_graph_launch(EDGEIR_N, EDGEIR_C).y,
    edgeir::key_graph_launch(EDGEIR_N, EDGEIR_C).threads, edgeir::key_graph_launch(EDGEIR_N, EDGEIR_C).shared_bytes};

extern "C" __global__ void __launch_bounds__(32 * edgeir::KEY_GRAPH_WARPS, edgeir::key_graph_residents<EDGEIR_T>())
    EDGEIR_NAME(const EDGEIR_T* __restrict__ tokens, uint8_t* __restrict__ keep) {
    edgeir::key_graph<EDGEIR_T, edgeir::key_graph_tiles(EDGEIR_N), edgeir::step_of(EDGEIR_C)>(
        tokens, keep, EDGEIR_N, EDGEIR_C, EDGEIR_K);
}
