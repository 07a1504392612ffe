// Lattice codes: eight weights in 16 or 8 bits, looked up in a table of 256 rows.
//
// Bytes are kept above zero, so that those of several stages add up in words of four without
// carries.
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
            int32_t ratio = int32_t(stages[s].ratio);
            Table table{stages[s].odd != nullptr, ratio, std::vector<uint8_t>(8 * 256)};
            for (int64_t i = 0; i < 256; i++)
                for (int64_t j = 0; j < 8; j++) {
                    int32_t value = stages[s].table[i * 8 + j] * ratio;
                    // Sizes leave the highest bit free: the first says how the signs add up.
                    if (!table.is_signed) value += kZero * ratio;
                    else if (j == 0 && stages[s].odd[i]) value |= kOdd;
                    table.bytes[byte_place(i, j)] = uint8_t(value);
                }
            group_bytes_ += 4 * kPanel * table.code_bytes();
            zero_ += kZero * ratio;
            tables_.push_back(std::move(table));
        }
    }

    int64_t group_bytes() const { return group_bytes_; }
    int32_t zero() const { return zero_; }
    int64_t num_stages() const { return tables_.size(); }
    int64_t code_bytes(int64_t stage) const { return tables_[stage].code_bytes(); }

    // Puts the code of columns 8 `unit` to 8 `unit` + 7 at a panel's place into a group.
    void put(uint8_t *group, int64_t stage, int64_t unit, int64_t place, uint32_t code) const {
        for (int64_t s = 0; s < stage; s++) group += 4 * kPanel * tables_[s].code_bytes();
        group[code_place(unit, place)] = uint8_t(code);
        if (tables_[stage].is_signed) group[4 * kPanel + code_place(unit, place)] = uint8_t(code >> 8);
    }

    // The weights of 32 columns of a panel: kTileVectors times 8 words, bytes above zero().
    void decode(Words *to, const uint8_t *group) const {
        bool is_first = true;
        for (const Table &table : tables_) {
            for (int v = 0; v < kTileVectors; v++) {
                const uint8_t *at = group + v * 4 * kLanes;
                if (is_first) look_up<true>(table, at, to + v * 8);
                else look_up<false>(table, at, to + v * 8);
            }
            group += 4 * kPanel * table.code_bytes();
            is_first = false;
        }
    }

    // Adds the integers of a code's 8 columns.
    void decode_one(int32_t *to, int64_t stage, uint32_t code) const {
        const Table &table = tables_[stage];
        uint32_t signs = code >> 8 & 127, minus = signs;
        if (table.is_signed) {
            bool is_odd = table.bytes[byte_place(code & 255, 0)] & kOdd;
            minus |= uint32_t(__builtin_parity(signs) ^ is_odd) << 7;
        }
        for (int64_t j = 0; j < 8; j++) {
            int32_t value = table.bytes[byte_place(code & 255, j)];
            if (!table.is_signed) {
                to[j] += value - kZero * table.ratio;
                continue;
            }
            value &= kOdd - 1;
            to[j] += (minus >> j & 1 ? -value : value) + (code >> 15 ? 1 : -1) * table.ratio;
        }
    }

private:
    static constexpr int32_t kZero = 16, kOdd = 128;

    struct Table {
        bool is_signed;
        int32_t ratio;
        std::vector<uint8_t> bytes;  // multiplied by the ratio
        int64_t code_bytes() const { return is_signed ? 2 : 1; }
    };

