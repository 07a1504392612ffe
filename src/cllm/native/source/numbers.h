// Number formats and vectors: what one machine word of work is on each processor.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
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

// The upper half of a float. Products of it are compiled for processors that multiply it alone.
struct BFloat16 {
    uint16_t bits;
};

// Numbers that one multiply-add takes together along the summed axis.
template <class E> constexpr int kPair = 1;
template <> constexpr int kPair<BFloat16> = 2;

inline float to_float(float x) { return x; }
inline float to_float(BFloat16 x) { return __builtin_bit_cast(float, uint32_t(x.bits) << 16); }

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

inline void convert(float *to, const BFloat16 *from, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) to[i] = to_float(from[i]);
}

// e^x within 2 units in the last place for x in [-87, 88]; 0 below, as softmax needs it.
inline float exponential(float x) {
    float clamped = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
    float shifted = clamped * 1.44269504f + 12582912.0f;  // 1.5 * 2^23 rounds to an integer
    float n = shifted - 12582912.0f;
    float r = clamped - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    // Cephes expf: a minimax polynomial on [-ln2/2, ln2/2].
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t exponent = (__builtin_bit_cast(int32_t, shifted) - 0x4b400000 + 127) << 23;
    float y = p * __builtin_bit_cast(float, exponent);
    return x != x ? x : (x < -87.0f ? 0.0f : y);
}

}  // namespace cllm
