// EdgeirGstAttention: its sizes, and the maps of low resolution sampled where they are needed.
#pragma once

#include "rows.cuh"

namespace edgeir {

constexpr int GST_THREADS = 128;
constexpr int GST_POSITIONS = 64;  // of one step of the gram and the values kernel
constexpr int GST_MOST_CHANNELS = 64;  // per head
constexpr int GST_PADDING = 8;         // numbers between rows in shared memory, so that they meet other banks
constexpr int GST_ROWS = 2 * GST_MOST_CHANNELS;
constexpr int GST_CHUNKS = GST_POSITIONS / 8;  // threads bring and sample eight neighbouring positions of a row
constexpr int GST_PEAKS_THREADS = 1024;
constexpr int GST_FLOAT_SIDE = 16;        // threads of the gram kernel in FP32, squared
constexpr int GST_FLOAT_POSITIONS = 32;   // of one of its steps
constexpr int GST_FLOAT_STRIDE = 33;
constexpr int GST_SUM_SHARES = 8;      // threads that add parts of the same number
constexpr int GST_LOW_CHANNELS = 8;    // of one thread of the low kernel
constexpr int GST_VALUES_STEPS = 4;    // of one block of the values kernel

// The sizes of one attention. `rows` is 2 * channels: those of Q or K, then those of G.
struct GstSizes {
    int batch, heads, channels, height, width, low_height, low_width, splits;

