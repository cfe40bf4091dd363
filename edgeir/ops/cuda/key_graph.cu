// The launcher of EdgeirKeyGraph: C ABI, no arithmetic.
#include "key_graph.cuh"
#include "launchers.h"

namespace {

template <typename T, int TILES>
void launch(const void* tokens, void* keep, int windows, int n, int c, int k, Stream stream) {
    const edgeir::Launch launch = edgeir::key_graph_launch(n, c);
    const dim3 grid(launch.x, launch.y, windows), block(launch.threads);
    const int shared = launch.shared_bytes;
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
    switch (edgeir::key_graph_tiles(n)) {
        case 1:
            return launch<T, 1>(tokens, keep, windows, n, c, k, stream);
        case 4:
            return launch<T, 4>(tokens, keep, windows, n, c, k, stream);
        default:
            launch<T, 16>(tokens, keep, windows, n, c, k, stream);
    }
}

}  // namespace

extern "C" int edgeir_key_graph_fits(int windows, int n, int c, int k, EdgeirType type) {
    return windows >= 1 && windows <= 65535 && n >= 1 && n <= edgeir::KEY_GRAPH_MOST_TOKENS && c >= 1 &&
           c <= edgeir::KEY_GRAPH_MOST_CHANNELS && k >= 1 && k <= n && (type == EDGEIR_FLOAT16 || type == EDGEIR_FLOAT32);
}

extern "C" int edgeir_key_graph(
    const void* tokens, void* keep, int windows, int n, int c, int k, EdgeirType type, Stream stream) {
    if (!edgeir_key_graph_fits(windows, n, c, k, type)) return EDGEIR_UNSUPPORTED;
    if (type == EDGEIR_FLOAT16) {
        choose<edgeir::float16>(tokens, keep, windows, n, c, k, stream);
    } else {
        choose<float>(tokens, keep, windows, n, c, k, stream);
    }
    return edgeir_launch_status();
}
