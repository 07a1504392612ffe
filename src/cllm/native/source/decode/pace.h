// Whether a pass is faster on one thread or on all: tried out, and again from time to time.
//
// Threads that meet in the middle of a pass are fast on idle processors, and far slower than one
// thread where another program is at work. The results are the same, so only time decides.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>

namespace cllm {

class Pace {
public:
    // `starts_with_all`: which is tried first, as the likelier one.
    explicit Pace(bool starts_with_all) : starts_with_all_(starts_with_all) {}

    bool takes_all() const {
        return tries_ ? (tries_ > kTries) == starts_with_all_ : takes_all_;
    }

    // What the pass took that `takes_all` was asked for.
    void note(double seconds) {
        if (!tries_) {
            since_ += seconds;
            if (since_ > wait_) tries_ = 2 * kTries, cost_ = 0, best_[0] = best_[1] = INFINITY;
            return;
        }
        cost_ += seconds;
        // The first try may have to wake the threads.
        if (tries_ % kTries) best_[takes_all()] = std::min(best_[takes_all()], seconds);
        if (--tries_) return;
        takes_all_ = best_[1] < best_[0];
        since_ = 0, wait_ = kRarely * cost_;
    }

private:
    static constexpr int kTries = 4;
    static constexpr double kRarely = 40;  // what trying may cost: a fortieth of the time
    bool starts_with_all_, takes_all_ = false;
    int tries_ = 2 * kTries;
    double best_[2] = {INFINITY, INFINITY}, cost_ = 0, since_ = 0, wait_ = 0;
};

// A pace for each size of a pass: up to 1, 4, 16, 64 rows and more.
class Paces {
public:
    static constexpr int kSizes = 5;
    // `work`: multiplications for one row.
    explicit Paces(double work) {
        for (int i = 0; i < kSizes; i++) paces_[i] = Pace(work * std::pow(4, i) > kMuch);
    }
    Pace &of(int64_t rows) {
        int size = 0;
        for (int64_t most = 1; rows > most && size + 1 < kSizes; most *= 4) size++;
        return paces_[size];
    }

private:
    static constexpr double kMuch = 4e5;  // from here on two idle cores beat one
    Pace paces_[kSizes] = {Pace(false), Pace(false), Pace(false), Pace(false), Pace(false)};
};

}  // namespace cllm
