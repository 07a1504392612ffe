// Memory at places that suit vectors and large pages.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

namespace cllm {

inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Memory that is given back all at once.
class Arena {
public:
    ~Arena() {
        for (const Held &one : held_) free(one.at);
    }

    // Zeros. The slack of 64 is for words of two numbers, which may reach past the last row.
    template <class T> T *take(int64_t n) {
        held_.reserve(held_.size() + 1);
        size_t bytes = round_up((n + 64) * sizeof(T), 4096);
        void *p = nullptr;
        if (posix_memalign(&p, bytes >= (1u << 21) ? 1u << 21 : 4096, bytes))
            throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
        if (bytes >= (1u << 21)) madvise(p, bytes, MADV_HUGEPAGE);
#endif
        memset(p, 0, bytes);
        held_.push_back({p, bytes});
        return (T *)p;
    }

    // Zeros again. Products multiply what lies behind a row of odd width by zero, and what lies
    // there from before must not be infinite.
    void wipe() {
        for (const Held &one : held_) memset(one.at, 0, one.bytes);
    }

private:
    struct Held {
        void *at;
        size_t bytes;
    };
    std::vector<Held> held_;
};

}  // namespace cllm
