// Reading and writing rows of channels, several numbers at a time.
#pragma once

#include "device.cuh"

namespace edgeir {

// How many numbers of a row of `length` may be read at once: rows start at a multiple of as many.
__host__ __device__ constexpr int step_of(int length) { return length % 4 == 0 ? 4 : length % 2 == 0 ? 2 : 1; }

// Numbers `first` to `first + 3` of a row, 0 from `length` on; `first` is a multiple of 4.
template <int STEP, typename T>
__device__ __forceinline__ void load_four(float (&to)[4], const T* __restrict__ row, int first, int length) {
    struct alignas(STEP * sizeof(T)) Piece {
        T values[STEP];
    };
#pragma unroll
    for (int start = 0; start < 4; start += STEP) {
        if (first + start < length) {
            const Piece piece = *reinterpret_cast<const Piece*>(row + first + start);
#pragma unroll
            for (int index = 0; index < STEP; ++index) to[start + index] = to_float(piece.values[index]);
        } else {
#pragma unroll
            for (int index = 0; index < STEP; ++index) to[start + index] = 0.0f;
        }
    }
}

// Numbers `first` to `first + 3` of a row, but those from `length` on.
template <int STEP, typename T>
__device__ __forceinline__ void store_four(T* __restrict__ row, int first, int length, const T (&from)[4]) {
    struct alignas(STEP * sizeof(T)) Piece {
        T values[STEP];
    };
#pragma unroll
    for (int start = 0; start < 4; start += STEP) {
        if (first + start >= length) continue;
        Piece piece;
#pragma unroll
        for (int index = 0; index < STEP; ++index) piece.values[index] = from[start + index];
        *reinterpret_cast<Piece*>(row + first + start) = piece;
    }
}

// Numbers `first` and `first + 1` of a row in one register, 0 from `length` on; `first` is even.
template <int STEP, typename T>
__device__ __forceinline__ uint32_t load_pair(const T* __restrict__ row, int first, int length) {
    if constexpr (STEP >= 2) {
        return first < length ? *reinterpret_cast<const uint32_t*>(row + first) : 0u;
    } else {
        const T zero = from_float<T>(0.0f);
        return pack(first < length ? row[first] : zero, first + 1 < length ? row[first + 1] : zero);
    }
}

template <int STEP, typename T>
__device__ __forceinline__ void store_pair(T* __restrict__ row, int first, int length, uint32_t two) {
    if (first >= length) return;
    if constexpr (STEP >= 2) {
        *reinterpret_cast<uint32_t*>(row + first) = two;
    } else {
        const Two<T> numbers = split<T>(two);
        row[first] = numbers.first;
        if (first + 1 < length) row[first + 1] = numbers.second;
    }
}

template <int WORDS> struct alignas(4 * WORDS) Words {
    uint32_t words[WORDS];
};

__device__ __forceinline__ void load_sixteen_bytes(uint32_t (&to)[4], const void* from) {
    const Words<4> piece = *reinterpret_cast<const Words<4>*>(from);
#pragma unroll
    for (int index = 0; index < 4; ++index) to[index] = piece.words[index];
}

// COUNT numbers of a row from `first` on, two in each register, 0 from `length` on; both are multiples of 4.
template <int STEP, int COUNT, typename T>
__device__ __forceinline__ void load_words(uint32_t (&to)[COUNT / 2], const T* __restrict__ row, int first, int length) {
#pragma unroll
    for (int word = 0; word < COUNT / 2; word += 2) {
        const int start = first + 2 * word;
        if constexpr (STEP == 4) {
            const Words<2> piece = start < length ? *reinterpret_cast<const Words<2>*>(row + start) : Words<2>{{0u, 0u}};
            to[word] = piece.words[0];
            to[word + 1] = piece.words[1];
        } else {
            to[word] = load_pair<STEP>(row, start, length);
            to[word + 1] = load_pair<STEP>(row, start + 2, length);
        }
    }
}

// COUNT numbers to a place that is a multiple of as many bytes as are stored at once.
template <int COUNT, typename T> __device__ __forceinline__ void store_words(T* to, const uint32_t (&from)[COUNT / 2]) {
    constexpr int AT_ONCE = COUNT % 8 == 0 ? 4 : 2;
#pragma unroll
    for (int word = 0; word < COUNT / 2; word += AT_ONCE) {
        Words<AT_ONCE> piece;
#pragma unroll
        for (int index = 0; index < AT_ONCE; ++index) piece.words[index] = from[word + index];
        *reinterpret_cast<Words<AT_ONCE>*>(to + 2 * word) = piece;
    }
}

}  // namespace edgeir
