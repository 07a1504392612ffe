// Forward and backward pass of whole sequences on one thread.
#pragma once

#include "attention.h"
#include "mechanisms.h"
#include "ngram.h"
#include "timing.h"
#include "weights.h"

namespace cllm {

// Drops a share of each branch's output, as a function of seed, row, branch and place alone.
struct Dropout {
    double share = 0;
    uint64_t seed = 0;
};

template <class E> class Pass {
public:
    // `gradient` is null for a pass that only looks. With tied tables the head's gradient is
    // kept apart from the embedding's, as a norm's gain is folded into it. `memory` is null
    // without one.
    Pass(const Layout &layout, const Weights<E> &weights, Memory *memory, const float *parameters,
         float *gradient, float *head_gradient, int64_t max_rows, int64_t context)
        : layout_(layout), s_(layout.shape), weights_(weights), memory_(memory),
          parameters_(parameters), gradient_(gradient), head_gradient_(head_gradient),
          tape_(arena_, layout, memory ? memory->num_tables() : 0, max_rows, context,
                gradient != nullptr),
          attention_(layout, tape_, parameters, gradient, context) {}

    double spent[kPhases] = {};

    // Forgets everything, after something was not finite.
    void wipe() { arena_.wipe(); }

    // Sum of −log p(target) over targets ≥ 0; with `weight` > 0 adds weight times its gradient.
    // `first_row` places these rows in the batch.
    double run(const int32_t *ids, const int32_t *targets, int64_t sequences, int64_t length,
               float weight, Dropout dropout, int64_t first_row) {
        start(sequences, length, dropout, first_row);
        look(ids);
        double nats = head(targets, weight);
        if (weight > 0) {
            for (int64_t i = s_.layers; i-- > 0;) backward(i);
            if (memory_) remember();
            Timed timed(spent, kElementwise);
            for (int64_t r = 0; r < rows_; r++) {
                float *to = gradient_ + layout_.embedding + ids[r] * s_.width;
                const float *from = tape_.dx + r * s_.width;
#pragma omp simd
                for (int64_t c = 0; c < s_.width; c++) to[c] += from[c];
            }
        }
        return nats;
    }

private:
    template <class F> void by_rows(F f) {
        for (int64_t r = 0; r < rows_; r += kRows) f(r, std::min(kRows, rows_ - r));
    }

    template <class F> void by_rows_from_the_last(F f) {
        for (int64_t r = (rows_ - 1) / kRows * kRows; r >= 0; r -= kRows)
            f(r, std::min(kRows, rows_ - r));
    }

    void start(int64_t sequences, int64_t length, Dropout dropout, int64_t first_row) {
        rows_ = sequences * length, length_ = length;
        dropout_ = dropout, first_row_ = first_row;
    }

    void look(const int32_t *ids) {
        {
            Timed timed(spent, kElementwise);
            for (int64_t r = 0; r < rows_; r++)
                memcpy(tape_.x + r * s_.width, parameters_ + layout_.embedding + ids[r] * s_.width,
                       s_.width * sizeof(float));
            if (tape_.reach) find_documents(ids);
        }
        if (memory_) recall(ids);
        for (int64_t i = 0; i < s_.layers; i++) forward(i);
        normalise(tape_.unit_out, tape_.scale_out, 0, rows_);
    }

    // How many tokens before each belong to its window and document, the end of one to it.
    void find_documents(const int32_t *ids) {
        for (int64_t r = 0; r < rows_; r++)
            tape_.reach[r] = r % length_ == 0 || ids[r - 1] == layout_.eos_id
                ? 0 : tape_.reach[r - 1] + 1;
    }

    // x += (sum of the rows that the last tokens choose) U^T
    void recall(const int32_t *ids) {
        int64_t tables = memory_->num_tables(), width = memory_->width();
        by_rows([&](int64_t r, int64_t n) {
            {
                Timed timed(spent, kElementwise);
                for (int64_t i = r; i < r + n; i++)
                    memory_->choose(tape_.lookups + i * tables, ids + i, tape_.reach[i]);
                memory_->recall(tape_.recalled + r * width, tape_.lookups + r * tables, n);
            }
            Timed timed(spent, kProducts);
            product<Into::kAdd, E>(n, d_, width, rows_of(tape_.recalled + r * width, width),
                                   weights_.up().forward, tape_.x + r * d_, d_);
        });
    }

    // What the loss wants of the memory, from dx.
    void remember() {
        int64_t tables = memory_->num_tables(), width = memory_->width();
        memcpy(memory_->chosen(first_row_), tape_.lookups, rows_ * tables * sizeof(uint32_t));
        by_rows([&](int64_t r, int64_t n) {
            {
                Timed timed(spent, kElementwise);
                convert(tape_.rows_a, tape_.dx + r * d_, n * d_);
            }
            multiply<Into::kStore>(n, width, d_, tape_.rows_a, weights_.up().backward,
                                   memory_->wanted(first_row_ + r));
            add_gradient(gradient_ + layout_.up.at, tape_.rows_a, d_, d_,
                         tape_.recalled + r * width, width, n);
        });
    }

    void normalise(E *unit, float *scale, int64_t r, int64_t n) {
        Timed timed(spent, kElementwise);
        for (int64_t i = r; i < r + n; i++)
            scale[i] = to_unit(unit + i * s_.width, tape_.x + i * s_.width, s_.width,
                               s_.norm_epsilon);
    }

    void normalise_backward(const E *unit, const float *scale, int64_t r, int64_t n) {
        Timed timed(spent, kElementwise);
        for (int64_t i = 0; i < n; i++)
            from_unit(tape_.dx + (r + i) * s_.width, tape_.d_unit + i * s_.width,
                      unit + (r + i) * s_.width, scale[r + i], s_.width);
    }

    // x += from W^T over n rows, some of it dropped.
    void add_branch(int64_t r, int64_t n, const E *from, int64_t summed, Packed<E> matrix,
                    int64_t site) {
        float *x = tape_.x + r * s_.width;
        Timed timed(spent, kProducts);
        if (dropout_.share == 0) {
            product<Into::kAdd, E>(n, s_.width, summed, rows_of(from, summed), matrix, x, s_.width);
            return;
        }
        float *branch = tape_.d_unit;
        product<Into::kStore, E>(n, s_.width, summed, rows_of(from, summed), matrix, branch,
                                 s_.width);
        for (int64_t i = 0; i < n; i++) {
            float *values = branch + i * s_.width;
            drop(values, site, r + i);
            for (int64_t c = 0; c < s_.width; c++) x[i * s_.width + c] += values[c];
        }
    }

    void drop(float *values, int64_t site, int64_t row) const {
        float scale = 1.0f / (1.0f - float(dropout_.share));
        uint32_t threshold = uint32_t(dropout_.share * 4294967296.0);
        uint64_t place = ((first_row_ + row) * (2 * s_.layers) + site) * s_.width;
        for (int64_t c = 0; c < s_.width; c++)
            values[c] *= is_dropped(dropout_.seed, place + c, threshold) ? 0.0f : scale;
    }

    // The gradient that reaches a branch, rounded into rows_a.
    void branch_gradient(int64_t r, int64_t n, int64_t site) {
        Timed timed(spent, kElementwise);
        for (int64_t i = 0; i < n; i++) {
            const float *from = tape_.dx + (r + i) * s_.width;
            if (dropout_.share > 0) {
                memcpy(tape_.line, from, s_.width * sizeof(float));
                drop(tape_.line, site, r + i);
                from = tape_.line;
            }
            convert(tape_.rows_a + i * s_.width, from, s_.width);
        }
    }

    // to[m, k] += dy^T x over n rows; returns x packed, as it stays until the next packing.
    Packed<E> add_gradient(float *to, const E *dy, int64_t m, int64_t stride, const E *x,
                           int64_t k, int64_t n) {
        Timed timed(spent, kProducts);
        Left<E> left = pack_left(tape_.left, dy, n, m, stride);
        Packed<E> right = pack_rows(tape_.right, x, n, k, k);
        product<Into::kAdd, E>(m, k, n, left, right, to, k);
        return right;
    }

    template <Into mode, class C>
    void multiply(int64_t n, int64_t columns, int64_t summed, const E *rows, Packed<E> matrix,
                  C *to) {
        Timed timed(spent, kProducts);
        // Packing the rows pays where enough panels read them.
        Left<E> left = columns >= 6 * kPanel ? pack_left_rows(tape_.left, rows, n, summed, summed)
                                             : rows_of(rows, summed);
        product<mode, E>(n, columns, summed, left, matrix, to, columns);
    }

    void forward(int64_t layer) {
        const LayerTape<E> &t = tape_.layers[layer];
        const Block &block = layout_.blocks[layer];
        const PackedMatrix<E> *w = &weights_[4 * layer];
        by_rows([&](int64_t r, int64_t n) {
            normalise(t.unit_in, t.scale_in, r, n);
            if (layout_.most_lag) dampen(t, block, r, n);
            multiply<Into::kRound>(n, qkv_, d_, t.damped + r * d_, w[0].forward, t.raw + r * qkv_);
            if (gates_) read_gates(layer, r, n);
            Timed timed(spent, kElementwise);
            for (int64_t i = r; i < r + n; i++)
                attention_.turn_row(t, block, i, i % length_);
        });
        {
            Timed timed(spent, kAttention);
            for (int64_t r = 0; r < rows_; r += length_) attention_.forward(t, block, r, length_);
        }
        by_rows([&](int64_t r, int64_t n) {
            if (layout_.has_gamma) open(t, r, n);
            add_branch(r, n, t.mixed + r * q_, q_, w[1].forward, 2 * layer);
            normalise(t.unit_mid, t.scale_mid, r, n);
            multiply<Into::kRound>(n, 2 * f_, d_, t.unit_mid + r * d_, w[2].forward,
                                   t.gate_up + r * 2 * f_);
            {
                Timed timed(spent, kElementwise);
                for (int64_t i = 0; i < n; i++) {
                    const E *gate = t.gate_up + (r + i) * 2 * f_;
                    swiglu(tape_.rows_b + i * f_, gate, gate + f_, f_);
                }
            }
            add_branch(r, n, tape_.rows_b, f_, w[3].forward, 2 * layer + 1);
        });
    }

    void backward(int64_t layer) {
        const LayerTape<E> &t = tape_.layers[layer];
        const Block &block = layout_.blocks[layer];
        const PackedMatrix<E> *w = &weights_[4 * layer];
        by_rows([&](int64_t r, int64_t n) {
            E *d_gate_up = t.gate_up + r * 2 * f_;
            branch_gradient(r, n, 2 * layer + 1);
            multiply<Into::kRound>(n, f_, d_, tape_.rows_a, w[3].backward, tape_.rows_b);
            swiglu_rows_backward(d_gate_up, n);
            add_gradient(gradient_ + block.down.at, tape_.rows_a, d_, d_, tape_.rows_b, f_, n);
            multiply<Into::kStore>(n, d_, 2 * f_, d_gate_up, w[2].backward, tape_.d_unit);
            add_gradient(gradient_ + block.gate_up.at, d_gate_up, 2 * f_, 2 * f_,
                         t.unit_mid + r * d_, d_, n);
            normalise_backward(t.unit_mid, t.scale_mid, r, n);
            branch_gradient(r, n, 2 * layer);
            multiply<Into::kRound>(n, q_, d_, tape_.rows_a, w[1].backward, tape_.d_mixed + r * q_);
            add_gradient(gradient_ + block.out.at, tape_.rows_a, d_, d_, t.mixed + r * q_, q_, n);
            if (layout_.has_gamma) open_backward(t, r, n);
        });
        {
            Timed timed(spent, kAttention);
            for (int64_t r = 0; r < rows_; r += length_) attention_.backward(t, block, r, length_);
        }
        auto input_backward = [&](int64_t r, int64_t n) {
            const E *d_qkv = t.raw + r * qkv_;
            multiply<Into::kStore>(n, d_, qkv_, d_qkv, w[0].backward, tape_.d_unit);
            Packed<E> read = add_gradient(gradient_ + block.qkv.at, d_qkv, qkv_, qkv_,
                                          t.damped + r * d_, d_, n);
            if (gates_) read_gates_backward(layer, r, n, read);
            if (layout_.most_lag) dampen_backward(t, block, r, n);
            else normalise_backward(t.unit_in, t.scale_in, r, n);
        };
        if (layout_.most_lag) by_rows_from_the_last(input_backward);
        else by_rows(input_backward);
    }

    void dampen(const LayerTape<E> &t, const Block &block, int64_t r, int64_t n) {
        Timed timed(spent, kElementwise);
        for (int64_t i = r; i < r + n; i++)
            damp(t.damped + i * d_, t.unit_in + i * d_, parameters_ + block.taps, layout_.lags,
                 tape_.reach[i], d_);
    }

    // From d_unit to dx, the last rows first: a row's gradient needs those of later rows, which
    // stay behind d_unit's own.
    void dampen_backward(const LayerTape<E> &t, const Block &block, int64_t r, int64_t n) {
        Timed timed(spent, kElementwise);
        for (int64_t i = 0; i < n; i++) {
            int64_t at = (r + i) * d_;
            damp_backward(tape_.line, tape_.d_unit + i * d_, t.unit_in + at,
                          parameters_ + block.taps, gradient_ + block.taps, layout_.lags,
                          tape_.reach + r + i, rows_ - r - i, d_);
            from_unit(tape_.dx + at, tape_.line, t.unit_in + at, t.scale_in[r + i], d_);
        }
        memcpy(tape_.d_unit + kRows * d_, tape_.d_unit,
               std::min(layout_.most_lag, n) * d_ * sizeof(float));
    }

    void read_gates(int64_t layer, int64_t r, int64_t n) {
        const LayerTape<E> &t = tape_.layers[layer];
        Timed timed(spent, kProducts);
        const PackedMatrix<E> *w = weights_.gates(layer);
        for (const Gates &gates : layout_.blocks[layer].gates) {
            const E *read = gates.noise.count ? noise_rows(gates.noise, r, n) : t.damped + r * d_;
            product<Into::kStore, E>(n, gates.matrix.rows, d_, rows_of(read, d_), w->forward,
                                     t.gates + r * gates_ + gates.first, gates_);
            w++;
        }
    }

    // What gates that read noise read, in rows_a.
    const E *noise_rows(const Noise &noise, int64_t r, int64_t n) {
        for (int64_t i = 0; i < n; i++)
            convert(tape_.rows_a + i * d_, noise.rows + tape_.reach[r + i] % noise.count * d_, d_);
        return tape_.rows_a;
    }

    // `read` is what the gates read that read no noise, packed.
    void read_gates_backward(int64_t layer, int64_t r, int64_t n, Packed<E> read) {
        Timed timed(spent, kProducts);
        const auto &all = layout_.blocks[layer].gates;
        // Noise last: its rows, packed, take the place of `read`.
        for (bool is_noise : {false, true})
            for (size_t i = 0; i < all.size(); i++) {
                const Gates &gates = all[i];
                if (bool(gates.noise.count) != is_noise) continue;
                const E *d_gates = tape_.d_gates + r * gates_ + gates.first;
                int64_t rows = gates.matrix.rows;
                if (is_noise)
                    read = pack_rows(tape_.right, noise_rows(gates.noise, r, n), n, d_, d_);
                else product<Into::kAdd, E>(n, d_, rows, rows_of(d_gates, gates_),
                                            weights_.gates(layer)[i].backward, tape_.d_unit, d_);
                product<Into::kAdd, E>(rows, d_, n, pack_left(tape_.left, d_gates, n, rows, gates_),
                                       read, gradient_ + gates.matrix.at, d_);
            }
    }

    void open(const LayerTape<E> &t, int64_t r, int64_t n) {
        Timed timed(spent, kElementwise);
        for (int64_t i = r; i < r + n; i++)
            open_gates(t.mixed + i * q_, t.gates + i * gates_, s_.heads, s_.head_width);
    }

    void open_backward(const LayerTape<E> &t, int64_t r, int64_t n) {
        Timed timed(spent, kElementwise);
        for (int64_t i = r; i < r + n; i++)
            open_gates_backward(tape_.d_mixed + i * q_, t.mixed + i * q_, t.gates + i * gates_,
                                tape_.d_gates + i * gates_, s_.heads, s_.head_width);
    }

    // From dh in rows_b: h in its place, and the gradients of gate and up in theirs.
    void swiglu_rows_backward(E *gate_up, int64_t n) {
        Timed timed(spent, kElementwise);
        for (int64_t i = 0; i < n; i++) {
            E *gate = gate_up + i * 2 * f_;
            swiglu_backward(tape_.rows_b + i * f_, gate, gate + f_, f_);
        }
    }

    // The loss; where it has a weight also the gradients of the head and, in dx, of what it read.
    double head(const int32_t *targets, float weight) {
        double nats = 0;
        int64_t vocab = s_.vocab_size, wide = round_up(vocab, kPair<E>);
        const PackedMatrix<E> &w = weights_[4 * s_.layers];
        by_rows([&](int64_t r, int64_t n) {
            for (int64_t i = 0; i < n; i += tape_.logit_rows) {
                int64_t few = std::min(tape_.logit_rows, n - i);
                {
                    Timed timed(spent, kHead);
                    product<Into::kStore, E>(few, vocab, d_,
                                             rows_of(tape_.unit_out + (r + i) * d_, d_), w.forward,
                                             tape_.logits, wide);
                }
                Timed timed(spent, kElementwise);
                for (int64_t j = 0; j < few; j++)
                    nats += token_loss(tape_.logits + j * wide, targets[r + i + j], weight,
                                       tape_.logits_e + (i + j) * wide);
            }
            if (weight <= 0) return;
            {
                Timed timed(spent, kHead);
                product<Into::kStore, E>(n, d_, wide, rows_of(tape_.logits_e, wide), w.backward,
                                         tape_.d_unit, d_);
                Left<E> left = pack_left(tape_.left, tape_.logits_e, n, wide, wide);
                Packed<E> right = pack_rows(tape_.right, tape_.unit_out + r * d_, n, d_, d_);
                product<Into::kAdd, E>(vocab, d_, n, left, right, head_gradient_, d_);
            }
            memset(tape_.dx + r * d_, 0, n * d_ * sizeof(float));
            normalise_backward(tape_.unit_out, tape_.scale_out, r, n);
        });
        return nats;
    }

    double token_loss(float *logits, int32_t target, float weight, E *gradient) {
        int64_t vocab = s_.vocab_size, wide = round_up(vocab, kPair<E>);
        if (target < 0) {
            if (weight > 0) memset(gradient, 0, wide * sizeof(E));
            return 0;
        }
        float at_target = logits[target];
        float nats = softmax(logits, logits, vocab, 1.0f) - at_target;
        if (weight > 0) {
            logits[target] -= 1.0f;
            if (wide > vocab) logits[vocab] = 0;
#pragma omp simd
            for (int64_t i = 0; i < vocab; i++) logits[i] *= weight;
            convert(gradient, logits, wide);
        }
        return nats;
    }

    const Layout &layout_;
    const Shape &s_;
    const Weights<E> &weights_;
    Memory *memory_;
    const float *parameters_;
    float *gradient_, *head_gradient_;
    Arena arena_;
    Tape<E> tape_;
    Attention<E> attention_;
    int64_t rows_ = 0, length_ = 0, first_row_ = 0;
    Dropout dropout_;
    const int64_t d_ = s_.width, f_ = s_.mlp_width, q_ = s_.heads * s_.head_width;
    const int64_t qkv_ = q_ + 2 * s_.kv_heads * s_.head_width, gates_ = layout_.num_gates;
};

}  // namespace cllm
