// Matrix products C = A B on one thread, from rows of A and packed panels of B.
//
// B lies in panels of kPanel columns; inside a panel, kPair numbers that follow each other along
// the summed axis stand together, so that one vector load feeds one multiply-add. A is read in
// words of kPair numbers: word (row, k) at a + row * row_stride + k * word_stride.
#pragma once

#include "arena.h"
#include "numbers.h"

namespace cllm {

enum class Into { kStore, kAdd, kRound };

template <class E> struct Left {
    const E *at;
    int64_t row_stride, word_stride, tile_stride;  // tile_stride from kTileRows rows to the next
};

// Rows as they lie in memory.
template <class E> Left<E> rows_of(const E *at, int64_t stride) {
    return {at, stride, kPair<E>, kTileRows * stride};
}

// `panel_stride` numbers from one panel to the next; a panel's words are contiguous.
template <class E> struct Packed {
    const E *at;
    int64_t panel_stride;
};

template <class E> inline int64_t packed_size(int64_t summed, int64_t columns) {
    return round_up(columns, kPanel) * round_up(summed, kPair<E>);
}

template <class E> struct Word;
template <> struct Word<float> {
    Floats value;
    static Word spread(const float *a) { return {Floats{} + *a}; }
    static Floats load(const float *b) { return *(const Floats *)b; }
    Floats multiply_add(Floats b, Floats sum) const { return sum + value * b; }
    typedef Floats Right;
};

#if defined(__AVX512BF16__)
template <> struct Word<BFloat16> {
    __m512bh value;
    static Word spread(const BFloat16 *a) {
        int32_t word;
        memcpy(&word, a, 4);
        return {(__m512bh)_mm512_set1_epi32(word)};
    }
    typedef __m512bh Right;
    static Right load(const BFloat16 *b) { return (__m512bh)_mm512_loadu_si512(b); }
    Floats multiply_add(Right b, Floats sum) const {
        return (Floats)_mm512_dpbf16_ps((__m512)sum, value, b);
    }
};
#endif

// A whole row of a tile. The vectors are taken by value: sums whose address is taken would leave
// the registers.
template <Into mode, class E> inline void put(Floats sum, char *row, int vector) {
    if constexpr (mode == Into::kRound) {
        round_vector((E *)row + vector * kLanes, sum);
    } else {
        Floats *place = (Floats *)row + vector;
        *place = mode == Into::kAdd ? *place + sum : sum;
    }
}

// The first numbers of a row.
template <Into mode, class E> inline void put_some(const float *sums, char *row, int64_t columns) {
    for (int64_t i = 0; i < columns; i++) {
        float *place = (float *)row + i;
        if constexpr (mode == Into::kRound) ((E *)row)[i] = from_float<E>(sums[i]);
        else *place = mode == Into::kAdd ? *place + sums[i] : sums[i];
    }
}

template <class E, int rows, int vectors, Into mode>
__attribute__((noinline)) void tile(int64_t words, const E *a, int64_t row_stride,
                                    int64_t word_stride, const E *b, char *c, int64_t c_stride,
                                    int64_t columns) {
    constexpr int kWide = kLanes * kPair<E>;
    Floats sums[rows][vectors];
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) sums[r][j] = Floats{};
    const E *a4 = a + 4 * row_stride, *a8 = a + 8 * row_stride;
    // What is added to has mostly left the caches; it arrives while the sums are formed.
    if constexpr (mode == Into::kAdd)
        for (int r = 0; r < rows; r++)
            for (int j = 0; j < vectors; j++)
                __builtin_prefetch(c + r * c_stride + j * kLanes * 4, 1);
    for (int64_t k = 0; k < words; k++) {
        typename Word<E>::Right right[vectors];
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) right[j] = Word<E>::load(b + j * kWide);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
            const E *row = r < 4 ? a : (r < 8 ? a4 : a8);
            auto left = Word<E>::spread(row + (r & 3) * row_stride);
#pragma GCC unroll 4
            for (int j = 0; j < vectors; j++)
                sums[r][j] = left.multiply_add(right[j], sums[r][j]);
        }
        a += word_stride, a4 += word_stride, a8 += word_stride;
        b += kPanel * kPair<E>;
    }
    if (columns == vectors * kLanes) {
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int j = 0; j < vectors; j++) put<mode, E>(sums[r][j], c + r * c_stride, j);
        return;
    }
    float kept[rows][vectors * kLanes];
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) *(Floats *)(kept[r] + j * kLanes) = sums[r][j];
    for (int r = 0; r < rows; r++) put_some<mode, E>(kept[r], c + r * c_stride, columns);
}

