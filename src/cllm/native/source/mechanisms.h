// Dampening and gamma on one row, forward and backward.
#pragma once

#include <cmath>
#include <vector>

#include "numbers.h"

namespace cllm {

// to = u_t + sum over lags of w_k ⊙ u_(t − lag), as far back as the document reaches.
template <class E>
inline void damp(E *to, const E *unit, const float *taps, const std::vector<int64_t> &lags,
                 int64_t reach, int64_t n) {
    by_vectors(n, [&](auto i) {
        Floats sum = load(unit, i);
        for (size_t k = 0; k < lags.size(); k++)
            if (lags[k] <= reach) sum += load(taps + k * n, i) * load(unit - lags[k] * n, i);
        store(to, i, sum);
    });
}

// From the gradients d of this row and the later ones: to = that of u_t; adds those of the taps.
// `reach` is that of each row from this one on, of which there are `rows`.
template <class E>
inline void damp_backward(float *to, const float *d, const E *unit, const float *taps,
                          float *d_taps, const std::vector<int64_t> &lags, const int32_t *reach,
                          int64_t rows, int64_t n) {
    memcpy(to, d, n * sizeof(float));
    for (size_t k = 0; k < lags.size(); k++) {
        int64_t lag = lags[k];
        const float *w = taps + k * n, *later = d + lag * n;
        float *dw = d_taps + k * n;
        if (lag < rows && lag <= reach[lag])
            by_vectors(n, [&](auto i) { store(to, i, load(to, i) + load(w, i) * load(later, i)); });
        if (lag <= reach[0])
            by_vectors(n, [&](auto i) {
                store(dw, i, load(dw, i) + load(d, i) * load(unit - lag * n, i));
            });
    }
}

// Each head's numbers times 2σ(its gate).
template <class E>
inline void open_gates(E *mixed, const float *gates, int64_t heads, int64_t n) {
    for (int64_t h = 0; h < heads; h++, mixed += n) {
        float open = 2.0f / (1.0f + std::exp(-gates[h]));
        by_vectors(n, [&](auto i) { store(mixed, i, load(mixed, i) * open); });
    }
}

// From the gradient of open_gates' result: that of what it read, in its place, and of the gates.
template <class E>
inline void open_gates_backward(E *d_mixed, const E *mixed, const float *gates, E *d_gates,
                                int64_t heads, int64_t n) {
    for (int64_t h = 0; h < heads; h++, mixed += n, d_mixed += n) {
        float sigmoid = 1.0f / (1.0f + std::exp(-gates[h]));
        Floats products = {};
        by_vectors(n, [&](auto i) {
            Floats d = load(d_mixed, i);
            products += d * load(mixed, i);
            store(d_mixed, i, d * (2.0f * sigmoid));
        });
        // 2σ' of the ungated is 1 − σ of the gated, which is what `mixed` holds.
        d_gates[h] = from_float<E>(sum_of(products) * (1.0f - sigmoid));
    }
}

}  // namespace cllm
