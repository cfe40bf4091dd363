// EdgeirKeyGraphAttention (edgeir/ops/table.py): its inputs, and the kernel in FP32, which is for what must be exact.
#pragma once

#include "rows.cuh"

namespace edgeir {

constexpr int ATTENTION_MOST_TOKENS = 1024;
constexpr int ATTENTION_MOST_WIDTH = 64;
constexpr int ATTENTION_FLOAT_ROWS = 4;  // queries of a block, one for each of its warps
constexpr float LOG2_E = 1.4426950408889634f;

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

// A warp per query, its logits in shared memory.
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
        const float logit = weights[other];  // fmaxf leaves out what is no number; it must come out all the same
        const float weight = !none ? exp2_fast(logit - largest) : logit == minus_infinity() ? 1.0f : logit;
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

}  // namespace edgeir
