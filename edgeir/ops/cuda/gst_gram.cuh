// EdgeirGstAttention: tokens to peaks, and all products of rows, added up (gst_attention.cuh).
#pragma once

#include "gst_sampling.cuh"

namespace edgeir {

// 1. grid (heads * channels, batch); peaks (batch, C, low positions), inverse_sums (batch, C). STEP as step_of says.
template <typename T, int STEP>
__global__ void __launch_bounds__(GST_PEAKS_THREADS)
    gst_peaks_kernel(const T* __restrict__ tokens, T* __restrict__ peaks, float* __restrict__ inverse_sums,
                     GstSizes sizes) {
    float* scratch = reinterpret_cast<float*>(shared_memory());
    const int count = sizes.low_positions();
    const int64_t row = static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x;
    const T* from = tokens + row * count;
    T* to = peaks + row * count;
    float largest = minus_infinity();
#pragma unroll 4
    for (int start = 4 * threadIdx.x; start < count; start += 4 * GST_PEAKS_THREADS) {
        float four[4];
        load_four<STEP>(four, from, start, count);
#pragma unroll
        for (int index = 0; index < 4; ++index) {
            if (start + index < count) largest = fmaxf(largest, four[index]);
        }
    }
    largest = reduced<GST_PEAKS_THREADS, true>(largest, scratch);
    float sum = 0.0f;
    for (int start = 4 * threadIdx.x; start < count; start += 4 * GST_PEAKS_THREADS) {
        float four[4];
        load_four<STEP>(four, from, start, count);
        T peak[4];
#pragma unroll
        for (int index = 0; index < 4; ++index) {
            peak[index] = from_float<T>(exp_of(four[index] - largest));
            if (start + index < count) sum += to_float(peak[index]);
        }
        store_four<STEP>(to, start, count, peak);
    }
    sum = reduced<GST_PEAKS_THREADS, false>(sum, scratch);
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
    for (int index = rows * STRIDE + threadIdx.x; index < ROWS * STRIDE; index += 2 * ROWS) {  // of no channel
        left[index] = right[index] = from_float<T>(0.0f);
    }
    // This thread brings eight positions of two channels each of Q, K and G: the channel of its number, and one behind.
    const int chunk = threadIdx.x % GST_CHUNKS, channel = threadIdx.x / GST_CHUNKS;
    constexpr int BEHIND = 2 * ROWS / GST_CHUNKS;
    static_assert(2 * BEHIND == ROWS / 2, "two channels for every thread are all of a head");
    const bool whole = positions % 8 == 0;
    uint32_t of_left[2][4], of_right[2][4];
    const auto bring = [&](int start) {
#pragma unroll
        for (int turn = 0; turn < 2; ++turn) {
            const int row = channel + turn * BEHIND;
            if (row >= channels) continue;
            load_eight(of_left[turn], query + (map + row) * positions, start + 8 * chunk, last, whole);
            load_eight(of_right[turn], key + (map + row) * positions, start + 8 * chunk, last, whole);
        }
    };
    // Rows of Q, K and G for a tensor-core product: what this lane reads.
    const int row_source = (16 * warp + lane % 16) * STRIDE + 8 * (lane / 16);
    const SharedAddress left_rows = shared_address(left + row_source), right_rows = shared_address(right + row_source);
    const SharedAddress columns = shared_address(right + (8 * (lane / 16) + lane % 8) * STRIDE + 8 * (lane / 8 % 2));

    if (first < last) bring(first);
    for (int start = first; start < last; start += GST_POSITIONS) {
        block_barrier();  // the step before has been read
        const Eights at = eights_at(sizes, start + 8 * chunk, last);
#pragma unroll
        for (int turn = 0; turn < 2; ++turn) {
            const int row = channel + turn * BEHIND;
            if (row >= channels) continue;
            store_words<8>(left + row * STRIDE + 8 * chunk, of_left[turn]);
            store_words<8>(right + row * STRIDE + 8 * chunk, of_right[turn]);
            float eight[8];
            sampled(eight, peaks + (map + row) * sizes.low_positions(), sizes, at);
            uint32_t words[4];
#pragma unroll
            for (int pair = 0; pair < 4; ++pair) {
                words[pair] = pack(from_float<T>(eight[2 * pair]), from_float<T>(eight[2 * pair + 1]));
            }
            store_words<8>(left + (channels + row) * STRIDE + 8 * chunk, words);
            store_words<8>(right + (channels + row) * STRIDE + 8 * chunk, words);
        }
        block_barrier();
        if (start + GST_POSITIONS < last) bring(start + GST_POSITIONS);
#pragma unroll
        for (int step = 0; step < GST_POSITIONS / 16; ++step) {
            uint32_t a[4], a_key[4];
            load_matrices(a, left_rows, 16 * step * 2);
            load_matrices(a_key, right_rows, 16 * step * 2);
#pragma unroll
            for (int tile = 0; tile < TILES; tile += 2) {
                uint32_t b[4];
                load_matrices(b, columns, (8 * tile * STRIDE + 16 * step) * 2);
                multiply_add<T>(products[tile], a, {b[0], b[1]});
                multiply_add<T>(products[tile + 1], a, {b[2], b[3]});
            }
            // A tile of columns is a half of the fragment of rows; only the diagonals are wanted.
            multiply_add<T>(of_query[0], a, {a[0], a[2]});
            multiply_add<T>(of_query[1], a, {a[1], a[3]});
            multiply_add<T>(of_key[0], a_key, {a_key[0], a_key[2]});
            multiply_add<T>(of_key[1], a_key, {a_key[1], a_key[3]});
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

// 2. in FP32: EACH x EACH products for one of 16 x 16 threads, 16 * EACH at least the rows.
// grid (splits, heads, batch); parts as above.
template <int EACH>
__global__ void __launch_bounds__(GST_FLOAT_SIDE* GST_FLOAT_SIDE)
    gst_gram_float_kernel(const float* __restrict__ query, const float* __restrict__ key, const float* __restrict__ peaks,
                          float* __restrict__ parts, GstSizes sizes) {
    constexpr int THREADS = GST_FLOAT_SIDE * GST_FLOAT_SIDE, ROWS = GST_FLOAT_SIDE * EACH;
    const int thread = threadIdx.x, row = thread / GST_FLOAT_SIDE, column = thread % GST_FLOAT_SIDE;
    const int channels = sizes.channels, rows = sizes.rows(), positions = sizes.positions();
    const int64_t map = (static_cast<int64_t>(blockIdx.z) * sizes.heads + blockIdx.y) * channels;
    float* left = reinterpret_cast<float*>(shared_memory());  // (ROWS, GST_FLOAT_POSITIONS) of [Q;G]
    float* right = left + ROWS * GST_FLOAT_STRIDE;            // the same of [K;G]
    int first, last;
    positions_of(sizes, blockIdx.x, first, last);
    float products[EACH][EACH], square = 0.0f;
#pragma unroll
    for (int index = 0; index < EACH * EACH; ++index) products[index / EACH][index % EACH] = 0.0f;
    // The squared norm that this thread adds up: of a row of Q, or of one of K.
    const float* normed = thread < channels ? left + thread * GST_FLOAT_STRIDE : right + (thread - channels) * GST_FLOAT_STRIDE;
    for (int start = first; start < last; start += GST_FLOAT_POSITIONS) {
        block_barrier();  // the step before has been read
        for (int index = thread; index < ROWS * GST_FLOAT_POSITIONS; index += THREADS) {
            const int which = index / GST_FLOAT_POSITIONS, place = index % GST_FLOAT_POSITIONS, position = start + place;
            float one = 0.0f, other = 0.0f;
            if (position < last && which < channels) {
                one = query[(map + which) * positions + position];
                other = key[(map + which) * positions + position];
            } else if (position < last && which < rows) {
                one = other = sampled(peaks + (map + which - channels) * sizes.low_positions(), sizes, position);
            }
            left[which * GST_FLOAT_STRIDE + place] = one;
            right[which * GST_FLOAT_STRIDE + place] = other;
        }
        block_barrier();
        for (int place = 0; place < GST_FLOAT_POSITIONS; ++place) {
            float one[EACH], other[EACH];
#pragma unroll
            for (int index = 0; index < EACH; ++index) {
                one[index] = left[(row + GST_FLOAT_SIDE * index) * GST_FLOAT_STRIDE + place];
                other[index] = right[(column + GST_FLOAT_SIDE * index) * GST_FLOAT_STRIDE + place];
            }
#pragma unroll
            for (int index = 0; index < EACH * EACH; ++index) {
                products[index / EACH][index % EACH] += one[index / EACH] * other[index % EACH];
            }
        }
        if (thread < 2 * channels) {
            for (int place = 0; place < GST_FLOAT_POSITIONS; ++place) square += normed[place] * normed[place];
        }
    }
    float* part = parts + ((static_cast<int64_t>(blockIdx.z) * sizes.heads + blockIdx.y) * sizes.splits + blockIdx.x) *
                              sizes.part();
#pragma unroll
    for (int index = 0; index < EACH * EACH; ++index) {
        const int down = row + GST_FLOAT_SIDE * (index / EACH), across = column + GST_FLOAT_SIDE * (index % EACH);
        if (down < rows && across < rows) part[down * rows + across] = products[index / EACH][index % EACH];
    }
    if (thread < 2 * channels) part[rows * rows + thread] = square;
}

// 3. grid (ceil(part / 32), heads, batch), block 32 * GST_SUM_SHARES; sums (batch, heads, part).
__global__ void __launch_bounds__(32 * GST_SUM_SHARES)
    gst_sum_kernel(const float* __restrict__ parts, float* __restrict__ sums, GstSizes sizes) {
    float* shares = reinterpret_cast<float*>(shared_memory());  // (GST_SUM_SHARES, 32)
    const int lane = threadIdx.x % 32, share = threadIdx.x / 32, part = sizes.part(), index = 32 * blockIdx.x + lane;
    const int64_t head = static_cast<int64_t>(blockIdx.z) * sizes.heads + blockIdx.y;
    const float* from = parts + head * sizes.splits * part;
    const int each = (sizes.splits + GST_SUM_SHARES - 1) / GST_SUM_SHARES;
    float sum = 0.0f;
#pragma unroll 8
    for (int split = share * each; split < min((share + 1) * each, sizes.splits); ++split) {
        if (index < part) sum += from[static_cast<int64_t>(split) * part + index];
    }
    shares[threadIdx.x] = sum;
    block_barrier();
    if (share != 0 || index >= part) return;
#pragma unroll
    for (int other = 1; other < GST_SUM_SHARES; ++other) sum += shares[32 * other + lane];
    sums[head * part + index] = sum;
}

}  // namespace edgeir
