// The loop that writes texts: what is pending is fed, a token is chosen for each text, and again.
//
// Guessed tokens are fed with the one that comes before them. As each token is chosen with its own
// number, and a guess is kept only where the choice equals it, the text is the same without guesses.
#pragma once

#include <chrono>

#include "drafts.h"
#include "sampling.h"

namespace cllm {

enum class Finish : int64_t { kNone, kEnd, kLength, kImpossible };

// A text being written; `StreamState` of stream.py. Python owns all memory.
struct Stream {
    int64_t slot;
    int32_t *pending;     // room for at least one
    int64_t first, last;  // pending[first … last − 1] are to be fed
    Choice choice;
    const double *uniforms;  // of this call's tokens
    int32_t *seen, *written;
    const uint32_t *mask;
    int64_t eos_id;      // −1: none
    int64_t left, room;  // most tokens, in all and of this call
    int32_t *ids;
    int64_t num_ids;           // of this call
    int64_t num_alternatives;  // −1: no log-probabilities
    double *logprobs;
    int32_t *alternative_ids;
    float *alternative_logprobs;
    Drafting drafting;
    Finish finish;

    bool is_full() const { return num_ids == left || num_ids == room; }
};

// Texts in slots of a decoder D; D::forward takes `Segment`s. All memory is taken at the start.
template <class D, class Segment> class Writing {
public:
    explicit Writing(D &decoder)
        : decoder_(decoder), scratch_(decoder.vocab_size()), raw_(decoder.vocab_size()),
          turns_(decoder.num_slots()), segments_(decoder.num_slots()) {}

    // Until a stream ends or has no room, a stream with a mask has a token, `max_seconds` are
    // over or `*cancelled` (which may be null) is not 0; but one step is done. Returns the steps.
    int64_t write(Stream *const *streams, int64_t n, double max_seconds, const int32_t *cancelled) {
        if (n == 0) return 0;
        using Clock = std::chrono::steady_clock;
        const auto start = Clock::now();
        cancelled_ = cancelled, num_streams_ = n, offset_ = 0;
        for (int64_t i = 0; i < n; i++) turns_[i].stream = streams[i];
        for (int64_t steps = 1;; steps++) {
            if (step() || is_cancelled()) return steps;
            if (std::chrono::duration<double>(Clock::now() - start).count() >= max_seconds)
                return steps;
        }
    }

private:
    // A stream's part in a step: `rows` pending tokens, then `drafted` of the guesses.
    struct Turn {
        Stream *stream;
        int64_t rows, drafted, num_guesses;
        int32_t fed[2 + kMostDrafted], kinds[1 + kMostDrafted];
    };

    bool is_cancelled() const {
        return cancelled_ && __atomic_load_n(cancelled_, __ATOMIC_RELAXED);
    }

    // Whether Python must look at a stream.
    bool step() {
        const int64_t taking = share_rows();
        for (int64_t i = 0; i < taking; i++) segments_[i] = segment_of(turn(i));
        decoder_.forward(segments_.data(), taking);
        int64_t row = 0;
        bool is_over = false;
        for (int64_t i = 0; i < taking; i++) {
            Turn &t = turn(i);
            Stream &s = *t.stream;
            s.first += t.rows;
            if (s.first < s.last) continue;
            is_over |= take(t, row);
            row += 1 + t.drafted;
        }
        if (taking < num_streams_) offset_ = (offset_ + taking) % num_streams_;
        return is_over;
    }

    Turn &turn(int64_t i) { return turns_[(offset_ + i) % num_streams_]; }

    // Most tokens that a slot takes at once: beyond its context, one after another.
    int64_t most_at(const Stream &s) const {
        return std::max<int64_t>(1, decoder_.context() - decoder_.length(s.slot));
    }

    // A row for each stream, in turns where there are more streams; then those with more to feed
    // share what is left; then come guesses. Returns how many take part.
    int64_t share_rows() {
        const int64_t taking = std::min(num_streams_, decoder_.most_rows());
        int64_t free = decoder_.most_rows() - taking, waiting = 0;
        auto more = [&](const Stream &s) {
            return std::min(s.last - s.first, most_at(s)) - 1;
        };
        for (int64_t i = 0; i < taking; i++) waiting += more(*turn(i).stream) > 0;
        rows_ = 0, gain_ = 0;
        for (int64_t i = 0; i < taking; i++) {
            Turn &t = turn(i);
            t.rows = 1, t.drafted = t.num_guesses = 0;
            if (int64_t wanted = more(*t.stream); wanted > 0) {
                int64_t part = std::min(wanted, free / waiting--);
                t.rows += part, free -= part;
            }
            rows_ += t.rows;
            gain_ += t.stream->last - t.stream->first == t.rows;
        }
        for (int64_t i = 0; i < taking; i++) {
            Turn &t = turn(i);
            Drafting &d = t.stream->drafting;
            if (d.most <= 0) continue;
            const int32_t *pending = t.stream->pending + t.stream->first;
            for (int64_t j = 0; j < t.rows; j++) d.append(pending[j]);
            d.index();
            if (t.stream->last - t.stream->first == 1 && !t.stream->mask) draft(t, free);
        }
        return taking;
    }

    // Guesses what follows, as far as it promises more tokens for the pass's time.
    void draft(Turn &t, int64_t &free) {
        const Stream &s = *t.stream;
        const Drafting &d = s.drafting;
        const int64_t most = std::min({d.most, int64_t(kMostDrafted), free,
                                       s.left - s.num_ids - 1, s.room - s.num_ids - 1,
                                       decoder_.context() - decoder_.length(s.slot) - 1});
        Tail tail = d.tail_of(d.num_tokens);
        double chance = 1;
        for (int64_t k = 0;; k++) {
            Guess guess = d.guess(tail);
            if (guess.token < 0 || guess.token == s.eos_id) return;
            // The last one is noted, not fed: whether it would be right costs nothing to learn.
            t.fed[1 + k] = guess.token, t.kinds[k] = guess.kind, t.num_guesses = k + 1;
            chance *= d.rates[guess.kind];
            if (k >= most || chance * (1 + d.cost * (rows_ - 1)) <= d.cost * gain_) return;
            gain_ += chance;
            rows_++, free--, t.drafted++;
            tail.push(guess.token);
        }
    }

    Segment segment_of(Turn &t) {
        Stream &s = *t.stream;
        if (t.rows == 1) {
            t.fed[0] = s.pending[s.first];
            return {s.slot, t.fed, 1 + t.drafted, s.last - s.first == 1 ? 0 : 1};
        }
        return {s.slot, s.pending + s.first, t.rows,
                t.rows - (s.last - s.first == t.rows)};
    }

    // Chooses what follows the pending tokens, all of which were fed; guesses go on being right
    // for as long as they are what is chosen. Whether Python must look.
    bool take(Turn &t, int64_t row) {
        Stream &s = *t.stream;
        const int64_t end = decoder_.length(s.slot);
        bool is_over = false;
        int64_t right = 0;
        for (;; right++) {
            const int64_t token = choose_next(s, decoder_.logits(row + right));
            if (right < t.num_guesses)
                s.drafting.learn(t.kinds[right], token == t.fed[1 + right]);
            if (token < 0 || token == s.eos_id) {
                s.first = s.last = 0;
                s.finish = token < 0 ? Finish::kImpossible : Finish::kEnd;
                is_over = true;
                break;
            }
            s.pending[0] = int32_t(token), s.first = 0, s.last = 1;
            if (s.num_ids == s.left) s.finish = Finish::kLength;
            is_over = s.is_full() || s.mask;
            if (is_over || right == t.drafted || token != t.fed[1 + right] || is_cancelled())
                break;
            s.drafting.append(int32_t(token));
        }
        s.drafting.num_drafted += t.drafted, s.drafting.num_accepted += right;
        if (right < t.drafted) decoder_.truncate(s.slot, end - t.drafted + right);
        return is_over;
    }

    // The next token of a stream, which is noted, or, of the one that ends the text, only how
    // likely it was; −1 if there is none.
    int64_t choose_next(Stream &s, float *logits) {
        const int64_t n = decoder_.vocab_size(), place = s.num_ids;
        if (s.num_alternatives >= 0) std::copy(logits, logits + n, raw_.data());
        const double uniform = s.choice.temperature > 0 ? s.uniforms[place] : 0;
        const int64_t token =
            choose(logits, n, s.choice, {s.seen, s.written, s.mask}, uniform, scratch_);
        if (token < 0) return token;
        if (s.num_alternatives >= 0)
            s.logprobs[place] = log_probabilities(
                raw_.data(), n, token, s.num_alternatives,
                s.alternative_ids + place * s.num_alternatives,
                s.alternative_logprobs + place * s.num_alternatives, scratch_);
        if (token == s.eos_id) return token;
        s.ids[s.num_ids++] = int32_t(token);
        s.seen[token]++, s.written[token]++;
        return token;
    }

    D &decoder_;
    Scratch scratch_;
    std::vector<float> raw_;
    std::vector<Turn> turns_;
    std::vector<Segment> segments_;
    int64_t num_streams_ = 0, offset_ = 0, rows_ = 0;
    double gain_ = 0;  // the tokens that this pass may be expected to write
    const int32_t *cancelled_ = nullptr;
};

}  // namespace cllm
