// Guesses of the tokens that come next: from the text itself, and from counts of the training text.
//
// A guess is of a kind: how long a part of the text repeats itself, or which share of the training
// text goes on as guessed. How often guesses of a kind came true lately decides how many are worth
// their cost.
#pragma once

#include <cstdint>

namespace cllm {

// The likeliest token after contexts of one to three tokens; `Drafts` of drafts.py says how they
// are packed and ordered. All contexts of one bucket lie between two `starts`.
struct DraftTable {
    const uint64_t *contexts;
    const int32_t *tokens;
    const uint8_t *shares;  // in 255ths
    const int32_t *starts;  // [2^bucket_bits + 1]
    int64_t bucket_bits, vocab_size;
};

constexpr int kShortestMatch = 2, kLongestMatch = 4, kLongestContext = 3, kShareKinds = 8;
constexpr int kGuessKinds = kLongestMatch - kShortestMatch + 1 + kShareKinds;
constexpr int kMostDrafted = 16;
constexpr float kRateStep = 1.0f / 16;

struct Guess {
    int32_t token;  // −1: none
    int32_t kind;
};

// The last tokens of a text, guessed ones among them, the latest first.
struct Tail {
    int32_t tokens[kLongestMatch];
    int64_t count;

    void push(int32_t token) {
        for (int i = kLongestMatch - 1; i > 0; i--) tokens[i] = tokens[i - 1];
        tokens[0] = token;
        count += count < kLongestMatch;
    }
};

// `Drafting` of stream.py: a stream's text and what is known of its guesses. Python gives the
// memory; where the text outgrows it, or `capacity` is 0, guesses are of what is there.
struct Drafting {
    int32_t *text;
    int64_t num_tokens, num_indexed, capacity;
    int32_t *places;  // where the text went on after its last n tokens, by their hash
    int64_t place_bits;
    float *rates;  // [kGuessKinds]: the share of guesses that came true lately
    const DraftTable *table;  // or null
    double cost;              // of a drafted row, as a part of a single row's
    int64_t most, num_drafted, num_accepted;

    void append(int32_t token) {
        if (num_tokens < capacity) text[num_tokens++] = token;
    }

    // Makes what was appended known to guesses.
    void index() {
        for (; num_indexed < num_tokens; num_indexed++) {
            Tail tail = tail_of(num_indexed);
            for (int n = kShortestMatch; n <= kLongestMatch && n <= tail.count; n++)
                places[slot(tail, n)] = int32_t(num_indexed);
        }
    }

    // The last tokens before a place in the text.
    Tail tail_of(int64_t place) const {
        Tail tail{};
        for (; tail.count < kLongestMatch && tail.count < place; tail.count++)
            tail.tokens[tail.count] = text[place - 1 - tail.count];
        return tail;
    }

    Guess guess(const Tail &tail) const {
        Guess repeated = from_text(tail), learned = from_table(tail);
        if (repeated.token < 0) return learned;
        if (learned.token < 0) return repeated;
        return rates[learned.kind] > rates[repeated.kind] ? learned : repeated;
    }

    void learn(int32_t kind, bool is_right) { rates[kind] += kRateStep * (is_right - rates[kind]); }

private:
    int64_t slot(const Tail &tail, int n) const {
        uint64_t hash = uint64_t(n);
        for (int i = 0; i < n; i++) hash = (hash + uint32_t(tail.tokens[i])) * 0x9e3779b97f4a7c15;
        return int64_t(hash >> (64 - place_bits));
    }

    Guess from_text(const Tail &tail) const {
        for (int n = int(tail.count); n >= kShortestMatch && capacity; n--) {
            int64_t place = places[slot(tail, n)];
            bool is_match = place >= n;
            for (int i = 0; is_match && i < n; i++)
                is_match = text[place - 1 - i] == tail.tokens[i];
            if (is_match) return {text[place], n - kShortestMatch};
        }
        return {-1, 0};
    }

    Guess from_table(const Tail &tail) const {
        if (!table) return {-1, 0};
        uint64_t keys[kLongestContext], packed = 0, unit = 1;
        int longest = int(tail.count < kLongestContext ? tail.count : kLongestContext);
        for (int n = 0; n < longest; n++) {
            packed += unit * uint32_t(tail.tokens[n]);
            unit *= uint64_t(table->vocab_size);
            keys[n] = packed * 4 + uint64_t(n + 1);
        }
        for (int n = longest - 1; n >= 0; n--) {
            uint64_t bucket = (keys[n] * 0x9e3779b97f4a7c15) >> (64 - table->bucket_bits);
            for (int64_t i = table->starts[bucket]; i < table->starts[bucket + 1]; i++)
                if (table->contexts[i] == keys[n])
                    return {table->tokens[i], kLongestMatch - kShortestMatch + 1 +
                                                  table->shares[i] * kShareKinds / 256};
        }
        return {-1, 0};
    }
};

}  // namespace cllm
