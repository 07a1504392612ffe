// A weight matrix in the number format that it was given in, packed into panels.
#pragma once

#include <stdexcept>

#include "../arena.h"
#include "integers.h"

namespace cllm {

enum class Format : int64_t { kFloat32, kBFloat16, kInt8, kInt4, kLattice };

// A matrix as Python has it: rows of float32 (also where panels are to be bfloat16), or codes as
// model/packed.py lays them out. Only `signs`, and of a matrix whose rows are looked up all, need
// to stay where they are after the panels are packed.
extern "C" struct Source {
    int64_t format, rows, columns;
    const void *codes;       // float32, int8 or nibbles; null where there are stages
    const void *scales;      // float16 [rows, groups], or float32 [rows] for lattices
    const int8_t *signs;     // of the rotation, or null
    int64_t block;           // its blocks
    int64_t num_stages;
    Stage stages[2];
};

// x = H D x or D H x in blocks of `block`; `columns` numbers, followed by zeros to whole vectors.
inline void hadamard(float *x, int64_t columns, int64_t block) {
    Ints lane;
    for (int i = 0; i < kLanes; i++) lane[i] = i;
    int64_t end = round_up(columns, kLanes);
    for (int64_t half = 1; half < block && half < kLanes; half *= 2) {
        Ints partner = lane ^ int32_t(half);
        Floats sign = __builtin_convertvector((lane & int32_t(half)) == 0, Floats) * -2.0f - 1.0f;
        for (int64_t i = 0; i < end; i += kLanes) {
            Floats value = *(const Floats *)(x + i);
            *(Floats *)(x + i) = __builtin_shuffle(value, partner) + value * sign;
        }
    }
    for (int64_t half = kLanes; half < block; half *= 2)
        for (int64_t i = 0; i < columns; i += 2 * half)
            for (int64_t j = i; j < i + half; j += kLanes) {
                Floats a = *(const Floats *)(x + j), b = *(const Floats *)(x + j + half);
                *(Floats *)(x + j) = a + b, *(Floats *)(x + j + half) = a - b;
            }
    float scale = 1.0f / std::sqrt(float(block));
    for (int64_t i = 0; i < end; i += kLanes) *(Floats *)(x + i) *= scale;
}

// One thread's copy of a product's rows, as the matrix reads them.
class Prepared {
public:
    Prepared(Arena &arena, int64_t rows, int64_t widest)
        : wide_(round_up(widest, 64)), floats_(arena.take<float>(rows * wide_)),
          quads_(arena.take<Quad>(rows * wide_ / 4)),
          scales_(arena.take<float>(rows * wide_ / kGroup)),
          sums_(arena.take<int32_t>(rows * wide_ / kGroup)) {}

private:
    friend class PanelMatrix;
    int64_t wide_;
    float *floats_;
    Quad *quads_;
    float *scales_;
    int32_t *sums_;
    Rows rows_{};
    IntegerRows integers_{};
};

class PanelMatrix {
public:
    // `rows_of_panel(p, r)` is the source's row at place r of panel p, or −1 for none.
    template <class F> PanelMatrix(Arena &arena, const Source &source, int64_t panels, F row_at)
        : source_(source), panels_(panels), groups_((source.columns + kGroup - 1) / kGroup),
          book_(source.stages, source.num_stages) {
        switch (format()) {
        case Format::kFloat32: pack_floats<float>(arena, row_at); break;
        case Format::kBFloat16: pack_floats<BFloat16>(arena, row_at); break;
        case Format::kInt8:
            pack_groups(arena, kPanel * (2 + kGroup), row_at, [](uint8_t *to, int64_t place,
                                                                 const uint8_t *from) {
                for (int64_t k = 0; k < kGroup; k++)
                    to[quad_place(place, k / 4, kQuads) + k % 4] = from[k] ^ 128;
            }, kGroup);
            break;
        case Format::kInt4:
            pack_groups(arena, kPanel * (2 + kGroup / 2), row_at, [](uint8_t *to, int64_t place,
                                                                     const uint8_t *from) {
                for (int64_t k = 0; k < kGroup / 2; k++)
                    to[quad_place(place, k / 4, kQuads / 2) + k % 4] = from[k];
            }, kGroup / 2);
            break;
        case Format::kLattice: pack_codes(arena, row_at); break;
        default: throw std::invalid_argument("format");
        }
    }

