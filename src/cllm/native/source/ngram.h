// The input memory: tables whose rows the last tokens choose, and their sparse optimiser.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "parts.h"
#include "shape.h"
#include "threads.h"

namespace cllm {

class Memory {
public:
    Memory(const Parts &parts, int64_t vocab_size, int threads)
        : vocab_size_(vocab_size), eos_id_(parts.eos_id), width_(parts.row_width),
          table_(parts.table), squares_(parts.row_squares), sorted_(threads), spare_(threads),
          sums_(threads, std::vector<float>(parts.row_width)) {
        for (int64_t i = 0; i < parts.num_tables; i++) {
            choices_.push_back({parts.orders[i], parts.moduli[i], parts.multipliers[i],
                                uint32_t(num_rows_)});
            num_rows_ += parts.moduli[i];
            most_ = std::max(most_, parts.orders[i]);
        }
    }

    int64_t num_tables() const { return choices_.size(); }
    int64_t width() const { return width_; }

    // The rows that a token and those before it choose, one in each table. The number of n tokens
    // is exact below 2^64; tokens before the document count as its end.
    void choose(uint32_t *to, const int32_t *ids, int64_t reach) const {
        uint64_t place = 1, number = 0;
        for (int64_t n = 1; n <= most_; n++, place *= uint64_t(vocab_size_)) {
            number += place * uint64_t(n - 1 <= reach ? ids[1 - n] : eos_id_);
            for (size_t i = 0; i < choices_.size(); i++) {
                const Choice &c = choices_[i];
                if (c.order == n) to[i] = c.first_row + uint32_t(number * c.multiplier % c.modulus);
            }
        }
    }

    // The sum of the chosen rows, for each of n tokens.
    template <class E> void recall(E *to, const uint32_t *rows, int64_t n) const {
        int64_t count = num_tables();
        for (int64_t t = 0; t < n; t++, rows += count) {
            if (t + kAhead < n)
                for (int64_t i = 0; i < count; i++) fetch(rows[kAhead * count + i], false);
            by_vectors(width_, [&](auto c) {
                Floats sum = {};
                for (int64_t i = 0; i < count; i++) sum += load(table_ + rows[i] * width_, c);
                store(to + t * width_, c, sum);
            });
        }
    }

    // Makes room for what `num_tokens` more tokens choose, and what they want of it.
    void expect(int64_t num_tokens, bool is_first) {
        first_token_ = is_first ? 0 : num_tokens_;
        num_tokens_ = first_token_ + num_tokens;
        chosen_.resize(num_tokens_ * num_tables()), wanted_.resize(num_tokens_ * width_);
        for (auto *lists : {&sorted_, &spare_})
            for (auto &list : *lists) list.resize(num_tokens_ * num_tables());
    }

    // Of the tokens last expected: the rows they choose, and the gradient of the rows' sum.
    uint32_t *chosen(int64_t token) {
        return chosen_.data() + (first_token_ + token) * num_tables();
    }
    float *wanted(int64_t token) { return wanted_.data() + (first_token_ + token) * width_; }

    // Adagrad with one running sum a row, on rows that were chosen alone. Threads take rows in
    // turns, and a row's gradient is summed token by token: their number changes no bit.
    // Source: Duchi 2011 (Adagrad); one sum a row as in Mudigere 2022, arXiv:2104.05158.
    void update(Threads &threads, float rate, float divide_by) {
        threads.run([&](int index) {
            each_row(index, threads.count(), [&](uint32_t row, const float *gradient) {
                float *weights = table_ + row * width_, scale = 1.0f / divide_by;
                squares_[row] += sum_of_squares(gradient, width_) * scale * scale / float(width_);
                float by = rate * scale / (std::sqrt(squares_[row]) + 1e-10f);
                by_vectors(width_, [&](auto c) {
                    store(weights, c, load(weights, c) - by * load(gradient, c));
                });
            });
        });
    }

    // The summed gradient as a whole table; for looking at.
    void gradient(float *to) {
        memset(to, 0, num_rows_ * width_ * sizeof(float));
        each_row(0, 1, [&](uint32_t row, const float *gradient) {
            memcpy(to + row * width_, gradient, width_ * sizeof(float));
        });
    }

private:
    struct Choice {
        int64_t order;
        uint64_t modulus, multiplier;
        uint32_t first_row;
    };

    // Tokens, or rows, from the fetch of a table row to its use.
    static constexpr int64_t kAhead = 6;

    void fetch(uint64_t row, bool writes) const {
        const float *at = table_ + row * width_;
        for (int64_t c = 0; c < width_; c += 16) {
            if (writes) __builtin_prefetch(at + c, 1);
            else __builtin_prefetch(at + c, 0);
        }
    }

    // Calls f(row, summed gradient) for every chosen row of this thread's share, in order.
    template <class F> void each_row(int index, int count, F f) {
        std::vector<uint64_t> &list = sorted_[index];
        int64_t n = 0, tables = num_tables();
        for (int64_t i = 0; i < num_tokens_ * tables; i++)
            if (int(chosen_[i] % uint32_t(count)) == index)
                list[n++] = uint64_t(chosen_[i]) << 32 | uint64_t(i / tables);
        sort(list, spare_[index], n);
        float *sum = sums_[index].data();
        for (int64_t i = 0; i < n;) {
            uint32_t row = uint32_t(list[i] >> 32);
            std::fill(sum, sum + width_, 0.0f);
            for (; i < n && uint32_t(list[i] >> 32) == row; i++) {
                if (i + kAhead < n) fetch(list[i + kAhead] >> 32, true);
                const float *part = wanted_.data() + int64_t(uint32_t(list[i])) * width_;
                by_vectors(width_, [&](auto c) { store(sum, c, load(sum, c) + load(part, c)); });
            }
            f(row, sum);
        }
    }

    // By row, digit by digit; equal rows stay in the order of their tokens.
    void sort(std::vector<uint64_t> &list, std::vector<uint64_t> &spare, int64_t n) const {
        constexpr int kBits = 10;
        constexpr uint64_t kMask = (1 << kBits) - 1;
        for (int shift = 32; shift < 64 && (num_rows_ - 1) >> (shift - 32); shift += kBits) {
            int64_t ends[kMask + 1] = {}, end = 0;
            for (int64_t i = 0; i < n; i++) ends[list[i] >> shift & kMask]++;
            for (int64_t &one : ends) end += one, one = end - one;
            for (int64_t i = 0; i < n; i++) spare[ends[list[i] >> shift & kMask]++] = list[i];
            std::swap(list, spare);
        }
    }

    const int64_t vocab_size_, eos_id_, width_;
    float *table_, *squares_;
    std::vector<Choice> choices_;
    int64_t most_ = 0, first_token_ = 0, num_tokens_ = 0;
    uint64_t num_rows_ = 0;
    std::vector<uint32_t> chosen_;
    std::vector<float> wanted_;
    std::vector<std::vector<uint64_t>> sorted_, spare_;
    std::vector<std::vector<float>> sums_;
};

}  // namespace cllm
