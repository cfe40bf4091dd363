// The launcher of EdgeirKeyGraphAttention: C ABI, no arithmetic.
#include "key_graph_attention.cuh"
#include "launchers.h"

namespace {

template <typename T, int WIDTH, int STEP>
void launch(const edgeir::Attention<T>& of, int windows, Stream stream) {
    const edgeir::Launch launch = edgeir::attention_launch<T>(of.heads, of.n, of.d);
    const dim3 grid(launch.x, launch.y, windows), block(launch.threads);
    EDGEIR_LAUNCH((edgeir::key_graph_attention_kernel<T, WIDTH, STEP>), grid, block, launch.shared_bytes, stream, of);
}

template <typename T, int STEP> void choose(const edgeir::Attention<T>& of, int windows, Stream stream) {
    if constexpr (sizeof(T) == 4) {
        launch<T, edgeir::attention_width<T>(1), STEP>(of, windows, stream);
    } else {
        switch (edgeir::attention_width<T>(of.d)) {
            case 16:
                return launch<T, 16, STEP>(of, windows, stream);
            case 32:
                return launch<T, 32, STEP>(of, windows, stream);
            case 48:
                return launch<T, 48, STEP>(of, windows, stream);
            default:
                launch<T, 64, STEP>(of, windows, stream);
        }
    }
}

template <typename T>
void attend(const void* query, const void* key, const void* value, const void* keep, const void* bias,
            const void* scale, void* output, int windows, int heads, int n, int d, int cosine, Stream stream) {
    const edgeir::Attention<T> of{
        static_cast<const T*>(query), static_cast<const T*>(key),   static_cast<const T*>(value),
        static_cast<const uint8_t*>(keep), static_cast<const T*>(bias), static_cast<const T*>(scale),
        static_cast<T*>(output), heads, n, d, cosine != 0};
    switch (edgeir::attention_step(n, d)) {
        case 4:
            return choose<T, 4>(of, windows, stream);
        case 2:
            return choose<T, 2>(of, windows, stream);
        default:
            choose<T, 1>(of, windows, stream);
    }
}

}  // namespace

extern "C" int edgeir_key_graph_attention_fits(int windows, int heads, int n, int d, EdgeirType type) {
    return windows >= 1 && windows <= 65535 && heads >= 1 && heads <= 65535 && n >= 1 &&
           n <= edgeir::ATTENTION_MOST_TOKENS && d >= 1 && d <= edgeir::ATTENTION_MOST_WIDTH &&
           (type == EDGEIR_FLOAT16 || type == EDGEIR_BFLOAT16 || type == EDGEIR_FLOAT32);
}

extern "C" int edgeir_key_graph_attention(
    const void* query, const void* key, const void* value, const void* keep, const void* bias, const void* scale,
    void* output, int windows, int heads, int n, int d, int cosine, EdgeirType type, Stream stream) {
    if (!edgeir_key_graph_attention_fits(windows, heads, n, d, type)) return EDGEIR_UNSUPPORTED;
    switch (type) {
        case EDGEIR_FLOAT16:
            attend<edgeir::float16>(
                query, key, value, keep, bias, scale, output, windows, heads, n, d, cosine, stream);
            break;
        case EDGEIR_BFLOAT16:
            attend<edgeir::bfloat16>(
                query, key, value, keep, bias, scale, output, windows, heads, n, d, cosine, stream);
            break;
        case EDGEIR_FLOAT32:
            attend<float>(query, key, value, keep, bias, scale, output, windows, heads, n, d, cosine, stream);
            break;
    }
    return edgeir_launch_status();
}