    int64_t rows() const { return source_.rows; }
    int64_t columns() const { return source_.columns; }
    int64_t num_panels() const { return panels_; }
    int64_t bytes() const { return bytes_; }

    // What `multiply` reads, from `rows` rows of x: x itself, or its rotated or rounded copy.
    void prepare(Prepared &to, Rows x, int64_t rows) const {
        bool is_rounded = format() > Format::kBFloat16;
        to.rows_ = x;
        if (!is_rounded && !source_.signs) return;
        int64_t padded = groups_ * kGroup;
        if (is_rounded) to.integers_ = {to.quads_, to.scales_, to.sums_, groups_};
        else to.rows_ = {to.floats_, to.wide_};
        for (int64_t r = 0; r < rows; r++) {
            float *copy = to.floats_ + (is_rounded ? 0 : r * to.wide_);
            memcpy(copy, x.at + r * x.stride, columns() * sizeof(float));
            std::fill(copy + columns(), copy + round_up(padded, 64), 0.0f);
            if (source_.signs) {
                for (int64_t k = 0; k < columns(); k++) copy[k] *= source_.signs[k];
                hadamard(copy, columns(), source_.block);
            }
            if (is_rounded) to_integers(to.integers_, r, copy);
        }
    }

    // Panels `first` to `last` of the product with prepared rows; y begins at the first of all.
    void multiply(const Prepared &x, int64_t rows, int64_t first, int64_t last, Outputs y) const {
        if (first >= last) return;
        Outputs to = {y.at + first * kPanel, y.stride};
        const uint8_t *at = panels_at_ + first * panel_bytes_;
        const float *scales = row_scales_ ? row_scales_ + first * kPanel : nullptr;
        int64_t count = last - first;
        switch (format()) {
        case Format::kFloat32:
            panel_product(rows, columns(), x.rows_, (const float *)at, panel_bytes_ / 4, count,
                          to);
            break;
        case Format::kBFloat16:
            panel_product(rows, columns(), x.rows_, (const BFloat16 *)at, panel_bytes_ / 2, count,
                          to);
            break;
        case Format::kInt8:
            integer_product<Int8Group>(rows, x.integers_, at, count, book_, scales, to);
            break;
        case Format::kInt4:
            integer_product<Int4Group>(rows, x.integers_, at, count, book_, scales, to);
            break;
        case Format::kLattice:
            integer_product<LatticeGroup>(rows, x.integers_, at, count, book_, scales, to);
            break;
        }
    }

    // The weights of one row, as floats. `to` has room for whole groups and vectors.
    void row(int64_t r, float *to) const {
        int64_t n = columns(), padded = groups_ * kGroup;
        const uint16_t *halves = (const uint16_t *)source_.scales + r * groups_;
        switch (format()) {
        case Format::kFloat32:
            memcpy(to, (const float *)source_.codes + r * n, n * sizeof(float));
            break;
        case Format::kBFloat16:
            for (int64_t k = 0; k < n; k++) {
                uint32_t bits = from_float<BFloat16>(((const float *)source_.codes)[r * n + k]).bits;
                to[k] = __builtin_bit_cast(float, bits << 16);
            }
            break;
        case Format::kInt8:
            for (int64_t k = 0; k < n; k++)
                to[k] = half_to_float(halves[k / kGroup]) *
                        ((const int8_t *)source_.codes)[r * padded + k];
            break;
        case Format::kInt4:
            for (int64_t k = 0; k < n; k++) {
                int64_t in = k % kGroup;
                const uint8_t *group = (const uint8_t *)source_.codes + (r * padded + k - in) / 2;
                int nibble = in < 16 ? group[in] & 15 : group[in - 16] >> 4;
                to[k] = half_to_float(halves[k / kGroup]) * float(nibble - 8);
            }
            break;
        case Format::kLattice:
            for (int64_t unit = 0; unit < padded / 8; unit++) {
                int32_t eight[8] = {};
                for (int64_t s = 0; s < source_.num_stages; s++)
                    book_.decode_one(eight, s, code_at(s, r * padded / 8 + unit));
                for (int64_t j = 0; j < 8 && 8 * unit + j < n; j++)
                    to[8 * unit + j] = ((const float *)source_.scales)[r] * float(eight[j]);
            }
            break;
        }
        if (!source_.signs) return;
        std::fill(to + n, to + round_up(padded, 64), 0.0f);
        hadamard(to, n, source_.block);
        for (int64_t k = 0; k < n; k++) to[k] *= source_.signs[k];
    }

private:
    Format format() const { return Format(source_.format); }

