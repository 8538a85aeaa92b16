// What kernels.cpp and unpack.cpp share: T, which is float32 or, in a library of its own, bfloat16; and PyTorch's threads.
#pragma once
#include <cstdint>

// Rows are shared out among PyTorch's threads.
#define EACH(row, rows) _Pragma("omp parallel for schedule(static)") for (int64_t row = 0; row < rows; row++)
#define API extern "C" __attribute__((visibility("default")))

using Int = int64_t;

struct bf16 {
  uint16_t bits;
};

#ifdef BFLOAT16
using T = bf16;
#else
using T = float;
#endif

static inline float get(float value) { return value; }
static inline float get(bf16 value) { return __builtin_bit_cast(float, uint32_t(value.bits) << 16); }

static inline void put(float &place, float value) { place = value; }
static inline void put(bf16 &place, float value) {  // to the nearest, ties to even
  uint32_t bits = __builtin_bit_cast(uint32_t, value);
  place.bits = uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
