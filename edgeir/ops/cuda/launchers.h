/* Launchers of the fused ops, with raw device pointers and a C ABI: what both adaptors and the tests call.
 *
 * Every launcher gives 0, EDGEIR_UNSUPPORTED for sizes or types that there is no kernel for, or the number of a CUDA
 * error of the launch; ..._fits says beforehand whether there is a kernel, 1 or 0. Shapes and meaning:
 * edgeir/ops/table.py. */
#pragma once

#include <stdint.h>

#ifdef EDGEIR_EMULATED
#include "emulator.hpp"
typedef void* Stream;
inline int edgeir_launch_status() { return 0; }
#else
#include <cuda_runtime_api.h>
typedef cudaStream_t Stream;
static inline int edgeir_launch_status() { return (int)cudaGetLastError(); }
#endif

enum EdgeirType { EDGEIR_FLOAT32 = 0, EDGEIR_FLOAT16 = 1, EDGEIR_BFLOAT16 = 2 };
enum { EDGEIR_UNSUPPORTED = -1 };

extern "C" {

/* tokens (windows, n, c) float32 or float16; keep (windows, n, n) one byte each; n up to 1024, c up to 2048, k 1 to n. */
int edgeir_key_graph_fits(int windows, int n, int c, int k, enum EdgeirType type);
int edgeir_key_graph(
    const void* tokens, void* keep, int windows, int n, int c, int k, enum EdgeirType type, Stream stream);

/* query, key, value, output (windows, heads, n, d), keep (windows, n, n) one byte each, bias (heads, n, n),
 * scale (heads): float32, float16 or bfloat16 but for keep; n up to 1024, d up to 64. cosine: rows over their norms. */
int edgeir_key_graph_attention_fits(int windows, int heads, int n, int d, enum EdgeirType type);
int edgeir_key_graph_attention(
    const void* query, const void* key, const void* value, const void* keep, const void* bias, const void* scale,
    void* output, int windows, int heads, int n, int d, int cosine, enum EdgeirType type, Stream stream);

/* Bytes of `workspace` of edgeir_gst_attention for these sizes and all smaller batches and pictures, or
 * EDGEIR_UNSUPPORTED. */
int64_t edgeir_gst_attention_workspace(
    int batch, int channels, int height, int width, int heads, int stride, enum EdgeirType type);

/* query, key, value, output (batch, channels, height, width), tokens (batch, channels, height / stride,
 * width / stride), temperature (heads), alpha (1): float32, float16 or bfloat16; up to 64 channels per head. The
 * workspace starts at a multiple of 256 bytes and may hold anything. */
int edgeir_gst_attention(
    const void* query, const void* key, const void* value, const void* tokens, const void* temperature,
    const void* alpha, void* output, void* workspace, int batch, int channels, int height, int width, int heads,
    int stride, enum EdgeirType type, Stream stream);
}
