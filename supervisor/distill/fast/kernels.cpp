// What the fast engine does beside matrix products, each in one pass over memory: PyTorch would make five or ten of it.
//
// kernels.py loads this; the modules that call it have the same formulas in PyTorch's words, which run where this was not
// built and which the tests compare it with. Tensors lie in memory without gaps, as float32 or as T, which is float32 or,
// in a library of its own, bfloat16; it is computed in float32. A row is one thread's, so results do not depend on how
// many there are. Built by scripts/kernels.sh, without libgomp: PyTorch brings it, and with it the threads.
#include "kernels.h"

#include <cmath>

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

// ---- products.py

// Columns of one run of keys, row after row.
struct Part {
  T *scores;
  Int columns;
};
static_assert(sizeof(Part) == 2 * sizeof(Int));

constexpr Int lanes = 16;  // of the widest vector: whole ones alone are quick

// Scores (batch, tokens * group, columns) of each part to weights, in place: token t sees all parts before the last one,
// and of the last one, which ends with the tokens' own columns, those before its own and that one.
API void softmax(const Part *parts, Int count, float scale, Int batch, Int tokens, Int group, float *lse) {
  Int all = 0;
  for (Int part = 0; part < count; part++) all += parts[part].columns;
  EACH(row, batch * tokens * group) {
    Int seen = all - tokens + row / group % tokens + 1, whole = (seen + lanes - 1) / lanes * lanes;
    float values[all + lanes];  // on the stack: a few hundred kilobytes at most
    float largest = -INFINITY, sum = 0, steep = scale * log2e;
    for (Int part = 0, done = 0; done < seen; done += parts[part++].columns) {
      const T *from = parts[part].scores + row * parts[part].columns;
      Int some = parts[part].columns < seen - done ? parts[part].columns : seen - done;
      float *to = values + done;
#pragma omp simd reduction(max : largest)
      for (Int i = 0; i < some; i++) {
        to[i] = get(from[i]);
        largest = to[i] > largest ? to[i] : largest;
      }
    }
    for (Int i = seen; i < whole; i++) values[i] = -INFINITY;
#pragma omp simd reduction(+ : sum)
    for (Int i = 0; i < whole; i++) {
      values[i] = power_of_two(steep * (values[i] - largest));
      sum += values[i];
    }
    lse[row] = scale * largest + std::log(sum);
    float share = 1.0f / sum;
    for (Int part = 0, done = 0; part < count; done += parts[part++].columns) {
      T *to = parts[part].scores + row * parts[part].columns;
      const float *from = values + done;
      Int some = parts[part].columns < seen - done ? parts[part].columns : seen - done;
#pragma omp simd
      for (Int i = 0; i < some; i++) put(to[i], from[i] * share);
      for (Int i = some; i < parts[part].columns; i++) put(to[i], 0.0f);
    }
  }
}

// Scores (batch, keys, queries) to weights, and the gradient of the weights to that of the scores, in their places. The
// keys from ``before`` on are those of the queries' own tokens, ``group`` queries each.
API void softmax_backward(T *scores, T *grad, const float *lse, const float *mean, float scale, Int batch, Int keys,
                          Int queries, Int before, Int group) {
  EACH(row, batch * keys) {
    T *weight = scores + row * queries, *towards = grad + row * queries;
    const float *sum = lse + row / keys * queries, *middle = mean + row / keys * queries;
    Int key = row % keys, hidden = key > before ? (key - before) * group : 0;
    float steep = scale * log2e;
#pragma omp simd
    for (Int i = hidden / lanes * lanes; i < queries; i++) {
      float share = power_of_two(steep * get(weight[i]) - log2e * sum[i]);
      put(weight[i], share);
      put(towards[i], scale * share * (get(towards[i]) - middle[i]));
    }
    for (Int i = 0; i < hidden; i++) put(weight[i], 0.0f);
    for (Int i = 0; i < hidden; i++) put(towards[i], 0.0f);
  }
}

API void dots(const T *left, const T *right, Int rows, Int width, float *out) {
  EACH(row, rows) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (Int i = 0; i < width; i++) sum += get(left[row * width + i]) * get(right[row * width + i]);
    out[row] = sum;
  }
}

// Add (batch, values) to float32 sums that lie further apart.
API void accumulate(const T *part, float *sums, Int stride, Int batch, Int values) {
  EACH(one, batch) {
    const T *from = part + one * values;
    float *to = sums + one * stride;
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
