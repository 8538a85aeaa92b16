// What the fast engine does beside matrix products, each in one pass over memory: PyTorch would make five or ten of it.
//
// kernels.py loads this; the modules that call it have the same formulas in PyTorch's words, which run where this was not
// built and which the tests compare it with. Tensors lie in memory without gaps, as float32 or as T, which is float32 or,
// in a library of its own, bfloat16; it is computed in float32. A row is one thread's, so results do not depend on how
// many there are. Built by scripts/kernels.sh, without libgomp: PyTorch brings it, and with it the threads.
#include "kernels.h"

#include <cmath>

// Two to the power of x, after Cephes' exp2f: compilers make vector code of it, unlike of a call to the C library.
static inline float power_of_two(float x) {
  x = x < -126.0f ? -126.0f : x;
  x = x > 127.0f ? 127.0f : x;
  float n = std::rint(x), r = x - n;
  float p = 1.535336188319500e-4f;
  p = p * r + 1.339887440266574e-3f;
  p = p * r + 9.618437357674640e-3f;
  p = p * r + 5.550332471162809e-2f;
  p = p * r + 2.402264791363012e-1f;
  p = p * r + 6.931472028550421e-1f;
  p = p * r + 1.0f;
  return p * __builtin_bit_cast(float, (int32_t(n) + 127) << 23);
}

constexpr float log2e = 1.44269504f;

static inline float sigmoid(float x) { return 1.0f / (1.0f + power_of_two(-log2e * x)); }

static inline float inverse_length(float squares, Int width, float eps) {
  return 1.0f / std::sqrt(squares / float(width) + eps);
}

// ---- norm.py

API void rms_norm(const float *x, const T *added, const T *weight, float eps, Int rows, Int width, float *sum, T *out) {
  EACH(row, rows) {
    const float *from = x + row * width;
    T *to = out + row * width;
    float squares = 0;
    if (added) {
      const T *more = added + row * width;
      float *both = sum + row * width;
#pragma omp simd
      for (Int i = 0; i < width; i++) both[i] = from[i] + get(more[i]);
      from = both;
    }
#pragma omp simd reduction(+ : squares)
    for (Int i = 0; i < width; i++) squares += from[i] * from[i];
    float scale = inverse_length(squares, width, eps);
#pragma omp simd
    for (Int i = 0; i < width; i++) put(to[i], from[i] * scale * get(weight[i]));
  }
}

API void rms_norm_backward(const T *grad, const float *x, const T *weight, float eps, Int rows, Int width, float *onto,
                           T *copy) {
  EACH(row, rows) {
    const T *ahead = grad + row * width;
    const float *values = x + row * width;
    float *to = onto + row * width;
    float squares = 0, dot = 0;
#pragma omp simd reduction(+ : squares, dot)
    for (Int i = 0; i < width; i++) {
      squares += values[i] * values[i];
      dot += get(ahead[i]) * get(weight[i]) * values[i];
    }
    float scale = inverse_length(squares, width, eps);
    float share = dot * scale * scale / float(width);
#pragma omp simd
    for (Int i = 0; i < width; i++) to[i] += scale * (get(ahead[i]) * get(weight[i]) - values[i] * share);
    if (copy) {
      T *too = copy + row * width;
#pragma omp simd
      for (Int i = 0; i < width; i++) put(too[i], to[i]);
    }
  }
}

// Where a row's heads go: queries by node, so that a node's are (key heads, tokens * group, width); keys and values by
// head, (key heads, rows, width).
struct Places {
  Int rows, heads, key_heads, width;
  const Int *begin, *length;  // of each row's node

  Int query(Int row, Int head) const {
    Int group = heads / key_heads, key_head = head / group;
    Int within = (key_head * length[row] + row - begin[row]) * group + head % group;
    return (begin[row] * heads + within) * width;
  }
  Int key(Int row, Int head) const { return (head * rows + row) * width; }
};

static inline float head_scale(const T *values, Int width, float eps) {
  float squares = 0;
#pragma omp simd reduction(+ : squares)
  for (Int i = 0; i < width; i++) squares += get(values[i]) * get(values[i]);
  return inverse_length(squares, width, eps);
}

static inline void place_head(const T *from, const T *weight, float eps, const float *cos, const float *sin, Int width,
                              T *to) {
  Int half = width / 2;
  if (weight) {
    float scale = head_scale(from, width, eps);
#pragma omp simd
    for (Int i = 0; i < half; i++) {
      float left = get(from[i]) * scale * get(weight[i]), right = get(from[half + i]) * scale * get(weight[half + i]);
      put(to[i], left * cos[i] - right * sin[i]);
      put(to[half + i], right * cos[i] + left * sin[i]);
    }
  } else {
#pragma omp simd
    for (Int i = 0; i < half; i++) {
      float left = get(from[i]), right = get(from[half + i]);
      put(to[i], left * cos[i] - right * sin[i]);
      put(to[half + i], right * cos[i] + left * sin[i]);
    }
  }
}

