// FlashAttention (arXiv 2205.14135) over a token tree, for processors with AVX-512: all nodes of a layer in one call,
// and what is computed between the products stays in the processor's second cache. products.py does the same by
// PyTorch's matrix products, which send every score through memory, several times. bfloat16 is for processors that
// multiply it themselves: by Intel's tiles (AMX), or by a dot product of pairs.
//
// A product is C (32 x 32, float32) = or += A (32 x depth) B (depth x 32). A lies row after row. B lies in blocks of 16
// columns, whose rows hold a word of each column: a float32, or a pair of bfloat16 that stand in two rows of B. So B is
// made of a matrix X either by ``columns`` (B is X transposed) or by ``words`` (B is X).
#include "kernels.h"

#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <immintrin.h>

using Word = uint32_t;

constexpr Int edge = 16, tile = 32;  // columns of a block; rows and columns of a product
constexpr Int per = sizeof(Word) / sizeof(T);

static inline Int up(Int count, Int step) { return (count + step - 1) / step * step; }

// A product's factors. Steps are from row to row, in values, and from block to block, in words.
struct Left {
  const T *values;
  Int step;
};
struct Right {
  const Word *values;
  Int step;
};
struct Result {
  float *values;
  Int step;
};

#if defined(__AMX_TILE__) && defined(BFLOAT16)
struct Able {  // a thread, while it has this: eight tiles of 16 rows of 64 bytes
  Able() {
    struct {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } config;
    _tile_loadconfig(&config);
  }
  ~Able() { _tile_release(); }
};

static inline void multiply(Left a, Right b, Int depth, Result c, bool add) {
  float *low = c.values + edge * c.step;
  Int wide = c.step * sizeof(float), along = a.step * sizeof(T), row = edge * sizeof(Word);
  if (add) {
    _tile_loadd(0, c.values, wide);
    _tile_loadd(1, c.values + edge, wide);
    _tile_loadd(2, low, wide);
    _tile_loadd(3, low + edge, wide);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (Int at = 0; at < depth; at += tile) {
    _tile_loadd(4, a.values + at, along);
    _tile_loadd(6, b.values + at / 2 * edge, row);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b.values + b.step + at / 2 * edge, row);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a.values + edge * a.step + at, along);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, c.values, wide);
  _tile_stored(1, c.values + edge, wide);
  _tile_stored(2, low, wide);
  _tile_stored(3, low + edge, wide);
}
#else
struct Able {};

static inline void multiply(Left a, Right b, Int depth, Result c, bool add) {
  constexpr int rows = 8;  // at a time: 16 sums stay in registers
  for (Int first = 0; first < tile; first += rows) {
    const T *left = a.values + first * a.step;
    float *to = c.values + first * c.step;
    __m512 sums[rows][2] = {};
    if (add)
      for (int i = 0; i < rows; i++)
        for (int half = 0; half < 2; half++) sums[i][half] = _mm512_loadu_ps(to + i * c.step + half * edge);
    for (Int word = 0; word < depth / per; word++)
      for (int half = 0; half < 2; half++) {
        const Word *right = b.values + half * b.step + word * edge;
        for (int i = 0; i < rows; i++) {
#ifdef BFLOAT16
          int pair;
          std::memcpy(&pair, left + i * a.step + word * per, sizeof pair);
          __m512bh factors = (__m512bh)_mm512_loadu_si512(right);
          sums[i][half] = _mm512_dpbf16_ps(sums[i][half], (__m512bh)_mm512_set1_epi32(pair), factors);
#else
          sums[i][half] += left[i * a.step + word] * _mm512_loadu_ps(right);
#endif
        }
      }
    for (int i = 0; i < rows; i++)
      for (int half = 0; half < 2; half++) _mm512_storeu_ps(to + i * c.step + half * edge, sums[i][half]);
  }
}
#endif

