// Quantised blocks of a GGUF to numbers, in one pass: what distill/dequantize.py does in PyTorch's words, value by value.
//
// Layouts are ggml's (ggml-common.h). Compiled without fused or reordered arithmetic, so that the values are exactly those
// of the gguf package, rounded once more where T is bfloat16. ``count``: blocks; each is one thread's.
#include "kernels.h"

#include <cstring>

using Byte = uint8_t;

static inline float half(const Byte *at) {  // IEEE 754 binary16
  uint16_t bits;
  std::memcpy(&bits, at, 2);
  uint32_t size = bits & 0x7fffu, sign = uint32_t(bits & 0x8000u) << 16;
  float value = __builtin_bit_cast(float, size << 13) * 0x1p112f;  // the exponent counts from 127 instead of 15
  uint32_t whole = size < 0x7c00u ? __builtin_bit_cast(uint32_t, value) : 0x7f800000u | size << 13;
  return __builtin_bit_cast(float, whole | sign);
}

API void unpack_q8_0(const Byte *blocks, Int count, T *out) {
  EACH(block, count) {
    const Byte *from = blocks + block * 34;
    T *to = out + block * 32;
    float scale = half(from);
#pragma omp simd
    for (Int i = 0; i < 32; i++) put(to[i], float(int8_t(from[2 + i])) * scale);
  }
}

API void unpack_q4_0(const Byte *blocks, Int count, T *out) {
  EACH(block, count) {
    const Byte *from = blocks + block * 18;
    T *to = out + block * 32;
    float scale = half(from);
#pragma omp simd
    for (Int i = 0; i < 16; i++) {
      put(to[i], float((from[2 + i] & 15) - 8) * scale);
      put(to[16 + i], float((from[2 + i] >> 4) - 8) * scale);
    }
  }
}

// Of the twelve bytes that hold eight scales and eight minima of six bits.
static inline int scale_of(const Byte *at, int group) {
  return group < 4 ? at[group] & 63 : (at[group + 4] & 15) | (at[group - 4] >> 6) << 4;
}

static inline int least_of(const Byte *at, int group) {
  return group < 4 ? at[group + 4] & 63 : at[group + 4] >> 4 | (at[group] >> 6) << 4;
}

API void unpack_q4_k(const Byte *blocks, Int count, T *out) {
  EACH(block, count) {
    const Byte *from = blocks + block * 144, *scales = from + 4;
    float scale = half(from), least = half(from + 2);
    for (int pair = 0; pair < 4; pair++) {
      const Byte *halves = from + 16 + 32 * pair;
      T *to = out + block * 256 + 64 * pair;
      float low = scale * float(scale_of(scales, 2 * pair)), below_low = least * float(least_of(scales, 2 * pair));
      float high = scale * float(scale_of(scales, 2 * pair + 1)), below = least * float(least_of(scales, 2 * pair + 1));
#pragma omp simd
      for (Int i = 0; i < 32; i++) put(to[i], low * float(halves[i] & 15) - below_low);
#pragma omp simd
      for (Int i = 0; i < 32; i++) put(to[32 + i], high * float(halves[i] >> 4) - below);
    }
  }
}

API void unpack_q5_k(const Byte *blocks, Int count, T *out) {
  EACH(block, count) {
    const Byte *from = blocks + block * 176, *scales = from + 4, *fifth = from + 16;
    float scale = half(from), least = half(from + 2);
    for (int pair = 0; pair < 4; pair++) {
      const Byte *halves = from + 48 + 32 * pair;
      T *to = out + block * 256 + 64 * pair;
      float low = scale * float(scale_of(scales, 2 * pair)), below_low = least * float(least_of(scales, 2 * pair));
      float high = scale * float(scale_of(scales, 2 * pair + 1)), below = least * float(least_of(scales, 2 * pair + 1));
#pragma omp simd
      for (Int i = 0; i < 32; i++)
        put(to[i], low * float((halves[i] & 15) | (fifth[i] >> (2 * pair) & 1) << 4) - below_low);
#pragma omp simd
      for (Int i = 0; i < 32; i++)
        put(to[32 + i], high * float(halves[i] >> 4 | (fifth[i] >> (2 * pair + 1) & 1) << 4) - below);
    }
  }
}

API void unpack_q6_k(const Byte *blocks, Int count, T *out) {
  EACH(block, count) {
    const Byte *from = blocks + block * 210;
    float scale = half(from + 208);
    for (int part = 0; part < 8; part++) {  // of 32 values: two groups of 16
      int within = part % 4, high = within / 2;
      const Byte *halves = from + 64 * (part / 4) + 32 * (within % 2), *upper = from + 128 + 32 * (part / 4);
      T *to = out + block * 256 + 32 * part;
      for (int group = 0; group < 2; group++) {
        float step = scale * float(int8_t(from[192 + 2 * part + group]));
#pragma omp simd
        for (Int i = 16 * group; i < 16 * group + 16; i++)
          put(to[i], step * float(((halves[i] >> (4 * high) & 15) | (upper[i] >> (2 * within) & 3) << 4) - 32));
      }
    }
  }
}