template <class G>
static inline void place_head_backward(const G *grad, const T *from, const T *weight, float eps, const float *cos,
                                       const float *sin, Int width, T *to) {
  Int half = width / 2;
  if (weight) {
    float scale = head_scale(from, width, eps), dot = 0;
#pragma omp simd reduction(+ : dot)
    for (Int i = 0; i < half; i++) {
      float first = get(grad[i]), second = get(grad[half + i]);
      dot += (first * cos[i] + second * sin[i]) * get(weight[i]) * get(from[i]);
      dot += (second * cos[i] - first * sin[i]) * get(weight[half + i]) * get(from[half + i]);
    }
    float share = dot * scale * scale / float(width);
#pragma omp simd
    for (Int i = 0; i < half; i++) {
      float first = get(grad[i]), second = get(grad[half + i]);
      float left = (first * cos[i] + second * sin[i]) * get(weight[i]);
      float right = (second * cos[i] - first * sin[i]) * get(weight[half + i]);
      put(to[i], scale * (left - get(from[i]) * share));
      put(to[half + i], scale * (right - get(from[half + i]) * share));
    }
  } else {
#pragma omp simd
    for (Int i = 0; i < half; i++) {
      float first = get(grad[i]), second = get(grad[half + i]);
      put(to[i], first * cos[i] + second * sin[i]);
      put(to[half + i], second * cos[i] - first * sin[i]);
    }
  }
}

API void place(const T *qkv, const T *q_norm, const T *k_norm, float eps, const float *cos, const float *sin, Int rows,
               Int heads, Int key_heads, Int width, const Int *begin, const Int *length, T *q, T *k, T *v) {
  Places at{rows, heads, key_heads, width, begin, length};
  EACH(row, rows) {
    const T *from = qkv + row * (at.heads + 2 * at.key_heads) * at.width;
    const float *c = cos + row * at.width / 2, *s = sin + row * at.width / 2;
    for (Int head = 0; head < at.heads; head++, from += at.width)
      place_head(from, q_norm, eps, c, s, at.width, q + at.query(row, head));
    for (Int head = 0; head < at.key_heads; head++, from += at.width)
      place_head(from, k_norm, eps, c, s, at.width, k + at.key(row, head));
    for (Int head = 0; head < at.key_heads; head++, from += at.width)
      for (Int i = 0; i < at.width; i++) v[at.key(row, head) + i] = from[i];
  }
}

API void place_backward(const T *dq, const float *dk, const float *dv, const T *qkv, const T *q_norm, const T *k_norm,
                        float eps, const float *cos, const float *sin, Int rows, Int heads, Int key_heads, Int width,
                        const Int *begin, const Int *length, T *out) {
  Places at{rows, heads, key_heads, width, begin, length};
  EACH(row, rows) {
    Int offset = row * (at.heads + 2 * at.key_heads) * at.width;
    const T *from = qkv + offset;
    T *to = out + offset;
    const float *c = cos + row * at.width / 2, *s = sin + row * at.width / 2;
    for (Int head = 0; head < at.heads; head++, from += at.width, to += at.width)
      place_head_backward(dq + at.query(row, head), from, q_norm, eps, c, s, at.width, to);
    for (Int head = 0; head < at.key_heads; head++, from += at.width, to += at.width)
      place_head_backward(dk + at.key(row, head), from, k_norm, eps, c, s, at.width, to);
    for (Int head = 0; head < at.key_heads; head++, to += at.width)
      for (Int i = 0; i < at.width; i++) put(to[i], dv[at.key(row, head) + i]);
  }
}

// ---- attention.py

// Scores (batch, tokens * group, depth + tokens) to weights, in place: token t of a node sees depth + t + 1 columns.
API void softmax(T *scores, float scale, Int batch, Int tokens, Int group, Int depth) {
  Int columns = depth + tokens;
  EACH(row, batch * tokens * group) {
    T *at = scores + row * columns;
    Int seen = depth + row / group % tokens + 1;
    float largest = -INFINITY, sum = 0, steep = scale * log2e;
#pragma omp simd reduction(max : largest)
    for (Int i = 0; i < seen; i++) largest = get(at[i]) > largest ? get(at[i]) : largest;
    float shares[seen];  // on the stack: a few hundred kilobytes at most
#pragma omp simd reduction(+ : sum)
    for (Int i = 0; i < seen; i++) {
      shares[i] = power_of_two(steep * (get(at[i]) - largest));
      sum += shares[i];
    }
    float whole = 1.0f / sum;
#pragma omp simd
    for (Int i = 0; i < seen; i++) put(at[i], shares[i] * whole);
    for (Int i = seen; i < columns; i++) put(at[i], 0.0f);
  }
}