template <class E, int vectors, Into mode>
inline void column_of_tiles(int64_t m, int64_t words, Left<E> a, const E *b, char *c,
                            int64_t c_stride, int64_t columns) {
    int64_t i = 0;
    for (; i + kTileRows <= m; i += kTileRows, a.at += a.tile_stride)
        tile<E, kTileRows, vectors, mode>(words, a.at, a.row_stride, a.word_stride, b,
                                          c + i * c_stride, c_stride, columns);
    auto run = [&](auto kernel, int rows) {
        kernel(words, a.at, a.row_stride, a.word_stride, b, c + i * c_stride, c_stride, columns);
        i += rows, a.at += rows * a.row_stride;
    };
    if constexpr (kTileRows > 8) {
        if (m - i >= 8) run(tile<E, 8, vectors, mode>, 8);
    }
    if (m - i >= 4) run(tile<E, 4, vectors, mode>, 4);
    if (m - i >= 2) run(tile<E, 2, vectors, mode>, 2);
    if (m - i >= 1) run(tile<E, 1, vectors, mode>, 1);
}

// C[m, n] = (or +=) A[m, k] B[k, n]; C's rows are c_stride numbers apart.
template <Into mode, class E, class C>
void product(int64_t m, int64_t n, int64_t k, Left<E> a, Packed<E> b, C *c, int64_t c_stride) {
    int64_t words = (k + kPair<E> - 1) / kPair<E>;
    for (int64_t j = 0; j < n; j += kPanel) {
        const E *panel = b.at + j / kPanel * b.panel_stride;
        int64_t columns = n - j < kPanel ? n - j : kPanel;
        char *to = (char *)(c + j);
        if (columns > kLanes)
            column_of_tiles<E, 2, mode>(m, words, a, panel, to, c_stride * sizeof(C), columns);
        else
            column_of_tiles<E, 1, mode>(m, words, a, panel, to, c_stride * sizeof(C), columns);
    }
}

template <class E> struct WordBits {
    typedef uint32_t Type __attribute__((may_alias, aligned(2)));
};

