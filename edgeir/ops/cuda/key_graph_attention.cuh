// EdgeirKeyGraphAttention: softmax attention restricted to the key graph (edgeir/ops/table.py).
//
// One block takes 64 queries of one head of one window, 16 for each of its 4 warps, and goes over the keys in blocks of
// 64, as FlashAttention-2 does (Dao 2023, arXiv 2307.08691, algorithm 1): logits live in accumulators, the softmax keeps
// a running maximum and sum per row in FP32, and no n x n matrix is written. A block of keys that none of the 64 queries
// keeps is not even read. A query that keeps no key at all gets the mean of all values, which is what the softmax of
// equal logits is.
//
// Rows of queries and keys are divided by their norms in FP32 and then rounded, as the ONNX body does.
#pragma once

#include "rows.cuh"

namespace edgeir {

constexpr int ATTENTION_WARPS = 4;
constexpr int ATTENTION_ROWS = 16 * ATTENTION_WARPS;
constexpr int ATTENTION_KEYS = 64;
constexpr int ATTENTION_MOST_WIDTH = 64;
constexpr float LOG2_E = 1.4426950408889634f;

// Numbers between the starts of two rows in shared memory: 16 bytes more than a row, so that rows meet other banks.
constexpr int ATTENTION_PADDING = 8;

constexpr int ATTENTION_FLOAT_ROWS = 4;
constexpr int ATTENTION_MOST_TOKENS = 1024;

// Columns of a row of queries, keys and values in registers and shared memory; FP32 rows are not kept there.
template <typename T> __host__ __device__ constexpr int attention_width(int d) { return sizeof(T) == 4 ? 16 : (d + 15) / 16 * 16; }

template <typename T> __host__ __device__ constexpr Launch attention_launch(int heads, int n, int d) {
    if (sizeof(T) == 4) {
        return {(n + ATTENTION_FLOAT_ROWS - 1) / ATTENTION_FLOAT_ROWS, heads, 32 * ATTENTION_FLOAT_ROWS,
                ATTENTION_FLOAT_ROWS * n * 4};
    }
    const int width = attention_width<T>(d);
    return {(n + ATTENTION_ROWS - 1) / ATTENTION_ROWS, heads, 32 * ATTENTION_WARPS,
            2 * ATTENTION_KEYS * (width + ATTENTION_PADDING) + 2 * width * (ATTENTION_KEYS + ATTENTION_PADDING) +
                ATTENTION_ROWS * (ATTENTION_KEYS + 4) + 16};
}

// Addresses of one attention; what each is: the table. `cosine` divides rows by their norms.
template <typename T> struct Attention {
    const T* __restrict__ query;
    const T* __restrict__ key;
    const T* __restrict__ value;
    const uint8_t* __restrict__ keep;
    const T* __restrict__ bias;
    const T* __restrict__ scale;
    T* __restrict__ output;
    int heads, n, d;
    bool cosine;
};

// WIDTH is attention_width; T is float16 or bfloat16.
template <typename T, int WIDTH, int STEP> __device__ __forceinline__ void attention_in_blocks(const Attention<T>& of) {
    constexpr int KEY_STRIDE = WIDTH + ATTENTION_PADDING, VALUE_STRIDE = ATTENTION_KEYS + ATTENTION_PADDING;
    constexpr int KEEP_STRIDE = ATTENTION_KEYS + 4;
    constexpr int STEPS = WIDTH / 16, TILES = ATTENTION_KEYS / 8, OUT_TILES = WIDTH / 8;

    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int group = lane / 4, quarter = lane % 4;
    const int n = of.n, d = of.d, head = blockIdx.y, first_row = blockIdx.x * ATTENTION_ROWS;
    const int64_t offset = (static_cast<int64_t>(blockIdx.z) * of.heads + head) * n * d;
    const T *query = of.query + offset, *key = of.key + offset, *value = of.value + offset;
    const uint8_t* keep = of.keep + static_cast<int64_t>(blockIdx.z) * n * n;
    const T* bias = of.bias + static_cast<int64_t>(head) * n * n;

    T* keys = reinterpret_cast<T*>(shared_memory());              // (64 keys, WIDTH)
    T* values = keys + ATTENTION_KEYS * KEY_STRIDE;               // (WIDTH, 64 keys)
    uint8_t* kept = reinterpret_cast<uint8_t*>(values + WIDTH * VALUE_STRIDE);  // (64 queries, 64 keys)
    uint32_t* wanted = reinterpret_cast<uint32_t*>(kept + ATTENTION_ROWS * KEEP_STRIDE);  // per warp: any kept

    // The two query rows of this lane; rows beyond the last repeat it, and are not written.
    const int rows[2] = {first_row + 16 * warp + group, first_row + 16 * warp + group + 8};
    uint32_t queries[STEPS][4];
    {
        float numbers[2][STEPS][4];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const T* row = query + static_cast<int64_t>(min(rows[half], n - 1)) * d;
            float squares = 0.0f;
#pragma unroll
            for (int step = 0; step < STEPS; ++step) {
                load_four<STEP>(numbers[half][step], row, 16 * step + 4 * quarter, d);
#pragma unroll
                for (int index = 0; index < 4; ++index) squares += numbers[half][step][index] * numbers[half][step][index];
            }
            squares = sum_of_lanes<4>(squares);
            float factor = to_float(of.scale[head]);
            if (of.cosine) factor /= fmaxf(sqrtf(squares), LEAST_NORM);
#pragma unroll
            for (int step = 0; step < STEPS; ++step) {
#pragma unroll
                for (int index = 0; index < 4; ++index) numbers[half][step][index] *= factor;
            }
        }
#pragma unroll
        for (int step = 0; step < STEPS; ++step) {
#pragma unroll
            for (int index = 0; index < 4; ++index) {
                const float* from = numbers[index % 2][step] + 2 * (index / 2);
                queries[step][index] = pack(from_float<T>(from[0]), from_float<T>(from[1]));
            }
        }
    }

