// EdgeirGstAttention: products to weights, and weights times values (gst_attention.cuh).
#pragma once

#include "gst_sampling.cuh"

namespace edgeir {

// 4. grid (heads, batch, ceil(channels / warps)), a warp for a row; combined (batch, heads, channels, rows): weights of
// values, then of peaks.
template <typename T>
__global__ void __launch_bounds__(GST_THREADS)
    gst_combine_kernel(const float* __restrict__ sums, const float* __restrict__ inverse_sums,
                       const T* __restrict__ temperature, const T* __restrict__ alpha, float* __restrict__ combined,
                       GstSizes sizes) {
    const int channels = sizes.channels, rows = sizes.rows(), warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int64_t head = static_cast<int64_t>(blockIdx.y) * sizes.heads + blockIdx.x;
    const float* from = sums + head * sizes.part();
    float* norms = reinterpret_cast<float*>(shared_memory());  // 1 / norm of Q, of K, of G
    for (int index = threadIdx.x; index < 3 * channels; index += GST_THREADS) {
        const int diagonal = (index - channels) * (rows + 1);  // of G with itself, for the last third
        const float square = from[index < 2 * channels ? rows * rows + index : diagonal];
        norms[index] = 1.0f / fmaxf(sqrtf(square), LEAST_NORM);
    }
    block_barrier();
    const float scale = to_float(temperature[blockIdx.x]), share = to_float(alpha[0]);
    const int row = blockIdx.z * (GST_THREADS / 32) + warp;
    if (row < channels) {
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
                    logits[index] = from[(row + half * channels) * rows + column] * norm * norms[channels + column] * scale;
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
            for (int index = 0; index < GST_ROWS / 32; ++index) {
                weights[index] += (half == 0 ? 1.0f : share) * logits[index] / sum;
            }
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

// 5. grid (ceil(low positions / GST_THREADS) * ceil(channels / GST_LOW_CHANNELS), heads, batch), blocks that read the same
// peaks beside each other; low (batch, C, low positions) in FP32.
template <typename T>
__global__ void __launch_bounds__(GST_THREADS)
    gst_low_kernel(const T* __restrict__ peaks, const float* __restrict__ combined, float* __restrict__ low,
                   GstSizes sizes) {
    const int count = sizes.low_positions(), channels = sizes.channels;
    const int groups = (channels + GST_LOW_CHANNELS - 1) / GST_LOW_CHANNELS;
    const int position = blockIdx.x / groups * GST_THREADS + threadIdx.x, first = blockIdx.x % groups * GST_LOW_CHANNELS;
    const int64_t map = (static_cast<int64_t>(blockIdx.z) * sizes.heads + blockIdx.y) * channels;
    float* weights = reinterpret_cast<float*>(shared_memory());  // (channels, GST_LOW_CHANNELS)
    for (int index = threadIdx.x; index < channels * GST_LOW_CHANNELS; index += GST_THREADS) {
        const int row = first + index % GST_LOW_CHANNELS, column = channels + index / GST_LOW_CHANNELS;
        weights[index] = row < channels ? combined[(map + row) * sizes.rows() + column] : 0.0f;
    }
    block_barrier();
    if (position >= count) return;
    float sums[GST_LOW_CHANNELS];
#pragma unroll
    for (int index = 0; index < GST_LOW_CHANNELS; ++index) sums[index] = 0.0f;
#pragma unroll 2
    for (int channel = 0; channel < channels; ++channel) {
        const float peak = to_float(peaks[(map + channel) * count + position]);
#pragma unroll
        for (int index = 0; index < GST_LOW_CHANNELS; ++index) {
            sums[index] += weights[channel * GST_LOW_CHANNELS + index] * peak;
        }
    }
#pragma unroll
    for (int index = 0; index < GST_LOW_CHANNELS; ++index) {
        if (first + index < channels) low[(map + first + index) * count + position] = sums[index];
    }
}

// 6. on tensor cores; CHANNELS is those of a head rounded up to 16, one warp for 16 of them.
// grid (ceil(positions / (64 * GST_VALUES_STEPS)), heads, batch), block 2 * CHANNELS.
//
// Position 16 t + 2 j + i of a step is column 2 t + i of tile j of the products: lane 4 g + t then has 16 neighbours.
template <typename T, int CHANNELS>
__global__ void __launch_bounds__(2 * CHANNELS, 1)  // without the 1, nvcc 13 spills for Blackwell
    gst_values_kernel(const T* __restrict__ value, const float* __restrict__ combined, const float* __restrict__ low,
                      T* __restrict__ output, GstSizes sizes) {
    constexpr int STRIDE = GST_POSITIONS + GST_PADDING, TILES = GST_POSITIONS / 8, STEPS = CHANNELS / 16;
    constexpr int TURNS = 4, BEHIND = 2 * CHANNELS / GST_CHUNKS;
    static_assert(TURNS * BEHIND == CHANNELS, "four channels for every thread are all of a head");
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, quarter = lane % 4;
    const int channels = sizes.channels, positions = sizes.positions();
    const int first = blockIdx.x * GST_POSITIONS * GST_VALUES_STEPS;
    const int last = min(first + GST_POSITIONS * GST_VALUES_STEPS, positions);
    const int64_t map = (static_cast<int64_t>(blockIdx.z) * sizes.heads + blockIdx.y) * channels;
    const bool whole = positions % 8 == 0;
    T* values = reinterpret_cast<T*>(shared_memory());  // (CHANNELS, 64 positions in the order of columns)
    for (int index = channels * STRIDE + threadIdx.x; index < CHANNELS * STRIDE; index += 2 * CHANNELS) {
        values[index] = from_float<T>(0.0f);  // of no channel
    }
    const int chunk = threadIdx.x % GST_CHUNKS, channel = threadIdx.x / GST_CHUNKS;
    uint32_t brought[TURNS][4];
    const auto bring = [&](int start) {
#pragma unroll
        for (int turn = 0; turn < TURNS; ++turn) {
            const int row = channel + turn * BEHIND;
            if (row < channels) load_eight(brought[turn], value + (map + row) * positions, start + 8 * chunk, last, whole);
        }
    };
    bring(first);
    uint32_t weights[STEPS][4];
#pragma unroll
    for (int step = 0; step < STEPS; ++step) {
#pragma unroll
        for (int index = 0; index < 4; ++index) {
            const int row = 16 * warp + group + 8 * (index % 2), column = 16 * step + 8 * (index / 2) + 2 * quarter;
            float two[2];
#pragma unroll
            for (int side = 0; side < 2; ++side) {
                const bool inside = row < channels && column + side < channels;
                two[side] = inside ? combined[(map + row) * sizes.rows() + column + side] : 0.0f;
            }
            weights[step][index] = pack(from_float<T>(two[0]), from_float<T>(two[1]));
        }
    }
    const SharedAddress source = shared_address(values + lane % 16 * STRIDE + 8 * (lane / 16));
    for (int start = first; start < last; start += GST_POSITIONS) {
        block_barrier();  // the step before has been read
#pragma unroll
        for (int turn = 0; turn < TURNS; ++turn) {
            const int row = channel + turn * BEHIND;
            if (row >= channels) continue;
            T* to = values + row * STRIDE + 32 * (chunk % 2) + 2 * (chunk / 2);
#pragma unroll
            for (int pair = 0; pair < 4; ++pair) *reinterpret_cast<uint32_t*>(to + 8 * pair) = brought[turn][pair];
        }
        block_barrier();
        if (start + GST_POSITIONS < last) bring(start + GST_POSITIONS);
        float sums[TILES][4];
#pragma unroll
        for (int tile = 0; tile < TILES; ++tile) {
#pragma unroll
            for (int index = 0; index < 4; ++index) sums[tile][index] = 0.0f;
        }
#pragma unroll
        for (int step = 0; step < STEPS; ++step) {
#pragma unroll
            for (int tile = 0; tile < TILES; tile += 2) {
                uint32_t b[4];
                load_matrices_transposed(b, source, (16 * step * STRIDE + 8 * tile) * 2);
                multiply_add<T>(sums[tile], weights[step], {b[0], b[1]});
                multiply_add<T>(sums[tile + 1], weights[step], {b[2], b[3]});
            }
        }
#pragma unroll
        for (int eighth = 0; eighth < 2; ++eighth) {
            const int position = start + 16 * quarter + 8 * eighth;
            if (position >= last) continue;
            const Eights at = eights_at(sizes, position, last);
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int row = 16 * warp + group + 8 * half;
                if (row >= channels) continue;
                float eight[8];
                sampled(eight, low + (map + row) * sizes.low_positions(), sizes, at);
                uint32_t words[4];
#pragma unroll
                for (int pair = 0; pair < 4; ++pair) {
                    const float* two = sums[4 * eighth + pair] + 2 * half;
                    const float first = two[0] + eight[2 * pair], second = two[1] + eight[2 * pair + 1];
                    words[pair] = pack(from_float<T>(first), from_float<T>(second));
                }
                T* to = output + (map + row) * positions;
                if (whole) {
                    store_words<8>(to + position, words);
                } else {
#pragma unroll
                    for (int pair = 0; pair < 4; ++pair) store_pair<1>(to, position + 2 * pair, last, words[pair]);
                }
            }
        }
    }
}

// 6. in FP32: one thread for one number. grid (ceil(positions / GST_THREADS), heads * channels, batch).
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
