// Products of rows with quantised weights: integers in groups of 32 columns, each with a scale.
//
// A row is rounded to integers of 8 bits in the same groups. Sums inside a group are exact, so only
// the groups' order decides the last bits, and that is always the same.
#pragma once

#include <cmath>

#include "codebook.h"

namespace cllm {

constexpr int64_t kGroup = 32, kQuads = kGroup / 4;

// ---- four products at a time ----

// A lane of weights holds four bytes from 0 to 255, one output's next four columns; the row's four
// numbers stand in a Quad. Without an instruction for it, products of 16 bits are summed in pairs.
#if defined(__AVX512VNNI__) && defined(__AVX512F__)
struct Quad {
    int32_t four;
};
inline Quad quad_of(const int8_t *x) {
    Quad quad;
    memcpy(&quad.four, x, 4);
    return quad;
}
inline Ints add_products(Ints sum, Words weights, Quad x) {
    return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)weights, _mm512_set1_epi32(x.four));
}
#else
struct Quad {
    int32_t even, odd;  // the first and third number, the second and fourth, 16 bits each
};
inline Quad quad_of(const int8_t *x) {
    auto both = [](int8_t low, int8_t high) {
        return int32_t(uint32_t(uint16_t(int16_t(low))) | uint32_t(uint16_t(int16_t(high))) << 16);
    };
    return {both(x[0], x[2]), both(x[1], x[3])};
}
#if defined(__AVX512BW__)
inline Ints pairs_of(Words a, int32_t b) {
    return (Ints)_mm512_madd_epi16((__m512i)a, _mm512_set1_epi32(b));
}
#elif defined(__AVX2__)
inline Ints pairs_of(Words a, int32_t b) {
    return (Ints)_mm256_madd_epi16((__m256i)a, _mm256_set1_epi32(b));
}
#else
inline Ints pairs_of(Words a, int32_t b) {
    Ints low = (Ints)(a & 0xffff), high = (Ints)(a >> 16);
    return low * int32_t(int16_t(b)) + high * (b >> 16);
}
#endif
inline Ints add_products(Ints sum, Words weights, Quad x) {
    constexpr uint32_t kEven = 0x00ff00ff;
    return sum + pairs_of(weights & kEven, x.even) + pairs_of((weights >> 8) & kEven, x.odd);
}
#endif

// ---- a row of integers ----

// Rows rounded to integers: quads, and a scale and the integers' sum a group.
struct IntegerRows {
    Quad *quads;
    float *scales;
    int32_t *sums;
    int64_t groups;
};

// Row r of `to` from `columns` floats, which zeros fill up to whole groups.
inline void to_integers(IntegerRows to, int64_t r, const float *x) {
    Quad *quads = to.quads + r * to.groups * kQuads;
    for (int64_t g = 0; g < to.groups; g++, x += kGroup, quads += kQuads) {
        Floats tops = {};
        for (int64_t i = 0; i < kGroup; i += kLanes) {
            Floats value = *(const Floats *)(x + i);
            Floats size = value < 0 ? -value : value;
            tops = size > tops ? size : tops;
        }
        float top = 0;
        for (int i = 0; i < kLanes; i++) top = tops[i] > top ? tops[i] : top;
        float scale = top / 127.0f, inverse = top > 0 ? 127.0f / top : 0.0f;
        int8_t rounded[kGroup];
        Ints sums = {};
        for (int64_t i = 0; i < kGroup; i += kLanes) {
            // 1.5 · 2²³ rounds to an integer, ties to even.
            Floats shifted = *(const Floats *)(x + i) * inverse + 12582912.0f;
            Ints whole = (Ints)shifted - 0x4b400000;
            sums += whole;
            *(Bytes *)(rounded + i) = __builtin_convertvector(whole, Bytes);
        }
        int32_t sum = 0;
        for (int i = 0; i < kLanes; i++) sum += sums[i];
        for (int64_t i = 0; i < kQuads; i++) quads[i] = quad_of(rounded + 4 * i);
        to.scales[r * to.groups + g] = scale, to.sums[r * to.groups + g] = sum;
    }
}

// ---- weights ----

inline float half_to_float(uint16_t half) {
    uint32_t sign = uint32_t(half & 0x8000) << 16, rest = half & 0x7fff;
    if (rest >= 0x7c00) return __builtin_bit_cast(float, sign | 0x7f800000 | (rest & 0x3ff) << 13);
    // As if the exponent's bias were float's; the product sets it right, also of the smallest.
    float value = __builtin_bit_cast(float, rest << 13) * 0x1p112f;
    return __builtin_bit_cast(float, sign | __builtin_bit_cast(uint32_t, value));
}

inline Floats widen_halves(const uint16_t *at) {
#if defined(__AVX512F__)
    return (Floats)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)at));
#elif defined(__AVX2__)
    return (Floats)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)at));
#else
    Floats values;
    for (int i = 0; i < kLanes; i++) values[i] = half_to_float(at[i]);
    return values;
#endif
}