// 16 x 16 words, rows ``step`` words apart, to the same with rows and columns exchanged.
static inline void turn(const Word *from, Int step, Word *to, Int to_step) {
  __m512i a[16], b[16];
  for (int i = 0; i < 16; i++) a[i] = _mm512_loadu_si512(from + i * step);
  for (int i = 0; i < 8; i++) {
    b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
  }
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 2; j++) {
      a[4 * i + 2 * j] = _mm512_unpacklo_epi64(b[4 * i + j], b[4 * i + 2 + j]);
      a[4 * i + 2 * j + 1] = _mm512_unpackhi_epi64(b[4 * i + j], b[4 * i + 2 + j]);
    }  // a[4i + c]: column c of each 128-bit lane's four, of rows 4i to 4i+3
  for (int c = 0; c < 4; c++) {
    b[c] = _mm512_shuffle_i32x4(a[c], a[4 + c], 0x88);
    b[4 + c] = _mm512_shuffle_i32x4(a[c], a[4 + c], 0xdd);
    b[8 + c] = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0x88);
    b[12 + c] = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0xdd);
  }  // b[c]: lanes 0 and 2 of rows 0-3, then of 4-7; b[4 + c]: lanes 1 and 3; b[8 + c], b[12 + c]: of rows 8-15
  for (int c = 0; c < 4; c++) {
    _mm512_storeu_si512(to + c * to_step, _mm512_shuffle_i32x4(b[c], b[8 + c], 0x88));
    _mm512_storeu_si512(to + (4 + c) * to_step, _mm512_shuffle_i32x4(b[4 + c], b[12 + c], 0x88));
    _mm512_storeu_si512(to + (8 + c) * to_step, _mm512_shuffle_i32x4(b[c], b[8 + c], 0xdd));
    _mm512_storeu_si512(to + (12 + c) * to_step, _mm512_shuffle_i32x4(b[4 + c], b[12 + c], 0xdd));
  }
}

// B of X transposed, X (rows x depth): blocks of depth / per rows. Both are multiples of 32, here and below.
static inline void columns(const T *x, Int rows, Int depth, Word *b) {
  for (Int row = 0; row < rows; row += edge)
    for (Int word = 0; word < depth / per; word += edge)
      turn((const Word *)(x + row * depth) + word, depth / per, b + (row * depth / per + word * edge), edge);
}

// B of X (rows x width; rows ``step`` apart): blocks of rows / per rows.
static inline void words(const T *x, Int step, Int rows, Int width, Word *b) {
  for (Int row = 0; row < rows; row += per)
    for (Int block = 0; block < width / edge; block++) {
      const T *from = x + row * step + block * edge;
      Word *to = b + (block * rows + row) / per * edge;
#ifdef BFLOAT16
#pragma omp simd
      for (Int i = 0; i < edge; i++) to[i] = from[i].bits | Word(from[step + i].bits) << 16;
#else
      std::memcpy(to, from, edge * sizeof(Word));
#endif
    }
}

static inline __m512 power_of_two(__m512 x) {  // as in kernels.h
  x = _mm512_max_ps(_mm512_set1_ps(-126.0f), x);  // in this order: what is not a number stays so
  __m512 n = _mm512_roundscale_ps(x, 0), r = x - n, p = _mm512_set1_ps(powers[0]);
  for (int i = 1; i < 7; i++) p = p * r + powers[i];
  return _mm512_scalef_ps(p, n);
}

static inline void put(T *to, __m512 low, __m512 high) {
#ifdef BFLOAT16
  _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(high, low));
#else
  _mm512_storeu_ps(to, low);
  _mm512_storeu_ps(to + edge, high);
#endif
}

static inline float dot(const T *left, const T *right, Int width) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (Int i = 0; i < width; i++) sum += get(left[i]) * get(right[i]);
  return sum;
}

// The tree: its nodes' rows, and the runs of rows that each one's last token sees, the last of which ends with its own.
struct Node {
  Int begin, end, runs, run_count;  // ``runs``: the first one's number
};
struct Run {
  Int begin, end;
};

// A node's tokens ask with the heads that read one key head: ``count`` rows in all, side by side for each token.
struct Asking {
  const Node &node;
  const Run *runs, *end;
  Int head, heads, group;
  Int count, seen, before;  // rows; keys that the last token sees, and that the first one sees before its own

  Asking(const Node &node, const Run *all, Int head, Int heads, Int key_heads)
      : node(node), runs(all + node.runs), end(runs + node.run_count), head(head), heads(heads) {
    group = heads / key_heads;
    count = (node.end - node.begin) * group;
    seen = 0;
    for (const Run *run = runs; run < end; run++) seen += run->end - run->begin;
    before = seen - (node.end - node.begin);
  }
  // How many keys a row sees.
  Int keys(Int row) const { return before + row / group + 1; }
  // Which head of which token of the tree, in what lies row after row; and in what lies by node.
  Int by_row(Int row) const { return (node.begin + row / group) * heads + head * group + row % group; }
  Int by_node(Int row) const { return node.begin * heads + head * count + row; }