    // Where the bytes of a quad of columns begin behind a group's scales.
    static int64_t quad_place(int64_t place, int64_t quad, int64_t quads) {
        return ((place / kLanes * quads + quad) * kLanes + place % kLanes) * 4;
    }

    uint32_t code_at(int64_t stage, int64_t place) const {
        const void *codes = source_.stages[stage].codes;
        return book_.code_bytes(stage) == 2 ? ((const uint16_t *)codes)[place]
                                            : ((const uint8_t *)codes)[place];
    }

    // Calls f(panel, place, row) for every output; empty places stay zero.
    template <class R, class F> void each_row(R row_at, F f) {
        for (int64_t p = 0; p < panels_; p++)
            for (int64_t place = 0; place < kPanel; place++)
                if (int64_t row = row_at(p, place); row >= 0) f(p, place, row);
    }

    uint8_t *take(Arena &arena, int64_t panel_bytes) {
        panel_bytes_ = panel_bytes, bytes_ = panels_ * panel_bytes;
        uint8_t *at = arena.take<uint8_t>(bytes_);
        panels_at_ = at;
        return at;
    }

    template <class W, class R> void pack_floats(Arena &arena, R row_at) {
        int64_t n = columns();
        uint8_t *at = take(arena, n * kPanel * sizeof(W));
        each_row(row_at, [&](int64_t p, int64_t place, int64_t row) {
            const float *from = (const float *)source_.codes + row * n;
            W *to = (W *)(at + p * panel_bytes_) + place;
            for (int64_t k = 0; k < n; k++) to[k * kPanel] = from_float<W>(from[k]);
        });
    }

    template <class R, class F>
    void pack_groups(Arena &arena, int64_t group_bytes, R row_at, F pack, int64_t code_bytes) {
        uint8_t *at = take(arena, groups_ * group_bytes);
        each_row(row_at, [&](int64_t p, int64_t place, int64_t row) {
            const uint8_t *from = (const uint8_t *)source_.codes + row * groups_ * code_bytes;
            const uint16_t *scales = (const uint16_t *)source_.scales + row * groups_;
            for (int64_t g = 0; g < groups_; g++) {
                uint8_t *group = at + p * panel_bytes_ + g * group_bytes;
                memcpy(group + 2 * place, scales + g, 2);
                pack(group + 2 * kPanel, place, from + g * code_bytes);
            }
        });
    }

    template <class R> void pack_codes(Arena &arena, R row_at) {
        uint8_t *at = take(arena, groups_ * book_.group_bytes());
        float *scales = arena.take<float>(panels_ * kPanel);
        row_scales_ = scales;
        bytes_ += panels_ * kPanel * sizeof(float);
        each_row(row_at, [&](int64_t p, int64_t place, int64_t row) {
            scales[p * kPanel + place] = ((const float *)source_.scales)[row];
            for (int64_t g = 0; g < groups_; g++) {
                uint8_t *group = at + p * panel_bytes_ + g * book_.group_bytes();
                for (int64_t s = 0; s < source_.num_stages; s++)
                    for (int64_t unit = 0; unit < 4; unit++)
                        book_.put(group, s, unit, place, code_at(s, (row * groups_ + g) * 4 + unit));
            }
        });
    }

    Source source_;
    int64_t panels_, groups_, panel_bytes_ = 0, bytes_ = 0;
    Codebook book_;
    const uint8_t *panels_at_ = nullptr;
    const float *row_scales_ = nullptr;
};

}  // namespace cllm
