// What the C++ files share: T, which is float32 or, in a library of its own, bfloat16; and PyTorch's threads.
#pragma once
#include <cmath>
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

// Two to the power of x, after Cephes' exp2f: compilers make vector code of it, unlike of a call to the C library.
constexpr float powers[] = {1.535336188319500e-4f, 1.339887440266574e-3f, 9.618437357674640e-3f, 5.550332471162809e-2f,
                            2.402264791363012e-1f, 6.931472028550421e-1f, 1.0f};

static inline float power_of_two(float x) {
  x = x < -126.0f ? -126.0f : x;
  x = x > 127.0f ? 127.0f : x;
  float n = std::rint(x), r = x - n, p = powers[0];
  for (int i = 1; i < 7; i++) p = p * r + powers[i];
  return p * __builtin_bit_cast(float, (int32_t(n) + 127) << 23);
}

constexpr float log2e = 1.44269504f;
