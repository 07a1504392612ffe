// Attention of the latest tokens of one slot over all that it holds, one key-value head at a time.
#pragma once

#include "../arena.h"
#include "../parts.h"
#include "slots.h"

namespace cllm {

// The weights that attention gave, for looking at: [L, H, T, T] of one text.
struct Observed {
    float *hidden = nullptr, *attention = nullptr;
    float *inputs[4] = {};  // of qkv, out, gate_up, down: [L, T, columns] each
    float *head_input = nullptr;
    int64_t total = 0;      // T
};

// Cosines and sines of every rotary angle below the context, and of a later position on demand.
class Angles {
public:
    explicit Angles(const Shape &s) : half_(s.head_width / 2), context_(s.context) {
        for (int64_t j = 0; j < half_; j++)
            frequencies_.push_back(std::pow(s.rope_base, -2.0 * j / s.head_width));
        cos_.resize(context_ * half_), sin_.resize(context_ * half_);
        for (int64_t t = 0; t < context_; t++) fill(t, &cos_[t * half_], &sin_[t * half_]);
    }
    int64_t half() const { return half_; }
    void get(int64_t position, float *cos, float *sin) const {
        if (position >= context_) return fill(position, cos, sin);
        memcpy(cos, &cos_[position * half_], half_ * sizeof(float));
        memcpy(sin, &sin_[position * half_], half_ * sizeof(float));
    }

private:
    void fill(int64_t position, float *cos, float *sin) const {
        for (int64_t j = 0; j < half_; j++) {
            double angle = position * frequencies_[j];
            cos[j] = float(std::cos(angle)), sin[j] = float(std::sin(angle));
        }
    }
    int64_t half_, context_;
    std::vector<double> frequencies_;
    std::vector<float> cos_, sin_;
};

// Norm (unless there is no gain), rotation and scaling of a head.
__attribute__((flatten)) inline void turn(float *to, const float *x, const float *gain, const float *cos, const float *sin,
                 int64_t n, float epsilon, float scale) {
    int64_t half = n / 2;
    if (gain) {
        turn_head(to, x, gain, cos, sin, n, epsilon);
        if (scale != 1.0f) by_vectors(n, [&](auto i) { store(to, i, load(to, i) * scale); });
        return;
    }
    by_vectors(half, [&](auto j) {
        Floats a = load(x, j) * scale, b = load(x + half, j) * scale;
        store(to, j, a * load(cos, j) - b * load(sin, j));
        store(to + half, j, b * load(cos, j) + a * load(sin, j));
    });
}

// The rows of one slot in a pass: `count` tokens from `first` on, the first at `position`.
struct Span {
    int64_t first, count, position;
};

// What one layer's attention reads of the model; null where a mechanism is absent.
struct AttentionPart {
    const float *q_gain, *k_gain, *offset, *strength;
    int64_t forget_at;  // the first forget gate of a row of gates
};

// One thread's work.
template <class E> class Attend {
public:
    Attend(const Layout &layout, const SlotLayout &slot, Arena &arena)
        : layout_(layout), s_(layout.shape), places_(slot.places + 128),
          value_width_(slot.value_width) {
        int64_t rows = kMostQueries + group_;
        q_ = arena.take<float>(rows * D_);
        sink_q_ = arena.take<float>(group_ * D_);
        sink_scores_ = arena.take<float>(group_ * kPanel);
        scores_ = arena.take<float>(rows * places_);
        mixed_ = arena.take<float>(rows * value_width_);
        shares_ = arena.take<float>(rows);
        head_ = arena.take<float>(std::max(D_, value_width_));
    }

    // Stores keys and values of kv-head k, and attends. `qkv` holds the products of all rows,
    // `gates` those of the mechanisms' gates [rows, num_gates]; `angles` cosines and sines of
    // each row, `sink_angles` those from which sinks are seen. Writes each head's place in mixed.
    void run(const Slot<E> &slot, int64_t layer, int64_t k, Span span, const AttentionPart &part,
             Rows qkv, Rows gates, Rows angles, const float *sink_angles, Outputs mixed,
             const Observed *observed) {
        for (int64_t i = 0; i < span.count; i++)
            store_token(slot, layer, k, span, i, part, qkv, gates, angles);
        int64_t at_once = std::max<int64_t>(1, kMostQueries / group_);
        for (int64_t i = 0; i < span.count; i += at_once) {
            int64_t n = std::min(at_once, span.count - i);
            attend(slot, layer, k, span, i, n, part, qkv, angles, sink_angles, mixed, observed);
        }
        if (layout_.has_gamma)
            for (int64_t i = span.first; i < span.first + span.count; i++)
                open_gates(mixed.at + i * mixed.stride + k * group_ * D_,
                           gates.at + i * gates.stride + k * group_, group_, D_);
    }

private:
    static constexpr int64_t kMostQueries = 12;

    __attribute__((flatten)) void store_token(const Slot<E> &slot, int64_t layer, int64_t k, Span span, int64_t i,
                     const AttentionPart &part, Rows qkv, Rows gates, Rows angles) {
        int64_t row = span.first + i, position = span.position + i, place = slot.place(position);
        const float *heads = qkv.at + row * qkv.stride;
        const float *cos = angles.at + row * angles.stride, *sin = cos + D_ / 2;
        turn(head_, heads + (s_.heads + k) * D_, part.k_gain, cos, sin, D_, s_.norm_epsilon, 1.0f);
        E *key = slot.keys(layer, k) + place / kPanel * kPanel * D_ + place % kPanel;
        float scale = keep(head_, key, kPanel);
        if constexpr (kIsInteger) slot.key_scales(layer, k)[place] = scale;
        const float *value = heads + (s_.heads + s_.kv_heads + k) * D_;
        scale = keep(value, slot.values(layer, k) + place * value_width_, 1);
        if constexpr (kIsInteger) slot.value_scales(layer, k)[place] = scale;
        if (layout_.schumann != kForget) return;
        double *faded = slot.faded(layer, k);
        double z = gates.at[row * gates.stride + part.forget_at + k] +
                   part.offset[k];
        double before = position ? faded[slot.place(position - 1)] : 0.0;
        faded[place] = before + std::max(-z, 0.0) + std::log1p(std::exp(-std::abs(z)));
    }

    // D numbers, `stride` apart, in the cache's format; returns the scale of integers.
    float keep(const float *from, E *to, int64_t stride) const {
        if constexpr (kIsInteger) {
            float top = 0;
            for (int64_t d = 0; d < D_; d++) top = std::max(top, std::abs(from[d]));
            float inverse = top > 0 ? 127.0f / top : 0.0f;
            for (int64_t d = 0; d < D_; d++)
                to[d * stride] = int8_t(std::lrint(from[d] * inverse));
            return top / 127.0f;
        } else {
            for (int64_t d = 0; d < D_; d++) to[d * stride] = from_float<E>(from[d]);
            return 1.0f;
        }
    }

    void attend(const Slot<E> &slot, int64_t layer, int64_t k, Span span, int64_t i, int64_t n,
                const AttentionPart &part, Rows qkv, Rows angles, const float *sink_angles,
                Outputs mixed, const Observed *observed) {
        int64_t end = span.position + i + n, keys = slot.num_places(end);
        for (int64_t r = 0; r < n; r++) {
            int64_t row = span.first + i + r;
            const float *cos = angles.at + row * angles.stride;
            turn_queries(q_ + r * group_ * D_, qkv.at + row * qkv.stride, k, part, cos);
        }
        int64_t rows = n * group_, panels = (keys + kPanel - 1) / kPanel;
        panel_product(rows, D_, {q_, D_}, slot.keys(layer, k), kPanel * D_, panels,
                      {scores_, places_});
        if (end > s_.context) score_sinks(slot, layer, k, part, qkv.at + span.first * qkv.stride,
                                          sink_angles);
        int64_t wide = round_up(keys, kKeyBlock);
        for (int64_t r = 0; r < n; r++) {
            int64_t position = span.position + i + r, seen = slot.num_places(position + 1);
            for (int64_t g = 0; g < group_; g++) {
                float *row = scores_ + (r * group_ + g) * places_;
                if constexpr (kIsInteger) scale_by(row, slot.key_scales(layer, k), seen);
                if (layout_.schumann != kNoDecay)
                    add_bias(row, slot, layer, k, k * group_ + g, position, seen, part);
                float share = 1.0f / to_powers(row, seen);
                shares_[r * group_ + g] = share;
                std::fill(row + seen, row + wide, 0.0f);
                if (observed && observed->attention)
                    observe(*observed, layer, k * group_ + g, position, row, seen, share);
                if constexpr (kIsInteger) scale_by(row, slot.value_scales(layer, k), seen);
            }
        }
        mix(rows, wide, value_width_, {scores_, places_}, slot.values(layer, k),
            {mixed_, value_width_});
        for (int64_t r = 0; r < n; r++)
            for (int64_t g = 0; g < group_; g++) {
                float *to = mixed.at + (span.first + i + r) * mixed.stride + (k * group_ + g) * D_;
                const float *from = mixed_ + (r * group_ + g) * value_width_;
                float share = shares_[r * group_ + g];
                by_vectors(D_, [&](auto d) { store(to, d, load(from, d) * share); });
            }
    }

    // x becomes e^(x − its largest); returns the sum. Dividing by it is left to the mixed values,
    // of which there are fewer.
    __attribute__((flatten)) static float to_powers(float *x, int64_t n) {
        float top = largest(x, n);
        Floats sums = {};
        by_vectors(n, [&](auto i) {
            Floats power = exponential(load_or_least(x, i) - top);
            store(x, i, power);
            sums += power;
        });
        return sum_of(sums);
    }

    void observe(const Observed &observed, int64_t layer, int64_t h, int64_t position,
                 const float *powers, int64_t seen, float share) const {
        float *to = observed.attention +
                    ((layer * s_.heads + h) * observed.total + position) * observed.total;
        for (int64_t j = 0; j < seen; j++) to[j] = powers[j] * share;
    }

    void turn_queries(float *to, const float *heads, int64_t k, const AttentionPart &part,
                      const float *cos) const {
        for (int64_t g = 0; g < group_; g++)
            turn(to + g * D_, heads + (k * group_ + g) * D_, part.q_gain, cos, cos + D_ / 2, D_,
                 s_.norm_epsilon, scale_);
    }

    // Sinks are scored as if they stood right before the window.
    void score_sinks(const Slot<E> &slot, int64_t layer, int64_t k, const AttentionPart &part,
                     const float *heads, const float *sink_angles) {
        turn_queries(sink_q_, heads, k, part, sink_angles);
        panel_product(group_, D_, {sink_q_, D_}, slot.keys(layer, k), kPanel * D_, 1,
                      {sink_scores_, kPanel});
        for (int64_t g = 0; g < group_; g++)
            memcpy(scores_ + g * places_, sink_scores_ + g * kPanel,
                   slot.num_sinks() * sizeof(float));
    }

    static void scale_by(float *row, const float *scales, int64_t n) {
        by_vectors(n, [&](auto i) { store(row, i, load(row, i) * load(scales, i)); });
    }

    // What the keys of head h add to its scores: as seen from the query, so that the numbers stay
    // small however long the text is.
    void add_bias(float *row, const Slot<E> &slot, int64_t layer, int64_t k, int64_t h,
                  int64_t position, int64_t seen, const AttentionPart &part) const {
        float strength = part.strength[h];
        if (layout_.schumann == kForget) {
            const double *faded = slot.faded(layer, k);
            double here = faded[slot.place(position)];
            for (int64_t j = 0; j < seen; j++) row[j] += strength * float(faded[j] - here);
            return;
        }
        float by = strength * float(layout_.decays[h]);
        int64_t ring = s_.context - slot.num_sinks(), last = slot.place(position);
        for (int64_t j = 0; j < seen; j++) {
            // The place behind the latest token's holds the oldest of the window.
            int64_t back = position < s_.context || j < slot.num_sinks()
                               ? std::min(position, s_.context - 1) - j
                               : (last - j + ring) % ring;
            row[j] -= by * float(back);
        }
    }

    static constexpr bool kIsInteger = std::is_same_v<E, int8_t>;
    const Layout &layout_;
    const Shape &s_;
    const int64_t D_ = s_.head_width, group_ = s_.heads / s_.kv_heads;
    const float scale_ = 1.0f / std::sqrt(float(D_));
    int64_t places_, value_width_;
    float *q_, *sink_q_, *sink_scores_, *scores_, *mixed_, *shares_, *head_;
};

}  // namespace cllm
