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

// Q4_K and Q5_K: eight groups of 32, two in each 32 bytes of halves; before those Q5_K has all groups' fifth bits.
template <int bits>
static void unpack_groups(const Byte *blocks, Int count, T *out) {
  constexpr Int fifths = bits == 5 ? 32 : 0, width = 16 + fifths + 128;
  EACH(block, count) {
    const Byte *from = blocks + block * width, *scales = from + 4, *fifth = from + 16;
    float scale = half(from), least = half(from + 2);
    for (int group = 0; group < 8; group++) {
      const Byte *halves = fifth + fifths + 32 * (group / 2);
      T *to = out + block * 256 + 32 * group;
      int shift = 4 * (group % 2);
      float step = scale * float(scale_of(scales, group)), below = least * float(least_of(scales, group));
#pragma omp simd
      for (Int i = 0; i < 32; i++) {
        int value = halves[i] >> shift & 15;
        if (bits == 5) value |= (fifth[i] >> group & 1) << 4;
        put(to[i], step * float(value) - below);
      }
    }
  }
}

API void unpack_q4_k(const Byte *blocks, Int count, T *out) { unpack_groups<4>(blocks, count, out); }
API void unpack_q5_k(const Byte *blocks, Int count, T *out) { unpack_groups<5>(blocks, count, out); }

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
