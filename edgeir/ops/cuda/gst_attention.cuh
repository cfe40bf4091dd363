// EdgeirGstAttention: ExDA's channel attention over [Q;G], [K;G], [V';G] (edgeir/ops/table.py), in five kernels.
//
//   1. peaks      tokens -> exp(t - max) at low resolution, and 1 / sum of it, per channel
//   2. gram       products of all rows of [Q;G] with all of [K;G] over a part of the picture, and squared norms; the
//                 tokens are sampled where they are needed, so that the map G at full resolution never exists
//   3. combine    parts added in order, norms divided out, softmax, local rows plus alpha times global rows
//   4. low        what the tokens add to the output, at low resolution
//   5. values     combined rows times V, plus the low-resolution part, upsampled in registers
//
// A constant factor of a token row is divided out by its norm, so that exp(t - max), at most 1, stands for the softmax:
// its values are of the order of 1 where those of the softmax, 1/positions, vanish in FP16.
//
// In FP16 and BF16 products run on tensor cores with FP32 sums; with FP32 inputs everything is FP32 arithmetic.
// No atomics: every sum has one order.
#pragma once

#include "device.cuh"

namespace edgeir {

constexpr int GST_THREADS = 128;
constexpr int GST_POSITIONS = 64;  // of one step of the gram and the values kernel
constexpr int GST_MOST_CHANNELS = 64;  // per head
constexpr int GST_PADDING = 8;         // numbers between rows in shared memory, so that they meet other banks
constexpr int GST_ROWS = 2 * GST_MOST_CHANNELS;

// The sizes of one attention. `rows` is 2 * channels: those of Q or K, then those of G.
struct GstSizes {
    int batch, heads, channels, height, width, low_height, low_width, splits;

