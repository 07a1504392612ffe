// A few threads that run the same function together, and meet at barriers inside it.
#pragma once

#include <sched.h>

#include <atomic>
#include <thread>
#include <vector>

namespace cllm {

inline void pause_briefly(int spins) {
    // Spinning is the fastest way to meet; giving way matters once another program is at work.
    if (spins > 2000) {
        sched_yield();
        return;
    }
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

class Threads {
public:
    // Throws std::system_error where the system has no more threads.
    explicit Threads(int count) : count_(count) {
        try {
            for (int i = 1; i < count; i++) workers_.emplace_back([this, i] { work(i); });
        } catch (...) {
            stop();
            throw;
        }
    }

    ~Threads() { stop(); }

    int count() const { return count_; }

    // Calls job(0 … count − 1), the first on this thread; returns when all have. It can't throw.
    template <class Job> void run(Job job) {
        job_ = &job;
        call_ = [](void *one, int index) { (*static_cast<Job *>(one))(index); };
        unfinished_.store(count_ - 1);
        run_id_.fetch_add(1);
        run_id_.notify_all();
        job(0);
        for (int spins = 0; unfinished_.load(std::memory_order_acquire) > 0; spins++)
            pause_briefly(spins);
    }

    // Inside a job: go on when all threads are here.
    void meet() {
        int round = round_.load(std::memory_order_acquire);
        if (arrived_.fetch_add(1) + 1 == count_) {
            arrived_.store(0);
            round_.fetch_add(1, std::memory_order_release);
            return;
        }
        for (int spins = 0; round_.load(std::memory_order_acquire) == round; spins++)
            pause_briefly(spins);
    }

private:
    void stop() {
        run_id_.store(-1);
        run_id_.notify_all();
        for (auto &worker : workers_) worker.join();
    }

    void work(int index) {
        for (int64_t seen = 0;;) {
            int64_t id;
            for (int spins = 0; (id = run_id_.load(std::memory_order_acquire)) == seen; spins++) {
                if (spins < 4000) pause_briefly(0);
                else run_id_.wait(seen);
            }
            if (id < 0) return;
            seen = id;
            call_(job_, index);
            unfinished_.fetch_sub(1, std::memory_order_release);
        }
    }

    const int count_;
    std::vector<std::thread> workers_;
    void *job_ = nullptr;
    void (*call_)(void *, int) = nullptr;
    std::atomic<int64_t> run_id_{0};
    std::atomic<int> unfinished_{0}, arrived_{0}, round_{0};
};

}  // namespace cllm
