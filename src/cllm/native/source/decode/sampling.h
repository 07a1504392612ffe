// The choice of the next token, as infer/samplers.py defines it: bias and mask, penalties,
// temperature, top-k, top-p, min-p, typical, and a draw by the running total in the order of ids.
//
// Nothing sorts the vocabulary: what a truncation keeps is found by a threshold, which passes over
// all tokens bring near and which the few tokens around it decide.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "panels.h"

namespace cllm {

// `Choice` of stream.py; a truncation that keeps all is top_k 0, min_p 0, and 1 for the others.
struct Choice {
    double temperature;
    int64_t top_k;
    double top_p, min_p, typical_p;
    double repetition_penalty, frequency_penalty, presence_penalty;
    const int32_t *bias_ids;
    const double *biases;
    int64_t num_biases;
};

// What a choice depends on besides its settings; `mask` may be null.
struct Circumstances {
    const int32_t *seen, *written;
    const uint32_t *mask;
};

constexpr int64_t kSumBlock = 8 * kLanes;
constexpr float kNever = -INFINITY;

// Memory for choices among `vocab_size` tokens. Rows are filled up to whole blocks with tokens
// that are never chosen.
struct Scratch {
    explicit Scratch(int64_t vocab_size)
        : padded((vocab_size + kSumBlock - 1) / kSumBlock * kSumBlock), scaled(padded),
          weights(padded), keys(padded), candidates(padded), ids(padded), pairs(padded),
          sums(padded / kSumBlock) {}

    struct Pair {
        float key, mass;
    };
    int64_t padded;
    std::vector<float> scaled, weights, keys, candidates;
    std::vector<int32_t> ids;
    std::vector<Pair> pairs;
    std::vector<double> sums;
};

// ---- rows ----

inline Floats load_or(const float *row, Whole place, float) { return load(row, place); }
inline Floats load_or(const float *row, Rest place, float otherwise) {
    return load(row, place, otherwise);
}

// Calls f(lane) for each lane that is not 0.
template <class F> inline void each_lane(Ints found, F f) {
#if defined(__AVX512F__)
    for (uint32_t bits = _mm512_test_epi32_mask((__m512i)found, (__m512i)found); bits;
         bits &= bits - 1)
        f(__builtin_ctz(bits));
#else
    uint64_t parts[kLanes / 2], any = 0;
    memcpy(parts, &found, sizeof parts);
    for (uint64_t part : parts) any |= part;
    if (!any) return;
    for (int j = 0; j < kLanes; j++)
        if (found[j]) f(j);
#endif
}

inline float highest_lane(Floats x) {
    float best = x[0];
    for (int j = 1; j < kLanes; j++) best = x[j] > best ? x[j] : best;
    return best;
}

// The largest number of a row; NaNs are passed over.
inline float highest_of(const float *row, int64_t n) {
    Floats best[4];
    for (Floats &one : best) one = Floats{} + kNever;
    int64_t i = 0;
    for (; i + 4 * kLanes <= n; i += 4 * kLanes)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            Floats x = load(row, Whole{i + j * kLanes});
            best[j] = x > best[j] ? x : best[j];
        }
    by_vectors(n - i, [&](auto place) {
        Floats x = load_or(row + i, place, kNever);
        best[0] = x > best[0] ? x : best[0];
    });
    for (int j = 1; j < 4; j++) best[0] = best[j] > best[0] ? best[j] : best[0];
    return highest_lane(best[0]);
}

// The first place of `value` in a row, or −1.
inline int64_t first_place(const float *row, int64_t n, float value) {
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        int first = -1;
        each_lane(load(row, Whole{i}) == value, [&](int j) { first = first < 0 ? j : first; });
        if (first >= 0) return i + first;
    }
    for (; i < n; i++)
        if (row[i] == value) return i;
    return -1;
}

// ---- bias, mask and penalties ----