    float output[OUT_TILES][4];
#pragma unroll
    for (int tile = 0; tile < OUT_TILES; ++tile) {
#pragma unroll
        for (int index = 0; index < 4; ++index) output[tile][index] = 0.0f;
    }
    float largest[2] = {minus_infinity(), minus_infinity()}, sum[2] = {0.0f, 0.0f};

    for (int first_key = 0; first_key < n; first_key += ATTENTION_KEYS) {
        block_barrier();  // the block before has been read
        bool any = false;
        for (int index = threadIdx.x; index < ATTENTION_ROWS * ATTENTION_KEYS; index += blockDim.x) {
            const int row = index / ATTENTION_KEYS, column = index % ATTENTION_KEYS;
            const bool inside = first_row + row < n && first_key + column < n;
            const uint8_t one =
                inside ? keep[static_cast<int64_t>(first_row + row) * n + first_key + column] : static_cast<uint8_t>(0);
            kept[row * KEEP_STRIDE + column] = one;
            any |= one != 0;
        }
        any = any_lane(any);
        if (lane == 0) wanted[warp] = any;
        block_barrier();
        uint32_t all = 0;
#pragma unroll
        for (int other = 0; other < ATTENTION_WARPS; ++other) all |= wanted[other];
        if (all == 0) continue;  // the same for all threads

        // Two threads take one key and half of its numbers each.
        {
            const int place = threadIdx.x / 2, part = threadIdx.x % 2;
            const bool inside = first_key + place < n;
            const int64_t start = static_cast<int64_t>(min(first_key + place, n - 1)) * d;
            float numbers[WIDTH / 8][4], squares = 0.0f;
#pragma unroll
            for (int four = 0; four < WIDTH / 8; ++four) {
                load_four<STEP>(numbers[four], key + start, part * (WIDTH / 2) + 4 * four, d);
#pragma unroll
                for (int index = 0; index < 4; ++index) squares += numbers[four][index] * numbers[four][index];
            }
            squares = sum_of_lanes<2>(squares);
            const float factor = of.cosine ? 1.0f / fmaxf(sqrtf(squares), LEAST_NORM) : 1.0f;
#pragma unroll
            for (int four = 0; four < WIDTH / 8; ++four) {
                const int column = part * (WIDTH / 2) + 4 * four;
                float of_value[4];
                load_four<STEP>(of_value, value + start, column, d);
#pragma unroll
                for (int index = 0; index < 4; ++index) {
                    keys[place * KEY_STRIDE + column + index] = from_float<T>(numbers[four][index] * factor);
                    values[(column + index) * VALUE_STRIDE + place] = from_float<T>(inside ? of_value[index] : 0.0f);
                }
            }
        }
        block_barrier();

        float logits[TILES][4];
#pragma unroll
        for (int tile = 0; tile < TILES; ++tile) {
#pragma unroll
            for (int index = 0; index < 4; ++index) logits[tile][index] = 0.0f;
#pragma unroll
            for (int step = 0; step < STEPS; ++step) {
                const T* row = keys + (8 * tile + group) * KEY_STRIDE + 16 * step + 4 * quarter;
                const uint32_t b[2] = {pack(row[0], row[1]), pack(row[2], row[3])};
                multiply_add<T>(logits[tile], queries[step], b);
            }
        }
        float block_largest[2] = {minus_infinity(), minus_infinity()};
#pragma unroll
        for (int tile = 0; tile < TILES; ++tile) {
#pragma unroll
            for (int index = 0; index < 4; ++index) {
                const int half = index / 2, column = 8 * tile + 2 * quarter + index % 2;
                const int row = 16 * warp + group + 8 * half;
                float logit = minus_infinity();
                if (kept[row * KEEP_STRIDE + column] != 0) {
                    const float added = to_float(bias[static_cast<int64_t>(first_row + row) * n + first_key + column]);
                    logit = LOG2_E * (logits[tile][index] + added);
                }
                logits[tile][index] = logit;
                block_largest[half] = fmaxf(block_largest[half], logit);
            }
        }
        float subtracted[2];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const float now = fmaxf(largest[half], largest_of_lanes<4>(block_largest[half]));
            subtracted[half] = now == minus_infinity() ? 0.0f : now;
            const float shrunk = exp2_fast(largest[half] - subtracted[half]);  // 0 the first time
            sum[half] *= shrunk;
#pragma unroll
            for (int tile = 0; tile < OUT_TILES; ++tile) {
                output[tile][2 * half] *= shrunk;
                output[tile][2 * half + 1] *= shrunk;
            }
            largest[half] = now;
        }
#pragma unroll
        for (int pair = 0; pair < TILES / 2; ++pair) {
            uint32_t weights[4];
#pragma unroll
            for (int index = 0; index < 4; ++index) {  // rows g, g + 8 of the first tile, then of the second
                const int half = index % 2;
                const float* from = logits[2 * pair + index / 2] + 2 * half;
                const float first = exp2_fast(from[0] - subtracted[half]), second = exp2_fast(from[1] - subtracted[half]);
                sum[half] += first + second;
                weights[index] = pack(from_float<T>(first), from_float<T>(second));
            }
#pragma unroll
            for (int tile = 0; tile < OUT_TILES; ++tile) {
                const T* column = values + (8 * tile + group) * VALUE_STRIDE + 16 * pair + 2 * quarter;
                const uint32_t b[2] = {pack(column[0], column[1]), pack(column[8], column[9])};
                multiply_add<T>(output[tile], weights, b);
            }
        }
    }