  // Calls ``each(number among these, row of the tree, how many)`` for each run of keys ``first`` to ``first + some`` of
  // those that are seen; returns how many there are.
  template <class Each> Int each_run(Int first, Int some, Each each) const {
    Int done = 0, passed = 0;
    for (const Run *run = runs; run < end && done < some; passed += run->end - run->begin, run++) {
      Int skip = first + done - passed, rest = run->end - run->begin - skip;
      if (rest <= 0) continue;
      Int now = rest < some - done ? rest : some - done;
      each(done, run->begin + skip, now);
      done += now;
    }
    return done;
  }
  // Their rows of x, one behind the other, and zeros where there are no more.
  void gather(const T *x, Int first, Int some, Int width, T *out) const {
    Int there = each_run(first, some, [&](Int to, Int from, Int now) {
      std::memcpy(out + to * width, x + from * width, now * width * sizeof(T));
    });
    std::memset(out + there * width, 0, (some - there) * width * sizeof(T));
  }
  void scatter(const float *x, Int first, Int some, Int width, float *out) const {
    each_run(first, some, [&](Int from, Int to, Int now) {
      float *sums = out + to * width;
      const float *values = x + from * width;
#pragma omp simd
      for (Int i = 0; i < now * width; i++) sums[i] += values[i];
    });
  }
};

static inline Int most_seen(const Node *nodes, Int count, const Run *runs) {
  Int most = 0;
  for (const Node *node = nodes; node < nodes + count; node++) {
    Int seen = Asking(*node, runs, 0, 1, 1).seen;
    most = seen > most ? seen : most;
  }
  return most;
}

// Memory of a thread, in pieces.
struct Room {
  char *all, *next;
  explicit Room(Int bytes) { all = next = (char *)std::aligned_alloc(64, up(bytes, 64)); }
  ~Room() { std::free(all); }
  template <class V> void take(V *&piece, Int count) {
    piece = (V *)next;
    next += up(count * sizeof(V), 64);
  }
};

// What 32 rows ask of all that they see.
struct Forward {
  Int width, longest;
  Room room;
  T *plain, *some, *weights;
  Word *keys, *values;
  float *scores, *found;
  float shares[tile];

  Forward(Int width, Int longest)
      : width(width), longest(longest),
        room(3 * longest * width * sizeof(T) + tile * (longest + width) * (sizeof(T) + sizeof(float)) + 7 * 64) {
    room.take(plain, longest * width);
    room.take(keys, longest * width / per);
    room.take(values, longest * width / per);
    room.take(some, tile * width);
    room.take(scores, tile * longest);
    room.take(weights, tile * longest);
    room.take(found, tile * width);
  }

  void read(const Asking &asking, const T *k, const T *v) {
    Int wide = up(asking.seen, tile);
    asking.gather(k, 0, wide, width, plain);
    columns(plain, wide, width, keys);
    asking.gather(v, 0, wide, width, plain);
    words(plain, width, wide, width, values);
  }

  void ask(const Asking &asking, Int first, const T *q, float scale, T *out, float *lse) {
    Int count = asking.count - first < tile ? asking.count - first : tile;
    Int wide = up(asking.seen, tile), most = up(asking.keys(first + count - 1), tile);
    std::memcpy(some, q + asking.by_node(first) * width, count * width * sizeof(T));
    std::memset(some + count * width, 0, (tile - count) * width * sizeof(T));
    for (Int key = 0; key < most; key += tile)
      multiply({some, width}, {keys + key * width / per, edge * width / per}, width, {scores + key, longest}, false);
    for (Int row = 0; row < count; row++)
      lse[asking.by_node(first + row)] = weigh(row, asking.keys(first + row), most, scale);
    for (Int at = 0; at < width; at += tile)
      multiply({weights, longest}, {values + at * wide / per, edge * wide / per}, most, {found + at, width}, false);
    for (Int row = 0; row < count; row++) {
      T *to = out + asking.by_row(first + row) * width;
#pragma omp simd
      for (Int i = 0; i < width; i++) put(to[i], found[row * width + i] * shares[row]);
    }
  }

  // Scores to exponentials, of which each is a share of the sum; returns that sum's logarithm.
  float weigh(Int row, Int seen, Int most, float scale) {
    float *at = scores + row * longest, largest = -INFINITY;
    for (Int i = seen; i < most; i++) at[i] = -INFINITY;
#pragma omp simd reduction(max : largest)
    for (Int i = 0; i < most; i++) largest = at[i] > largest ? at[i] : largest;
    __m512 sums = {};
    for (Int i = 0; i < most; i += tile) {
      __m512 low = power_of_two(scale * log2e * (_mm512_loadu_ps(at + i) - largest));
      __m512 high = power_of_two(scale * log2e * (_mm512_loadu_ps(at + i + edge) - largest));
      sums += low + high;
      put(weights + row * longest + i, low, high);
    }
    float total = _mm512_reduce_add_ps(sums);
    shares[row] = 1.0f / total;
    return scale * largest + std::log(total);
  }
};

