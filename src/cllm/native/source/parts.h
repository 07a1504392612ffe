// The parts of a block on one thread, forward and backward: norms, rotation, softmax, SwiGLU.
//
// A norm's gain is not applied here: it is folded into the matrix that follows (weights.h), so
// these work on unit vectors u = x / sqrt(mean(x²) + ε) alone.
#pragma once

#include <cmath>

#include "numbers.h"

namespace cllm {

inline float sum_of_squares(const float *x, int64_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    return sum;
}

// unit = x · scale; returns the scale.
inline float to_unit(float *unit, const float *x, int64_t n, float epsilon) {
    float scale = 1.0f / std::sqrt(sum_of_squares(x, n) / float(n) + epsilon);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) unit[i] = x[i] * scale;
    return scale;
}

// dx += scale · (du − u · mean(du · u))
inline void from_unit(float *dx, const float *du, const float *unit, float scale, int64_t n) {
    float inner = 0;
#pragma omp simd reduction(+ : inner)
    for (int64_t i = 0; i < n; i++) inner += du[i] * unit[i];
    inner /= float(n);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dx[i] += scale * (du[i] - unit[i] * inner);
}

// Turns pair (j, j + n/2) by the angle whose cosine and sine are at j.
inline void turn(float *x, const float *cos, const float *sin, int64_t n) {
    int64_t half = n / 2;
    float *y = x + half;
#pragma omp simd
    for (int64_t j = 0; j < half; j++) {
        float a = x[j], b = y[j];
        x[j] = a * cos[j] - b * sin[j];
        y[j] = b * cos[j] + a * sin[j];
    }
}

inline void turn_back(float *x, const float *cos, const float *sin, int64_t n) {
    int64_t half = n / 2;
    float *y = x + half;
#pragma omp simd
    for (int64_t j = 0; j < half; j++) {
        float a = x[j], b = y[j];
        x[j] = a * cos[j] + b * sin[j];
        y[j] = b * cos[j] - a * sin[j];
    }
}

// Written in vectors: compilers that honour NaN don't vectorise a maximum by themselves.
inline float largest(const float *x, int64_t n) {
    Floats tops = Floats{} - INFINITY;
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        Floats next = *(const Floats *)(x + i);
        tops = tops > next ? tops : next;
    }
    float top = -INFINITY;
    for (int j = 0; j < kLanes; j++) top = top > tops[j] ? top : tops[j];
    for (; i < n; i++) top = top > x[i] ? top : x[i];
    return top;
}

// softmax(scale · x) in place; returns log of the sum of e^(scale · x).
inline float softmax(float *x, int64_t n, float scale) {
    float top = largest(x, n), sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        x[i] = exponential((x[i] - top) * scale);
        sum += x[i];
    }
    float inverse = 1.0f / sum;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) x[i] *= inverse;
    return top * scale + std::log(sum);
}

// d(scores) of p = softmax(scale · scores), in place of dp.
inline void softmax_backward(float *dp, const float *p, int64_t n, float scale) {
    float inner = 0;
#pragma omp simd reduction(+ : inner)
    for (int64_t i = 0; i < n; i++) inner += dp[i] * p[i];
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dp[i] = p[i] * (dp[i] - inner) * scale;
}

// h = silu(gate) · up
inline void swiglu(float *h, const float *gate, const float *up, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        h[i] = gate[i] / (1.0f + exponential(-gate[i])) * up[i];
}

// From dh: h again, and the gradients of gate and up in their places.
inline void swiglu_backward(float *h, float *gate, float *up, const float *dh, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float sigmoid = 1.0f / (1.0f + exponential(-gate[i]));
        float silu = gate[i] * sigmoid;
        h[i] = silu * up[i];
        gate[i] = dh[i] * up[i] * (sigmoid + silu * (1.0f - sigmoid));
        up[i] = dh[i] * silu;
    }
}

// Kept or dropped, as a function of seed and place alone (splitmix64's finaliser).
inline bool is_dropped(uint64_t seed, uint64_t place, uint32_t threshold) {
    uint64_t z = seed + place * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return uint32_t((z ^ (z >> 31)) >> 32) < threshold;
}

}  // namespace cllm
