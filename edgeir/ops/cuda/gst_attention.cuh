// EdgeirGstAttention: ExDA's channel attention over [Q;G], [K;G], [V';G] (edgeir/ops/table.py), in six kernels.
//
//   1. peaks      tokens -> exp(t - max) at low resolution, and 1 / sum of it, per channel
//   2. gram       products of all rows of [Q;G] with all of [K;G] over a part of the picture, and squared norms; the
//                 tokens are sampled where they are needed, so that the map G at full resolution never exists
//   3. sum        parts added in order
//   4. combine    norms divided out, softmax, local rows plus alpha times global rows
//   5. low        what the tokens add to the output, at low resolution
//   6. values     combined rows times V, plus the low-resolution part, upsampled in registers
//
// A constant factor of a token row is divided out by its norm, so that exp(t - max), at most 1, stands for the softmax:
// its values are of the order of 1 where those of the softmax, 1/positions, vanish in FP16.
//
// In FP16 and BF16 products run on tensor cores with FP32 sums; with FP32 inputs everything is FP32 arithmetic.
// No atomics: every sum has one order.
#pragma once

#include "gst_gram.cuh"
#include "gst_values.cuh"
