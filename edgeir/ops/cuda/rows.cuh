// Reading rows of channels, four at a time.
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

}  // namespace edgeir
