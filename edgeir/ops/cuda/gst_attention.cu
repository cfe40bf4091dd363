// The launcher of EdgeirGstAttention: C ABI; where each kernel finds and leaves what, and no arithmetic on pictures.
#include "gst_attention.cuh"
#include "launchers.h"

namespace {

constexpr int WANTED_BLOCKS = 512;  // of the gram kernel: the same on every card, so that sums have the same order
constexpr int64_t ALIGNMENT = 256;

int64_t aligned(int64_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

int ceil_div(int count, int each) { return (count + each - 1) / each; }

int steps_of(int positions) { return ceil_div(positions, edgeir::GST_POSITIONS); }

// Parts of grams: at least as many as any batch and picture up to this size makes.
int64_t most_parts(const edgeir::GstSizes& of) {
    const int64_t grams = static_cast<int64_t>(of.batch) * of.heads;
    return min(max(static_cast<int64_t>(WANTED_BLOCKS), grams), grams * steps_of(of.positions()));
}

// Where the intermediate results lie in the workspace, bytes from its start.
struct Layout {
    int64_t peaks, inverse_sums, parts, sums, combined, low, bytes;

    Layout(const edgeir::GstSizes& of, int64_t type_bytes) {
        const int64_t maps = static_cast<int64_t>(of.batch) * of.heads * of.channels;
        peaks = 0;
        inverse_sums = peaks + aligned(maps * of.low_positions() * type_bytes);
        parts = inverse_sums + aligned(maps * 4);
        sums = parts + aligned(most_parts(of) * of.part() * 4);
        combined = sums + aligned(static_cast<int64_t>(of.batch) * of.heads * of.part() * 4);
        low = combined + aligned(maps * of.rows() * 4);
        bytes = low + aligned(maps * of.low_positions() * 4);
    }
};

bool sizes_of(int batch, int channels, int height, int width, int heads, int stride, edgeir::GstSizes& of) {
    if (batch < 1 || batch > 65535 || heads < 1 || channels < 1 || height < 1 || width < 1 || stride < 1) return false;
    if (channels % heads || height % stride || width % stride) return false;
    if (channels / heads > edgeir::GST_MOST_CHANNELS || channels > 65535) return false;
    if (static_cast<int64_t>(height) * width > (int64_t{1} << 30)) return false;
    const int64_t grams = static_cast<int64_t>(batch) * heads;
    const int splits = min(max(static_cast<int>(WANTED_BLOCKS / grams), 1), steps_of(height * width));
    of = {batch, heads, channels / heads, height, width, height / stride, width / stride, splits};
    return heads * splits <= 65535;
}

template <typename T> struct Buffers {
    const T *query, *key, *value, *tokens, *temperature, *alpha;
    T *output, *peaks;
    float *inverse_sums, *parts, *sums, *combined, *low;
};

template <typename T, int ROWS> void gram(const Buffers<T>& at, const edgeir::GstSizes& of, Stream stream) {
    const int shared = 2 * ROWS * (edgeir::GST_POSITIONS + edgeir::GST_PADDING) * static_cast<int>(sizeof(T));
    EDGEIR_LAUNCH((edgeir::gst_gram_kernel<T, ROWS>), dim3(of.splits, of.heads, of.batch), dim3(2 * ROWS), shared, stream,
                  at.query, at.key, at.peaks, at.parts, of);
}

template <int EACH> void gram_float(const Buffers<float>& at, const edgeir::GstSizes& of, Stream stream) {
    constexpr int SIDE = edgeir::GST_FLOAT_SIDE, SHARED = 2 * SIDE * EACH * edgeir::GST_FLOAT_STRIDE * 4;
    EDGEIR_LAUNCH(edgeir::gst_gram_float_kernel<EACH>, dim3(of.splits, of.heads, of.batch), dim3(SIDE * SIDE), SHARED,
                  stream, at.query, at.key, at.peaks, at.parts, of);
}

template <typename T, int CHANNELS> void values(const Buffers<T>& at, const edgeir::GstSizes& of, Stream stream) {
    const int shared = CHANNELS * (edgeir::GST_POSITIONS + edgeir::GST_PADDING) * static_cast<int>(sizeof(T));
    constexpr int EACH = edgeir::GST_POSITIONS * edgeir::GST_VALUES_STEPS;
    const dim3 grid(ceil_div(of.positions(), EACH), of.heads, of.batch);
    EDGEIR_LAUNCH((edgeir::gst_values_kernel<T, CHANNELS>), grid, dim3(2 * CHANNELS), shared, stream, at.value, at.combined,
                  at.low, at.output, of);
}

template <typename T> void choose_gram(const Buffers<T>& at, const edgeir::GstSizes& of, Stream stream) {
    if constexpr (sizeof(T) == 4) {
        if (of.rows() <= 32) return gram_float<2>(at, of, stream);
        if (of.rows() <= 64) return gram_float<4>(at, of, stream);
        if (of.rows() <= 96) return gram_float<6>(at, of, stream);
        gram_float<8>(at, of, stream);
    } else {
        if (of.rows() <= 32) return gram<T, 32>(at, of, stream);
        if (of.rows() <= 64) return gram<T, 64>(at, of, stream);
        if (of.rows() <= 96) return gram<T, 96>(at, of, stream);
        gram<T, 128>(at, of, stream);
    }
}

template <typename T> void choose_values(const Buffers<T>& at, const edgeir::GstSizes& of, Stream stream) {
    if constexpr (sizeof(T) == 4) {
        const dim3 grid(ceil_div(of.positions(), edgeir::GST_THREADS), of.heads * of.channels, of.batch);
        EDGEIR_LAUNCH(edgeir::gst_values_float_kernel, grid, dim3(edgeir::GST_THREADS), 0, stream, at.value, at.combined,
                      at.low, at.output, of);
    } else {
        if (of.channels <= 16) return values<T, 16>(at, of, stream);
        if (of.channels <= 32) return values<T, 32>(at, of, stream);
        if (of.channels <= 48) return values<T, 48>(at, of, stream);
        values<T, 64>(at, of, stream);
    }
}

template <typename T, int STEP> void peaks(const Buffers<T>& at, const edgeir::GstSizes& of, Stream stream) {
    EDGEIR_LAUNCH((edgeir::gst_peaks_kernel<T, STEP>), dim3(of.heads * of.channels, of.batch),
                  dim3(edgeir::GST_PEAKS_THREADS), edgeir::GST_PEAKS_THREADS / 8, stream, at.tokens, at.peaks, at.inverse_sums, of);
}

template <typename T> void attend(const Buffers<T>& at, const edgeir::GstSizes& of, Stream stream) {
    const dim3 block(edgeir::GST_THREADS);
    if (of.low_positions() % 4 == 0) {
        peaks<T, 4>(at, of, stream);
    } else {
        peaks<T, 1>(at, of, stream);
    }
    choose_gram(at, of, stream);
    EDGEIR_LAUNCH(edgeir::gst_sum_kernel, dim3(ceil_div(of.part(), 32), of.heads, of.batch),
                  dim3(32 * edgeir::GST_SUM_SHARES), 32 * edgeir::GST_SUM_SHARES * 4, stream, at.parts, at.sums, of);
    const dim3 combine_grid(of.heads, of.batch, ceil_div(of.channels, edgeir::GST_THREADS / 32));
    EDGEIR_LAUNCH(edgeir::gst_combine_kernel<T>, combine_grid, block, 3 * of.channels * 4, stream, at.sums,
                  at.inverse_sums, at.temperature, at.alpha, at.combined, of);
    const dim3 low_grid(ceil_div(of.low_positions(), edgeir::GST_THREADS) * ceil_div(of.channels, edgeir::GST_LOW_CHANNELS),
                        of.heads, of.batch);
    EDGEIR_LAUNCH(edgeir::gst_low_kernel<T>, low_grid, block, of.channels * edgeir::GST_LOW_CHANNELS * 4, stream, at.peaks,
                  at.combined, at.low, of);
    choose_values(at, of, stream);
}

template <typename T>
void arrange(const void* query, const void* key, const void* value, const void* tokens, const void* temperature,
             const void* alpha, void* output, void* workspace, const edgeir::GstSizes& of, Stream stream) {
    const Layout layout(of, sizeof(T));
    unsigned char* space = static_cast<unsigned char*>(workspace);
    const auto floats = [&](int64_t offset) { return reinterpret_cast<float*>(space + offset); };
    attend<T>({static_cast<const T*>(query), static_cast<const T*>(key), static_cast<const T*>(value),
               static_cast<const T*>(tokens), static_cast<const T*>(temperature), static_cast<const T*>(alpha),
               static_cast<T*>(output), reinterpret_cast<T*>(space + layout.peaks), floats(layout.inverse_sums),
               floats(layout.parts), floats(layout.sums), floats(layout.combined), floats(layout.low)},
              of, stream);
}

}  // namespace

extern "C" int64_t edgeir_gst_attention_workspace(
    int batch, int channels, int height, int width, int heads, int stride, EdgeirType type) {
    edgeir::GstSizes of;
    if (type != EDGEIR_FLOAT32 && type != EDGEIR_FLOAT16 && type != EDGEIR_BFLOAT16) return EDGEIR_UNSUPPORTED;
    if (!sizes_of(batch, channels, height, width, heads, stride, of)) return EDGEIR_UNSUPPORTED;
    return Layout(of, type == EDGEIR_FLOAT32 ? 4 : 2).bytes;
}

extern "C" int edgeir_gst_attention(
    const void* query, const void* key, const void* value, const void* tokens, const void* temperature,
    const void* alpha, void* output, void* workspace, int batch, int channels, int height, int width, int heads,
    int stride, EdgeirType type, Stream stream) {
    edgeir::GstSizes of;
    if (!sizes_of(batch, channels, height, width, heads, stride, of)) return EDGEIR_UNSUPPORTED;
    switch (type) {
        case EDGEIR_FLOAT32:
            arrange<float>(query, key, value, tokens, temperature, alpha, output, workspace, of, stream);
            break;
        case EDGEIR_FLOAT16:
            arrange<edgeir::float16>(query, key, value, tokens, temperature, alpha, output, workspace, of, stream);
            break;
        case EDGEIR_BFLOAT16:
            arrange<edgeir::bfloat16>(query, key, value, tokens, temperature, alpha, output, workspace, of, stream);
            break;
        default:
            return EDGEIR_UNSUPPORTED;
    }
    return edgeir_launch_status();
}