    __host__ __device__ int rows() const { return 2 * channels; }
    __host__ __device__ int positions() const { return height * width; }
    __host__ __device__ int low_positions() const { return low_height * low_width; }
    // Numbers that one part of one head writes: products, then squared norms of Q and of K.
    __host__ __device__ int part() const { return rows() * rows() + 2 * channels; }
};

// One row or column of a bilinear upsampling with half-pixel centres and clamped edges.
struct Tap {
    int low, high;
    float share;  // of `high`
};

__device__ __forceinline__ Tap tap_of(int place, int low_size, int size) {
    const float ratio = static_cast<float>(low_size) / static_cast<float>(size);
    const float centre = fminf(fmaxf((place + 0.5f) * ratio - 0.5f, 0.0f), static_cast<float>(low_size - 1));
    const int low = static_cast<int>(centre);
    return {low, min(low + 1, low_size - 1), centre - static_cast<float>(low)};
}

// The map `low`, (low_height, low_width), at one position of the picture.
template <typename T>
__device__ __forceinline__ float sampled(const T* __restrict__ low, const GstSizes& sizes, int position) {
    const Tap row = tap_of(position / sizes.width, sizes.low_height, sizes.height);
    const Tap column = tap_of(position % sizes.width, sizes.low_width, sizes.width);
    const T *above = low + row.low * sizes.low_width, *below = low + row.high * sizes.low_width;
    const float top = (1.0f - column.share) * to_float(above[column.low]) + column.share * to_float(above[column.high]);
    const float bottom = (1.0f - column.share) * to_float(below[column.low]) + column.share * to_float(below[column.high]);
    return (1.0f - row.share) * top + row.share * bottom;
}

// Of all threads of a block of GST_THREADS; `scratch` holds one number per warp.
template <bool LARGEST> __device__ __forceinline__ float reduced(float value, float* scratch) {
    value = LARGEST ? largest_of_lanes<32>(value) : sum_of_lanes<32>(value);
    block_barrier();  // nobody reads the scratch of the reduction before
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
    block_barrier();
    float found = scratch[0];
#pragma unroll
    for (int warp = 1; warp < GST_THREADS / 32; ++warp) {
        found = LARGEST ? fmaxf(found, scratch[warp]) : found + scratch[warp];
    }
    return found;
}

// 1. grid (heads * channels, batch); peaks (batch, C, low positions), inverse_sums (batch, C).
template <typename T>
__global__ void __launch_bounds__(GST_THREADS)
    gst_peaks_kernel(const T* __restrict__ tokens, T* __restrict__ peaks, float* __restrict__ inverse_sums, GstSizes sizes) {
    float* scratch = reinterpret_cast<float*>(shared_memory());
    const int count = sizes.low_positions();
    const int64_t row = static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x;
    const T* from = tokens + row * count;
    T* to = peaks + row * count;
    float largest = minus_infinity();
    for (int index = threadIdx.x; index < count; index += GST_THREADS) largest = fmaxf(largest, to_float(from[index]));
    largest = reduced<true>(largest, scratch);
    float sum = 0.0f;
    for (int index = threadIdx.x; index < count; index += GST_THREADS) {
        const T peak = from_float<T>(exp_of(to_float(from[index]) - largest));
        to[index] = peak;
        sum += to_float(peak);
    }
    sum = reduced<false>(sum, scratch);
    if (threadIdx.x == 0) inverse_sums[row] = 1.0f / sum;
}

// The positions of one split: whole steps, so that all but the last are full.
__device__ __forceinline__ void positions_of(const GstSizes& sizes, int split, int& first, int& last) {
    const int steps = (sizes.positions() + GST_POSITIONS - 1) / GST_POSITIONS;
    const int each = (steps + sizes.splits - 1) / sizes.splits;
    first = min(split * each * GST_POSITIONS, sizes.positions());
    last = min(first + each * GST_POSITIONS, sizes.positions());
}

// 2. on tensor cores; ROWS is 2 * channels rounded up to 32, one warp for 16 of them.
// grid (splits, heads, batch), block 2 * ROWS; parts (batch, heads, splits, part).
template <typename T, int ROWS>
__global__ void __launch_bounds__(2 * ROWS)
    gst_gram_kernel(const T* __restrict__ query, const T* __restrict__ key, const T* __restrict__ peaks,
                    float* __restrict__ parts, GstSizes sizes) {
    constexpr int STRIDE = GST_POSITIONS + GST_PADDING, TILES = ROWS / 8;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, quarter = lane % 4;
    const int channels = sizes.channels, rows = sizes.rows(), positions = sizes.positions();
    const int64_t map = static_cast<int64_t>(blockIdx.z) * sizes.heads * channels + blockIdx.y * channels;
    T* left = reinterpret_cast<T*>(shared_memory());  // (ROWS, 64 positions) of [Q;G]
    T* right = left + ROWS * STRIDE;                  // the same of [K;G]; rows of G are in `left` alone
    int first, last;
    positions_of(sizes, blockIdx.x, first, last);

    float products[TILES][4], of_query[2][4], of_key[2][4];
#pragma unroll
    for (int index = 0; index < 4; ++index) {
#pragma unroll
        for (int tile = 0; tile < TILES; ++tile) products[tile][index] = 0.0f;
#pragma unroll
        for (int tile = 0; tile < 2; ++tile) of_query[tile][index] = of_key[tile][index] = 0.0f;
    }
    for (int start = first; start < last; start += GST_POSITIONS) {
        block_barrier();  // the step before has been read
        for (int index = threadIdx.x; index < ROWS * GST_POSITIONS; index += 2 * ROWS) {
            const int row = index / GST_POSITIONS, place = index % GST_POSITIONS, position = start + place;
            T one = from_float<T>(0.0f), other = one;
            if (position < last && row < channels) {
                one = query[(map + row) * positions + position];
                other = key[(map + row) * positions + position];
            } else if (position < last && row < rows) {
                one = from_float<T>(sampled(peaks + (map + row - channels) * sizes.low_positions(), sizes, position));
                other = one;
            }
            left[row * STRIDE + place] = one;
            right[row * STRIDE + place] = other;
        }
        block_barrier();
#pragma unroll
        for (int step = 0; step < GST_POSITIONS / 16; ++step) {
            // Any order of positions will do as long as both sides agree: four neighbours of a lane.
            const auto fragment = [&](const T* from, int row) {
                struct Pair {
                    uint32_t first, second;
                };
                const T* numbers = from + row * STRIDE + 16 * step + 4 * quarter;
                return Pair{pack(numbers[0], numbers[1]), pack(numbers[2], numbers[3])};
            };
            const auto low = fragment(left, 16 * warp + group), high = fragment(left, 16 * warp + group + 8);
            const uint32_t a[4] = {low.first, high.first, low.second, high.second};
#pragma unroll
            for (int tile = 0; tile < TILES; ++tile) {
                const auto column = fragment(right, 8 * tile + group);
                const uint32_t b[2] = {column.first, column.second};
                multiply_add<T>(products[tile], a, b);
            }
            const auto low_key = fragment(right, 16 * warp + group), high_key = fragment(right, 16 * warp + group + 8);
            const uint32_t a_key[4] = {low_key.first, high_key.first, low_key.second, high_key.second};
#pragma unroll
            for (int tile = 0; tile < 2; ++tile) {  // only the diagonals are wanted
                const auto column = tile == 0 ? low : high, column_key = tile == 0 ? low_key : high_key;
                const uint32_t b[2] = {column.first, column.second}, b_key[2] = {column_key.first, column_key.second};
                multiply_add<T>(of_query[tile], a, b);
                multiply_add<T>(of_key[tile], a_key, b_key);
            }
        }
    }

    float* part = parts + ((static_cast<int64_t>(blockIdx.z) * sizes.heads + blockIdx.y) * sizes.splits + blockIdx.x) *
                              sizes.part();
#pragma unroll
    for (int index = 0; index < 4; ++index) {
        const int row = 16 * warp + group + 8 * (index / 2);
        if (row >= rows) continue;
#pragma unroll
        for (int tile = 0; tile < TILES; ++tile) {
            const int column = 8 * tile + 2 * quarter + index % 2;
            if (column < rows) part[row * rows + column] = products[tile][index];
        }
        const int column = 2 * quarter + index % 2;  // the diagonal of the tile that this row is in
        if (column == group && row < channels) {
            part[rows * rows + row] = of_query[index / 2][index];
            part[rows * rows + channels + row] = of_key[index / 2][index];
        }
    }
}

// 2. in FP32: one thread for one product. grid (ceil(part / GST_THREADS), heads * splits, batch).
__global__ void __launch_bounds__(GST_THREADS)
    gst_gram_float_kernel(const float* __restrict__ query, const float* __restrict__ key, const float* __restrict__ peaks,
                          float* __restrict__ parts, GstSizes sizes) {
    const int index = blockIdx.x * GST_THREADS + threadIdx.x;
    if (index >= sizes.part()) return;
    const int head = blockIdx.y / sizes.splits, split = blockIdx.y % sizes.splits;
    const int channels = sizes.channels, rows = sizes.rows();
    const int64_t map = static_cast<int64_t>(blockIdx.z) * sizes.heads * channels + head * channels;
    int row = index / rows, column = index % rows;
    const float *one = query, *other = key;
    if (index >= rows * rows) {  // a squared norm
        const int place = index - rows * rows;
        row = column = place % channels;
        one = other = place < channels ? query : key;
    }
    int first, last;
    positions_of(sizes, split, first, last);
    const auto at = [&](const float* from, int which, int position) {
        return which < channels ? from[(map + which) * sizes.positions() + position]
                                : sampled(peaks + (map + which - channels) * sizes.low_positions(), sizes, position);
    };
    float sum = 0.0f;
    for (int start = first; start < last; start += GST_POSITIONS) {
        float step = 0.0f;  // short sums first: half the rounding
        for (int position = start; position < min(start + GST_POSITIONS, last); ++position) {
            step += at(one, row, position) * at(other, column, position);
        }
        sum += step;
    }
    parts[((static_cast<int64_t>(blockIdx.z) * sizes.heads + head) * sizes.splits + split) * sizes.part() + index] = sum;
}

// 3. grid (heads, batch); combined (batch, heads, channels, rows): weights of values, then of peaks.
template <typename T>
__global__ void __launch_bounds__(GST_THREADS)
    gst_combine_kernel(const float* __restrict__ parts, const float* __restrict__ inverse_sums,
                       const T* __restrict__ temperature, const T* __restrict__ alpha, float* __restrict__ combined,
                       GstSizes sizes) {
    const int channels = sizes.channels, rows = sizes.rows(), warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int64_t head = static_cast<int64_t>(blockIdx.y) * sizes.heads + blockIdx.x;
    const float* from = parts + head * sizes.splits * sizes.part();
    float* norms = reinterpret_cast<float*>(shared_memory());  // 1 / norm of Q, of K, of G
    const auto summed = [&](int index) {
        float sum = 0.0f;
        for (int split = 0; split < sizes.splits; ++split) sum += from[static_cast<int64_t>(split) * sizes.part() + index];
        return sum;
    };
    for (int index = threadIdx.x; index < 3 * channels; index += GST_THREADS) {
        const int diagonal = (index - channels) * (rows + 1);  // of G with itself, for the last third
        const float square = summed(index < 2 * channels ? rows * rows + index : diagonal);
        norms[index] = 1.0f / fmaxf(sqrtf(square), LEAST_NORM);
    }
    block_barrier();
    const float scale = to_float(temperature[blockIdx.x]), share = to_float(alpha[0]);
    for (int row = warp; row < channels; row += GST_THREADS / 32) {
        float weights[GST_ROWS / 32];
#pragma unroll
        for (int index = 0; index < GST_ROWS / 32; ++index) weights[index] = 0.0f;
#pragma unroll
        for (int half = 0; half < 2; ++half) {  // the row of Q, then that of G
            const float norm = norms[half == 0 ? row : 2 * channels + row];
            float logits[GST_ROWS / 32], largest = minus_infinity(), sum = 0.0f;
#pragma unroll
            for (int index = 0; index < GST_ROWS / 32; ++index) {
                const int column = 32 * index + lane;
                logits[index] = minus_infinity();
                if (column < rows) {
                    logits[index] = summed((row + half * channels) * rows + column) * norm * norms[channels + column] * scale;
                }
                largest = fmaxf(largest, logits[index]);
            }
            largest = largest_of_lanes<32>(largest);
#pragma unroll
            for (int index = 0; index < GST_ROWS / 32; ++index) {
                logits[index] = exp_of(logits[index] - largest);
                sum += logits[index];
            }
            sum = sum_of_lanes<32>(sum);
#pragma unroll
            for (int index = 0; index < GST_ROWS / 32; ++index) weights[index] += (half == 0 ? 1.0f : share) * logits[index] / sum;
        }
#pragma unroll
        for (int index = 0; index < GST_ROWS / 32; ++index) {
            const int column = 32 * index + lane;
            if (column >= rows) continue;
            const bool of_token = column >= channels;
            const float factor = of_token ? inverse_sums[head * channels + column - channels] : 1.0f;
            combined[(head * channels + row) * rows + column] = weights[index] * factor;
        }
    }
}

// 4. grid (ceil(low positions / GST_THREADS), heads * channels, batch); low (batch, C, low positions) in FP32.
template <typename T>
__global__ void __launch_bounds__(GST_THREADS)
    gst_low_kernel(const T* __restrict__ peaks, const float* __restrict__ combined, float* __restrict__ low, GstSizes sizes) {
    const int position = blockIdx.x * GST_THREADS + threadIdx.x, count = sizes.low_positions();
    if (position >= count) return;
    const int head = blockIdx.y / sizes.channels;
    const int64_t map = static_cast<int64_t>(blockIdx.z) * sizes.heads * sizes.channels;
    const float* weights = combined + (map + blockIdx.y) * sizes.rows() + sizes.channels;
    float sum = 0.0f;
    for (int channel = 0; channel < sizes.channels; ++channel) {
        sum += weights[channel] * to_float(peaks[(map + head * sizes.channels + channel) * count + position]);
    }
    low[(map + blockIdx.y) * count + position] = sum;
}

// 5. on tensor cores; CHANNELS is those of a head rounded up to 16, one warp for 16 of them.
// grid (ceil(positions / 64), heads, batch), block 2 * CHANNELS.
template <typename T, int CHANNELS>
__global__ void __launch_bounds__(2 * CHANNELS)
    gst_values_kernel(const T* __restrict__ value, const float* __restrict__ combined, const float* __restrict__ low,
                      T* __restrict__ output, GstSizes sizes) {
    constexpr int STRIDE = CHANNELS + GST_PADDING, TILES = GST_POSITIONS / 8;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, quarter = lane % 4;
    const int channels = sizes.channels, positions = sizes.positions(), start = blockIdx.x * GST_POSITIONS;
    const int64_t map = static_cast<int64_t>(blockIdx.z) * sizes.heads * channels + blockIdx.y * channels;
    T* values = reinterpret_cast<T*>(shared_memory());  // (64 positions, CHANNELS)
    for (int index = threadIdx.x; index < CHANNELS * GST_POSITIONS; index += 2 * CHANNELS) {
        const int channel = index / GST_POSITIONS, place = index % GST_POSITIONS;
        const bool inside = channel < channels && start + place < positions;
        values[place * STRIDE + channel] = inside ? value[(map + channel) * positions + start + place] : from_float<T>(0.0f);
    }
    block_barrier();
    float sums[TILES][4];
#pragma unroll
    for (int tile = 0; tile < TILES; ++tile) {
#pragma unroll
        for (int index = 0; index < 4; ++index) sums[tile][index] = 0.0f;
    }
#pragma unroll
    for (int step = 0; step < CHANNELS / 16; ++step) {
        const int channel = 16 * step + 4 * quarter;
        uint32_t a[4];
#pragma unroll
        for (int index = 0; index < 4; ++index) {
            const int row = 16 * warp + group + 8 * (index % 2);
            T two[2];
#pragma unroll
            for (int side = 0; side < 2; ++side) {
                const int column = channel + 2 * (index / 2) + side;
                const bool inside = row < channels && column < channels;
                two[side] = from_float<T>(inside ? combined[(map + row) * sizes.rows() + column] : 0.0f);
            }
            a[index] = pack(two[0], two[1]);
        }
#pragma unroll
        for (int tile = 0; tile < TILES; ++tile) {
            const T* numbers = values + (8 * tile + group) * STRIDE + channel;
            const uint32_t b[2] = {pack(numbers[0], numbers[1]), pack(numbers[2], numbers[3])};
            multiply_add<T>(sums[tile], a, b);
        }
    }
#pragma unroll
    for (int tile = 0; tile < TILES; ++tile) {
#pragma unroll
        for (int index = 0; index < 4; ++index) {
            const int row = 16 * warp + group + 8 * (index / 2), position = start + 8 * tile + 2 * quarter + index % 2;
            if (row >= channels || position >= positions) continue;
            const float of_tokens = sampled(low + (map + row) * sizes.low_positions(), sizes, position);
            output[(map + row) * positions + position] = from_float<T>(sums[tile][index] + of_tokens);
        }
    }
}

// 5. in FP32: one thread for one number. grid (ceil(positions / GST_THREADS), heads * channels, batch).
__global__ void __launch_bounds__(GST_THREADS)
    gst_values_float_kernel(const float* __restrict__ value, const float* __restrict__ combined,
                            const float* __restrict__ low, float* __restrict__ output, GstSizes sizes) {
    const int position = blockIdx.x * GST_THREADS + threadIdx.x, positions = sizes.positions();
    if (position >= positions) return;
    const int head = blockIdx.y / sizes.channels;
    const int64_t map = static_cast<int64_t>(blockIdx.z) * sizes.heads * sizes.channels;
    const float* weights = combined + (map + blockIdx.y) * sizes.rows();
    float sum = sampled(low + (map + blockIdx.y) * sizes.low_positions(), sizes, position);
    for (int channel = 0; channel < sizes.channels; ++channel) {
        sum += weights[channel] * value[(map + head * sizes.channels + channel) * positions + position];
    }
    output[(map + blockIdx.y) * positions + position] = sum;
}

}  // namespace edgeir
