// The functions of the decoder that Python calls; see decoder.py.
#include "decoder.h"
#include "writing.h"

using namespace cllm;

namespace {

struct Held {
    std::unique_ptr<Decoder> decoder;
    Writing<Decoder, Segment> writing;
    explicit Held(Decoder *made) : decoder(made), writing(*made) {}
};

Decoder &decoder_at(void *held) { return *static_cast<Held *>(held)->decoder; }

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

// The cache's format: 0 float32, 1 bfloat16, 2 int8.
void *cllm_decoder_create(const Shape *shape, const Parts *parts, const ModelSource *model,
                          int threads, int64_t slots, int64_t most_rows, int cache) noexcept try {
    auto make = [&](auto number) {
        return new Held(new DecoderIn<decltype(number)>(*shape, *parts, *model, threads, slots,
                                                        most_rows));
    };
    return cache == 0 ? make(float()) : cache == 1 ? make(BFloat16()) : make(int8_t());
} catch (...) {
    return nullptr;
}

void cllm_decoder_destroy(void *decoder) noexcept { delete static_cast<Held *>(decoder); }

int64_t cllm_decoder_weight_bytes(void *decoder) noexcept {
    return decoder_at(decoder).weight_bytes();
}

// Feeds `count` tokens to each of `n` slots in one pass; logits of the last `wanted` of each go to
// `logits`, one row after another.
void cllm_decoder_feed(void *decoder, const Segment *segments, int64_t n, float *logits) noexcept {
    Decoder &d = decoder_at(decoder);
    d.forward(segments, n);
    int64_t rows = 0;
    for (int64_t i = 0; i < n; i++)
        rows += std::max<int64_t>(0, segments[i].count - segments[i].first_logits);
    for (int64_t k = 0; k < rows; k++)
        memcpy(logits + k * d.vocab_size(), d.logits(k), d.vocab_size() * sizeof(float));
}

int64_t cllm_decoder_length(void *decoder, int64_t slot) noexcept {
    return decoder_at(decoder).length(slot);
}

int cllm_decoder_truncate(void *decoder, int64_t slot, int64_t length) noexcept {
    return decoder_at(decoder).truncate(slot, length);
}

int cllm_decoder_copy(void *decoder, int64_t from, int64_t to, int64_t length) noexcept {
    return decoder_at(decoder).copy(from, to, length);
}

int64_t cllm_decoder_write(void *decoder, Stream *const *streams, int64_t n, double max_seconds,
                           const int32_t *cancelled) noexcept {
    return static_cast<Held *>(decoder)->writing.write(streams, n, max_seconds, cancelled);
}

// The token that each of `count` numbers chooses; 0 where there is no memory.
int cllm_choose(const float *logits, int64_t n, const Choice *choice, const int32_t *seen,
                const int32_t *written, const uint32_t *mask, const double *uniforms,
                int64_t count, int32_t *to) noexcept try {
    Scratch scratch(n);
    std::vector<float> row(n);
    for (int64_t i = 0; i < count; i++) {
        std::copy(logits, logits + n, row.data());
        to[i] = int32_t(choose(row.data(), n, *choice, {seen, written, mask}, uniforms[i], scratch));
    }
    return 1;
} catch (...) {
    return 0;
}

void cllm_decoder_observe(void *decoder, const Observed *observed) noexcept {
    decoder_at(decoder).observe(observed);
}

void cllm_decoder_use_one_thread(void *decoder, int is_wanted) noexcept {
    decoder_at(decoder).use_one_thread(is_wanted);
}
}  // extern "C"
#pragma GCC visibility pop