inline void penalise(float *logits, int64_t n, const Choice &choice, const Circumstances &at) {
    const double repeated = choice.repetition_penalty;
    if (repeated == 1 && !choice.frequency_penalty && !choice.presence_penalty) return;
    auto one = [&](int64_t i) {
        double logit = logits[i];
        if (at.seen[i] > 0) logit = logit > 0 ? logit / repeated : logit * repeated;
        if (at.written[i] > 0)
            logit -= choice.frequency_penalty * at.written[i] + choice.presence_penalty;
        logits[i] = float(logit);
    };
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes)
        each_lane(*(const Ints *)(at.seen + i) | *(const Ints *)(at.written + i),
                  [&](int j) { one(i + j); });
    for (; i < n; i++) one(i);
}

inline void rule_out(float *logits, int64_t n, const uint32_t *mask) {
    for (int64_t i = 0; i < n; i += 32) {
        uint32_t word = mask[i / 32];
        if (!~word) continue;
        int64_t end = std::min<int64_t>(32, n - i);
        for (int64_t j = 0; j < end; j++) logits[i + j] = word >> j & 1 ? logits[i + j] : kNever;
    }
}

inline void adjust(float *logits, int64_t n, const Choice &choice, const Circumstances &at) {
    for (int64_t i = 0; i < choice.num_biases; i++)
        logits[choice.bias_ids[i]] = float(logits[choice.bias_ids[i]] + choice.biases[i]);
    if (at.mask) rule_out(logits, n, at.mask);
    penalise(logits, n, choice, at);
}

// ---- top-k ----

inline int64_t count_from(const float *row, int64_t n, float threshold) {
    Ints count{};
    for (int64_t i = 0; i < n; i += kLanes) count -= load(row, Whole{i}) >= threshold;
    int64_t sum = 0;
    for (int j = 0; j < kLanes; j++) sum += count[j];
    return sum;
}

// A number that at least k logits reach, and few more.
inline float top_k_bound(const float *logits, int64_t n, int64_t k, float highest, Scratch &s) {
    // Of G groups' largest, k reach the bound: so do k logits.
    int64_t groups = kLanes;
    while (groups < 4 * k && 4 * groups <= n) groups *= 2;
    if (groups < k + k / 4 || 2 * groups > n) return kNever;
    float *largest = s.keys.data();
    std::fill(largest, largest + groups, kNever);
    int64_t i = 0;
    for (; i + groups <= n; i += groups)
        for (int64_t j = 0; j < groups; j += kLanes) {
            Floats x = load(logits, Whole{i + j}), best = load(largest, Whole{j});
            store(largest, Whole{j}, x > best ? x : best);
        }
    for (; i < n; i++) largest[i % groups] = std::max(largest[i % groups], logits[i]);
    float low = highest - 1, high = highest;
    for (float step = 1; count_from(largest, groups, low) < k; step *= 2) {
        if (step > 1e6f) return kNever;
        high = low, low -= step;
    }
    for (int round = 0; round < 8; round++) {
        float middle = 0.5f * (low + high);
        (count_from(largest, groups, middle) >= k ? low : high) = middle;
    }
    return low;
}

// Brings the k largest logits and their ids into `candidates` and `ids`, in the order of ids; of
// equal ones the lowest ids. Returns how many: less than k where the others are ruled out.
inline int64_t take_top_k(const float *logits, int64_t n, int64_t k, float highest, Scratch &s) {
    float bound = k < n ? top_k_bound(logits, n, k, highest, s) : kNever;
    float *values = s.candidates.data();
    int64_t count = 0;
    by_vectors(n, [&](auto place) {
        Floats x = load_or(logits, place, kNever);
        each_lane((x >= bound) & (x > kNever), [&](int j) {
            s.ids[count] = int32_t(place.at + j);
            values[count++] = x[j];
        });
    });
    if (count > k) {
        float *copy = s.keys.data();
        std::copy(values, values + count, copy);
        std::nth_element(copy, copy + k - 1, copy + count, std::greater<float>());
        float last = copy[k - 1];
        int64_t ties = k, kept = 0;
        for (int64_t i = 0; i < count; i++) ties -= values[i] > last;
        for (int64_t i = 0; i < count; i++)
            if (values[i] > last || (values[i] == last && ties-- > 0)) {
                s.ids[kept] = s.ids[i];
                values[kept++] = values[i];
            }
        count = kept;
    }
    return count;
}

