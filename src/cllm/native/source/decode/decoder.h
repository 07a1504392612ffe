// The decoder: tokens go in at slots, logits come out; on a few threads that share every product.
//
// Threads take panels of each matrix, and heads of each attention; what comes before a product
// (norms, rounding) each does for itself, which is cheaper than to meet. They meet five times a
// layer.
#pragma once

#include <atomic>
#include <memory>

#include "../mechanisms.h"
#include "../ngram.h"
#include "../threads.h"
#include "attend.h"
#include "matrix.h"
#include "pace.h"

namespace cllm {

// A layer as Python gives it. Gates read what qkv reads, or noise. Null where there is none.
extern "C" struct LayerSource {
    Source qkv, out, gate_up, down, gamma, forget;
    const float *attention_norm, *q_norm, *k_norm, *feed_forward_norm, *taps, *offset, *strength;
};

extern "C" struct ModelSource {
    Source embedding, head, up;  // head has no rows where it is the embedding, up without ngram
    const float *norm;
    const LayerSource *layers;
};

// Tokens that follow in a slot; logits are wanted from the one at `first_logits` on.
struct Segment {
    int64_t slot;
    const int32_t *ids;
    int64_t count, first_logits;
};

// What the formats of the cache have in common.
class Decoder {
public:
    virtual ~Decoder() = default;
    // All in one pass: at most most_rows() tokens, each slot once; a slot that holds its context
    // takes one token at a time.
    virtual void forward(const Segment *segments, int64_t n) = 0;
    // Row k of those wanted, in order; free to be written to.
    virtual float *logits(int64_t k) = 0;
    virtual int64_t length(int64_t slot) const = 0;
    virtual bool truncate(int64_t slot, int64_t length) = 0;
    virtual bool copy(int64_t from, int64_t to, int64_t length) = 0;
    virtual int64_t vocab_size() const = 0;
    virtual int64_t context() const = 0;
    virtual int64_t most_rows() const = 0;
    virtual int64_t num_slots() const = 0;
    virtual int64_t weight_bytes() const = 0;
    // Writes what the next passes compute of slot 0 there, until it is called with null.
    virtual void observe(const Observed *observed) = 0;
    // Whether passes use one thread, from the next one on; any thread may call it.
    virtual void use_one_thread(bool is_wanted) = 0;
};

template <class E> class DecoderIn final : public Decoder {
public:
    DecoderIn(const Shape &shape, const Parts &parts, const ModelSource &model, int threads,
              int64_t slots, int64_t most_rows)
        : layout_(shape, parts), s_(layout_.shape), most_rows_(most_rows),
          slot_layout_(layout_, sizeof(E), std::is_same_v<E, int8_t>), angles_(s_),
          norm_(model.norm), threads_(threads),
          paces_(double(layout_.size - layout_.embedding) / 2) {
        auto whole = [&](const Source &source) {
            return PanelMatrix(arena_, source, panels_of(source.rows),
                               [rows = source.rows](int64_t p, int64_t place) {
                                   int64_t row = p * kPanel + place;
                                   return row < rows ? row : -1;
                               });
        };
        if (model.head.rows) {
            // Only looked up: no panels.
            embedding_ = std::make_unique<PanelMatrix>(
                arena_, model.embedding, 0, [](int64_t, int64_t) { return int64_t(-1); });
            head_ = std::make_unique<PanelMatrix>(whole(model.head));
        } else {
            head_ = std::make_unique<PanelMatrix>(whole(model.embedding));
        }
        if (parts.num_tables) {
            memory_ = std::make_unique<Memory>(parts, s_.vocab_size, 1);
            up_ = std::make_unique<PanelMatrix>(whole(model.up));
            most_order_ = *std::max_element(parts.orders, parts.orders + parts.num_tables);
        }
        for (int64_t i = 0; i < s_.layers; i++) {
            const LayerSource &from = model.layers[i];
            Layer layer{whole(from.qkv), whole(from.out), paired(from.gate_up), whole(from.down),
                        from, {}};
            if (from.gamma.rows) layer.gates.push_back({whole(from.gamma), 0, parts.gamma_noise});
            if (from.forget.rows)
                layer.gates.push_back({whole(from.forget), forget_at(), parts.forget_noise});
            layers_.push_back(std::move(layer));
        }
        for (int64_t i = 0; i < slots; i++) slots_.emplace_back(slot_layout_);
        take_buffers();
    }

    void forward(const Segment *segments, int64_t n) override {
        segments_ = segments, num_segments_ = n, num_rows_ = 0, num_wanted_ = 0;
        spans_.clear();
        for (int64_t i = 0; i < n; i++) {
            const Segment &segment = segments[i];
            Slot<E> &slot = slots_[segment.slot];
            spans_.push_back({num_rows_, segment.count, slot.length()});
            for (int64_t j = 0; j < segment.count; j++) {
                slot.set(slot.length() + j, segment.ids[j], layout_.eos_id);
                if (j >= segment.first_logits) wanted_[num_wanted_++] = num_rows_ + j;
            }
            num_rows_ += segment.count;
        }
        run();
        for (int64_t i = 0; i < n; i++) slots_[segments[i].slot].advance(segments[i].count);
    }

    float *logits(int64_t k) override {
        return logits_->template at<float>(0) + k * logits_stride_;
    }
    int64_t length(int64_t slot) const override { return slots_[slot].length(); }
    bool truncate(int64_t slot, int64_t length) override { return slots_[slot].truncate(length); }
    bool copy(int64_t from, int64_t to, int64_t length) override {
        return slots_[to].copy(slots_[from], length);
    }
    int64_t vocab_size() const override { return s_.vocab_size; }
    int64_t context() const override { return s_.context; }
    int64_t most_rows() const override { return most_rows_; }
    int64_t num_slots() const override { return slots_.size(); }
    void observe(const Observed *observed) override { observed_ = observed; }
    void use_one_thread(bool is_wanted) override { uses_one_ = is_wanted; }
    int64_t weight_bytes() const override {
        int64_t sum = head_->bytes();
        for (const Layer &l : layers_)
            sum += l.qkv.bytes() + l.out.bytes() + l.gate_up.bytes() + l.down.bytes();
        return sum;
    }

private:
    struct GateMatrix {
        PanelMatrix matrix;
        int64_t first;  // its first gate among all of a row
        Noise noise;
    };
    struct Layer {
        PanelMatrix qkv, out, gate_up, down;
        LayerSource source;
        std::vector<GateMatrix> gates;
    };
    // Of one thread.
    struct Own {
        Prepared prepared;
        Attend<E> attend;
        float *normed, *damped, *noise, *line;
    };

    // The first forget gate of a row: gamma's gates fill panels of their own.
    int64_t forget_at() const {
        return layout_.has_gamma ? panels_of(s_.heads) * kPanel : 0;
    }

    static int64_t panels_of(int64_t rows) { return (rows + kPanel - 1) / kPanel; }

    // Gate and up in turns, a panel of each: a thread has both halves of its numbers.
    PanelMatrix paired(const Source &source) {
        int64_t half = source.rows / 2;
        return PanelMatrix(arena_, source, 2 * panels_of(half), [half](int64_t p, int64_t place) {
            int64_t row = p / 2 * kPanel + place;
            return row < half ? row + (p % 2) * half : -1;
        });
    }

    void take_buffers() {
        int64_t T = most_rows_;
        width_ = round_up(s_.width, 64), heads_width_ = round_up(s_.heads * s_.head_width, 64);
        qkv_width_ = round_up((s_.heads + 2 * s_.kv_heads) * s_.head_width, 64);
        mlp_width_ = round_up(s_.mlp_width, 64);
        logits_stride_ = round_up(s_.vocab_size, 64);
        gates_width_ = forget_at() + panels_of(s_.kv_heads) * kPanel;
        x_ = arena_.take<float>(T * width_), branch_ = arena_.take<float>(T * width_);
        qkv_ = arena_.take<float>(T * qkv_width_), mixed_ = arena_.take<float>(T * heads_width_);
        gate_up_ = arena_.take<float>(T * 2 * mlp_width_);
        hidden_ = arena_.take<float>(T * mlp_width_);
        if (layout_.num_gates) gates_ = arena_.take<float>(T * gates_width_);
        half_ = angles_.half();
        angle_rows_ = arena_.take<float>(T * 2 * half_);
        sink_angles_ = arena_.take<float>(2 * half_);
        angles_.get(s_.context - 1, sink_angles_, sink_angles_ + half_);
        logits_ = std::make_unique<LazyMemory>(size_t(T) * logits_stride_ * sizeof(float));
        wanted_.resize(T), spans_.reserve(slots_.size());
        if (memory_) {
            recalled_ = arena_.take<float>(T * round_up(memory_->width(), 64));
        }
        int64_t widest = std::max({width_, heads_width_, mlp_width_,
                                   memory_ ? memory_->width() : int64_t(0)});
        for (int i = 0; i < threads_.count(); i++) {
            float *normed = arena_.take<float>(T * width_);
            float *damped = layout_.lags.empty() ? normed : arena_.take<float>(T * width_);
            own_.push_back({Prepared(arena_, T, widest), Attend<E>(layout_, slot_layout_, arena_),
                            normed, damped,
                            layout_.has_noise ? arena_.take<float>(T * width_) : nullptr,
                            arena_.take<float>(widest + 64)});
        }
    }

    // ---- one pass, on each thread ----

    void run() {
        if (threads_.count() == 1 || uses_one_.load(std::memory_order_relaxed)) {
            num_active_ = 1;
            return work(0);
        }
        using Clock = std::chrono::steady_clock;
        Pace &pace = paces_.of(num_rows_);
        const auto start = Clock::now();
        num_active_ = pace.takes_all() ? threads_.count() : 1;
        if (num_active_ == 1) work(0);
        else threads_.run([this](int index) { work(index); });
        pace.note(std::chrono::duration<double>(Clock::now() - start).count());
    }

    void meet() {
        if (num_active_ > 1) threads_.meet();
    }

    void work(int index) {
        Own &own = own_[index];
        begin(index);
        meet();
        if (memory_) {
            add(index, own, *up_, {recalled_, round_up(memory_->width(), 64)});
            meet();
        }
        for (int64_t i = 0; i < s_.layers; i++) layer(index, own, i);
        if (index == 0 && observed_) keep_rows(observed_->hidden, s_.layers, x_, width_, s_.width);
        for (int64_t k = 0; k < num_wanted_; k++)
            normalise(own.normed + k * width_, x_ + wanted_[k] * width_, norm_);
        if (index == 0 && observed_ && observed_->head_input)
            keep_rows(observed_->head_input, 0, own.normed, width_, s_.width);
        multiply(index, own, *head_, {own.normed, width_}, num_wanted_,
                 {logits(0), logits_stride_});
        meet();
    }

    // Embeddings, angles, and what the memory recalls: threads take rows in turns.
    void begin(int index) {
        const PanelMatrix &table = embedding_ ? *embedding_ : *head_;
        for (int64_t i = 0; i < num_segments_; i++) {
            const Slot<E> &slot = slots_[segments_[i].slot];
            for (int64_t j = 0; j < spans_[i].count; j++) {
                int64_t row = spans_[i].first + j, position = spans_[i].position + j;
                if (row % num_active_ != index) continue;
                table.row(segments_[i].ids[j], own_[index].line);
                memcpy(x_ + row * width_, own_[index].line, s_.width * sizeof(float));
                float *cos = angle_rows_ + row * 2 * half_;
                angles_.get(position, cos, cos + half_);
                if (memory_) recall(slot, row, position);
            }
        }
    }

    void recall(const Slot<E> &slot, int64_t row, int64_t position) {
        // The latest tokens as they stand in a text, for Memory reads backwards.
        int32_t latest[kMostOrder];
        uint32_t chosen[kMostTables];
        int64_t reach = slot.reach(position);
        for (int64_t n = 0; n < most_order_ && n <= reach; n++)
            latest[kMostOrder - 1 - n] = slot.id(position - n);
        memory_->choose(chosen, latest + kMostOrder - 1, reach);
        memory_->template recall<float>(recalled_ + row * round_up(memory_->width(), 64), chosen, 1);
    }

    void layer(int index, Own &own, int64_t i) {
        const Layer &l = layers_[i];
        if (index == 0 && observed_) keep_rows(observed_->hidden, i, x_, width_, s_.width);
        for (int64_t r = 0; r < num_rows_; r++)
            normalise(own.normed + r * width_, x_ + r * width_, l.source.attention_norm);
        if (!layout_.lags.empty()) damp(own, i);
        keep_input(index, 0, i, own.damped, width_, s_.width);
        multiply(index, own, l.qkv, {own.damped, width_}, num_rows_, {qkv_, qkv_width_});
        for (const GateMatrix &gates : l.gates) open(index, own, gates);
        meet();
        if (index == 0 && !layout_.lags.empty()) keep_units(own, i);
        attention(index, own, i);
        meet();
        keep_input(index, 1, i, mixed_, heads_width_, s_.heads * s_.head_width);
        add(index, own, l.out, {mixed_, heads_width_});
        meet();
        for (int64_t r = 0; r < num_rows_; r++)
            normalise(own.normed + r * width_, x_ + r * width_, l.source.feed_forward_norm);
        keep_input(index, 2, i, own.normed, width_, s_.width);
        feed_forward(index, own, l);
        meet();
        keep_input(index, 3, i, hidden_, mlp_width_, s_.mlp_width);
        add(index, own, l.down, {hidden_, mlp_width_});
        meet();
    }

    __attribute__((flatten)) void normalise(float *to, const float *x, const float *gain) const {
        float scale = norm_scale(x, s_.width, s_.norm_epsilon);
        by_vectors(s_.width, [&](auto i) { store(to, i, load(x, i) * scale * load(gain, i)); });
    }

    // This thread's panels of a product.
    void multiply(int index, Own &own, const PanelMatrix &matrix, Rows x, int64_t rows, Outputs y) {
        if (!rows) return;
        int64_t n = matrix.num_panels(), count = num_active_;
        int64_t first = n * index / count, last = n * (index + 1) / count;
        if (first == last) return;
        matrix.prepare(own.prepared, x, rows);
        matrix.multiply(own.prepared, rows, first, last, y);
    }

    // The residual stream plus a product; each thread its own columns.
    void add(int index, Own &own, const PanelMatrix &matrix, Rows x) {
        multiply(index, own, matrix, x, num_rows_, {branch_, width_});
        int64_t n = matrix.num_panels(), count = num_active_;
        int64_t first = n * index / count * kPanel;
        int64_t last = std::min(n * (index + 1) / count * kPanel, s_.width);
        for (int64_t r = 0; r < num_rows_; r++) {
            float *to = x_ + r * width_ + first;
            const float *from = branch_ + r * width_ + first;
            by_vectors(last - first, [&](auto c) { store(to, c, load(to, c) + load(from, c)); });
        }
    }

    // Dampening: this pass's own rows, and earlier ones from the slot.
    void damp(Own &own, int64_t i) {
        const float *taps = layers_[i].source.taps;
        for (int64_t n = 0; n < num_segments_; n++) {
            const Slot<E> &slot = slots_[segments_[n].slot];
            const Span &span = spans_[n];
            for (int64_t j = 0; j < span.count; j++) {
                int64_t row = span.first + j, position = span.position + j;
                float *to = own.damped + row * width_;
                memcpy(to, own.normed + row * width_, s_.width * sizeof(float));
                for (size_t k = 0; k < layout_.lags.size(); k++) {
                    int64_t lag = layout_.lags[k];
                    if (lag > slot.reach(position) || !slot.holds(position - lag, position + 1))
                        continue;
                    const float *from = lag <= j ? own.normed + (row - lag) * width_
                                                 : slot.units(i) + slot.place(position - lag) * s_.width;
                    const float *tap = taps + k * s_.width;
                    by_vectors(s_.width, [&](auto c) {
                        store(to, c, load(to, c) + load(tap, c) * load(from, c));
                    });
                }
            }
        }
    }

    void keep_units(Own &own, int64_t i) {
        for (int64_t n = 0; n < num_segments_; n++)
            for (int64_t j = 0; j < spans_[n].count; j++) {
                const Slot<E> &slot = slots_[segments_[n].slot];
                memcpy(slot.units(i) + slot.place(spans_[n].position + j) * s_.width,
                       own.normed + (spans_[n].first + j) * width_, s_.width * sizeof(float));
            }
    }

    // The gates' numbers: few, so that one thread takes each matrix.
    void open(int index, Own &own, const GateMatrix &gates) {
        if (index != (gates.first ? num_active_ - 1 : 0)) return;
        Rows x = {own.damped, width_};
        if (gates.noise.count) x.at = noise(own, gates.noise);
        gates.matrix.prepare(own.prepared, x, num_rows_);
        gates.matrix.multiply(own.prepared, num_rows_, 0, gates.matrix.num_panels(),
                              {gates_ + gates.first, gates_width_});
    }

    // What gates of a control read at each row's place in its document.
    const float *noise(Own &own, const Noise &noise) {
        for (int64_t n = 0; n < num_segments_; n++)
            for (int64_t j = 0; j < spans_[n].count; j++) {
                int64_t place = slots_[segments_[n].slot].reach(spans_[n].position + j);
                memcpy(own.noise + (spans_[n].first + j) * width_,
                       noise.rows + place % noise.count * s_.width, s_.width * sizeof(float));
            }
        return own.noise;
    }

    void attention(int index, Own &own, int64_t i) {
        const LayerSource &source = layers_[i].source;
        AttentionPart part = {source.q_norm, source.k_norm, source.offset, source.strength,
                              forget_at()};
        int64_t count = num_active_;
        int64_t first = s_.kv_heads * index / count, last = s_.kv_heads * (index + 1) / count;
        for (int64_t n = 0; n < num_segments_; n++)
            for (int64_t k = first; k < last; k++)
                own.attend.run(slots_[segments_[n].slot], i, k, spans_[n], part,
                               {qkv_, qkv_width_}, {gates_, gates_width_},
                               {angle_rows_, 2 * half_}, sink_angles_, {mixed_, heads_width_},
                               observed_);
    }

    void feed_forward(int index, Own &own, const Layer &l) {
        int64_t pairs = l.gate_up.num_panels() / 2, count = num_active_;
        int64_t first = pairs * index / count, last = pairs * (index + 1) / count;
        if (first == last) return;
        l.gate_up.prepare(own.prepared, {own.normed, width_}, num_rows_);
        l.gate_up.multiply(own.prepared, num_rows_, 2 * first, 2 * last,
                           {gate_up_, 2 * mlp_width_});
        for (int64_t r = 0; r < num_rows_; r++)
            for (int64_t p = first; p < last; p++) {
                const float *both = gate_up_ + r * 2 * mlp_width_ + 2 * p * kPanel;
                swiglu(hidden_ + r * mlp_width_ + p * kPanel, both, both + kPanel, kPanel);
            }
    }

    // ---- for looking at ----

    void keep_input(int index, int which, int64_t i, const float *from, int64_t stride, int64_t n) {
        if (index == 0 && observed_) keep_rows(observed_->inputs[which], i, from, stride, n);
    }

    // The rows of one text, behind those of earlier passes.
    void keep_rows(float *to, int64_t i, const float *from, int64_t stride, int64_t n) const {
        if (!to) return;
        to += (i * observed_->total + spans_[0].position) * n;
        for (int64_t r = 0; r < num_rows_; r++)
            memcpy(to + r * n, from + r * stride, n * sizeof(float));
    }

    static constexpr int64_t kMostOrder = 64, kMostTables = 256;

    const Layout layout_;
    const Shape &s_;
    const int64_t most_rows_;
    const SlotLayout slot_layout_;
    const Angles angles_;
    const float *norm_;
    Arena arena_;
    std::unique_ptr<PanelMatrix> embedding_, head_, up_;
    std::unique_ptr<Memory> memory_;
    std::vector<Layer> layers_;
    std::vector<Slot<E>> slots_;
    Threads threads_;
    std::vector<Own> own_;
    Paces paces_;
    std::atomic<bool> uses_one_{false};
    int num_active_ = 1;
    int64_t width_, heads_width_, qkv_width_, mlp_width_, gates_width_, logits_stride_, half_;
    int64_t most_order_ = 0;
    float *x_, *branch_, *qkv_, *mixed_, *gate_up_, *hidden_, *gates_ = nullptr, *recalled_ = nullptr;
    float *angle_rows_, *sink_angles_;
    std::unique_ptr<LazyMemory> logits_;
    const Segment *segments_ = nullptr;
    int64_t num_segments_ = 0, num_rows_ = 0, num_wanted_ = 0;
    std::vector<Span> spans_;
    std::vector<int64_t> wanted_;
    const Observed *observed_ = nullptr;
};

}  // namespace cllm