#if defined(__AVX512F__)
// The transpose of 16 rows of 16 words. Row r and row r + 8 interleaved become rows 2r and 2r + 1:
// that turns the bits of (row, column) by one place, and four times by four.
inline void transpose(Words *rows) {
    for (int i = 0; i < 4; i++) {
        Words next[16];
#pragma GCC unroll 8
        for (int r = 0; r < 8; r++) {
            next[2 * r] = __builtin_shufflevector(rows[r], rows[r + 8], 0, 16, 1, 17, 2, 18, 3, 19,
                                                  4, 20, 5, 21, 6, 22, 7, 23);
            next[2 * r + 1] = __builtin_shufflevector(rows[r], rows[r + 8], 8, 24, 9, 25, 10, 26,
                                                      11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        }
#pragma GCC unroll 16
        for (int r = 0; r < 16; r++) rows[r] = next[r];
    }
}

// The words of the first `count` of kLanes rows, as columns of `to`, as far as whole vectors go;
// returns how many. It writes kLanes words to each row of `to`, also where there are fewer rows.
template <class E>
inline int64_t transpose_words(E *to, int64_t to_stride, const E *from, int64_t stride, int count,
                               int64_t words) {
    int64_t w = 0;
    for (; w + kLanes <= words; w += kLanes) {
        Words rows[kLanes] = {};
#pragma GCC unroll 16
        for (int r = 0; r < kLanes; r++)
            if (r < count) rows[r] = *(const Words *)(from + r * stride + w * kPair<E>);
        transpose(rows);
#pragma GCC unroll 16
        for (int r = 0; r < kLanes; r++)
            *(Words *)(to + (w + r) * to_stride) = rows[r];
    }
    return w;
}
#else
template <class E>
inline int64_t transpose_words(E *, int64_t, const E *, int64_t, int, int64_t) {
    return 0;
}
#endif

// ---- packing; each returns what `product` reads ----

// B from rows along the summed axis: source[k][n].
template <class E> Packed<E> pack_rows(E *to, const E *from, int64_t k, int64_t n, int64_t stride) {
    int64_t panel_stride = round_up(k, kPair<E>) * kPanel;
    for (int64_t j = 0; j < n; j += kPanel) {
        E *panel = to + j / kPanel * panel_stride;
        int64_t columns = n - j < kPanel ? n - j : kPanel;
        if constexpr (kPair<E> == 1) {
            for (int64_t i = 0; i < k; i++)
                for (int64_t c = 0; c < kPanel; c++)
                    panel[i * kPanel + c] = c < columns ? from[i * stride + j + c] : E{};
        } else {
            for (int64_t i = 0; i < k; i += 2) {
                const uint16_t *even = (const uint16_t *)(from + i * stride + j);
                const uint16_t *odd = even + stride;
                bool is_last = i + 1 == k;
                uint32_t *words = (uint32_t *)(panel + i * kPanel);
                if (columns == kPanel && !is_last) {
#pragma omp simd
                    for (int c = 0; c < kPanel; c++)
                        words[c] = uint32_t(even[c]) | uint32_t(odd[c]) << 16;
                } else {
                    for (int c = 0; c < kPanel; c++)
                        words[c] = c < columns
                            ? uint32_t(even[c]) | (is_last ? 0 : uint32_t(odd[c]) << 16) : 0;
                }
            }
        }
    }
    return {to, panel_stride};
}

// B from columns: source[n][k], so that A B is A times the transpose of source.
template <class E>
Packed<E> pack_columns(E *to, const E *from, int64_t n, int64_t k, int64_t stride) {
    int64_t words = (k + kPair<E> - 1) / kPair<E>, panel_stride = words * kPair<E> * kPanel;
    for (int64_t j = 0; j < round_up(n, kPanel); j += kLanes) {
        E *panel = to + j / kPanel * panel_stride + j % kPanel * kPair<E>;
        const E *rows = from + j * stride;
        int64_t done = 0;
        if (j + kLanes <= n)
            done = transpose_words<E>(panel, kPanel * kPair<E>, rows, stride, kLanes, k / kPair<E>);
        for (int64_t c = 0; c < kLanes; c++)
            for (int64_t i = done * kPair<E>; i < words * kPair<E>; i++)
                panel[i / kPair<E> * kPanel * kPair<E> + c * kPair<E> + i % kPair<E>] =
                    j + c < n && i < k ? rows[c * stride + i] : E{};
    }
    return {to, panel_stride};
}

// The transpose of source[k][m] as the left side, tile after tile. Memory must go on for 16
// numbers after the last: an arena's does.
template <class E> Left<E> pack_left(E *to, const E *from, int64_t k, int64_t m, int64_t stride) {
    int64_t words = (k + kPair<E> - 1) / kPair<E>;
    int64_t tile_size = words * kTileRows * kPair<E>;
    const E *start = to;
    for (int64_t c = 0; c < m; c += kTileRows, to += tile_size) {
        const E *row = from + c;
        int64_t i = 0;
#if defined(__AVX512F__)
        // Loads may reach past the last column: what they bring belongs to rows that tiles skip.
        // Each store of 16 words is 12 of this tile, and 4 that the next store overwrites.
        if constexpr (kPair<E> == 2)
            for (; i + 2 < words; i++, row += 2 * stride) {
                Words even = __builtin_convertvector(*(const Halves *)row, Words);
                Words odd = __builtin_convertvector(*(const Halves *)(row + stride), Words);
                *(Words *)(to + i * kTileRows * 2) = even | odd << 16;
            }
#endif
        for (; i < words; i++, row += kPair<E> * stride)
            for (int64_t r = 0; r < kTileRows && c + r < m; r++)
                for (int p = 0; p < kPair<E>; p++)
                    to[(i * kTileRows + r) * kPair<E> + p] =
                        i * kPair<E> + p < k ? row[p * stride + r] : E{};
    }
    return {start, kPair<E>, kTileRows * kPair<E>, tile_size};
}

// Rows of source[m][k], tile after tile: worth it where many panels read them.
template <class E>
Left<E> pack_left_rows(E *to, const E *from, int64_t m, int64_t k, int64_t stride) {
    typedef typename WordBits<E>::Type Bits;
    // The last word of an odd k holds what follows the row: its partner is zero.
    int64_t words = (k + kPair<E> - 1) / kPair<E>, tile_size = words * kTileRows * kPair<E>;
    for (int64_t i = 0; i < m; i += kTileRows) {
        E *tile = to + i / kTileRows * tile_size;
        int64_t done = 0;
        if (i + kTileRows <= m)
            done = transpose_words<E>(tile, kTileRows * kPair<E>, from + i * stride, stride,
                                      kTileRows, words);
        for (int64_t r = 0; r < kTileRows && i + r < m; r++) {
            const Bits *row = (const Bits *)(from + (i + r) * stride);
            for (int64_t w = done; w < words; w++) ((Bits *)tile)[w * kTileRows + r] = row[w];
        }
    }
    return {to, kPair<E>, kTileRows * kPair<E>, tile_size};
}

}  // namespace cllm