// ---- weights, and what truncations keep of them ----

// Tokens with weights e^((logit − highest) · sharpness); `size` counts them in whole blocks.
struct Weighed {
    const float *logits;
    int64_t n, size;
    float highest, sharpness;
    double total;
};

// The weights of one block: their sum, and unless null they themselves and their logarithms.
inline float weigh_block(const Weighed &row, int64_t start, float *weights, float *scaled) {
    const float *from = row.logits + start;
    float rest[kSumBlock];
    if (start + kSumBlock > row.n) {
        std::fill(std::copy(from, row.logits + row.n, rest), rest + kSumBlock, kNever);
        from = rest;
    }
    Floats sum{};
#pragma GCC unroll 8
    for (int64_t i = 0; i < kSumBlock; i += kLanes) {
        Floats x = (load(from, Whole{i}) - row.highest) * row.sharpness, weight = exponential(x);
        if (weights) store(weights, Whole{i}, weight);
        if (scaled) store(scaled, Whole{i}, x);
        sum += weight;
    }
    return sum_of(sum);
}

// Sums of all blocks; what truncations need is kept.
template <bool keeps>
Weighed weigh(const float *logits, int64_t n, float highest, double temperature, Scratch &s) {
    Weighed row{logits, n, (n + kSumBlock - 1) / kSumBlock * kSumBlock, highest,
                float(std::clamp(1 / temperature, 1e-37, 1e38)), 0};
    for (int64_t start = 0; start < row.size; start += kSumBlock)
        row.total += s.sums[start / kSumBlock] =
            weigh_block(row, start, keeps ? s.weights.data() + start : nullptr,
                        keeps ? s.scaled.data() + start : nullptr);
    return row;
}

// Where a running total from the largest key downwards stops: behind all larger keys, and those
// equal to `key` whose mass, in the order of ids, is needed for `rest`.
struct Reached {
    float key;
    double rest;
};

struct Tally {
    double mass[4];
    int64_t count[4];
};

inline void add_from(float at, Floats key, Floats one, Floats &mass, Ints &count) {
#if defined(__AVX512F__)
    __mmask16 is_in = _mm512_cmp_ps_mask((__m512)key, _mm512_set1_ps(at), _CMP_GE_OQ);
    mass = (Floats)_mm512_mask_add_ps((__m512)mass, is_in, (__m512)mass, (__m512)one);
    count = (Ints)_mm512_mask_add_epi32((__m512i)count, is_in, (__m512i)count,
                                        _mm512_set1_epi32(1));
#else
    Ints is_in = key >= at;
    mass += (Floats)((Ints)one & is_in);
    count -= is_in;
#endif
}

// Mass and number of the tokens whose key is at least `at[j]`.
inline Tally tally(const float *keys, const float *masses, int64_t size, const float *at) {
    Tally tally{};
    Ints count[4]{};
    for (int64_t start = 0; start < size; start += 4 * kSumBlock) {
        Floats mass[4]{};
        int64_t end = std::min(size, start + 4 * kSumBlock);
        for (int64_t i = start; i < end; i += kLanes)
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++)
                add_from(at[j], load(keys, Whole{i}), load(masses, Whole{i}), mass[j], count[j]);
        for (int j = 0; j < 4; j++) tally.mass[j] += sum_of(mass[j]);
    }
    for (int j = 0; j < 4; j++)
        for (int lane = 0; lane < kLanes; lane++) tally.count[j] += count[j][lane];
    return tally;
}