// The scaled gradient of the scores from that of the weights, in its place.
API void softmax_backward(T *grad, const T *weights, float scale, Int batch, Int tokens, Int group, Int depth) {
  Int columns = depth + tokens;
  EACH(row, batch * tokens * group) {
    T *at = grad + row * columns;
    const T *weight = weights + row * columns;
    Int seen = depth + row / group % tokens + 1;
    float mean = 0;
#pragma omp simd reduction(+ : mean)
    for (Int i = 0; i < seen; i++) mean += get(at[i]) * get(weight[i]);
#pragma omp simd
    for (Int i = 0; i < seen; i++) put(at[i], scale * get(weight[i]) * (get(at[i]) - mean));
    for (Int i = seen; i < columns; i++) put(at[i], 0.0f);
  }
}

// Add rows of (batch, rows, width) to float32 sums that lie further apart.
API void accumulate(const T *part, Int part_stride, float *sums, Int sums_stride, Int batch, Int values) {
  EACH(one, batch) {
    const T *from = part + one * part_stride;
    float *to = sums + one * sums_stride;
#pragma omp simd
    for (Int i = 0; i < values; i++) to[i] += get(from[i]);
  }
}

// ---- gate.py

API void gated(const T *gate_up, Int rows, Int width, T *out) {
  EACH(row, rows) {
    const T *gate = gate_up + 2 * row * width, *up = gate + width;
    T *to = out + row * width;
#pragma omp simd
    for (Int i = 0; i < width; i++) put(to[i], get(gate[i]) * sigmoid(get(gate[i])) * get(up[i]));
  }
}

API void gated_backward(const T *grad, Int rows, Int width, T *gate_up) {
  EACH(row, rows) {
    const T *ahead = grad + row * width;
    T *gate = gate_up + 2 * row * width, *up = gate + width;
#pragma omp simd
    for (Int i = 0; i < width; i++) {
      float g = get(gate[i]), u = get(up[i]), d = get(ahead[i]), s = sigmoid(g);
      put(gate[i], d * u * s * (1.0f + g * (1.0f - s)));
      put(up[i], d * g * s);
    }
  }
}

// ---- head.py

// A running sum of exponentials; what is added lies in ``logits``, and becomes exponentials if ``keep``.
API void add_exponentials(T *logits, Int rows, Int columns, float *largest, float *total, float *shrunk, Int keep) {
  EACH(row, rows) {
    T *at = logits + row * columns;
    float most = largest[row], sum = 0;
#pragma omp simd reduction(max : most)
    for (Int i = 0; i < columns; i++) most = get(at[i]) > most ? get(at[i]) : most;
    if (keep) {
#pragma omp simd reduction(+ : sum)
      for (Int i = 0; i < columns; i++) {
        float share = power_of_two(log2e * (get(at[i]) - most));
        put(at[i], share);
        sum += share;
      }
    } else {
#pragma omp simd reduction(+ : sum)
      for (Int i = 0; i < columns; i++) sum += power_of_two(log2e * (get(at[i]) - most));
    }
    shrunk[row] = std::exp(largest[row] - most);
    total[row] = total[row] * shrunk[row] + sum;
    largest[row] = most;
  }
}

// The k largest so far of each row, as a heap with the least of them on top.
API void add_largest(const T *logits, Int rows, Int columns, Int first, Int k, float *best, Int *ids) {
  constexpr Int block = 64;
  EACH(row, rows) {
    const T *at = logits + row * columns;
    float *heap = best + row * k;
    Int *names = ids + row * k;
    for (Int from = 0; from < columns; from += block) {
      Int to = from + block < columns ? from + block : columns;
      float most = -INFINITY;
#pragma omp simd reduction(max : most)
      for (Int i = from; i < to; i++) most = get(at[i]) > most ? get(at[i]) : most;
      if (!(most > heap[0])) continue;
      for (Int i = from; i < to; i++) {
        float value = get(at[i]);
        if (!(value > heap[0])) continue;
        Int place = 0;
        for (Int child = 1; child < k; child = 2 * place + 1) {
          if (child + 1 < k && heap[child + 1] < heap[child]) child++;
          if (heap[child] >= value) break;
          heap[place] = heap[child];
          names[place] = names[child];
          place = child;
        }
        heap[place] = value;
        names[place] = first + i;
      }
    }
  }
}
