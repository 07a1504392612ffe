// Causal attention of one sequence on one thread, with normed and rotated queries and keys.
#pragma once

#include <algorithm>

#include "parts.h"
#include "tape.h"

namespace cllm {

template <class E> class Attention {
public:
    Attention(const Layout &layout, Tape<E> &tape, const float *parameters, float *gradient,
              int64_t context)
        : layout_(layout), s_(layout.shape), tape_(tape), parameters_(parameters),
          gradient_(gradient) {
        int64_t half = D_ / 2;
        cos_.resize(context * half), sin_.resize(context * half);
        for (int64_t t = 0; t < context; t++)
            for (int64_t j = 0; j < half; j++) {
                double angle = t * std::pow(s_.rope_base, -2.0 * j / D_);
                cos_[t * half + j] = std::cos(angle), sin_[t * half + j] = std::sin(angle);
            }
    }

    // Norm, gain and rotation of every query and key head of one row of the product.
    void turn_row(const LayerTape<E> &t, const Block &block, int64_t row, int64_t position) {
        for (int64_t h = 0; h < heads_; h++)
            t.scale_heads[row * heads_ + h] =
                turn_head(t.turned + row * qk_ + h * D_, t.raw + row * qkv_ + h * D_,
                          parameters_ + gain_of(block, h), &cos_[position * (D_ / 2)],
                          &sin_[position * (D_ / 2)], D_, s_.norm_epsilon);
    }

    // The sequence of T rows that starts at row r: fills t.weights and t.mixed.
    void forward(const LayerTape<E> &t, const Block &block, int64_t r, int64_t T) {
        int64_t wide = round_up(T, kBlock), group = s_.heads / s_.kv_heads;
        if (layout_.schumann == kForget) fade(t, block, r, T);
        for (int64_t h = 0; h < s_.heads; h++) {
            int64_t g = h / group;
            if (h % group == 0) {
                keys_ = pack_columns(tape_.right, t.turned + r * qk_ + (s_.heads + g) * D_, T, D_,
                                     qk_);
                values_ = pack_rows(tape_.right2, t.raw + r * qkv_ + (heads_ + g) * D_, T, D_,
                                    qkv_);
            }
            scores(t.turned + r * qk_ + h * D_, qk_, keys_, T);
            E *weights = weights_of(t, r, h, T);
            if (layout_.schumann != kNoDecay) set_bias(t, block, r, h, T);
            for (int64_t i = 0; i < T; i++) {
                float *row = tape_.scores + i * wide;
                int64_t end = round_up(i + 1, kBlock);
                std::fill(row + i + 1, row + end, -INFINITY);
                if (layout_.schumann != kNoDecay)
                    softmax_biased(weights + i * wide, row, tape_.bias, end, scale_);
                else softmax(weights + i * wide, row, end, scale_);
            }
            for (int64_t i = 0; i < T; i += kBlock)
                product<Into::kRound, E>(std::min(kBlock, T - i), D_, std::min(i + kBlock, T),
                                         rows_of(weights + i * wide, wide), values_,
                                         t.mixed + (r + i) * q_ + h * D_, q_);
        }
    }

    // From tape_.d_mixed: the gradient of the product's rows, in place of t.raw.
    void backward(const LayerTape<E> &t, const Block &block, int64_t r, int64_t T) {
        int64_t wide = round_up(T, kBlock), group = s_.heads / s_.kv_heads;
        float *dq = tape_.d_heads, *dk = dq + T * D_, *dv = dk + T * D_;
        E *d_scores = tape_.scores_e;
        for (int64_t h = 0; h < s_.heads; h++) {
            int64_t g = h / group;
            const E *keys = t.turned + r * qk_ + (s_.heads + g) * D_;
            const E *values = t.raw + r * qkv_ + (heads_ + g) * D_;
            if (h % group == 0) memset(dk, 0, 2 * T * D_ * sizeof(float));
            const E *weights = weights_of(t, r, h, T), *d_out = tape_.d_mixed + r * q_ + h * D_;
            scores(d_out, q_, pack_columns(tape_.right, values, T, D_, qkv_), T);
            bool has_bias = layout_.schumann != kNoDecay;
            if (has_bias) memset(tape_.d_bias, 0, wide * sizeof(float));
            for (int64_t i = 0; i < T; i++) {
                // To the end of the block, where the weights are zeros.
                int64_t at = i * wide, end = round_up(i + 1, kBlock);
                auto backward_row = has_bias ? softmax_backward<true, E>
                                             : softmax_backward<false, E>;
                backward_row(d_scores + at, tape_.d_bias, tape_.scores + at, weights + at, end,
                             scale_);
            }
            if (has_bias) bias_backward(t, block, r, h, T);
            Packed<E> key_rows = pack_rows(tape_.right, keys, T, D_, qk_);
            for (int64_t i = 0; i < T; i += kBlock)
                product<Into::kStore, E>(std::min(kBlock, T - i), D_, std::min(i + kBlock, T),
                                         rows_of(d_scores + i * wide, wide), key_rows,
                                         dq + i * D_, D_);
            add_transposed(dk, d_scores, t.turned + r * qk_ + h * D_, qk_, T);
            add_transposed(dv, weights, d_out, q_, T);
            for (int64_t i = 0; i < T; i++) turn_back_head(t, block, r + i, i, h, dq + i * D_);
            if (h % group < group - 1) continue;
            for (int64_t i = 0; i < T; i++) {
                turn_back_head(t, block, r + i, i, s_.heads + g, dk + i * D_);
                convert(t.raw + (r + i) * qkv_ + (heads_ + g) * D_, dv + i * D_, D_);
            }
        }
    }

private:
    // The sums of −log σ(gate) from the sequence's first row on.
    void fade(const LayerTape<E> &t, const Block &block, int64_t r, int64_t T) {
        for (int64_t k = 0; k < s_.kv_heads; k++) {
            double sum = 0;
            for (int64_t j = 0; j < T; j++) {
                float z = forget_gate(t, block, r + j, k);
                sum += std::max(-z, 0.0f) + std::log1p(std::exp(-std::abs(z)));
                t.faded[r * s_.kv_heads + k * T + j] = float(sum);
            }
        }
    }

    float forget_gate(const LayerTape<E> &t, const Block &block, int64_t row, int64_t k) const {
        int64_t last = (row + 1) * layout_.num_gates;
        return t.gates[last - s_.kv_heads + k] + parameters_[block.offset + k];
    }

    // What the keys of head h add to its scores, before those are scaled.
    void set_bias(const LayerTape<E> &t, const Block &block, int64_t r, int64_t h, int64_t T) {
        float strength = parameters_[block.strength + h] / scale_;
        if (layout_.schumann == kStatic) {
            strength *= float(layout_.decays[h]);
            for (int64_t j = 0; j < T; j++) tape_.bias[j] = strength * float(j);
            return;
        }
        const float *faded = faded_of(t, r, h, T);
        for (int64_t j = 0; j < T; j++) tape_.bias[j] = strength * faded[j];
    }

    const float *faded_of(const LayerTape<E> &t, int64_t r, int64_t h, int64_t T) const {
        return t.faded + r * s_.kv_heads + h / (s_.heads / s_.kv_heads) * T;
    }

    // From tape_.d_bias of head h: the gradient of its strength, and after a group's last head
    // those of its forget gate.
    void bias_backward(const LayerTape<E> &t, const Block &block, int64_t r, int64_t h,
                       int64_t T) {
        int64_t group = s_.heads / s_.kv_heads;
        double inner = 0;
        if (layout_.schumann == kStatic) {
            for (int64_t j = 0; j < T; j++) inner += double(tape_.d_bias[j]) * j;
            gradient_[block.strength + h] += float(inner * layout_.decays[h]);
            return;
        }
        const float *faded = faded_of(t, r, h, T), strength = parameters_[block.strength + h];
        if (h % group == 0) memset(tape_.d_faded, 0, T * sizeof(float));
        for (int64_t j = 0; j < T; j++) {
            inner += double(tape_.d_bias[j]) * faded[j];
            tape_.d_faded[j] += strength * tape_.d_bias[j];
        }
        gradient_[block.strength + h] += float(inner);
        if (h % group == group - 1) fade_backward(t, block, r, h / group, T);
    }

    // Each gate is in all sums from its own row on.
    void fade_backward(const LayerTape<E> &t, const Block &block, int64_t r, int64_t k,
                       int64_t T) {
        double later = 0, d_offset = 0;
        for (int64_t j = T; j-- > 0;) {
            later += tape_.d_faded[j];
            float d = -float(later) / (1.0f + std::exp(forget_gate(t, block, r + j, k)));
            d_offset += d;
            int64_t last = (r + j + 1) * layout_.num_gates;
            tape_.d_gates[last - s_.kv_heads + k] = from_float<E>(d);
        }
        gradient_[block.offset + k] += float(d_offset);
    }

    int64_t gain_of(const Block &block, int64_t h) const {
        return h < s_.heads ? block.q_norm : block.k_norm;
    }

    E *weights_of(const LayerTape<E> &t, int64_t r, int64_t h, int64_t T) const {
        return t.weights + (r * s_.heads + h * T) * round_up(T, kBlock);
    }

    // scores[i, j] = a_i · b_j, at least for j ≤ i.
    void scores(const E *a, int64_t stride, Packed<E> b, int64_t T) {
        int64_t wide = round_up(T, kBlock);
        for (int64_t j = 0; j < T; j += kPanel)
            product<Into::kStore, E>(T - j, std::min<int64_t>(kPanel, T - j), D_,
                                     rows_of(a + j * stride, stride),
                                     {b.at + j / kPanel * b.panel_stride, b.panel_stride},
                                     tape_.scores + j * wide + j, wide);
    }

    // to[j] += sum over i ≥ j's block of a[i, j] · b_i
    void add_transposed(float *to, const E *a, const E *b, int64_t stride, int64_t T) {
        int64_t wide = round_up(T, kBlock);
        Packed<E> right = pack_rows(tape_.right2, b, T, D_, stride);
        for (int64_t j = 0; j < T; j += kBlock) {
            Left<E> left = pack_left(tape_.left, a + j * wide + j, T - j, kBlock, wide);
            product<Into::kAdd, E>(std::min(kBlock, T - j), D_, T - j, left,
                                   {right.at + j * kPanel, right.panel_stride}, to + j * D_, D_);
        }
    }

    // From the gradient of head h after its rotation to that of the product's row.
    void turn_back_head(const LayerTape<E> &t, const Block &block, int64_t row, int64_t position,
                        int64_t h, float *dx) {
        turn_head_backward(t.raw + row * qkv_ + h * D_, dx, parameters_ + gain_of(block, h),
                           gradient_ + gain_of(block, h), &cos_[position * (D_ / 2)],
                           &sin_[position * (D_ / 2)], t.scale_heads[row * heads_ + h], D_);
    }

    const Layout &layout_;
    const Shape &s_;
    Tape<E> &tape_;
    const float *parameters_;
    float *gradient_;
    const int64_t D_ = s_.head_width, heads_ = s_.heads + s_.kv_heads;
    const int64_t q_ = s_.heads * D_, qk_ = heads_ * D_, qkv_ = qk_ + s_.kv_heads * D_;
    const float scale_ = 1.0f / std::sqrt(float(D_));
    std::vector<float> cos_, sin_;
    Packed<E> keys_{}, values_{};
};

}  // namespace cllm
