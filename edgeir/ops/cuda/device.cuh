// What the kernels need of the machine: number types, tensor-core products, exchange between the lanes of a warp.
//
// Kernels say edgeir::..., never an intrinsic: compiled with EDGEIR_EMULATED they run on a CPU (tests/ops/cuda), lane by
// lane, in whatever order the emulator likes.
#pragma once

#include <cstdint>

#ifdef EDGEIR_EMULATED
#include "emulator.hpp"
#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace edgeir {

using float16 = __half;
using bfloat16 = __nv_bfloat16;

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(float16 value) { return __half2float(value); }
__device__ __forceinline__ float to_float(bfloat16 value) { return __bfloat162float(value); }

template <typename T> __device__ __forceinline__ T from_float(float value);
template <> __device__ __forceinline__ float from_float<float>(float value) { return value; }
template <> __device__ __forceinline__ float16 from_float<float16>(float value) { return __float2half_rn(value); }
template <> __device__ __forceinline__ bfloat16 from_float<bfloat16>(float value) { return __float2bfloat16_rn(value); }

__device__ __forceinline__ uint32_t bits_of(float value) { return __float_as_uint(value); }
__device__ __forceinline__ float float_of(uint32_t bits) { return __uint_as_float(bits); }

__device__ __forceinline__ uint32_t shuffle_xor(uint32_t value, int mask) {
    return __shfl_xor_sync(0xffffffffu, value, mask);
}
__device__ __forceinline__ float shuffle_xor(float value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }
__device__ __forceinline__ bool any_lane(bool value) { return __any_sync(0xffffffffu, value) != 0; }
__device__ __forceinline__ void block_barrier() { __syncthreads(); }

// 2 to the power of `value`, two bits of the last place; results below 2^-126 are 0.
__device__ __forceinline__ float exp2_fast(float value) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(value));
    return power;
}
__device__ __forceinline__ float exp_of(float value) { return expf(value); }

// d += a b: a 16x16 (rows), b 16x8 (columns), d 16x8 in FP32; PTX ISA, "Matrix Fragments for mma.m16n8k16". Volatile: all
// lanes of a warp must come, so that it may not sink into a branch that uses its result.
template <typename T>
__device__ __forceinline__ void multiply_add(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

template <>
__device__ __forceinline__ void multiply_add<float16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <>
__device__ __forceinline__ void multiply_add<bfloat16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ float inverse_square_root(float value) {
    float root;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(root) : "f"(value));
    return root;
}

// The same number, which the compiler now keeps rather than compute it anew wherever it is used.
__device__ __forceinline__ int held(int number) {
    asm volatile("" : "+r"(number));
    return number;
}

// Two FP16 numbers at once, each rounded to the nearest and nothing contracted.
__device__ __forceinline__ __half2 pair_of(uint32_t bits) { return *reinterpret_cast<const __half2*>(&bits); }
__device__ __forceinline__ uint32_t bits_of(__half2 pair) { return *reinterpret_cast<const uint32_t*>(&pair); }
__device__ __forceinline__ uint32_t add_pairs(uint32_t a, uint32_t b) {
    return bits_of(__hadd2_rn(pair_of(a), pair_of(b)));
}
__device__ __forceinline__ uint32_t subtract_pairs(uint32_t a, uint32_t b) {
    return bits_of(__hsub2_rn(pair_of(a), pair_of(b)));
}
__device__ __forceinline__ uint32_t multiply_pairs(uint32_t a, uint32_t b) {
    return bits_of(__hmul2_rn(pair_of(a), pair_of(b)));
}

// threadIdx.x, but what is computed from it need not wait in registers from its first use to here.
__device__ __forceinline__ int thread_anew() {
    int thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    return thread;
}

using SharedAddress = uint32_t;
__device__ __forceinline__ SharedAddress shared_address(const void* of) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(of));
}

// Four 8x8 matrices of 16-bit numbers from shared memory: lane 8 m + r brings the address of row r of matrix m, a
// multiple of 16 bytes; lane 4 g + t gets numbers 2 t and 2 t + 1 of row g of each, or, transposed, number g of rows 2 t
// and 2 t + 1 (PTX ISA, ldmatrix).
__device__ __forceinline__ void load_matrices(uint32_t (&to)[4], SharedAddress row, int offset) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(row + offset)
                 : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&to)[4], SharedAddress row, int offset) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(row + offset)
                 : "memory");
}

extern __shared__ __align__(16) unsigned char dynamic_shared_memory[];
__device__ __forceinline__ unsigned char* shared_memory() { return dynamic_shared_memory; }

}  // namespace edgeir

#define EDGEIR_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__)

#endif

namespace edgeir {

// Two numbers in one register, the first in the low half.
template <typename T> __device__ __forceinline__ uint32_t pack(T first, T second) {
    static_assert(sizeof(T) == 2, "two of them make 32 bits");
    union {
        T values[2];
        uint32_t bits;
    } both;
    both.values[0] = first;
    both.values[1] = second;
    return both.bits;
}

template <typename T> struct Two {
    T first, second;
};

// The two numbers of a register, as they are, and as floats.
template <typename T> __device__ __forceinline__ Two<T> split(uint32_t bits) {
    static_assert(sizeof(T) == 2, "two of them make 32 bits");
    union {
        uint32_t bits;
        T values[2];
    } both;
    both.bits = bits;
    return {both.values[0], both.values[1]};
}

template <typename T> __device__ __forceinline__ Two<float> unpack(uint32_t bits) {
    const Two<T> two = split<T>(bits);
    return {to_float(two.first), to_float(two.second)};
}

// Blocks along the first two axes of a grid whose third has one per window, threads of a block, and its dynamic shared
// memory.
struct Launch {
    int x, y, threads, shared_bytes;
};

// What the body divides by at least: a row of zeros stays one.
constexpr float LEAST_NORM = 1e-12f;

__device__ __forceinline__ float minus_infinity() { return float_of(0xff800000u); }

// Of a row from the sum of its squares, as near as 16-bit numbers need it.
__device__ __forceinline__ float inverse_norm(float squares) {
    return inverse_square_root(fmaxf(squares, LEAST_NORM * LEAST_NORM));
}

// Of COUNT neighbouring lanes, a power of two; every one of them gets it.
template <int COUNT> __device__ __forceinline__ float sum_of_lanes(float value) {
#pragma unroll
    for (int mask = 1; mask < COUNT; mask *= 2) value += shuffle_xor(value, mask);
    return value;
}

template <int COUNT> __device__ __forceinline__ float largest_of_lanes(float value) {
#pragma unroll
    for (int mask = 1; mask < COUNT; mask *= 2) value = fmaxf(value, shuffle_xor(value, mask));
    return value;
}

}  // namespace edgeir
