// EdgeirKeyGraphAttention: softmax attention restricted to the key graph (edgeir/ops/table.py).
//
// One block takes 128 queries of one window, 16 for each of its 8 warps, for up to 3 heads one after the other, and goes
// over the keys in blocks of 64, as FlashAttention-2 does (Dao 2023, arXiv 2307.08691, algorithm 1): logits live in
// accumulators, the softmax keeps a running maximum and sum per row in FP32, and no n x n matrix is written.
//
// The key graph of the 128 queries is read once and kept in shared memory as bits, for all heads of the block. A block of
// keys that none of the 128 queries keeps is not even read; a warp passes over what none of its 16 keeps. A query that
// keeps no key at all gets the mean of all values, which is what the softmax of equal logits is.
//
// Rows of queries and keys are divided by their norms in FP32 and then rounded, as the ONNX body does. While one block of
// keys is multiplied, the rows of the next and its biases are on their way into registers; shared memory has two buffers,
// so that there is one barrier per block. The biases are what the accumulators of the products start from.
//
// Which key is which column of a tensor-core product does not matter as long as keys, values, biases and bits agree. Lane
// 4 g + t gets, of a block's 64 keys, 8 t to 8 t + 7 and 32 + 8 t to 32 + 8 t + 7: biases of a row are two loads of 16
// bytes, and the bits are two bytes. Rows of keys and values lie in shared memory in the order of columns.
#pragma once

#include "attention_by_rows.cuh"

namespace edgeir {

constexpr int ATTENTION_WARPS = 8;
constexpr int ATTENTION_ROWS = 16 * ATTENTION_WARPS;
constexpr int ATTENTION_KEYS = 64;
constexpr int ATTENTION_MOST_HEADS = 3;  // of one block

// Numbers between the starts of two rows in shared memory: 16 bytes more than a row, so that the eight rows that are read
// at once lie in different banks.
constexpr int ATTENTION_PADDING = 8;

// Columns of a row of queries, keys and values in registers and shared memory; FP32 rows are not kept there.
template <typename T> __host__ __device__ constexpr int attention_width(int d) {
    return sizeof(T) == 4 ? 16 : (d + 15) / 16 * 16;
}

// How many numbers of a row may be read at once, where rows of n are read 16 bytes at a time too; 1 for all other sizes,
// which are right but not fast.
__host__ __device__ constexpr int attention_step(int n, int d) { return n % 16 == 0 ? step_of(d) : 1; }

// Buffers of keys and values: two, where that leaves room for the bits in the 48 KiB that every launch may have.
__host__ __device__ constexpr int attention_buffers(int width) { return width <= 48 ? 2 : 1; }

// Blocks that one SM should hold: registers allow two of the narrow ones.
template <typename T> __host__ __device__ constexpr int attention_residents(int width) {
    return sizeof(T) == 2 && width <= 32 ? 2 : 1;
}

// Heads of one block: as equal as can be.
__host__ __device__ constexpr int attention_heads(int heads) {
    const int blocks = (heads + ATTENTION_MOST_HEADS - 1) / ATTENTION_MOST_HEADS;
    return (heads + blocks - 1) / blocks;
}

// Bytes of one row of bits: 64 keys are 8 bytes, and 8 more so that rows meet other banks.
__host__ __device__ constexpr int attention_bits_stride(int n) {
    return (n + ATTENTION_KEYS - 1) / ATTENTION_KEYS * 8 + 8;
}

// In shared memory: buffers of keys and of values, bits, and per warp which blocks of keys it wants.
template <typename T> __host__ __device__ constexpr Launch attention_launch(int heads, int n, int d) {
    if (sizeof(T) == 4) {
        return {(n + ATTENTION_FLOAT_ROWS - 1) / ATTENTION_FLOAT_ROWS, heads, 32 * ATTENTION_FLOAT_ROWS,
                ATTENTION_FLOAT_ROWS * n * 4};
    }
    const int width = attention_width<T>(d), per_block = attention_heads(heads);
    return {(n + ATTENTION_ROWS - 1) / ATTENTION_ROWS, (heads + per_block - 1) / per_block, 32 * ATTENTION_WARPS,
            attention_buffers(width) * 2 * ATTENTION_KEYS * (width + ATTENTION_PADDING) * 2 +
                ATTENTION_ROWS * attention_bits_stride(n) + ATTENTION_WARPS * 4};
}

// Where a key of a block lies in shared memory: 8 times its tile of columns, plus its column.
__device__ __forceinline__ int attention_place(int key) {
    return 32 * (key / 32) + 8 * (key % 8 / 2) + 2 * (key % 32 / 8) + key % 2;
}

// One bit for each of 16 bytes, 1 where the byte is not 0.
__device__ __forceinline__ uint32_t bits_of_bytes(const uint32_t (&words)[4]) {
    uint32_t bits = 0;
#pragma unroll
    for (int index = 0; index < 4; ++index) {
        const uint32_t high = ((words[index] & 0x7f7f7f7fu) + 0x7f7f7f7fu) | words[index];  // the top bit of each byte
        bits |= ((high >> 7 & 0x01010101u) * 0x10204080u >> 28) << (4 * index);
    }
    return bits;
}

// The key graph of the block's queries into `bits`, 0 beyond the last query and key. What this thread found wanted: one
// bit for each block of keys.
template <int STEP>
__device__ __forceinline__ uint32_t pack_keep(uint8_t* bits, const uint8_t* __restrict__ keep, int first_row, int n) {
    const int chunks = (n + ATTENTION_KEYS - 1) / ATTENTION_KEYS * (ATTENTION_KEYS / 16);
    uint32_t wanted = 0;
#pragma unroll 4
    for (int index = threadIdx.x; index < ATTENTION_ROWS * chunks; index += 32 * ATTENTION_WARPS) {
        const int row = index / chunks, chunk = index % chunks;
        const uint8_t* from = keep + static_cast<int64_t>(first_row + row) * n + 16 * chunk;
        uint32_t kept = 0;
        if (first_row + row < n && 16 * chunk < n) {
            if constexpr (STEP > 1) {
                uint32_t words[4];
                load_sixteen_bytes(words, from);
                kept = bits_of_bytes(words);
            } else {
                for (int byte = 0; byte < min(16, n - 16 * chunk); ++byte) kept |= (from[byte] != 0 ? 1u : 0u) << byte;
            }
        }
        reinterpret_cast<uint16_t*>(bits + row * attention_bits_stride(n))[chunk] = static_cast<uint16_t>(kept);
        if (kept != 0) wanted |= 1u << (chunk / (ATTENTION_KEYS / 16));
    }
    return wanted;
}

// The biases of eight columns, `column` and behind, in two rows, eight apart: pairs.
template <int STEP, typename T>
__device__ __forceinline__ void load_biases(uint32_t (&to)[2][4], const T* __restrict__ bias, int first_row, int column,
                                            int n) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const T* row = bias + min(first_row + 8 * half, n - 1) * n;
        if constexpr (STEP > 1) {
            load_sixteen_bytes(to[half], row + min(column, n - 8));  // nobody keeps what lies beyond n
        } else {
#pragma unroll
            for (int pair = 0; pair < 4; ++pair) to[half][pair] = load_pair<1>(row, column + 2 * pair, n);
        }
    }
}

