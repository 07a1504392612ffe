// The parts of a block on one thread, forward and backward: norms, rotation, softmax, SwiGLU.
//
// A norm's gain is not applied here: it is folded into the matrix that follows (weights.h), so
// these work on unit vectors u = x / sqrt(mean(x²) + ε) alone.
#pragma once

#include <cmath>

#include "numbers.h"

namespace cllm {

template <class T> inline float sum_of_squares(const T *x, int64_t n) {
    Floats sum = {};
    by_vectors(n, [&](auto i) {
        Floats a = load(x, i);
        sum += a * a;
    });
    return sum_of(sum);
}

template <class T> inline float norm_scale(const T *x, int64_t n, float epsilon) {
    return 1.0f / std::sqrt(sum_of_squares(x, n) / float(n) + epsilon);
}

// unit = x · scale; returns the scale.
template <class E> inline float to_unit(E *unit, const float *x, int64_t n, float epsilon) {
    float scale = norm_scale(x, n, epsilon);
    by_vectors(n, [&](auto i) { store(unit, i, load(x, i) * scale); });
    return scale;
}

// dx += scale · (du − u · mean(du · u))
template <class E>
inline void from_unit(float *dx, const float *du, const E *unit, float scale, int64_t n) {
    Floats products = {};
    by_vectors(n, [&](auto i) { products += load(du, i) * load(unit, i); });
    float inner = sum_of(products) / float(n);
    by_vectors(n, [&](auto i) {
        store(dx, i, load(dx, i) + scale * (load(du, i) - load(unit, i) * inner));
    });
}

// Norm, gain and rotation of a head: pair (j, j + n/2) turns by the angle whose cosine and sine
// are at j. Returns the norm's scale.
template <class E>
__attribute__((flatten)) inline float turn_head(E *to, const E *x, const float *gain, const float *cos, const float *sin,
                       int64_t n, float epsilon) {
    int64_t half = n / 2;
    float scale = norm_scale(x, n, epsilon);
    by_vectors(half, [&](auto j) {
        Floats a = load(x, j) * scale * load(gain, j);
        Floats b = load(x + half, j) * scale * load(gain + half, j);
        store(to, j, a * load(cos, j) - b * load(sin, j));
        store(to + half, j, b * load(cos, j) + a * load(sin, j));
    });
    return scale;
}

// From the gradient of turn_head's result, which is overwritten: that of x, in its place.
template <class E>
inline void turn_head_backward(E *x, float *d, const float *gain, float *d_gain, const float *cos,
                               const float *sin, float scale, int64_t n) {
    int64_t half = n / 2;
    Floats products = {};
    auto gain_backward = [&](int64_t from, auto j, Floats dy) {
        Floats unit = load(x + from, j) * scale, du = dy * load(gain + from, j);
        store(d_gain + from, j, load(d_gain + from, j) + dy * unit);
        store(d + from, j, du);
        products += du * unit;
    };
    by_vectors(half, [&](auto j) {
        Floats a = load(d, j), b = load(d + half, j);
        gain_backward(0, j, a * load(cos, j) + b * load(sin, j));
        gain_backward(half, j, b * load(cos, j) - a * load(sin, j));
    });
    float inner = sum_of(products) / float(n) * scale;
    by_vectors(n, [&](auto j) { store(x, j, scale * (load(d, j) - load(x, j) * inner)); });
}

inline Floats load_or_least(const float *x, Whole i) { return load(x, i); }
inline Floats load_or_least(const float *x, Rest i) { return load(x, i, -INFINITY); }

inline float largest(const float *x, int64_t n) {
    Floats tops = Floats{} - INFINITY;
    by_vectors(n, [&](auto i) {
        Floats next = load_or_least(x, i);
        tops = tops > next ? tops : next;
    });
    float top = -INFINITY;
    for (int j = 0; j < kLanes; j++) top = top > tops[j] ? top : tops[j];
    return top;
}

// to = softmax(scale · x), which may be x and overwrites it; returns log of the sum of
// e^(scale · x).
template <class E> __attribute__((flatten)) inline float softmax(E *to, float *x, int64_t n, float scale) {
    float top = largest(x, n);
    Floats sums = {};
    by_vectors(n, [&](auto i) {
        Floats power = exponential((load_or_least(x, i) - top) * scale);
        store(x, i, power);
        sums += power;
    });
    float sum = sum_of(sums), inverse = 1.0f / sum;
    by_vectors(n, [&](auto i) { store(to, i, load(x, i) * inverse); });
    return top * scale + std::log(sum);
}

// From dp of p = softmax(scale · scores): d(scores). With a bias beside the scores also adds
// d(scale · scores) to d_bias.
template <bool kBiased, class E>
inline void softmax_backward(E *d_scores, float *d_bias, const float *dp, const E *p, int64_t n,
                             float scale) {
    Floats products = {};
    by_vectors(n, [&](auto i) { products += load(dp, i) * load(p, i); });
    float inner = sum_of(products);
    by_vectors(n, [&](auto i) {
        Floats d = load(p, i) * (load(dp, i) - inner);
        if constexpr (kBiased) store(d_bias, i, load(d_bias, i) + d);
        store(d_scores, i, d * scale);
    });
}

// As softmax, of scale · (x + bias).
template <class E>
inline float softmax_biased(E *to, float *x, const float *bias, int64_t n, float scale) {
    by_vectors(n, [&](auto i) { store(x, i, load_or_least(x, i) + load(bias, i)); });
    return softmax(to, x, n, scale);
}

// h = silu(gate) · up
template <class E> __attribute__((flatten)) inline void swiglu(E *h, const E *gate, const E *up, int64_t n) {
    by_vectors(n, [&](auto i) {
        Floats a = load(gate, i);
        store(h, i, a / (1.0f + exponential(-a)) * load(up, i));
    });
}

// From dh, in their places: h again, and the gradients of gate and up.
template <class E> inline void swiglu_backward(E *h, E *gate, E *up, int64_t n) {
    by_vectors(n, [&](auto i) {
        Floats a = load(gate, i), b = load(up, i), dh = load(h, i);
        Floats sigmoid = 1.0f / (1.0f + exponential(-a));
        Floats silu = a * sigmoid;
        store(h, i, silu * b);
        store(gate, i, dh * b * (sigmoid + silu * (1.0f - sigmoid)));
        store(up, i, dh * silu);
    });
}

// Kept or dropped, as a function of seed and place alone (splitmix64's finaliser).
inline bool is_dropped(uint64_t seed, uint64_t place, uint32_t threshold) {
    uint64_t z = seed + place * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return uint32_t((z ^ (z >> 31)) >> 32) < threshold;
}

}  // namespace cllm