// As reach, for a few pairs.
inline Reached select(Scratch::Pair *pairs, int64_t n, double need) {
    for (;;) {
        float a = pairs[0].key, b = pairs[n / 2].key, c = pairs[n - 1].key;
        const float pivot = std::max(std::min(a, b), std::min(std::max(a, b), c));
        int64_t larger = 0, behind = n;
        double mass_larger = 0, mass_equal = 0;
        for (int64_t i = 0; i < behind;) {
            if (pairs[i].key > pivot) {
                mass_larger += pairs[i].mass;
                std::swap(pairs[larger++], pairs[i++]);
            } else if (pairs[i].key == pivot) {
                mass_equal += pairs[i++].mass;
            } else {
                std::swap(pairs[--behind], pairs[i]);
            }
        }
        if (larger && mass_larger >= need) {
            n = larger;
            continue;
        }
        need -= mass_larger;
        if (mass_equal >= need || behind == n) return {pivot, need};
        need -= mass_equal, pairs += behind, n -= behind;
    }
}

// The tokens with the largest keys (none above 0) whose masses together reach `need`.
inline Reached reach(const float *keys, const float *masses, int64_t size, double need,
                     Scratch &s) {
    constexpr int64_t kFew = 64, kMostPasses = 12;
    float low = kNever, high = INFINITY, at[4] = {-1, -2, -4, -8};
    double above = 0;
    int64_t count_above = 0, count_low = size;
    for (int pass = 0; pass < kMostPasses && count_low - count_above > kFew; pass++) {
        Tally found = tally(keys, masses, size, at);
        int j = 0;
        for (; j < 4 && found.mass[j] < need; j++)
            high = at[j], above = found.mass[j], count_above = found.count[j];
        if (j < 4) low = at[j], count_low = found.count[j];
        if (low == kNever && high < -200) break;
        float from = std::min(high, 0.0f);
        for (int i = 0; i < 4; i++)
            at[i] = low == kNever ? from * float(2 << i) : from + (low - from) * 0.2f * (i + 1);
        if (!(at[0] < from && at[3] > low)) break;
    }
    int64_t count = 0;
    for (int64_t i = 0; i < size; i += kLanes) {
        Floats key = load(keys, Whole{i});
        each_lane((key >= low) & (key < high) & (key > kNever), [&](int j) {
            s.pairs[count++] = {key[j], masses[i + j]};
        });
    }
    // Rounding may leave less than is needed: then all are kept.
    return count ? select(s.pairs.data(), count, need - above) : Reached{low, INFINITY};
}

// Takes the weight of each token whose lane of `keep(place)` is 0, and sums up anew.
template <class Keep> Weighed keep_where(Weighed row, Scratch &s, Keep keep) {
    row.total = 0;
    for (int64_t start = 0; start < row.size; start += kSumBlock) {
        Floats sum{};
        for (int64_t i = start; i < start + kSumBlock; i += kLanes) {
            Ints kept = keep(i);  // it may take weights, too
            Floats weight = (Floats)(kept & (Ints)load(s.weights.data(), Whole{i}));
            Floats scaled = load(s.scaled.data(), Whole{i});
            store(s.weights.data(), Whole{i}, weight);
            store(s.scaled.data(), Whole{i}, weight > 0 ? scaled : Floats{} + kNever);
            sum += weight;
        }
        row.total += s.sums[start / kSumBlock] = sum_of(sum);
    }
    return row;
}

inline Weighed keep_reached(Weighed row, const float *keys, double share, Scratch &s) {
    float *weights = s.weights.data();
    auto [last, rest] = reach(keys, weights, row.size, share * row.total, s);
    return keep_where(row, s, [&, last = last, rest = rest](int64_t i) mutable {
        Floats key = load(keys, Whole{i});
        each_lane(key == last, [&](int j) {
            if (rest > 0) rest -= weights[i + j];
            else weights[i + j] = 0;
        });
        return key >= last;
    });
}

