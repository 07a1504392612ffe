// What one thread keeps of a forward pass for the backward pass, and its room to work in.
#pragma once

#include <algorithm>
#include <vector>

#include "arena.h"
#include "product.h"
#include "shape.h"

namespace cllm {

// Rows taken through a chain of products together: small enough for a core's own cache.
constexpr int64_t kRows = 516;
// Queries and keys whose scores are computed together; blocks above the diagonal are skipped.
constexpr int64_t kBlock = 32;

// Per row: unit vectors before each product, head vectors before and after norm and rotation,
// attention weights, attention's output, gate and up; and the norms' scales. Of mechanisms: what
// the first product reads (`damped`, the unit vectors themselves where nothing dampens), the
// gates' inputs, and the sums of the forget gates, of each sequence head by head.
template <class E> struct LayerTape {
    E *unit_in, *raw, *turned, *weights, *mixed, *unit_mid, *gate_up;
    float *scale_in, *scale_heads, *scale_mid;
    E *damped;
    float *gates, *faded;
};

template <class E> struct Tape {
    std::vector<LayerTape<E>> layers;
    E *unit_out, *d_mixed;
    float *scale_out, *x, *dx;
    // Scratch.
    E *left, *right, *right2, *rows_a, *rows_b, *scores_e, *logits_e;
    float *line, *scores, *d_heads, *d_unit, *logits;
    int64_t logit_rows;
    // Of mechanisms: how many rows back the same document began, the table rows of each row and
    // their sum, gradients of the gates' inputs, and room for biases of scores.
    int32_t *reach = nullptr;
    uint32_t *lookups = nullptr;
    E *recalled = nullptr, *d_gates = nullptr;
    float *bias = nullptr, *d_bias = nullptr, *d_faded = nullptr;

    // For up to `rows` rows in sequences of up to `context`; `keeps` what backward needs.
    Tape(Arena &arena, const Layout &layout, int64_t num_tables, int64_t rows, int64_t context,
         bool keeps) {
        const Shape &s = layout.shape;
        int64_t q = s.heads * s.head_width, kv = s.kv_heads * s.head_width;
        int64_t qkv = q + 2 * kv, d = s.width, f = s.mlp_width;
        int64_t wide = round_up(context, kBlock), vocab = round_up(s.vocab_size, kPair<E>);
        int64_t widest = std::max({qkv, 2 * f, d, layout.up.columns});
        for (int64_t i = 0; i < s.layers; i++) {
            if (i > 0 && !keeps) {
                layers.push_back(layers[0]);
                continue;
            }
            layers.push_back({arena.take<E>(rows * d), arena.take<E>(rows * qkv),
                              arena.take<E>(rows * (q + kv)), arena.take<E>(rows * s.heads * wide),
                              arena.take<E>(rows * q), arena.take<E>(rows * d),
                              arena.take<E>(rows * 2 * f), arena.take<float>(rows),
                              arena.take<float>(rows * (s.heads + s.kv_heads)),
                              arena.take<float>(rows), nullptr, nullptr, nullptr});
            LayerTape<E> &t = layers.back();
            t.damped = layout.most_lag ? arena.take<E>(rows * d) : t.unit_in;
            if (layout.num_gates) t.gates = arena.take<float>(rows * layout.num_gates);
            if (layout.schumann == kForget) t.faded = arena.take<float>(rows * s.kv_heads);
        }
        unit_out = arena.take<E>(rows * d);
        scale_out = arena.take<float>(rows);
        x = arena.take<float>(rows * d);
        line = arena.take<float>(d);
        scores = arena.take<float>(context * wide);
        right = arena.take<E>(packed_size<E>(std::max(context, kRows), widest));
        right2 = arena.take<E>(packed_size<E>(context, s.head_width));
        rows_a = arena.take<E>(kRows * d);
        rows_b = arena.take<E>(kRows * f);
        d_unit = arena.take<float>((kRows + layout.most_lag) * d);
        left = arena.take<E>(std::max(kRows * round_up(std::max(vocab, widest), kTileRows),
                                      (context + 1) * round_up(kBlock, kTileRows)));
        logit_rows = std::clamp<int64_t>((1 << 17) / vocab / 12 * 12, 12, kRows);
        logits = arena.take<float>(logit_rows * vocab);
        if (num_tables || layout.most_lag || layout.has_noise) reach = arena.take<int32_t>(rows);
        if (num_tables) {
            lookups = arena.take<uint32_t>(rows * num_tables);
            recalled = arena.take<E>(rows * layout.up.columns);
        }
        if (layout.schumann != kNoDecay) bias = arena.take<float>(wide);
        if (!keeps) return;
        d_mixed = arena.take<E>(rows * q);
        dx = arena.take<float>(rows * d);
        scores_e = arena.take<E>(context * wide);
        logits_e = arena.take<E>(kRows * vocab);
        d_heads = arena.take<float>(3 * context * s.head_width);
        if (layout.num_gates) d_gates = arena.take<E>(rows * layout.num_gates);
        if (layout.schumann != kNoDecay) {
            d_bias = arena.take<float>(wide);
            d_faded = arena.take<float>(context);
        }
    }
};

}  // namespace cllm
