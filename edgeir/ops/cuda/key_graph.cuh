// EdgeirKeyGraph: per window, the k nearest tokens of each token by raw dot product (edgeir/ops/table.py).
//
// One block takes 16 rows of one window and keeps their similarities to all n <= 1024 tokens in registers: 8 warps with
// TILES tiles of 8 columns each, in the accumulators of m16n8k16. No similarity is ever written. The k-th largest of a
// row is found exactly, bit by bit, by counting; every lane then knows which of its own numbers are kept.
//
// p_i . (p_j - m) orders the tokens j as p_i . p_j does, whatever m is, and with m in their midst the products of tokens
// that share a large common part do not drown their differences in rounding. Here m is the mean of the block's own rows,
// cut to 11 bits, so that differences of coarse numbers are exact and ties stay ties. FP16 tokens are multiplied with
// p_j - m as the sum of two FP16 numbers, 22 bits together; of tokens below 2^-13 the last bit is lost to the halving that
// keeps large ones from overflowing.
//
// Lanes read 4 neighbouring channels at once. Which channel is which k of a tensor-core product does not matter as long
// as both operands agree: the lane t of four holds channels 4t to 4t + 3 where the fragment has 2t, 2t+1, 2t+8, 2t+9.
#pragma once

#include "rows.cuh"

namespace edgeir {

constexpr int KEY_GRAPH_ROWS = 16;
constexpr int KEY_GRAPH_WARPS = 8;
constexpr int KEY_GRAPH_MOST_TOKENS = 1024;

constexpr int KEY_GRAPH_MOST_CHANNELS = 2048;

// Tiles of 8 columns that a warp holds.
__host__ __device__ constexpr int key_graph_tiles(int n) {
    return n <= 8 * KEY_GRAPH_WARPS ? 1 : n <= 32 * KEY_GRAPH_WARPS ? 4 : 16;
}

// Blocks that one SM should hold. Compilers for Blackwell load so far ahead that registers allow one, as FP32 does.
template <typename T> __host__ __device__ constexpr int key_graph_residents() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
    return 1;
#else
    return sizeof(T) == 2 ? 2 : 1;
#endif
}

// In shared memory: the mean, two buffers of counts, and the block's part of the output.
__host__ __device__ constexpr Launch key_graph_launch(int n, int c) {
    return {(n + KEY_GRAPH_ROWS - 1) / KEY_GRAPH_ROWS, 1, 32 * KEY_GRAPH_WARPS,
            ((c + 3) / 4) * 16 + 2 * KEY_GRAPH_WARPS * KEY_GRAPH_ROWS * 4 + KEY_GRAPH_ROWS * ((n + 15) / 16) * 16};
}