inline Weighed keep_typical(Weighed row, double share, Scratch &s) {
    double sum = 0;
    for (int64_t start = 0; start < row.size; start += kSumBlock) {
        Floats part{};
        for (int64_t i = start; i < start + kSumBlock; i += kLanes) {
            Floats weight = load(s.weights.data(), Whole{i}), x = load(s.scaled.data(), Whole{i});
            part += weight > 0 ? weight * x : Floats{};
        }
        sum += sum_of(part);
    }
    // −log p − H is the mean of the scaled logits less the token's own.
    const float mean = float(sum / row.total);
    for (int64_t i = 0; i < row.size; i += kLanes) {
        Floats key = load(s.scaled.data(), Whole{i}) - mean;
        store(s.keys.data(), Whole{i}, key > 0 ? -key : key);
    }
    return keep_reached(row, s.keys.data(), share, s);
}

// The place at which the running total of the weights passes `uniform` of their sum.
inline int64_t draw(const Weighed &row, bool is_kept, double uniform, Scratch &s) {
    const double target = uniform * row.total;
    double before = 0;
    int64_t start = 0;
    for (; start + kSumBlock < row.size && before + s.sums[start / kSumBlock] <= target;
         start += kSumBlock)
        before += s.sums[start / kSumBlock];
    if (!is_kept) weigh_block(row, start, s.weights.data() + start, nullptr);
    // A block's sum and the running total may differ in the last bit.
    int64_t last = -1;
    for (int64_t i = start; i < start + kSumBlock; i++) {
        if (!(s.weights[i] > 0)) continue;
        last = i, before += s.weights[i];
        if (before > target) break;
    }
    return last;
}

// ---- all of it ----

// The next token, or −1 where none may come or the logits are not finite. Changes `logits`.
inline int64_t choose(float *logits, int64_t n, const Choice &choice, const Circumstances &at,
                      double uniform, Scratch &s) {
    adjust(logits, n, choice, at);
    const float highest = highest_of(logits, n);
    if (highest == kNever) return -1;
    if (choice.temperature == 0) return first_place(logits, n, highest);
    const bool is_short = choice.top_k > 0 && choice.top_k < n;
    const bool is_cut = choice.top_p < 1 || choice.min_p > 0 || choice.typical_p < 1;
    if (is_short) {
        n = take_top_k(logits, n, choice.top_k, highest, s);
        logits = s.candidates.data();
    }
    Weighed row = is_cut ? weigh<true>(logits, n, highest, choice.temperature, s)
                         : weigh<false>(logits, n, highest, choice.temperature, s);
    if (!(row.total > 0)) return -1;
    if (choice.top_p < 1) row = keep_reached(row, s.scaled.data(), choice.top_p, s);
    if (choice.min_p > 0)
        row = keep_where(row, s, [&, least = float(choice.min_p)](int64_t i) {
            return load(s.weights.data(), Whole{i}) >= least;
        });
    if (choice.typical_p < 1) row = keep_typical(row, choice.typical_p, s);
    int64_t place = draw(row, is_cut, uniform, s);
    return is_short && place >= 0 ? s.ids[place] : place;
}

// The log-probabilities of one token and of the `count` likeliest, likeliest first.
inline double log_probabilities(const float *logits, int64_t n, int64_t chosen, int64_t count,
                                int32_t *ids, float *values, Scratch &s) {
    const float highest = highest_of(logits, n);
    const double subtracted = highest + std::log(weigh<false>(logits, n, highest, 1, s).total);
    int64_t found = count ? take_top_k(logits, n, count, highest, s) : 0;
    for (int64_t i = 0; i < count; i++) ids[i] = int32_t(i), values[i] = kNever;
    const float *candidates = s.candidates.data();
    std::sort(ids, ids + found, [&](int32_t a, int32_t b) {
        return candidates[a] > candidates[b] || (candidates[a] == candidates[b] && a < b);
    });
    for (int64_t i = 0; i < found; i++) {
        values[i] = float(candidates[ids[i]] - subtracted);
        ids[i] = s.ids[ids[i]];
    }
    return logits[chosen] - subtracted;
}

}  // namespace cllm
