// The engine: parameters, their packed copy, and the threads' passes over a batch.
#pragma once

#include <memory>

#include "optimiser.h"
#include "pass.h"

namespace cllm {

// What the two number formats have in common, for the outside.
class Engine {
public:
    virtual ~Engine() = default;
    virtual double gradient(const int32_t *ids, const int32_t *targets, int64_t sequences,
                            int64_t length, double weight, bool is_first, Dropout dropout) = 0;
    virtual double update(const Update &settings, double divide_by) = 0;
    virtual double score(const int32_t *ids, const int32_t *targets, int64_t sequences,
                         int64_t length) = 0;
    virtual void table_gradient(float *to) = 0;
    virtual void spent(double *seconds) = 0;
    virtual void changed() = 0;
};

template <class E> class EngineIn final : public Engine {
public:
    // `gradient`, `first` and `second` are null for an engine that only looks. A thread takes
    // at most `max_rows` rows at once.
    EngineIn(const Shape &shape, const Parts &parts, float *parameters, float *gradient,
             float *first, float *second, int threads, int64_t max_rows)
        : layout_(shape, parts), p_(parameters), g_(gradient), weights_(layout_, threads),
          threads_(threads), max_rows_(std::max(max_rows, shape.context)) {
        int64_t head_size = shape.is_tied ? layout_.head.size() : 0;
        nats_.resize(threads), gains_.resize(threads), gradients_.resize(threads);
        sums_.resize(threads);
        gradient_size_ = layout_.size + head_size;
        if (parts.num_tables)
            memory_ = std::make_unique<Memory>(parts, shape.vocab_size, threads);
        for (int i = 0; i < threads; i++) {
            float *own = nullptr, *head = nullptr;
            if (g_) {
                own = gradients_[i] = arena_.take<float>(gradient_size_);
                gains_[i].resize(layout_.size);
                sums_[i].resize(layout_.widest());
                head = own + (shape.is_tied ? layout_.size : layout_.head.at);
            }
            passes_.push_back(std::make_unique<Pass<E>>(layout_, weights_, memory_.get(), p_,
                                                        own, head, max_rows_, shape.context));
        }
        gain_places_.push_back(layout_.norm);
        for (const Block &b : layout_.blocks) {
            gain_places_.push_back(b.attention_norm);
            gain_places_.push_back(b.feed_forward_norm);
        }
        if (g_)
            optimiser_ = std::make_unique<Optimiser<E>>(layout_, p_, g_, first, second, threads_);
    }

    void changed() override { is_packed_ = false; }

    // Returns the summed nats, and leaves in `gradient` weight times the gradient of all calls
    // since the last with is_first. Throws std::bad_alloc, before anything else.
    double gradient(const int32_t *ids, const int32_t *targets, int64_t sequences, int64_t length,
                    double weight, bool is_first, Dropout dropout) override {
        if (memory_) memory_->expect(sequences * length, is_first);
        threads_.run([&](int index) {
            pack(index);
            if (is_first) memset(gradients_[index], 0, gradient_size_ * sizeof(float));
            threads_.meet();
            nats_[index] = share(index, ids, targets, sequences, length, float(weight), dropout);
            {
                Timed timed(passes_[index]->spent, kWaiting);
                threads_.meet();
            }
            Timed timed(passes_[index]->spent, kOptimiser);
            reduce(index);
        });
        is_packed_ = true;
        return total();
    }

    double update(const Update &settings, double divide_by) override {
        Timed timed(passes_[0]->spent, kOptimiser);
        is_packed_ = false;
        double norm = optimiser_->run(settings, divide_by);
        if (memory_ && std::isfinite(norm))
            memory_->update(threads_, float(settings.table_rate), float(divide_by));
        return wipe_unless_finite(norm);
    }

    double score(const int32_t *ids, const int32_t *targets, int64_t sequences,
                 int64_t length) override {
        threads_.run([&](int index) {
            pack(index);
            threads_.meet();
            nats_[index] = share(index, ids, targets, sequences, length, 0, {});
        });
        is_packed_ = true;
        return total();
    }

    void table_gradient(float *to) override { memory_->gradient(to); }

    void spent(double *seconds) override {
        for (int i = 0; i < kPhases; i++) seconds[i] = passes_[0]->spent[i];
    }

private:
    void pack(int index) {
        if (is_packed_) return;
        Timed timed(passes_[index]->spent, kPacking);
        weights_.pack(p_, index, threads_.count());
    }

    double total() {
        double sum = 0;
        for (double part : nats_) sum += part;
        return wipe_unless_finite(sum);
    }

    double wipe_unless_finite(double value) {
        if (!std::isfinite(value))
            for (auto &pass : passes_) pass->wipe();
        return value;
    }

    // Consecutive sequences go to one thread, so that every sum has a fixed order.
    double share(int index, const int32_t *ids, const int32_t *targets, int64_t sequences,
                 int64_t length, float weight, Dropout dropout) {
        int64_t from = sequences * index / threads_.count();
        int64_t to = sequences * (index + 1) / threads_.count(), at_once = max_rows_ / length;
        double nats = 0;
        for (int64_t i = from; i < to; i += at_once)
            nats += passes_[index]->run(ids + i * length, targets + i * length,
                                        std::min(at_once, to - i), length, weight, dropout,
                                        i * length);
        return nats;
    }

    // Sums the threads' gradients, and takes the folded gains apart: with W' = W · diag(gain),
    // dW = dW' · diag(gain) and dgain = the column sums of dW' ⊙ W.
    void reduce(int index) {
        const Shape &s = layout_.shape;
        auto &gains = gains_[index];
        std::fill(gains.begin(), gains.end(), 0.0f);
        if (index == 0) sum_vectors();
        take_rows(index, {layout_.embedding, s.vocab_size, s.width, -1}, layout_.embedding, false);
        for (const Block &b : layout_.blocks) {
            for (const Matrix &m : {b.qkv, b.out, b.gate_up, b.down})
                take_rows(index, m, m.at, false);
            for (const Gates &gates : b.gates)
                take_rows(index, gates.matrix, gates.matrix.at, false);
        }
        take_rows(index, layout_.up, layout_.up.at, false);
        threads_.meet();
        take_rows(index, layout_.head, s.is_tied ? layout_.size : layout_.head.at, s.is_tied);
        threads_.meet();
        if (index == 0)
            for (int64_t gain : gain_places_)
                for (int64_t c = 0; c < s.width; c++) {
                    float sum = 0;
                    for (auto &one : gains_) sum += one[gain + c];
                    g_[gain + c] = sum;
                }
    }

    void sum_vectors() {
        auto sum_all = [&](int64_t from, int64_t to) {
            for (int64_t i = from; i < to; i++) {
                float sum = 0;
                for (const float *one : gradients_) sum += one[i];
                g_[i] = sum;
            }
        };
        for (const Block &b : layout_.blocks) {
            sum_all(b.q_norm, b.q_norm + 2 * layout_.shape.head_width);
            sum_all(b.taps, b.taps + layout_.lags.size() * layout_.shape.width);
            sum_all(b.offset, b.end);
        }
    }

    void take_rows(int index, const Matrix &m, int64_t source, bool adds) {
        int64_t n = m.columns, from = m.rows * index / threads_.count();
        int64_t to = m.rows * (index + 1) / threads_.count();
        const float *gain = m.gain >= 0 ? p_ + m.gain : nullptr;
        float *d_gain = gain ? gains_[index].data() + m.gain : nullptr;
        float *sum = sums_[index].data();
        for (int64_t r = from; r < to; r++) {
            float *out = g_ + m.at + r * n;
            const float *w = p_ + m.at + r * n;
            std::fill(sum, sum + n, 0.0f);
            for (const float *one : gradients_) {
                const float *part = one + source + r * n;
                for (int64_t c = 0; c < n; c++) sum[c] += part[c];
            }
            if (gain)
                for (int64_t c = 0; c < n; c++) {
                    d_gain[c] += sum[c] * w[c];
                    sum[c] *= gain[c];
                }
            for (int64_t c = 0; c < n; c++) out[c] = adds ? out[c] + sum[c] : sum[c];
        }
    }

    const Layout layout_;
    float *p_, *g_;
    Weights<E> weights_;
    Threads threads_;
    int64_t max_rows_;
    bool is_packed_ = false;
    std::vector<double> nats_;
    Arena arena_;
    int64_t gradient_size_ = 0;
    std::vector<float *> gradients_;
    std::vector<std::vector<float>> gains_, sums_;
    std::vector<int64_t> gain_places_;
    std::unique_ptr<Memory> memory_;
    std::vector<std::unique_ptr<Pass<E>>> passes_;
    std::unique_ptr<Optimiser<E>> optimiser_;
};

}  // namespace cllm
