// The functions that Python calls; see engine.py. No exception leaves them: those that need memory
// return null, −1, −∞ or 0 where there is none, and all others work in memory taken before.
#include "engine.h"
#include "peak.h"

using namespace cllm;

#if !defined(CLLM_STAMP)
#define CLLM_STAMP "by hand"
#endif

namespace {

template <class E>
void *create(const Shape &shape, const Parts &parts, float *parameters, float *gradient,
             float *first, float *second, int threads, int64_t max_rows) {
    return static_cast<Engine *>(
        new EngineIn<E>(shape, parts, parameters, gradient, first, second, threads, max_rows));
}

Engine &engine_at(void *engine) { return *static_cast<Engine *>(engine); }

template <class E> void orthogonalise(float *to, const float *from, int64_t rows, int64_t columns) {
    Polar<E>(std::min(rows, columns), std::max(rows, columns)).run(to, from, rows, columns);
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

// What this library was made from: build.py knows what it should be.
const char *cllm_stamp() noexcept { return CLLM_STAMP; }

int cllm_has_bfloat16() noexcept { return kHasBFloat16; }

int64_t cllm_num_parameters(const Shape *shape, const Parts *parts) noexcept try {
    return Layout(*shape, *parts).size;
} catch (...) {
    return -1;
}

void *cllm_create(const Shape *shape, const Parts *parts, float *parameters, float *gradient,
                  float *first, float *second, int threads, int64_t max_rows,
                  int is_bfloat16) noexcept try {
#if defined(__AVX512BF16__)
    if (is_bfloat16)
        return create<BFloat16>(*shape, *parts, parameters, gradient, first, second, threads,
                                max_rows);
#endif
    if (is_bfloat16) return nullptr;
    return create<float>(*shape, *parts, parameters, gradient, first, second, threads, max_rows);
} catch (...) {
    return nullptr;
}

void cllm_destroy(void *engine) noexcept { delete static_cast<Engine *>(engine); }

void cllm_changed(void *engine) noexcept { engine_at(engine).changed(); }

// A memory takes room for what each step's tokens choose.
double cllm_gradient(void *engine, const int32_t *ids, const int32_t *targets, int64_t sequences,
                     int64_t length, double weight, int is_first, double dropout,
                     uint64_t seed) noexcept try {
    return engine_at(engine).gradient(ids, targets, sequences, length, weight, is_first,
                                      {dropout, seed});
} catch (...) {
    return -INFINITY;
}

// The first step with Muon takes memory for it.
double cllm_update(void *engine, const Update *settings, double divide_by) noexcept try {
    return engine_at(engine).update(*settings, divide_by);
} catch (...) {
    return -1;
}

double cllm_score(void *engine, const int32_t *ids, const int32_t *targets, int64_t sequences,
                  int64_t length) noexcept {
    return engine_at(engine).score(ids, targets, sequences, length);
}

void cllm_table_gradient(void *engine, float *to) noexcept {
    engine_at(engine).table_gradient(to);
}

void cllm_spent(void *engine, double *seconds) noexcept { engine_at(engine).spent(seconds); }

double cllm_product_peak(int is_bfloat16, int threads, int rounds) noexcept try {
#if defined(__AVX512BF16__)
    if (is_bfloat16) return product_peak<BFloat16>(threads, rounds);
#endif
    return is_bfloat16 ? -1 : product_peak<float>(threads, rounds);
} catch (...) {
    return -1;
}

int cllm_orthogonalise(float *to, const float *from, int64_t rows, int64_t columns,
                       int is_bfloat16) noexcept try {
#if defined(__AVX512BF16__)
    if (is_bfloat16) {
        orthogonalise<BFloat16>(to, from, rows, columns);
        return 1;
    }
#endif
    if (is_bfloat16) return 0;
    orthogonalise<float>(to, from, rows, columns);
    return 1;
} catch (...) {
    return 0;
}
}  // extern "C"
#pragma GCC visibility pop
