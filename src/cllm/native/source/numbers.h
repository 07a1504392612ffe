// Number formats and vectors: what one machine word of work is on each processor.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace cllm {

// Floats in one vector register, and the tile of products that fills the registers.
#if defined(__AVX512F__)
constexpr int kLanes = 16, kTileRows = 12, kTileVectors = 2;
#elif defined(__AVX2__)
constexpr int kLanes = 8, kTileRows = 6, kTileVectors = 2;
#else
constexpr int kLanes = 4, kTileRows = 6, kTileVectors = 2;
#endif
constexpr int kPanel = kLanes * kTileVectors;

#if defined(__AVX512BF16__)
constexpr bool kHasBFloat16 = true;
#else
constexpr bool kHasBFloat16 = false;
#endif

typedef float Floats __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef uint32_t Words __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef uint16_t Halves __attribute__((vector_size(kLanes * 2), aligned(2), may_alias));

// The upper half of a float. Products of it are compiled for processors that multiply it alone.
struct BFloat16 {
    uint16_t bits;
};

// Numbers that one multiply-add takes together along the summed axis.
template <class E> constexpr int kPair = 1;
template <> constexpr int kPair<BFloat16> = 2;

template <class E> inline E from_float(float x);
template <> inline float from_float<float>(float x) { return x; }
// To nearest, ties to even; a NaN stays one.
template <> inline BFloat16 from_float<BFloat16>(float x) {
    uint32_t bits = __builtin_bit_cast(uint32_t, x);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    uint32_t quiet = (bits >> 16) | 0x40;
    return {uint16_t((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded)};
}

inline void convert(float *to, const float *from, int64_t n) {
    memcpy(to, from, n * sizeof(float));
}

inline void convert(BFloat16 *to, const float *from, int64_t n) {
    int64_t i = 0;
#if defined(__AVX512BF16__)
    for (; i + 16 <= n; i += 16)
        _mm256_storeu_si256((__m256i *)(to + i),
                            (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(from + i)));
#endif
    for (; i < n; i++) to[i] = from_float<BFloat16>(from[i]);
}

inline void round_vector(float *to, Floats x) { *(Floats *)to = x; }

#if defined(__AVX512BF16__)
inline void round_vector(BFloat16 *to, Floats x) {
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh((__m512)x));
}
#endif

// ---- rows in vectors ----

// The places of a whole vector in a row, and of what is left at its end.
struct Whole {
    int64_t at;
};
struct Rest {
    int64_t at, count;
};

// Calls f(Whole) along a row of n numbers, then f(Rest) if something is left.
template <class F> inline void by_vectors(int64_t n, F f) {
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) f(Whole{i});
    if (i < n) f(Rest{i, n - i});
}

inline Floats load(const float *row, Whole place) { return *(const Floats *)(row + place.at); }
inline void store(float *row, Whole place, Floats x) { *(Floats *)(row + place.at) = x; }

#if defined(__AVX512F__)
inline __mmask16 mask_of(Rest place) { return __mmask16((1u << place.count) - 1); }

inline Floats load(const float *row, Rest place, float otherwise = 0) {
    return (Floats)_mm512_mask_loadu_ps(_mm512_set1_ps(otherwise), mask_of(place), row + place.at);
}

inline void store(float *row, Rest place, Floats x) {
    _mm512_mask_storeu_ps(row + place.at, mask_of(place), (__m512)x);
}

inline float sum_of(Floats x) {
    x += __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    x += __builtin_shufflevector(x, x, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3);
    x += __builtin_shufflevector(x, x, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1);
    return x[0] + x[1];
}
#else
inline Floats load(const float *row, Rest place, float otherwise = 0) {
    Floats x = Floats{} + otherwise;
    for (int64_t j = 0; j < place.count; j++) x[j] = row[place.at + j];
    return x;
}

inline void store(float *row, Rest place, Floats x) {
    for (int64_t j = 0; j < place.count; j++) row[place.at + j] = x[j];
}

inline float sum_of(Floats x) {
    float sum = 0;
    for (int j = 0; j < kLanes; j++) sum += x[j];
    return sum;
}
#endif

#if defined(__AVX512BF16__)
inline Floats widened(__m256i halves) {
    return (Floats)(__builtin_convertvector((Halves)halves, Words) << 16);
}

inline Floats load(const BFloat16 *row, Whole place) {
    return widened(_mm256_loadu_si256((const __m256i *)(row + place.at)));
}

inline Floats load(const BFloat16 *row, Rest place) {
    return widened(_mm256_maskz_loadu_epi16(mask_of(place), row + place.at));
}

inline void store(BFloat16 *row, Whole place, Floats x) { round_vector(row + place.at, x); }

inline void store(BFloat16 *row, Rest place, Floats x) {
    _mm256_mask_storeu_epi16(row + place.at, mask_of(place),
                             (__m256i)_mm512_cvtneps_pbh((__m512)x));
}
#endif

// e^x within 2 units in the last place for x in [-87, 88]; 0 below, as softmax needs it.
inline Floats exponential(Floats x) {
    typedef int32_t Ints __attribute__((vector_size(kLanes * 4)));
    // A NaN passes both comparisons, and all that follows.
    Floats clamped = x < -87.0f ? Floats{} - 87.0f : x;
    clamped = clamped > 88.0f ? Floats{} + 88.0f : clamped;
    Floats shifted = clamped * 1.44269504f + 12582912.0f;  // 1.5 * 2^23 rounds to an integer
    Floats n = shifted - 12582912.0f;
    Floats r = clamped - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    // Cephes expf: a minimax polynomial on [-ln2/2, ln2/2].
    Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    Ints exponent = ((Ints)shifted - 0x4b400000 + 127) << 23;
    return x < -87.0f ? Floats{} : p * (Floats)exponent;
}

}  // namespace cllm
