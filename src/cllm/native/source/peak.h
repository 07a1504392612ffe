// The speed that products alone reach on this machine: what training's speed is compared with.
#pragma once

#include <chrono>

#include "tape.h"
#include "threads.h"

namespace cllm {

// Floating-point operations per second of products of 384 × 512 by 512 × 512 on all threads,
// in the best of `rounds` rounds.
template <class E> double product_peak(int num_threads, int rounds) {
    constexpr int64_t kHeight = 384, kSide = 512, kTimes = 20;
    Threads threads(num_threads);
    Arena arena;
    std::vector<E *> rows, packed;
    std::vector<float *> results;
    for (int i = 0; i < threads.count(); i++) {
        rows.push_back(arena.take<E>(kHeight * kSide));
        packed.push_back(arena.take<E>(packed_size<E>(kSide, kSide)));
        results.push_back(arena.take<float>(kHeight * kSide));
    }
    double best = 0;
    for (int round = 0; round < rounds; round++) {
        auto began = std::chrono::steady_clock::now();
        threads.run([&](int i) {
            Left<E> left = rows_of<E>(rows[i], kSide);
            Packed<E> right = {packed[i], kSide * kPanel};
            for (int64_t t = 0; t < kTimes; t++)
                product<Into::kStore, E>(kHeight, kSide, kSide, left, right, results[i], kSide);
        });
        std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
        double work = 2.0 * kHeight * kSide * kSide * kTimes * threads.count();
        best = std::max(best, work / took.count());
    }
    return best;
}

}  // namespace cllm