// q by node, k and v by head (see place.py) -> out row after row, lse by node.
API void attend(const T *q, const T *k, const T *v, Int rows, Int heads, Int key_heads, Int width, const Node *nodes,
                Int count, const Run *runs, float scale, T *out, float *lse) {
  Int longest = up(most_seen(nodes, count, runs), tile);
#pragma omp parallel
  {
    [[maybe_unused]] Able able;
    Forward forward(width, longest);
#pragma omp for schedule(dynamic) collapse(2)
    for (Int node = 0; node < count; node++)
      for (Int head = 0; head < key_heads; head++) {
        Asking asking(nodes[node], runs, head, heads, key_heads);
        forward.read(asking, k + head * rows * width, v + head * rows * width);
        for (Int first = 0; first < asking.count; first += tile) forward.ask(asking, first, q, scale, out, lse);
      }
  }
}

// Up to 256 rows that asked (W of them), and 128 keys at a time (K). Scores stand keys by rows.
struct Backward {
  static constexpr Int wide = 256, tall = 128;
  Int width, asked;  // W, a multiple of 32
  Room room;
  T *q, *grad;                                                 // (W, width)
  Word *q_columns, *q_words, *grad_columns, *grad_words;
  float *to_q;                                                 // (width, W)
  float *lse, *mean;                                           // (W,), in powers of two; of the weights' gradients
  T *keys, *values;                                            // (K, width)
  Word *key_words, *turned;                                    // turned: (width, K) values
  float *scores, *towards;                                     // (K, W), towards: the gradient of the weights
  T *weights, *ahead;                                          // (K, W), ahead: the gradient of the scores
  Word *ahead_words;
  float *sums;                                                 // (K, width)

  explicit Backward(Int width)
      : width(width), room((6 * wide * width + 4 * tall * width + 3 * tall * wide) * sizeof(T) +
                           (wide * width + tall * width + 2 * tall * wide + 2 * wide) * sizeof(float) + 18 * 64) {
    for (T **piece : {&q, &grad}) room.take(*piece, wide * width);
    for (Word **piece : {&q_columns, &q_words, &grad_columns, &grad_words}) room.take(*piece, wide * width / per);
    room.take(to_q, wide * width);
    for (float **piece : {&lse, &mean}) room.take(*piece, wide);
    for (T **piece : {&keys, &values}) room.take(*piece, tall * width);
    for (Word **piece : {&key_words, &turned}) room.take(*piece, tall * width / per);
    for (float **piece : {&scores, &towards}) room.take(*piece, tall * wide);
    for (T **piece : {&weights, &ahead}) room.take(*piece, tall * wide);
    room.take(ahead_words, tall * wide / per);
    room.take(sums, tall * width);
  }

  void take(const Asking &asking, Int first, Int count, const T *all_q, const T *all_grad, const T *seen,
            const float *all_lse) {
    asked = up(count, tile);
    std::memcpy(q, all_q + asking.by_node(first) * width, count * width * sizeof(T));
    std::memset(q + count * width, 0, (asked - count) * width * sizeof(T));
    std::memset(grad + count * width, 0, (asked - count) * width * sizeof(T));
    for (Int row = 0; row < asked; row++) {
      bool there = row < count;
      Int from = there ? asking.by_row(first + row) * width : 0;
      if (there) std::memcpy(grad + row * width, all_grad + from, width * sizeof(T));
      lse[row] = there ? log2e * all_lse[asking.by_node(first + row)] : 0;
      mean[row] = there ? dot(grad + row * width, seen + from, width) : 0;
    }
    columns(q, asked, width, q_columns);
    columns(grad, asked, width, grad_columns);
    words(q, width, asked, width, q_words);
    words(grad, width, asked, width, grad_words);
    std::memset(to_q, 0, wide * width * sizeof(float));
  }

