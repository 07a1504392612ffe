// Lattice codes: eight weights in 16 or 8 bits, looked up in a table of 256 rows.
//
// Bytes are kept above kZero of each stage, so that words of four add up without carries.
#pragma once

#include <vector>

#include "panels.h"

namespace cllm {

// One stage of codes as model/packed.py describes them. `table` [256, 8]: absolute values where
// codes have signs (and `odd` says which rows need an odd number of minus signs), else values.
extern "C" struct Stage {
    const void *codes;
    const int8_t *table;
    const uint8_t *odd;  // null where codes are one byte, a row of the table
    int64_t ratio;
};

class Codebook {
public:
    Codebook() = default;
    // What holds for every panel of one matrix.
    Codebook(const Stage *stages, int64_t count) {
        for (int64_t s = 0; s < count; s++) {
            Table table{stages[s].odd != nullptr, uint32_t(stages[s].ratio), std::vector<Words32>()};
            for (int64_t i = 0; i < 256; i++) {
                uint8_t bytes[8];
                for (int j = 0; j < 8; j++) {
                    int value = stages[s].table[i * 8 + j];
                    bytes[j] = uint8_t(table.is_signed ? value : value + kZero);
                }
                // Absolute values are even: their lowest bit is free to say how the signs add up.
                if (table.is_signed && stages[s].odd[i]) bytes[0] |= 1;
                Words32 row;
                memcpy(row.half, bytes, 8);
                table.rows.push_back(row);
            }
            group_bytes_ += 4 * kPanel * table.code_bytes();
            zero_ += kZero * stages[s].ratio;
            tables_.push_back(std::move(table));
        }
    }

    int64_t group_bytes() const { return group_bytes_; }
    int32_t zero() const { return zero_; }
    int64_t num_stages() const { return tables_.size(); }
    int64_t code_bytes(int64_t stage) const { return tables_[stage].code_bytes(); }

    // The weights of 32 columns of a panel: kTileVectors times 8 words.
    void decode(Words *to, const uint8_t *group) const {
        bool is_first = true;
        for (const Table &table : tables_) {
            for (int unit = 0; unit < 4; unit++)
                for (int v = 0; v < kTileVectors; v++) {
                    Words low, high;
                    look_up(table, group + (unit * kPanel + v * kLanes) * table.code_bytes(), low,
                            high);
                    Words *at = to + v * 8 + 2 * unit;
                    at[0] = is_first ? low * table.ratio : at[0] + low * table.ratio;
                    at[1] = is_first ? high * table.ratio : at[1] + high * table.ratio;
                }
            group += 4 * kPanel * table.code_bytes();
            is_first = false;
        }
    }

    // The integer at each of 8 columns.
    void decode_one(int32_t *to, int64_t stage, uint32_t code) const {
        const Table &table = tables_[stage];
        Words codes = Words{} + code, low, high;
        finish(table, codes, gather(table, codes & 255, 0), gather(table, codes & 255, 1), low,
               high);
        for (int j = 0; j < 8; j++) {
            uint32_t word = j < 4 ? low[0] : high[0];
            to[j] += int32_t(table.ratio) * (int32_t(word >> (8 * (j % 4)) & 255) - kZero);
        }
    }

private:
    static constexpr int32_t kZero = 16;
    static constexpr uint32_t kOnes = 0x01010101;

    struct Words32 {
        uint32_t half[2];
    };
    struct Table {
        bool is_signed;
        uint32_t ratio;
        std::vector<Words32> rows;
        int64_t code_bytes() const { return is_signed ? 2 : 1; }
    };

    static Words gather(const Table &table, Words row, int half) {
        const uint32_t *at = table.rows[0].half + half;
#if defined(__AVX512F__)
        return (Words)_mm512_i32gather_epi32((__m512i)row, at, 8);
#else
        Words found;
        for (int i = 0; i < kLanes; i++) found[i] = at[2 * row[i]];
        return found;
#endif
    }

    static void look_up(const Table &table, const uint8_t *at, Words &low, Words &high) {
        Words codes;
        if (table.is_signed) {
            codes = __builtin_convertvector(*(const Halves *)at, Words);
        } else {
            typedef uint8_t Small __attribute__((vector_size(kLanes), aligned(1), may_alias));
            codes = __builtin_convertvector(*(const Small *)at, Words);
        }
        Words row = codes & 255;
        finish(table, codes, gather(table, row, 0), gather(table, row, 1), low, high);
    }

    static void finish(const Table &table, Words codes, Words first, Words second, Words &low,
                       Words &high) {
        low = first, high = second;
        if (!table.is_signed) return;
        Words signs = (codes >> 8) & 127, parity = signs ^ (signs >> 4);
        parity ^= parity >> 2;
        parity ^= parity >> 1;
        signs |= ((parity ^ first) & 1) << 7;
        Words shift = kOnes * (kZero - 1) + (codes >> 15) * (2 * kOnes);
        low = with_signs(first & ~1u, signs & 15) + shift;
        high = with_signs(second, signs >> 4) + shift;
    }

    // Adds bytes whose sign bit is clear, takes away the others; what is added to must be large.
    static Words with_signs(Words sizes, Words four) {
        // Bit i of four goes to byte i: 2^0 + 2^7 + 2^14 + 2^21.
        Words minus = ((four * 0x00204081u) & kOnes) * 255u;
        return sizes - 2 * (sizes & minus);
    }

    std::vector<Table> tables_;
    int64_t group_bytes_ = 0;
    int32_t zero_ = 0;
};

}  // namespace cllm
