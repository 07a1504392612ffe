// What a model holds: the order and place of its parameters in one row of floats.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace cllm {

extern "C" struct Shape {
    int64_t vocab_size, width, layers, heads, kv_heads, head_width, mlp_width, context;
    double rope_base, norm_epsilon;
    int64_t is_tied;
};

enum Schumann : int64_t { kNoDecay, kStatic, kForget };

// What gates read in a control, whatever the text: row (place in the document mod `count`). None
// where `count` is 0.
extern "C" struct Noise {
    const float *rows;
    int64_t count;
};

// What a model has beyond the plain one: all zero is plain. Pointers are read while an engine is
// made, except the table's own and the noise.
extern "C" struct Parts {
    int64_t eos_id;                // ends a document; −1: none ends
    int64_t num_tables, row_width; // ngram: tables of the input memory
    const int64_t *orders;         // of each table: tokens that choose a row,
    const uint64_t *moduli;        // its rows,
    const uint64_t *multipliers;   // and 1, or what the tokens' number is multiplied by
    float *table, *row_squares;    // all tables' rows, one below the other
    int64_t num_lags;              // dampening: how far back each tap reads
    const int64_t *lags;
    int64_t has_gamma;
    int64_t schumann;
    const double *decays;          // of each head, where schumann is static
    Noise gamma_noise, forget_noise;
};

// A matrix of `rows` outputs by `columns` inputs; `gain` is the norm before it, or −1.
struct Matrix {
    int64_t at, rows, columns, gain;
    int64_t size() const { return rows * columns; }
};

// Gates that read the same: `noise`, or without it what qkv reads. `first` is the place of the
// first of them among all of a row.
struct Gates {
    Matrix matrix;
    int64_t first;
    Noise noise;
};

struct Block {
    int64_t attention_norm, q_norm, k_norm, feed_forward_norm;
    Matrix qkv, out, gate_up, down;
    // Of mechanisms: gates are gamma's rows, then the forget gates', in one matrix unless some of
    // them read noise.
    int64_t taps, offset, strength, end;
    std::vector<Gates> gates;
};

// The order is that of the torch model's parameters (layout.py names them).
struct Layout {
    Shape shape;
    int64_t embedding, norm, size;
    Matrix head;
    std::vector<Block> blocks;
    // Of mechanisms, behind the plain model's; nothing decays from `bare` on.
    Matrix up;
    int64_t bare, eos_id, num_gates;
    bool has_gamma, has_noise;
    Schumann schumann;
    std::vector<int64_t> lags;
    int64_t most_lag = 0;
    std::vector<double> decays;

    Layout(const Shape &s, const Parts &parts)
        : shape(s), eos_id(parts.eos_id), has_gamma(parts.has_gamma),
          schumann(Schumann(parts.schumann)), lags(parts.lags, parts.lags + parts.num_lags) {
        for (int64_t lag : lags) most_lag = std::max(most_lag, lag);
        if (schumann == kStatic) decays.assign(parts.decays, parts.decays + s.heads);
        int64_t forget_rows = schumann == kForget ? s.kv_heads : 0;
        int64_t gamma_rows = has_gamma ? s.heads : 0;
        num_gates = gamma_rows + forget_rows;
        has_noise = parts.gamma_noise.count || parts.forget_noise.count;
        int64_t next = 0;
        auto take = [&](int64_t n) {
            next += n;
            return next - n;
        };
        embedding = take(s.vocab_size * s.width);
        int64_t q_width = s.heads * s.head_width, kv_width = s.kv_heads * s.head_width;
        for (int64_t i = 0; i < s.layers; i++) {
            Block b{};
            b.attention_norm = take(s.width);
            int64_t rows = q_width + 2 * kv_width;
            b.qkv = {take(rows * s.width), rows, s.width, b.attention_norm};
            b.q_norm = take(s.head_width);
            b.k_norm = take(s.head_width);
            b.out = {take(s.width * q_width), s.width, q_width, -1};
            b.feed_forward_norm = take(s.width);
            rows = 2 * s.mlp_width;
            b.gate_up = {take(rows * s.width), rows, s.width, b.feed_forward_norm};
            b.down = {take(s.width * s.mlp_width), s.width, s.mlp_width, -1};
            blocks.push_back(b);
        }
        norm = take(s.width);
        int64_t at = s.is_tied ? embedding : take(s.vocab_size * s.width);
        head = {at, s.vocab_size, s.width, norm};
        int64_t row_width = parts.num_tables ? parts.row_width : 0;
        up = {take(s.width * row_width), s.width, row_width, -1};
        bare = next;
        for (Block &b : blocks) {
            b.taps = take(lags.size() * s.width);
            auto add_gates = [&](int64_t rows, int64_t first, Noise noise) {
                // Noise has not been through the norm.
                int64_t gain = noise.count ? -1 : b.attention_norm;
                Matrix m = {take(rows * s.width), rows, s.width, gain};
                if (rows) b.gates.push_back({m, first, noise});
            };
            if (has_noise) {
                add_gates(gamma_rows, 0, parts.gamma_noise);
                add_gates(forget_rows, gamma_rows, parts.forget_noise);
            } else {
                add_gates(num_gates, 0, {});
            }
            b.offset = take(schumann == kForget ? s.kv_heads : 0);
            b.strength = take(schumann != kNoDecay ? s.heads : 0);
            b.end = next;
        }
        size = next;
    }

    // The largest number of columns of any matrix.
    int64_t widest() const {
        int64_t n = std::max(shape.width, up.columns);
        for (const Block &b : blocks) n = std::max({n, b.out.columns, b.down.columns});
        return n;
    }
};

}  // namespace cllm