  // Weights and the gradient of the scores, of keys ``key`` to ``key + some`` of those that are seen.
  void weigh(const Asking &asking, Int first, Int key, Int some, float scale) {
    for (Int row = 0; row < some; row += tile)
      for (Int at = 0; at < asked; at += tile) {
        Right for_keys{q_columns + at * width / per, edge * width / per};
        Right for_values{grad_columns + at * width / per, edge * width / per};
        multiply({keys + row * width, width}, for_keys, width, {scores + row * wide + at, wide}, false);
        multiply({values + row * width, width}, for_values, width, {towards + row * wide + at, wide}, false);
      }
    for (Int row = 0; row < some; row++) {
      Int hidden = (key + row - asking.before) * asking.group - first;  // from so many rows: they come before this key
      hidden = hidden < 0 ? 0 : hidden > asked || key + row >= asking.seen ? asked : hidden;
      Int from = row * wide, blank = hidden / tile * tile;
      std::memset(weights + from, 0, blank * sizeof(T));
      std::memset(ahead + from, 0, blank * sizeof(T));
      for (Int i = blank; i < asked; i += tile) {
        __m512 share[2], pull[2];
        for (Int half = 0, at = i; half < 2; half++, at += edge) {
          Int none = hidden < at ? 0 : hidden - at < edge ? hidden - at : edge;
          __m512 power = scale * log2e * _mm512_loadu_ps(scores + from + at) - _mm512_loadu_ps(lse + at);
          share[half] = _mm512_maskz_mov_ps(__mmask16(0xffffu << none), power_of_two(power));
          pull[half] = scale * share[half] * (_mm512_loadu_ps(towards + from + at) - _mm512_loadu_ps(mean + at));
        }
        put(weights + from + i, share[0], share[1]);
        put(ahead + from + i, pull[0], pull[1]);
      }
    }
    words(ahead, wide, some, asked, ahead_words);
  }

  // ``sums`` = left (K, W) times right, made of (W, width) by ``words``.
  void sum(const T *left, const Word *right, Int some) {
    for (Int row = 0; row < some; row += tile)
      for (Int at = 0; at < width; at += tile) {
        Right from{right + at * asked / per, edge * asked / per};
        multiply({left + row * wide, wide}, from, asked, {sums + row * width + at, width}, false);
      }
  }

  // The gradient of q, transposed: keys transposed times ``ahead``.
  void add_to_q(Int some) {
    words(keys, width, some, width, key_words);
    for (Int at = 0; at < width; at += edge)
      for (Int row = 0; row < some / per; row += edge)
        turn(key_words + at * some / per + row * edge, edge, turned + at * some / per + row, some / per);
    for (Int at = 0; at < width; at += tile)
      for (Int row = 0; row < asked; row += tile) {
        Right from{ahead_words + row * some / per, edge * some / per};
        multiply({(const T *)turned + at * some, some}, from, some, {to_q + at * wide + row, wide}, true);
      }
  }

  void give(Int count, T *out) const {
    for (Int row = 0; row < asked; row += edge)
      for (Int at = 0; at < width; at += edge) {
        float block[edge * edge];
        turn((const Word *)(to_q + at * wide + row), wide, (Word *)block, edge);
        for (Int i = 0; i < edge && row + i < count; i++)
#pragma omp simd
          for (Int j = 0; j < edge; j++) put(out[(row + i) * width + at + j], block[i * edge + j]);
      }
  }
};

// The gradients of q (by node), k and v (by head, float32, added to what is there). ``grad`` and ``seen``, what attend
// gave, are row after row. A head is one thread's, so that sums do not depend on how many there are.
API void attend_backward(const T *grad, const T *q, const T *k, const T *v, const T *seen, const float *lse, Int rows,
                         Int heads, Int key_heads, Int width, const Node *nodes, Int count, const Run *runs,
                         float scale, T *dq, float *dk, float *dv) {
#pragma omp parallel
  {
    [[maybe_unused]] Able able;
    Backward backward(width);
#pragma omp for schedule(dynamic)
    for (Int head = 0; head < key_heads; head++)
      for (const Node *node = nodes; node < nodes + count; node++) {
        Asking asking(*node, runs, head, heads, key_heads);
        Int own = head * rows * width;
        for (Int first = 0; first < asking.count; first += Backward::wide) {
          Int some_rows = asking.count - first < Backward::wide ? asking.count - first : Backward::wide;
          backward.take(asking, first, some_rows, q, grad, seen, lse);
          Int most = asking.keys(first + some_rows - 1);
          for (Int key = 0; key < most; key += Backward::tall) {
            Int some = up(most - key < Backward::tall ? most - key : Backward::tall, tile);
            asking.gather(k + own, key, some, width, backward.keys);
            asking.gather(v + own, key, some, width, backward.values);
            backward.weigh(asking, first, key, some, scale);
            backward.sum(backward.weights, backward.grad_words, some);
            asking.scatter(backward.sums, key, some, width, dv + own);
            backward.sum(backward.ahead, backward.q_words, some);
            asking.scatter(backward.sums, key, some, width, dk + own);
            backward.add_to_q(some);
          }
          backward.give(some_rows, dq + asking.by_node(first) * width);
        }
      }
  }
}