#if defined(__AVX512VBMI__)
    // A byte of all 256 rows after another, which four registers hold.
    static int64_t byte_place(int64_t row, int64_t column) { return column * 256 + row; }
    // Four places, then their other units: unpacking brings 16 places of a unit together.
    static int64_t code_place(int64_t unit, int64_t place) {
        return place / kLanes * 64 + place % kLanes / 4 * 16 + unit * 4 + place % 4;
    }

    // 64 codes: four units of 16 outputs.
    template <bool stores>
    static void look_up(const Table &table, const uint8_t *at, Words *to) {
        const __m512i rows = _mm512_loadu_si512(at);
        const __mmask64 is_high = _mm512_movepi8_mask(rows);
        __m512i bytes[8];
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) {
            const uint8_t *from = table.bytes.data() + j * 256;
            __m512i low = _mm512_permutex2var_epi8(_mm512_loadu_si512(from), rows,
                                                   _mm512_loadu_si512(from + 64));
            __m512i high = _mm512_permutex2var_epi8(_mm512_loadu_si512(from + 128), rows,
                                                    _mm512_loadu_si512(from + 192));
            bytes[j] = _mm512_mask_blend_epi8(is_high, low, high);
        }
        if (table.is_signed) add_signs(bytes, _mm512_loadu_si512(at + 4 * kPanel), table.ratio);
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            const __m512i *b = bytes + 4 * half;
            __m512i low01 = _mm512_unpacklo_epi8(b[0], b[1]), high01 = _mm512_unpackhi_epi8(b[0], b[1]);
            __m512i low23 = _mm512_unpacklo_epi8(b[2], b[3]), high23 = _mm512_unpackhi_epi8(b[2], b[3]);
            put_words<stores>(to + half, _mm512_unpacklo_epi16(low01, low23));
            put_words<stores>(to + 2 + half, _mm512_unpackhi_epi16(low01, low23));
            put_words<stores>(to + 4 + half, _mm512_unpacklo_epi16(high01, high23));
            put_words<stores>(to + 6 + half, _mm512_unpackhi_epi16(high01, high23));
        }
    }

    // Sizes become numbers above kZero: signs, and a quarter more or less.
    static void add_signs(__m512i *bytes, __m512i codes, int32_t ratio) {
        const __m512i shift = _mm512_mask_blend_epi8(_mm512_movepi8_mask(codes),
                                                     _mm512_set1_epi8(char((kZero - 1) * ratio)),
                                                     _mm512_set1_epi8(char((kZero + 1) * ratio)));
        const __m512i seven = _mm512_and_si512(codes, _mm512_set1_epi8(127));
        // Bit 0 of each byte gathers the others; what comes from the next byte stays above it.
        __m512i parity = _mm512_xor_si512(seven, _mm512_srli_epi16(seven, 4));
        parity = _mm512_xor_si512(parity, _mm512_srli_epi16(parity, 2));
        parity = _mm512_xor_si512(parity, _mm512_srli_epi16(parity, 1));
        const __mmask64 last = _mm512_test_epi8_mask(parity, _mm512_set1_epi8(1)) ^
                               _mm512_movepi8_mask(bytes[0]);
        bytes[0] = _mm512_and_si512(bytes[0], _mm512_set1_epi8(127));
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) {
            __mmask64 minus = j == 7 ? last : _mm512_test_epi8_mask(seven, _mm512_set1_epi8(1 << j));
            bytes[j] = _mm512_mask_sub_epi8(_mm512_add_epi8(shift, bytes[j]), minus, shift, bytes[j]);
        }
    }

    template <bool stores> static void put_words(Words *to, __m512i words) {
        *to = stores ? (Words)words : *to + (Words)words;
    }
#else
    static int64_t byte_place(int64_t row, int64_t column) { return row * 8 + column; }
    static int64_t code_place(int64_t unit, int64_t place) {
        return place / kLanes * 4 * kLanes + unit * kLanes + place % kLanes;
    }

    // Four units of kLanes outputs.
    template <bool stores>
    static void look_up(const Table &table, const uint8_t *at, Words *to) {
        for (int unit = 0; unit < 4; unit++, at += kLanes) {
            Words words[2], codes;
            for (int i = 0; i < kLanes; i++) {
                uint32_t half[2];
                memcpy(half, table.bytes.data() + 8 * at[i], 8);
                words[0][i] = half[0], words[1][i] = half[1];
                codes[i] = table.is_signed ? at[4 * kPanel + i] : 0;
            }
            if (table.is_signed) add_signs(words, codes, uint32_t(table.ratio));
            for (int half = 0; half < 2; half++)
                to[2 * unit + half] = stores ? words[half] : to[2 * unit + half] + words[half];
        }
    }

    static void add_signs(Words *words, Words codes, uint32_t ratio) {
        constexpr uint32_t kOnes = 0x01010101;
        Words signs = codes & 127, parity = signs ^ (signs >> 4);
        parity ^= parity >> 2;
        parity ^= parity >> 1;
        signs |= ((parity & 1) ^ (words[0] >> 7 & 1)) << 7;
        words[0] &= ~uint32_t(kOdd);
        Words shift = kOnes * ratio * (kZero - 1) + (codes >> 7) * (2 * ratio * kOnes);
        for (int half = 0; half < 2; half++) {
            // Bit i of four goes to byte i: 2^0 + 2^7 + 2^14 + 2^21.
            Words minus = (((signs >> (4 * half) & 15) * 0x00204081u) & kOnes) * 255u;
            words[half] = words[half] - 2 * (words[half] & minus) + shift;
        }
    }
#endif

    std::vector<Table> tables_;
    int64_t group_bytes_ = 0;
    int32_t zero_ = 0;
};

}  // namespace cllm
