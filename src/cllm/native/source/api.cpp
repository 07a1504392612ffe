// The functions that Python calls; see native/engine.py.
#include "engine.h"

using namespace cllm;

extern "C" {

int cllm_version() { return 1; }
int cllm_has_bfloat16() {
#if defined(__AVX512BF16__)
    return 1;
#else
    return 0;
#endif
}

int64_t cllm_num_parameters(const Shape *shape) { return Layout(*shape).size; }

void *cllm_create(const Shape *shape, float *parameters, float *gradient, float *first,
                  float *second, int threads, int64_t max_rows, int is_bfloat16) {
    try {
        if (is_bfloat16)
            return (Engine *)new EngineIn<BFloat16>(*shape, parameters, gradient, first, second,
                                                    threads, max_rows);
        return (Engine *)new EngineIn<float>(*shape, parameters, gradient, first, second, threads,
                                             max_rows);
    } catch (const std::exception &) {
        return nullptr;
    }
}

void cllm_destroy(void *engine) { delete (Engine *)engine; }
void cllm_changed(void *engine) { ((Engine *)engine)->changed(); }

double cllm_gradient(void *engine, const int32_t *ids, const int32_t *targets, int64_t sequences,
                     int64_t length, double weight, int is_first, double dropout, uint64_t seed) {
    return ((Engine *)engine)->gradient(ids, targets, sequences, length, weight, is_first,
                                        {dropout, seed});
}

double cllm_update(void *engine, const Update *settings, double divide_by) {
    return ((Engine *)engine)->update(*settings, divide_by);
}

double cllm_score(void *engine, const int32_t *ids, const int32_t *targets, int64_t sequences,
                  int64_t length) {
    return ((Engine *)engine)->score(ids, targets, sequences, length);
}

void cllm_last_logits(void *engine, const int32_t *ids, int64_t length, float *logits) {
    ((Engine *)engine)->last_logits(ids, length, logits);
}

void cllm_spent(void *engine, double *seconds) { ((Engine *)engine)->spent(seconds); }

void cllm_orthogonalise(float *to, const float *from, int64_t rows, int64_t columns,
                        int is_bfloat16) {
    int64_t n = std::min(rows, columns), m = std::max(rows, columns);
    if (is_bfloat16) Polar<BFloat16>(n, m).run(to, from, rows, columns);
    else Polar<float>(n, m).run(to, from, rows, columns);
}
}
