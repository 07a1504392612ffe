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

// A matrix of `rows` outputs by `columns` inputs; `gain` is the norm before it, or −1.
struct Matrix {
    int64_t at, rows, columns, gain;
    int64_t size() const { return rows * columns; }
};

struct Block {
    int64_t attention_norm, q_norm, k_norm, feed_forward_norm;
    Matrix qkv, out, gate_up, down;
};

// The order is that of the torch model's parameters (layout.py names them).
struct Layout {
    Shape shape;
    int64_t embedding, norm, size;
    Matrix head;
    std::vector<Block> blocks;

    explicit Layout(const Shape &s) : shape(s) {
        int64_t next = 0;
        auto take = [&](int64_t n) {
            next += n;
            return next - n;
        };
        embedding = take(s.vocab_size * s.width);
        int64_t q_width = s.heads * s.head_width, kv_width = s.kv_heads * s.head_width;
        for (int64_t i = 0; i < s.layers; i++) {
            Block b;
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
        size = next;
    }

    // The largest number of columns of any matrix.
    int64_t widest() const {
        int64_t n = shape.width;
        for (const Block &b : blocks) n = std::max({n, b.out.columns, b.down.columns});
        return n;
    }
};

}  // namespace cllm