#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const float total = sum_of_lanes<4>(sum[half]);
        if (rows[half] >= n) continue;
        T* row = of.output + offset + static_cast<int64_t>(rows[half]) * d;
#pragma unroll
        for (int tile = 0; tile < OUT_TILES; ++tile) {
#pragma unroll
            for (int side = 0; side < 2; ++side) {
                const int column = 8 * tile + 2 * quarter + side;
                if (column >= d) continue;
                float found = output[tile][2 * half + side];
                if (total > 0.0f) {
                    found /= total;
                } else {
                    found = 0.0f;
                    for (int other = 0; other < n; ++other) found += to_float(value[static_cast<int64_t>(other) * d + column]);
                    found /= n;
                }
                row[column] = from_float<T>(found);
            }
        }
    }
}

// In FP32, a warp per query and its logits in shared memory: for what must be exact, not for speed.
template <int STEP> __device__ __forceinline__ void attention_by_rows(const Attention<float>& of) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int n = of.n, d = of.d, head = blockIdx.y;
    // The last row may be computed more than once.
    const int row = min(static_cast<int>(blockIdx.x) * ATTENTION_FLOAT_ROWS + warp, n - 1);
    const int64_t offset = (static_cast<int64_t>(blockIdx.z) * of.heads + head) * n * d;
    const float *query = of.query + offset + static_cast<int64_t>(row) * d, *value = of.value + offset;
    const uint8_t* keep = of.keep + (static_cast<int64_t>(blockIdx.z) * n + row) * n;
    const float* bias = of.bias + (static_cast<int64_t>(head) * n + row) * n;
    float* weights = reinterpret_cast<float*>(shared_memory()) + warp * n;

    float squares = 0.0f;
    for (int index = 0; index < d; ++index) squares += query[index] * query[index];
    const float factor = of.scale[head] / (of.cosine ? fmaxf(sqrtf(squares), LEAST_NORM) : 1.0f);
    float largest = minus_infinity();
    for (int other = lane; other < n; other += 32) {
        const float* key = of.key + offset + static_cast<int64_t>(other) * d;
        float product = 0.0f, norm = 0.0f;
        for (int first = 0; first < d; first += 4) {
            float numbers[4];
            load_four<STEP>(numbers, key, first, d);
#pragma unroll
            for (int index = 0; index < 4; ++index) {
                norm += numbers[index] * numbers[index];
                if (first + index < d) product += numbers[index] * (query[first + index] * factor);
            }
        }
        if (of.cosine) product /= fmaxf(sqrtf(norm), LEAST_NORM);
        const float logit = keep[other] != 0 ? LOG2_E * (product + bias[other]) : minus_infinity();
        weights[other] = logit;
        largest = fmaxf(largest, logit);
    }
    largest = largest_of_lanes<32>(largest);
    const bool none = largest == minus_infinity();
    float sum = 0.0f;
    for (int other = lane; other < n; other += 32) {
        const float weight = none ? 1.0f : exp2_fast(weights[other] - largest);
        weights[other] = weight;
        sum += weight;
    }
    sum = sum_of_lanes<32>(sum);
    block_barrier();  // all lanes of this warp have written; others have weights of their own
    for (int column = lane; column < d; column += 32) {
        float found = 0.0f;
        for (int other = 0; other < n; ++other) found += weights[other] * value[static_cast<int64_t>(other) * d + column];
        of.output[offset + static_cast<int64_t>(row) * d + column] = found / sum;
    }
}

// Launched as attention_launch says.
template <typename T, int WIDTH, int STEP> __device__ __forceinline__ void attention(const Attention<T>& of) {
    if constexpr (sizeof(T) == 4) {
        attention_by_rows<STEP>(of);
    } else {
        attention_in_blocks<T, WIDTH, STEP>(of);
    }
}

template <typename T, int WIDTH, int STEP>
__global__ void __launch_bounds__(32 * ATTENTION_WARPS) key_graph_attention_kernel(Attention<T> of) {
    attention<T, WIDTH, STEP>(of);
}

}  // namespace edgeir