    __host__ __device__ int rows() const { return 2 * channels; }
    __host__ __device__ int positions() const { return height * width; }
    __host__ __device__ int low_positions() const { return low_height * low_width; }
    // Numbers that one part of one head writes: products, then squared norms of Q and of K.
    __host__ __device__ int part() const { return rows() * rows() + 2 * channels; }
    // Whether eight positions, from a multiple of eight on, are neighbours in one row of the picture, above four tokens.
    __host__ __device__ bool in_eights() const { return width % 8 == 0 && width == 2 * low_width; }
};

// One row or column of a bilinear upsampling with half-pixel centres and clamped edges.
struct Tap {
    int low, high;
    float share;  // of `high`
};

// `size` is `stride` times `low_size`: the centre (place + 1/2) / stride - 1/2 is a whole number of 2 * stride-ths.
__device__ __forceinline__ Tap tap_of(int place, int low_size, int stride) {
    const int centre = max(2 * place + 1 - stride, 0), whole = 2 * stride, low = centre / whole;
    return {low, min(low + 1, low_size - 1), static_cast<float>(centre - low * whole) / static_cast<float>(whole)};
}

// The map `low` between two of its rows, in one column.
template <typename T> struct Between {
    const T *above, *below;
    float share;  // of `below`

    __device__ __forceinline__ Between(const T* low, const GstSizes& sizes, int row) {
        const Tap tap = tap_of(row, sizes.low_height, sizes.height / sizes.low_height);
        above = low + tap.low * sizes.low_width;
        below = low + tap.high * sizes.low_width;
        share = tap.share;
    }
    __device__ __forceinline__ float at(int column) const {
        return (1.0f - share) * to_float(above[column]) + share * to_float(below[column]);
    }
    __device__ __forceinline__ float at(const Tap& column) const {
        return (1.0f - column.share) * at(column.low) + column.share * at(column.high);
    }
};

// The map `low`, (low_height, low_width), at one position of the picture.
template <typename T>
__device__ __forceinline__ float sampled(const T* __restrict__ low, const GstSizes& sizes, int position) {
    const Between<T> rows(low, sizes, position / sizes.width);
    return rows.at(tap_of(position % sizes.width, sizes.low_width, sizes.width / sizes.low_width));
}

// Eight neighbouring positions of a map at full resolution, two in each register; 0 from `last` on.
template <typename T>
__device__ __forceinline__ void load_eight(uint32_t (&to)[4], const T* __restrict__ row, int position, int last,
                                           bool whole) {
    if (whole) {  // rows start at multiples of 16 bytes, and `last` is a multiple of eight
#pragma unroll
        for (int pair = 0; pair < 4; ++pair) to[pair] = 0u;
        if (position < last) load_sixteen_bytes(to, row + position);
    } else {
#pragma unroll
        for (int pair = 0; pair < 4; ++pair) to[pair] = load_pair<1>(row, position + 2 * pair, last);
    }
}

// Where eight neighbouring positions, from a multiple of eight on, sample a map of half the width (GstSizes::in_eights).
struct Eight {
    int above, below, left, middle, right;  // rows of the low map, and columns before, of and behind its four numbers
    float share;                            // of the row below
};

__device__ __forceinline__ Eight eight_at(const GstSizes& sizes, int position) {
    const Tap row = tap_of(position / sizes.width, sizes.low_height, sizes.height / sizes.low_height);
    const int middle = position % sizes.width / 2;
    return {row.low * sizes.low_width, row.high * sizes.low_width,          max(middle - 1, 0),
            middle,                    min(middle + 4, sizes.low_width - 1), row.share};
}

// The map `low` at the eight positions.
template <typename T>
__device__ __forceinline__ void sampled(float (&to)[8], const T* __restrict__ low, const Eight& at) {
    float column[6];
#pragma unroll
    for (int side = 0; side < 2; ++side) {
        const T* row = low + (side == 0 ? at.above : at.below);
        const float share = side == 0 ? 1.0f - at.share : at.share;
        float middle[4];
        load_four<4>(middle, row, at.middle, at.middle + 4);
        const float six[6] = {to_float(row[at.left]), middle[0], middle[1], middle[2], middle[3], to_float(row[at.right])};
#pragma unroll
        for (int index = 0; index < 6; ++index) {
            column[index] = side == 0 ? share * six[index] : column[index] + share * six[index];
        }
    }
#pragma unroll
    for (int index = 0; index < 4; ++index) {
        to[2 * index] = 0.25f * column[index] + 0.75f * column[index + 1];
        to[2 * index + 1] = 0.75f * column[index + 1] + 0.25f * column[index + 2];
    }
}

// The same where positions are no such neighbours.
template <typename T>
__device__ __forceinline__ void sampled(float (&to)[8], const T* __restrict__ low, const GstSizes& sizes, int position,
                                        int last) {
    const int stride = sizes.width / sizes.low_width;
    int row = position / sizes.width, column = position % sizes.width;
    Between<T> rows(low, sizes, min(row, sizes.height - 1));
#pragma unroll 1
    for (int index = 0; index < 8; ++index, ++column) {
        if (column == sizes.width) {
            column = 0;
            rows = Between<T>(low, sizes, min(++row, sizes.height - 1));
        }
        const float found = position + index < last ? rows.at(tap_of(column, sizes.low_width, stride)) : 0.0f;
#pragma unroll
        for (int place = 0; place < 8; ++place) to[place] = place == index ? found : to[place];
    }
}

// Eight positions of one step, from a multiple of eight on: what all maps that are sampled there have in common.
struct Eights {
    int position, last;
    bool neighbours;
    Eight at;
};

__device__ __forceinline__ Eights eights_at(const GstSizes& sizes, int position, int last) {
    return {position, last, sizes.in_eights(), eight_at(sizes, min(position, sizes.positions() - 1) & ~7)};
}

// The map `low` at those positions; 0 from `last` on, which is a multiple of eight where they are neighbours.
template <typename T>
__device__ __forceinline__ void sampled(float (&to)[8], const T* __restrict__ low, const GstSizes& sizes,
                                        const Eights& of) {
    if (!of.neighbours) return sampled(to, low, sizes, of.position, of.last);
    sampled(to, low, of.at);
    if (of.position < of.last) return;
#pragma unroll
    for (int index = 0; index < 8; ++index) to[index] = 0.0f;
}

// Of all threads of a block of THREADS; `scratch` holds one number per warp.
template <int THREADS, bool LARGEST> __device__ __forceinline__ float reduced(float value, float* scratch) {
    value = LARGEST ? largest_of_lanes<32>(value) : sum_of_lanes<32>(value);
    block_barrier();  // nobody reads the scratch of the reduction before
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
    block_barrier();
    float found = scratch[0];
#pragma unroll
    for (int warp = 1; warp < THREADS / 32; ++warp) {
        found = LARGEST ? fmaxf(found, scratch[warp]) : found + scratch[warp];
    }
    return found;
}

}  // namespace edgeir
