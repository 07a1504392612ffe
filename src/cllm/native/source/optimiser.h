// AdamW, and Muon for the matrices inside the blocks, on float32 masters.
#pragma once

#include <atomic>
#include <cmath>
#include <memory>
#include <vector>

#include "parts.h"
#include "product.h"
#include "shape.h"
#include "tape.h"
#include "threads.h"

namespace cllm {

extern "C" struct Update {
    int64_t step;         // counted from 1
    double rate;          // AdamW's, of tables, gains and, without Muon, of matrices
    double matrix_rate;   // Muon's, or 0: AdamW for all
    double beta1, beta2, epsilon, weight_decay, clip, momentum;
    double table_rate;    // Adagrad's, of the input memory
};

// One orthogonalised matrix: a view into the parameters.
struct Piece {
    int64_t at, rows, columns;
};

// Coefficients of X ← aX + (bA + cA²)X with A = XXᵀ, iteration by iteration.
// Source: Amsel 2025, arXiv:2505.16932 (Polar Express), with its safety factor 1.01.
constexpr int kIterations = 5;
constexpr double kPolar[kIterations][3] = {
    {8.28721201814563, -23.595886519098837, 17.300387312530933},
    {4.107059111542203, -2.9478499167379106, 0.5448431082926601},
    {3.9486908534822946, -2.908902115962949, 0.5518191394370137},
    {3.3184196573706015, -2.488488024314874, 0.51004894012372},
    {2.300652019954817, -1.6689039845747493, 0.4188073119525673},
};

// Nearest (semi-)orthogonal matrix, roughly: G = USVᵀ becomes about UVᵀ.
template <class E> class Polar {
public:
    explicit Polar(int64_t largest_short, int64_t largest_long) {
        int64_t n = largest_short, m = largest_long;
        x_ = arena_.take<E>(n * m), a_ = arena_.take<E>(n * n);
        packed_ = arena_.take<E>(packed_size<E>(m, n) + packed_size<E>(n, m));
        left_ = arena_.take<E>(round_up(n, kTileRows) * round_up(m, kPair<E>));
        f_ = arena_.take<float>(n * m), g_ = arena_.take<float>(n * n);
    }

    // to = polar(from); both [rows, columns], may be the same.
    void run(float *to, const float *from, int64_t rows, int64_t columns) {
        bool is_tall = rows > columns;
        int64_t n = is_tall ? columns : rows, m = is_tall ? rows : columns;
        double squares = 0;
        for (int64_t i = 0; i < rows; i++) squares += sum_of_squares(from + i * columns, columns);
        float scale = float(1.0 / (std::sqrt(squares) * 1.01 + 1e-20));
        if (is_tall) transpose(f_, from, rows, columns);
        const float *wide = is_tall ? f_ : from;
        by_vectors(n * m, [&](auto j) { store(x_, j, load(wide, j) * scale); });
        for (int i = 0; i < kIterations; i++) iterate(n, m, i, is_tall ? f_ : to);
        if (is_tall) transpose(to, f_, n, m);
    }

private:
    // The last iteration leaves its result in `result` too, unrounded.
    void iterate(int64_t n, int64_t m, int i, float *result) {
        float a = kPolar[i][0] / 1.01, b = kPolar[i][1] / std::pow(1.01, 3);
        float c = kPolar[i][2] / std::pow(1.01, 5);
        lower_half<Into::kRound>(n, m, pack_left_rows(left_, x_, n, m, m),
                                 pack_columns(packed_, x_, n, m, m), a_);
        mirror(n);
        lower_half<Into::kStore>(n, n, pack_left_rows(left_, a_, n, n, n),
                                 pack_rows(packed_, a_, n, n, n), g_);
        for (int64_t r = 0; r < n; r++) {
            E *row = a_ + r * n;
            const float *square = g_ + r * n;
            by_vectors(r + 1, [&](auto j) {
                store(row, j, b * load(row, j) + c * load(square, j));
            });
        }
        mirror(n);
        product<Into::kStore, E>(n, m, n, pack_left_rows(left_, a_, n, n, n),
                                 pack_rows(packed_, x_, n, m, m), f_, m);
        bool is_last = i + 1 == kIterations;
        by_vectors(n * m, [&](auto j) {
            Floats next = load(f_, j) + a * load(x_, j);
            if (is_last) store(result, j, next);
            else store(x_, j, next);
        });
    }

    // Of a symmetric product: panel by panel the rows from the diagonal down.
    template <Into mode, class C>
    static void lower_half(int64_t n, int64_t summed, Left<E> left, Packed<E> right, C *to) {
        for (int64_t j = 0; j < n; j += kPanel) {
            int64_t tiles = j / kTileRows, row = tiles * kTileRows;
            product<mode, E>(n - row, std::min<int64_t>(kPanel, n - j), summed,
                             {left.at + tiles * left.tile_stride, left.row_stride,
                              left.word_stride, left.tile_stride},
                             {right.at + j / kPanel * right.panel_stride, right.panel_stride},
                             to + row * n + j, n);
        }
    }

    // a_'s upper half from its lower one, in strips of rows that stay in the cache.
    void mirror(int64_t n) {
        for (int64_t strip = 0; strip < n; strip += 16)
            for (int64_t j = strip + 1; j < n; j++)
                for (int64_t i = strip; i < std::min(strip + 16, j); i++)
                    a_[i * n + j] = a_[j * n + i];
    }

    static void transpose(float *to, const float *from, int64_t rows, int64_t columns) {
        for (int64_t i = 0; i < rows; i += kLanes) {
            const float *strip = from + i * columns;
            int64_t count = std::min<int64_t>(kLanes, rows - i), done = 0;
            if (count == kLanes)
                done = transpose_words(to + i, rows, strip, columns, kLanes, columns);
            for (int64_t j = done; j < columns; j++)
                for (int64_t k = 0; k < count; k++) to[j * rows + i + k] = strip[k * columns + j];
        }
    }

    Arena arena_;
    E *x_, *a_, *packed_, *left_;
    float *f_, *g_;
};

template <class E> class Optimiser {
public:
    Optimiser(const Layout &layout, float *parameters, const float *gradient, float *first,
              float *second, Threads &threads)
        : layout_(layout), p_(parameters), g_(gradient), m_(first), v_(second), threads_(threads),
          partial_(threads.count()) {
        const Shape &s = layout.shape;
        int64_t q = s.heads * s.head_width, kv = s.kv_heads * s.head_width, d = s.width;
        for (const Block &b : layout.blocks) {
            pieces_.push_back({b.qkv.at, q, d});
            pieces_.push_back({b.qkv.at + q * d, kv, d});
            pieces_.push_back({b.qkv.at + (q + kv) * d, kv, d});
            pieces_.push_back({b.out.at, d, q});
            pieces_.push_back({b.gate_up.at, s.mlp_width, d});
            pieces_.push_back({b.gate_up.at + s.mlp_width * d, s.mlp_width, d});
            pieces_.push_back({b.down.at, d, s.mlp_width});
            runs_.push_back({b.qkv.at, b.qkv.size()});
            runs_.push_back({b.out.at, b.out.size()});
            runs_.push_back({b.gate_up.at, b.gate_up.size()});
            runs_.push_back({b.down.at, b.down.size()});
        }
        for (const Piece &p : pieces_) {
            short_ = std::max(short_, std::min(p.rows, p.columns));
            long_ = std::max(long_, std::max(p.rows, p.columns));
            scratch_ = std::max(scratch_, p.rows * p.columns);
        }
    }

    // One step; returns the gradient's norm before clipping. Not finite: nothing is changed.
    double run(const Update &u, double divide_by) {
        if (u.matrix_rate > 0 && polars_.empty()) {
            for (int i = 0; i < threads_.count(); i++)
                polars_.push_back(std::make_unique<Polar<E>>(short_, long_));
            updates_.resize(threads_.count());
            for (auto &one : updates_) one.resize(scratch_);
        }
        next_.store(0);
        double norm = 0;
        threads_.run([&](int index) {
            int64_t from = layout_.size * index / threads_.count();
            int64_t to = layout_.size * (index + 1) / threads_.count();
            double squares = 0;
            for (int64_t i = from; i < to; i += 4096) {
                float part = 0;
#pragma omp simd reduction(+ : part)
                for (int64_t j = i; j < std::min(i + 4096, to); j++) part += g_[j] * g_[j];
                squares += part;
            }
            partial_[index] = squares;
            threads_.meet();
            double all = 0;
            for (double part : partial_) all += part;
            double length = std::sqrt(all) / divide_by;
            if (index == 0) norm = length;
            if (!std::isfinite(length)) return;
            double scale = (length > u.clip ? u.clip / length : 1.0) / divide_by;
            // AdamW on everything, or on what lies between the matrices.
            if (u.matrix_rate <= 0) {
                adam_all(u, float(scale), from, to);
                return;
            }
            int64_t at = 0;
            for (const auto &[start, size] : runs_) {
                adam_all(u, float(scale), std::max(at, from), std::min(start, to));
                at = start + size;
            }
            adam_all(u, float(scale), std::max(at, from), to);
            for (int64_t i; (i = next_.fetch_add(1)) < int64_t(pieces_.size());)
                muon(pieces_[i], u, float(scale), index);
        });
        return norm;
    }

private:
    // Decay applies to matrices, and to tables unless Muon is at work; never to gains, nor to
    // what mechanisms add inside the blocks.
    void adam_all(const Update &u, float scale, int64_t from, int64_t to) {
        for (int64_t at = from; at < to;) {
            auto [end, decays] = stretch(at);
            end = std::min(end, to);
            adam(u, scale, at, end, decays && u.matrix_rate <= 0);
            at = end;
        }
    }

    // The end of the tensor kind at this place, and whether it decays.
    std::pair<int64_t, bool> stretch(int64_t at) const {
        int64_t d = layout_.shape.width, D = layout_.shape.head_width;
        for (const Block &b : layout_.blocks) {
            if (at < b.attention_norm) return {b.attention_norm, true};
            if (at < b.attention_norm + d) return {b.attention_norm + d, false};
            if (at < b.q_norm) return {b.q_norm, true};
            if (at < b.q_norm + 2 * D) return {b.q_norm + 2 * D, false};
            if (at < b.feed_forward_norm) return {b.feed_forward_norm, true};
            if (at < b.feed_forward_norm + d) return {b.feed_forward_norm + d, false};
        }
        if (at < layout_.norm) return {layout_.norm, true};
        if (at < layout_.norm + d) return {layout_.norm + d, false};
        if (at < layout_.bare) return {layout_.bare, true};
        return {layout_.size, false};
    }

    void adam(const Update &u, float scale, int64_t from, int64_t to, bool decays) {
        float b1 = u.beta1, b2 = u.beta2, keep = decays ? 1 - u.rate * u.weight_decay : 1;
        float rate = u.rate / (1 - std::pow(u.beta1, u.step)), epsilon = u.epsilon;
        float correction = 1 / std::sqrt(1 - std::pow(u.beta2, u.step));
#pragma omp simd
        for (int64_t i = from; i < to; i++) {
            float g = g_[i] * scale;
            m_[i] = b1 * m_[i] + (1 - b1) * g;
            v_[i] = b2 * v_[i] + (1 - b2) * g * g;
            p_[i] = p_[i] * keep - rate * m_[i] / (std::sqrt(v_[i]) * correction + epsilon);
        }
    }

    // Nesterov momentum, made orthogonal, each row at its usual size, the whole at AdamW's.
    // Source: Jordan 2024 (Muon); scale 0.2·√max(rows, columns): Liu 2025, arXiv:2502.16982;
    // rows: Li 2025, arXiv:2510.05491 (NorMuon).
    void muon(const Piece &piece, const Update &u, float scale, int index) {
        int64_t n = piece.rows * piece.columns;
        float mu = u.momentum, *m = m_ + piece.at, *p = p_ + piece.at;
        float *step = updates_[index].data();
        const float *g = g_ + piece.at;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            m[i] = mu * m[i] + (1 - mu) * g[i] * scale;
            step[i] = mu * m[i] + (1 - mu) * g[i] * scale;
        }
        polars_[index]->run(step, step, piece.rows, piece.columns);
        float size = 0.2 * std::sqrt(double(std::max(piece.rows, piece.columns))) * u.matrix_rate;
        size *= even_rows(step, v_ + piece.at, piece.rows, piece.columns, u);
        float keep = 1 - u.matrix_rate * u.weight_decay;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) p[i] = p[i] * keep - size * step[i];
    }

    // Divides each row by the root of its running mean square, which v keeps one number a row;
    // returns the factor that gives the whole its norm back.
    static float even_rows(float *step, float *v, int64_t rows, int64_t columns, const Update &u) {
        float b = u.beta2, correction = 1 - std::pow(u.beta2, double(u.step));
        double before = 0, after = 0;
        for (int64_t r = 0; r < rows; r++) {
            float *row = step + r * columns, squares = sum_of_squares(row, columns);
            v[r] = b * v[r] + (1 - b) * squares / columns;
            float by = 1 / (std::sqrt(v[r] / correction) + 1e-10f);
            before += squares, after += double(squares) * by * by;
#pragma omp simd
            for (int64_t j = 0; j < columns; j++) row[j] *= by;
        }
        return after > 0 ? std::sqrt(before / after) : 0;
    }

    const Layout &layout_;
    float *p_;
    const float *g_;
    float *m_, *v_;
    Threads &threads_;
    std::vector<double> partial_;
    std::vector<Piece> pieces_;
    std::vector<std::pair<int64_t, int64_t>> runs_;
    int64_t short_ = 0, long_ = 0, scratch_ = 0;
    std::vector<std::unique_ptr<Polar<E>>> polars_;
    std::vector<std::vector<float>> updates_;
    std::atomic<int64_t> next_{0};
};

}  // namespace cllm
