// The launcher of EdgeirKeyGraph: C ABI, no arithmetic.
#include "key_graph.cuh"
#include "launchers.h"

namespace {

template <typename T, int TILES>
void launch(const void* tokens, void* keep, int windows, int n, int c, int k, Stream stream) {
    const dim3 grid((n + edgeir::KEY_GRAPH_ROWS - 1) / edgeir::KEY_GRAPH_ROWS, windows);
    const dim3 block(32 * edgeir::KEY_GRAPH_WARPS);
    const int shared = edgeir::key_graph_shared_bytes(n, c);
    const T* from = static_cast<const T*>(tokens);
    uint8_t* to = static_cast<uint8_t*>(keep);
    if (edgeir::step_of(c) == 4) {
        EDGEIR_LAUNCH((edgeir::key_graph_kernel<T, TILES, 4>), grid, block, shared, stream, from, to, n, c, k);
    } else {
        EDGEIR_LAUNCH((edgeir::key_graph_kernel<T, TILES, 1>), grid, block, shared, stream, from, to, n, c, k);
    }
}

template <typename T>
void choose(const void* tokens, void* keep, int windows, int n, int c, int k, Stream stream) {
    constexpr int columns = 8 * edgeir::KEY_GRAPH_WARPS;  // of one tile per warp
    if (n <= columns) return launch<T, 1>(tokens, keep, windows, n, c, k, stream);
    if (n <= 4 * columns) return launch<T, 4>(tokens, keep, windows, n, c, k, stream);
    launch<T, 16>(tokens, keep, windows, n, c, k, stream);
}

}  // namespace

extern "C" int edgeir_key_graph(
    const void* tokens, void* keep, int windows, int n, int c, int k, EdgeirType type, Stream stream) {
    if (windows < 1 || n < 1 || n > edgeir::KEY_GRAPH_MOST_TOKENS || c < 1 || c > 2048 || k < 1 || k > n) {
        return EDGEIR_UNSUPPORTED;
    }
    if (type == EDGEIR_FLOAT16) {
        choose<edgeir::float16>(tokens, keep, windows, n, c, k, stream);
    } else if (type == EDGEIR_FLOAT32) {
        choose<float>(tokens, keep, windows, n, c, k, stream);
    } else {
        return EDGEIR_UNSUPPORTED;
    }
    return edgeir_launch_status();
}