// An integer that orders as the number does; both zeros are one.
__device__ __forceinline__ uint32_t ordered(float value) {
    const uint32_t bits = bits_of(value + 0.0f);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// tokens (windows, n, c), keep (windows, n, n) one byte each; launched as key_graph_launch says.
template <typename T, int TILES, int STEP>
__device__ __forceinline__ void key_graph(
    const T* __restrict__ tokens, uint8_t* __restrict__ keep, const int n, const int c, const int k) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int group = lane / 4, quarter = lane % 4;
    const int first_row = blockIdx.x * KEY_GRAPH_ROWS;
    const int rows = min(KEY_GRAPH_ROWS, n - first_row);
    const T* window = tokens + static_cast<int64_t>(blockIdx.z) * n * c;

    float* mean = reinterpret_cast<float*>(shared_memory());  // in FP16: halves of it, in FP16
    uint32_t* counts = reinterpret_cast<uint32_t*>(mean + (c + 3) / 4 * 4);
    uint8_t* staged = reinterpret_cast<uint8_t*>(counts + 2 * KEY_GRAPH_WARPS * KEY_GRAPH_ROWS);
    const int stride = (n + 15) / 16 * 16;

    for (int channel = threadIdx.x; channel < (c + 3) / 4 * 4; channel += blockDim.x) {
        float sum = 0.0f;
        for (int row = 0; row < rows && channel < c; ++row) {
            sum += to_float(window[static_cast<int64_t>(first_row + row) * c + channel]);
        }
        const float cut = float_of(bits_of(sum / rows) & 0xffffe000u);
        if constexpr (sizeof(T) == 2) {
            reinterpret_cast<T*>(mean)[channel] = from_float<T>(0.5f * cut);
        } else {
            mean[channel] = cut;
        }
    }
    block_barrier();

    // Rows beyond the last repeat it: they are computed and not written.
    const T* low_row = window + static_cast<int64_t>(min(first_row + group, n - 1)) * c;
    const T* high_row = window + static_cast<int64_t>(min(first_row + group + 8, n - 1)) * c;
    const int first_column = warp * TILES * 8;

    float similarity[TILES][4];
#pragma unroll
    for (int tile = 0; tile < TILES; ++tile) {
#pragma unroll
        for (int index = 0; index < 4; ++index) similarity[tile][index] = 0.0f;
    }
    if constexpr (sizeof(T) == 2) {
        const uint32_t halves = pack(from_float<T>(0.5f), from_float<T>(0.5f));
        const int own_column = held(first_column + group);
        for (int start = 0; start < c; start += 16) {
            const int channel = start + 4 * quarter;
            uint32_t low[2], high[2], centre[2] = {0u, 0u};
            load_words<STEP, 4>(low, low_row, channel, c);
            load_words<STEP, 4>(high, high_row, channel, c);
            if (channel < c) {
#pragma unroll
                for (int pair = 0; pair < 2; ++pair) {
                    centre[pair] = reinterpret_cast<const uint32_t*>(mean)[channel / 2 + pair];
                }
            }
            const uint32_t a[4] = {low[0], high[0], low[1], high[1]};
#pragma unroll
            for (int tile = 0; tile < TILES; ++tile) {
                uint32_t other[2], coarse[2], fine[2];
                const uint32_t place = min(own_column + 8 * tile, n - 1) * c + channel;
                load_words<STEP, 4>(other, window + place, 0, c - channel);
#pragma unroll
                for (int pair = 0; pair < 2; ++pair) {
                    const uint32_t half = multiply_pairs(other[pair], halves);  // no order changes, and nothing overflows
                    coarse[pair] = subtract_pairs(half, centre[pair]);
                    // What rounding left away (Knuth, The Art of Computer Programming 2, 4.2.2, theorem B).
                    const uint32_t taken = subtract_pairs(coarse[pair], half);  // about -centre
                    fine[pair] = subtract_pairs(subtract_pairs(half, subtract_pairs(coarse[pair], taken)),
                                                add_pairs(centre[pair], taken));
                }
                multiply_add<T>(similarity[tile], a, fine);
                multiply_add<T>(similarity[tile], a, coarse);
            }
        }
    } else {
        for (int channel = 0; channel < c; channel += 4) {
            float low[4], high[4];
            load_four<STEP>(low, low_row, channel, c);
            load_four<STEP>(high, high_row, channel, c);
#pragma unroll
            for (int tile = 0; tile < TILES; ++tile) {
                if (first_column + tile * 8 >= n) continue;
#pragma unroll
                for (int side = 0; side < 2; ++side) {
                    const int column = first_column + tile * 8 + 2 * quarter + side;
                    float other[4];
                    load_four<STEP>(other, window + static_cast<int64_t>(min(column, n - 1)) * c, channel, c);
#pragma unroll
                    for (int index = 0; index < 4; ++index) {
                        const float difference = other[index] - mean[channel + index];
                        similarity[tile][side] += low[index] * difference;
                        similarity[tile][2 + side] += high[index] * difference;
                    }
                }
            }
        }
    }

    // From here on numbers are their ordered integers; columns beyond n are 0, which no number is.
    uint32_t key[TILES][4];
#pragma unroll
    for (int tile = 0; tile < TILES; ++tile) {
#pragma unroll
        for (int index = 0; index < 4; ++index) {
            const int column = first_column + tile * 8 + 2 * quarter + index % 2;
            key[tile][index] = column < n ? ordered(similarity[tile][index]) : 0u;
        }
    }

    // The largest threshold that k of the row's numbers reach is the k-th largest of them. One that exactly k reach picks
    // the same numbers: once all 16 rows have one, the other bits change nothing.
    uint32_t threshold[2] = {0u, 0u};
    bool found[2] = {false, false};
    for (int bit = 31; bit >= 0; --bit) {
        uint32_t* buffer = counts + (bit % 2) * KEY_GRAPH_WARPS * KEY_GRAPH_ROWS;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const uint32_t candidate = threshold[half] | (1u << bit);
            uint32_t reached = 0;
#pragma unroll
            for (int tile = 0; tile < TILES; ++tile) {
                reached += key[tile][2 * half] >= candidate;
                reached += key[tile][2 * half + 1] >= candidate;
            }
            reached += shuffle_xor(reached, 1);
            reached += shuffle_xor(reached, 2);
            if (quarter == 0) buffer[warp * KEY_GRAPH_ROWS + group + 8 * half] = reached;
        }
        block_barrier();  // the other buffer is free again after it
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            uint32_t reached = 0;
#pragma unroll
            for (int other = 0; other < KEY_GRAPH_WARPS; ++other) {
                reached += buffer[other * KEY_GRAPH_ROWS + group + 8 * half];
            }
            if (reached >= static_cast<uint32_t>(k)) threshold[half] |= 1u << bit;
            found[half] |= reached == static_cast<uint32_t>(k);
        }
        if (!any_lane(!(found[0] && found[1]))) break;  // every warp knows all rows: the same for the block
    }

#pragma unroll
    for (int tile = 0; tile < TILES; ++tile) {
#pragma unroll
        for (int index = 0; index < 4; ++index) {
            const int column = first_column + tile * 8 + 2 * quarter + index % 2;
            if (column < n) staged[(group + 8 * (index / 2)) * stride + column] = key[tile][index] >= threshold[index / 2];
        }
    }
    block_barrier();
    uint8_t* written = keep + (static_cast<int64_t>(blockIdx.z) * n + first_row) * n;
    if (n % 16 == 0) {
        for (int index = threadIdx.x; index < rows * (n / 16); index += blockDim.x) {
            reinterpret_cast<Words<4>*>(written)[index] = reinterpret_cast<const Words<4>*>(staged)[index];
        }
    } else {
        for (int index = threadIdx.x; index < rows * n; index += blockDim.x) {
            written[index] = staged[index / n * stride + index % n];
        }
    }
}

template <typename T, int TILES, int STEP>
__global__ void __launch_bounds__(32 * KEY_GRAPH_WARPS, key_graph_residents<T>())
    key_graph_kernel(const T* __restrict__ tokens, uint8_t* __restrict__ keep, int n, int c, int k) {
    key_graph<T, TILES, STEP>(tokens, keep, n, c, k);
}

}  // namespace edgeir
