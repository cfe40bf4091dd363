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
        const int position = start + 8 * chunk;
        const bool in_eights = sizes.in_eights();
        const Eight at = eight_at(sizes, min(position, positions - 1) & ~7);
#pragma unroll
        for (int turn = 0; turn < 2; ++turn) {
            const int row = channel + turn * BEHIND;
            if (row >= channels) continue;
            store_words<8>(left + row * STRIDE + 8 * chunk, of_left[turn]);
            store_words<8>(right + row * STRIDE + 8 * chunk, of_right[turn]);
            const T* low = peaks + (map + row) * sizes.low_positions();
            float eight[8];
            if (in_eights) {
                sampled(eight, low, at);
            } else {
                sampled(eight, low, sizes, position, last);
            }
            uint32_t words[4];
#pragma unroll
            for (int pair = 0; pair < 4; ++pair) {
                const bool inside = position + 2 * pair < last || !in_eights;
                words[pair] = inside ? pack(from_float<T>(eight[2 * pair]), from_float<T>(eight[2 * pair + 1])) : 0u;
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