// WIDTH is attention_width, STEP attention_step; T is float16 or bfloat16.
template <typename T, int WIDTH, int STEP> __device__ __forceinline__ void attention_in_blocks(const Attention<T>& of) {
    constexpr int STRIDE = WIDTH + ATTENTION_PADDING, BUFFERS = attention_buffers(WIDTH);
    constexpr int STEPS = WIDTH / 16, TILES = ATTENTION_KEYS / 8, OUT_TILES = WIDTH / 8;
    constexpr int PART = WIDTH / 4;  // numbers of a row of keys or values that one thread brings: four threads take a row
    static_assert(32 * ATTENTION_WARPS == 4 * ATTENTION_KEYS, "four threads take a row");

    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int group = lane / 4, quarter = lane % 4;
    const int n = of.n, d = of.d, first_row = blockIdx.x * ATTENTION_ROWS;
    const int blocks = (n + ATTENTION_KEYS - 1) / ATTENTION_KEYS;

    T* keys = reinterpret_cast<T*>(shared_memory());     // BUFFERS times (64 keys, WIDTH)
    T* values = keys + BUFFERS * ATTENTION_KEYS * STRIDE;  // the same
    uint8_t* bits = reinterpret_cast<uint8_t*>(values + BUFFERS * ATTENTION_KEYS * STRIDE);
    uint32_t* wanted_by = reinterpret_cast<uint32_t*>(bits + ATTENTION_ROWS * attention_bits_stride(n));

    uint32_t wanted = pack_keep<STEP>(bits, of.keep + static_cast<int64_t>(blockIdx.z) * n * n, first_row, n);
#pragma unroll
    for (int mask = 1; mask < 32; mask *= 2) wanted |= shuffle_xor(wanted, mask);
    if (lane == 0) wanted_by[warp] = wanted;
    block_barrier();
    wanted = 0;
#pragma unroll
    for (int other = 0; other < ATTENTION_WARPS; ++other) wanted |= wanted_by[other];
    const auto wanted_from = [&](int block) {
        while (block < blocks && (wanted >> block & 1u) == 0) ++block;
        return block;
    };

    // This lane has this query and the eighth behind it; those beyond the last repeat it, keep nothing, are not written.
    const int first_query = first_row + 16 * warp + group;
    // The row of a block of keys that this thread brings, and where its numbers go.
    const int brought = threadIdx.x / 4, first_number = PART * quarter;
    const int target = attention_place(brought) * STRIDE + first_number;
    // What this lane reads for a tensor-core product: rows of keys for two tiles of columns, rows of values for 16 keys.
    const int key_source = (8 * (lane / 16) + lane % 8) * STRIDE + 8 * (lane / 8 % 2);
    const int bits_stride = attention_bits_stride(n);
    const uint8_t* own_bits = bits + (16 * warp + group) * bits_stride + quarter;
    const int value_source = lane % 16 * STRIDE + 8 * (lane / 16);

    int buffer = 0;
    const int per_block = attention_heads(of.heads), first_head = blockIdx.y * per_block;
    for (int head = first_head; head < min(first_head + per_block, of.heads); ++head) {
        const int64_t offset = (static_cast<int64_t>(blockIdx.z) * of.heads + head) * n * d;
        const T *key = of.key + offset, *value = of.value + offset;
        const T* bias = of.bias + static_cast<int64_t>(head) * n * n;

        uint32_t queries[STEPS][4];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const T* row = of.query + offset + min(first_query + 8 * half, n - 1) * d;
            uint32_t words[STEPS][2];
            float squares = 0.0f;
#pragma unroll
            for (int step = 0; step < STEPS; ++step) {
#pragma unroll
                for (int side = 0; side < 2; ++side) {
                    words[step][side] = load_pair<STEP>(row, 16 * step + 8 * side + 2 * quarter, d);
                    const Two<float> two = unpack<T>(words[step][side]);
                    squares += two.first * two.first + two.second * two.second;
                }
            }
            squares = sum_of_lanes<4>(squares);
            const float factor = to_float(of.scale[head]) * (of.cosine ? inverse_norm(squares) : 1.0f);
#pragma unroll
            for (int step = 0; step < STEPS; ++step) {
#pragma unroll
                for (int side = 0; side < 2; ++side) {
                    const Two<float> two = unpack<T>(words[step][side]);
                    queries[step][2 * side + half] =
                        pack(from_float<T>(two.first * factor), from_float<T>(two.second * factor));
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

        uint32_t key_words[PART / 2], value_words[PART / 2], early_biases[2][TILES / 2];
        const auto bring = [&](int block) {
            const int start = min(ATTENTION_KEYS * block + brought, n - 1) * d;  // nobody keeps one beyond n
            load_words<STEP, PART>(key_words, key + start, first_number, d);
            load_words<STEP, PART>(value_words, value + start, first_number, d);
            load_biases<STEP>(early_biases, bias, first_query, ATTENTION_KEYS * block + 8 * quarter, n);
        };
        int block = wanted_from(0);
        constexpr bool AHEAD = STEP > 1;  // what is read number by number leaves no registers for that
        if (AHEAD && block < blocks) bring(block);
        while (block < blocks) {
            if (!AHEAD) bring(block);
            uint32_t late_biases[2][TILES / 2];  // registers do not suffice for all that early
            load_biases<STEP>(late_biases, bias, first_query, ATTENTION_KEYS * block + 8 * quarter + 32, n);
            if (BUFFERS == 1) block_barrier();  // the block before has been read
            {
                float squares = 0.0f;
#pragma unroll
                for (int word = 0; word < PART / 2; ++word) {
                    const Two<float> two = unpack<T>(key_words[word]);
                    squares += two.first * two.first + two.second * two.second;
                }
                squares = sum_of_lanes<4>(squares);
                const float factor = of.cosine ? inverse_norm(squares) : 1.0f;
#pragma unroll
                for (int word = 0; word < PART / 2; ++word) {
                    const Two<float> two = unpack<T>(key_words[word]);
                    key_words[word] = pack(from_float<T>(two.first * factor), from_float<T>(two.second * factor));
                }
                store_words<PART>(keys + buffer * ATTENTION_KEYS * STRIDE + target, key_words);
                store_words<PART>(values + buffer * ATTENTION_KEYS * STRIDE + target, value_words);
            }
            block_barrier();
            const SharedAddress block_keys = shared_address(keys + buffer * ATTENTION_KEYS * STRIDE + key_source);
            const SharedAddress block_values = shared_address(values + buffer * ATTENTION_KEYS * STRIDE + value_source);
            uint32_t kept = 0;  // one bit for each of this lane's columns: 16 of the first query, then of the second
#pragma unroll
            for (int index = 0; index < 4; ++index) {
                const uint32_t eight = own_bits[8 * (index / 2) * bits_stride + 8 * block + 4 * (index % 2)];
                kept |= eight << (8 * index);
            }
            const bool any = any_lane(kept != 0);
            float logits[TILES][4];
#pragma unroll
            for (int tile = 0; tile < TILES; ++tile) {
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const bool early = tile < TILES / 2;
                    const Two<float> two = unpack<T>(early ? early_biases[half][tile % 4] : late_biases[half][tile % 4]);
                    logits[tile][2 * half] = two.first;
                    logits[tile][2 * half + 1] = two.second;
                }
            }
            block = wanted_from(block + 1);
            if (AHEAD && block < blocks) bring(block);
            if (BUFFERS == 2) buffer ^= 1;
            if (!any) continue;

#pragma unroll
            for (int tile = 0; tile < TILES; tile += 2) {
#pragma unroll
                for (int step = 0; step < STEPS; ++step) {
                    uint32_t found[4];
                    load_matrices(found, block_keys, (8 * tile * STRIDE + 16 * step) * 2);
                    multiply_add<T>(logits[tile], queries[step], {found[0], found[1]});
                    multiply_add<T>(logits[tile + 1], queries[step], {found[2], found[3]});
                }
            }
            float block_largest[2] = {minus_infinity(), minus_infinity()};
#pragma unroll
            for (int tile = 0; tile < TILES; ++tile) {
#pragma unroll
                for (int index = 0; index < 4; ++index) {
                    const int half = index / 2;
                    if ((kept & 1u << (16 * half + 2 * tile + index % 2)) == 0) logits[tile][index] = minus_infinity();
                    block_largest[half] = fmaxf(block_largest[half], logits[tile][index]);
                }
            }
            float subtracted[2];
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const float now = fmaxf(largest[half], largest_of_lanes<4>(block_largest[half]));
                subtracted[half] = now == minus_infinity() ? 0.0f : LOG2_E * now;
                const float shrunk = exp2_fast(LOG2_E * largest[half] - subtracted[half]);  // 0 the first time
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
                    const float first = exp2_fast(LOG2_E * from[0] - subtracted[half]);
                    const float second = exp2_fast(LOG2_E * from[1] - subtracted[half]);
                    sum[half] += first + second;
                    weights[index] = pack(from_float<T>(first), from_float<T>(second));
                }
#pragma unroll
                for (int tile = 0; tile < OUT_TILES; tile += 2) {
                    uint32_t found[4];
                    load_matrices_transposed(found, block_values, (16 * pair * STRIDE + 8 * tile) * 2);
                    multiply_add<T>(output[tile], weights, {found[0], found[1]});
                    multiply_add<T>(output[tile + 1], weights, {found[2], found[3]});
                }
            }
        }

        const float totals[2] = {sum_of_lanes<4>(sum[0]), sum_of_lanes<4>(sum[1])};
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const float total = totals[half];
            const int thread = thread_anew(), quarter = thread % 4;
            const int place = first_row + 16 * (thread / 32) + thread % 32 / 4 + 8 * half;
            if (place >= n) continue;
            T* row = of.output + offset + place * d;
            const float inverse = 1.0f / total;
#pragma unroll
            for (int tile = 0; tile < OUT_TILES; ++tile) {
                const int column = 8 * tile + 2 * quarter;
                float found[2] = {output[tile][2 * half] * inverse, output[tile][2 * half + 1] * inverse};
                if (total == 0.0f) {  // a key that is kept has a weight, the largest 1; what is no number stays none
#pragma unroll
                    for (int side = 0; side < 2; ++side) {
                        found[side] = 0.0f;
#pragma unroll 1
                        for (int other = 0; other < n && column + side < d; ++other) {
                            found[side] += to_float(value[other * d + column + side]);
                        }
                        found[side] /= n;
                    }
                }
                store_pair<STEP>(row, column, d, pack(from_float<T>(found[0]), from_float<T>(found[1])));
            }
        }
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
__global__ void __launch_bounds__(sizeof(T) == 4 ? 32 * ATTENTION_FLOAT_ROWS : 32 * ATTENTION_WARPS,
                                  attention_residents<T>(WIDTH))
    key_graph_attention_kernel(Attention<T> of) {
    attention<T, WIDTH, STEP>(of);
}

}  // namespace edgeir
