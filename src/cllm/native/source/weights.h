// The weights as products read them: rounded once a step, gains folded in, packed both ways.
#pragma once

#include <vector>

#include "arena.h"
#include "product.h"
#include "shape.h"

namespace cllm {

template <class E> struct PackedMatrix {
    Packed<E> forward, backward;  // x W^T reads `forward`, dy W reads `backward`
};

template <class E> class Weights {
public:
    // `threads`: how many will pack at the same time.
    Weights(const Layout &layout, int threads) : groups_(threads), lines_(threads) {
        for (const Block &block : layout.blocks)
            for (const Matrix &m : {block.qkv, block.out, block.gate_up, block.down}) add(m);
        add(layout.head);
        first_gates_ = matrices_.size();
        gates_a_block_ = layout.blocks[0].gates.size();
        for (const Block &block : layout.blocks)
            for (const Gates &gates : block.gates) add(gates.matrix);
        if (layout.up.size()) add(layout.up);
        for (auto &group : groups_) group.resize(kPanel * layout.widest());
        for (auto &line : lines_) line.resize(layout.widest());
        E *next = arena_.take<E>(stored_);
        for (size_t i = 0; i < matrices_.size(); i++) {
            const Matrix &m = matrices_[i];
            packed_[i].forward = {next, round_up(m.columns, kPair<E>) * kPanel};
            next += packed_size<E>(m.columns, m.rows);
            packed_[i].backward = {next, round_up(m.rows, kPair<E>) * kPanel};
            next += packed_size<E>(m.rows, m.columns);
        }
    }

    // Four a block (qkv, out, gate and up, down), then the head.
    const PackedMatrix<E> &operator[](int64_t index) const { return packed_[index]; }
    // Those of block.gates.
    const PackedMatrix<E> *gates(int64_t layer) const {
        return &packed_[first_gates_ + layer * gates_a_block_];
    }
    const PackedMatrix<E> &up() const { return packed_.back(); }

    // Thread `index` of `count` packs its share.
    void pack(const float *parameters, int index, int count) {
        int64_t task = 0;
        for (size_t i = 0; i < matrices_.size(); i++)
            for (int64_t row = 0; row < matrices_[i].rows; row += kPanel)
                if (task++ % count == index)
                    pack_group(parameters, matrices_[i], packed_[i], row, groups_[index].data(),
                               lines_[index].data());
    }

private:
    void add(const Matrix &m) {
        matrices_.push_back(m);
        packed_.push_back({});
        stored_ += packed_size<E>(m.columns, m.rows) + packed_size<E>(m.rows, m.columns);
    }

    // The rows of one panel of `forward`; they are words of every panel of `backward`.
    void pack_group(const float *parameters, const Matrix &m, const PackedMatrix<E> &to,
                    int64_t row, E *group, float *line) {
        int64_t rows = m.rows - row < kPanel ? m.rows - row : kPanel;
        const float *gain = m.gain >= 0 ? parameters + m.gain : nullptr;
        for (int64_t r = 0; r < rows; r++) {
            const float *from = parameters + m.at + (row + r) * m.columns;
            if (gain) {
                for (int64_t c = 0; c < m.columns; c++) line[c] = from[c] * gain[c];
                from = line;
            }
            convert(group + r * m.columns, from, m.columns);
        }
        E *forward = (E *)to.forward.at + row / kPanel * to.forward.panel_stride;
        pack_columns<E>(forward, group, rows, m.columns, m.columns);
        for (int64_t c = 0; c < m.columns; c += kPanel) {
            E *backward = (E *)to.backward.at + c / kPanel * to.backward.panel_stride;
            int64_t columns = m.columns - c < kPanel ? m.columns - c : kPanel;
            pack_rows<E>(backward + row * kPanel, group + c, rows, columns, m.columns);
        }
    }

    std::vector<Matrix> matrices_;
    std::vector<PackedMatrix<E>> packed_;
    Arena arena_;
    std::vector<std::vector<E>> groups_;
    std::vector<std::vector<float>> lines_;
    int64_t stored_ = 0, first_gates_ = 0, gates_a_block_ = 0;
};

}  // namespace cllm