// A panel's group in each format: its bytes, and `quads(vector, i)`: the weights of columns 4i to
// 4i + 3, as bytes above `zero`. Groups of int8 and int4 begin with kPanel scales.
struct Int8Group {
    static constexpr bool kHasScales = true;
    static int64_t bytes(const Codebook &) { return kPanel * (2 + kGroup); }
    static int32_t zero(const Codebook &) { return 128; }
    const uint8_t *at;
    Int8Group(const uint8_t *group, const Codebook &) : at(group + 2 * kPanel) {}
    Words quads(int vector, int i) const {
        return *(const Words *)(at + (vector * kQuads + i) * kLanes * 4);
    }
};

struct Int4Group {
    static constexpr bool kHasScales = true;
    static int64_t bytes(const Codebook &) { return kPanel * (2 + kGroup / 2); }
    static int32_t zero(const Codebook &) { return 8; }
    const uint8_t *at;
    Int4Group(const uint8_t *group, const Codebook &) : at(group + 2 * kPanel) {}
    // The second half of the columns stands in the upper halves of the bytes.
    Words quads(int vector, int i) const {
        Words both = *(const Words *)(at + (vector * kQuads / 2 + i % 4) * kLanes * 4);
        return (i < 4 ? both : both >> 4) & 0x0f0f0f0f;
    }
};

// Lattice codes: for each stage, four times kPanel codes of eight columns.
struct LatticeGroup {
    static constexpr bool kHasScales = false;
    static int64_t bytes(const Codebook &book) { return book.group_bytes(); }
    static int32_t zero(const Codebook &book) { return book.zero(); }
    Words values[kTileVectors][kQuads];
    LatticeGroup(const uint8_t *group, const Codebook &book) { book.decode(&values[0][0], group); }
    Words quads(int vector, int i) const { return values[vector][i]; }
};

template <class G, int rows>
__attribute__((noinline)) void integer_tile(int64_t groups, const Quad *quads, const float *scales,
                                            const int32_t *sums, const uint8_t *panel,
                                            const Codebook &book, const float *row_scales,
                                            Outputs y) {
    const int64_t bytes = G::bytes(book);
    const int32_t zero = G::zero(book);
    Floats totals[rows][kTileVectors];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < kTileVectors; v++) totals[r][v] = Floats{};
    for (int64_t g = 0; g < groups; g++, panel += bytes) {
        const G group(panel, book);
        Ints whole[rows][kTileVectors];
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < kTileVectors; v++)
                whole[r][v] = Ints{} - zero * sums[r * groups + g];
#pragma GCC unroll 8
        for (int i = 0; i < kQuads; i++) {
            Words weights[kTileVectors];
#pragma GCC unroll 2
            for (int v = 0; v < kTileVectors; v++) weights[v] = group.quads(v, i);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
                for (int v = 0; v < kTileVectors; v++)
                    whole[r][v] = add_products(whole[r][v], weights[v],
                                               quads[(r * groups + g) * kQuads + i]);
        }
        Floats by[kTileVectors];
#pragma GCC unroll 2
        for (int v = 0; v < kTileVectors; v++)
            if constexpr (G::kHasScales) by[v] = widen_halves((const uint16_t *)panel + v * kLanes);
            else by[v] = Floats{} + 1.0f;
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < kTileVectors; v++)
                totals[r][v] += __builtin_convertvector(whole[r][v], Floats) *
                                (by[v] * scales[r * groups + g]);
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < kTileVectors; v++) {
            Floats total = totals[r][v];
            if constexpr (!G::kHasScales) total *= *(const Floats *)(row_scales + v * kLanes);
            *(Floats *)(y.at + r * y.stride + v * kLanes) = total;
        }
}

// y[r] = the products of rows of integers with panels; `row_scales` has kPanel a panel, for
// groups without scales.
template <class G>
void integer_product(int64_t rows, const IntegerRows &x, const uint8_t *panels, int64_t count,
                     const Codebook &book, const float *row_scales, Outputs y) {
    constexpr int kMost = kLanes == 16 ? 6 : 2;
    for (int64_t p = 0; p < count; p++, panels += x.groups * G::bytes(book), y.at += kPanel) {
        auto step = [&](auto number, int64_t r) {
            constexpr int n = decltype(number)::value;
            integer_tile<G, n>(x.groups, x.quads + r * x.groups * kQuads, x.scales + r * x.groups,
                               x.sums + r * x.groups, panels, book, row_scales + p * kPanel,
                               {y.at + r * y.stride, y.stride});
        };
        int64_t r = 0;
        for (; r + kMost <= rows; r += kMost) step(std::integral_constant<int, kMost>(), r);
        if constexpr (kMost > 4)
            if (rows - r >= 4) step(std::integral_constant<int, 4>(), r), r += 4;
        if constexpr (kMost > 2)
            if (rows - r >= 2) step(std::integral_constant<int, 2>(), r), r += 2;
        if (rows - r >= 1) step(std::integral_constant<int, 1>(), r), r += 1;
    }
}

}  // namespace cllm
