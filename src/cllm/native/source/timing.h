// Where the time of a thread goes.
#pragma once

#include <chrono>

namespace cllm {

enum Phase { kProducts, kAttention, kElementwise, kHead, kPacking, kOptimiser, kWaiting, kPhases };

// Adds the time until it ends to a phase.
class Timed {
public:
    Timed(double *spent, Phase phase) : to_(spent + phase), began_(now()) {}
    ~Timed() { *to_ += std::chrono::duration<double>(now() - began_).count(); }

private:
    static std::chrono::steady_clock::time_point now() { return std::chrono::steady_clock::now(); }
    double *to_;
    std::chrono::steady_clock::time_point began_;
};

}  // namespace cllm
