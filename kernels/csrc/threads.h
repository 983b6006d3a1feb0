// Threads that wait for crops and keep their scratch memory.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "crop.h"

namespace hjepa {

class Threads {
  public:
    explicit Threads(int count);
    ~Threads();
    Threads(const Threads&) = delete;
    Threads& operator=(const Threads&) = delete;

    // Renders all crops, each on whichever thread is free next, and waits. Throws std::bad_alloc where there is no memory.
    void render(const Build& build, const std::vector<Crop>& crops);

    // Bytes of scratch memory that the largest thread keeps.
    size_t scratch_bytes() const { return scratch_bytes_; }

  private:
    struct Free {
        void operator()(void* memory) const;
    };
    void work();
    void end();

    std::mutex mutex_;
    std::condition_variable begin_, end_;
    std::atomic<size_t> next_{0}, scratch_bytes_{0};
    std::atomic<bool> failed_{false};
    const Build* build_ = nullptr;
    const std::vector<Crop>* crops_ = nullptr;
    size_t round_ = 0, busy_ = 0;
    bool closing_ = false;
    std::vector<std::thread> threads_;
    std::mutex rounds_;  // held by the one caller that is served
};

}  // namespace hjepa
