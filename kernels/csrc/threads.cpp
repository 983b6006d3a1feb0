// A round is a list of crops and a counter: a thread takes the next number until there is none, so that no thread waits for
// another while there is work, and no crop's pixels depend on who rendered it.

#include "threads.h"

#include <cstdlib>
#include <new>

namespace hjepa {

void Threads::Free::operator()(void* memory) const { std::free(memory); }

Threads::Threads(int count) {
    try {
        for (int number = 0; number < count; ++number) threads_.emplace_back([this] { work(); });
    } catch (...) {  // the system has no more threads; those that there are must not outlive this
        end();
        throw;
    }
}

Threads::~Threads() { end(); }

void Threads::end() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        closing_ = true;
    }
    begin_.notify_all();
    for (std::thread& thread : threads_) thread.join();
}

void Threads::render(const Build& build, const std::vector<Crop>& crops) {
    const std::lock_guard<std::mutex> one_at_a_time(rounds_);
    std::unique_lock<std::mutex> lock(mutex_);
    build_ = &build;
    crops_ = &crops;
    next_ = 0;
    failed_ = false;
    busy_ = threads_.size();
    ++round_;
    begin_.notify_all();
    end_.wait(lock, [this] { return busy_ == 0; });
    crops_ = nullptr;
    if (failed_) throw std::bad_alloc();
}

void Threads::work() {
    std::unique_ptr<void, Free> scratch;
    size_t capacity = 0, seen = 0;
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
        begin_.wait(lock, [&] { return closing_ || round_ != seen; });
        if (closing_) return;
        seen = round_;
        const Build& build = *build_;
        const std::vector<Crop>& crops = *crops_;
        lock.unlock();
        for (size_t number = next_++; number < crops.size() && !failed_; number = next_++) {
            const size_t needed = (build.scratch_bytes(crops[number]) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
            if (needed > capacity) {
                scratch.reset();
                scratch.reset(std::aligned_alloc(ALIGNMENT, needed));
                capacity = scratch ? needed : 0;
                if (needed > scratch_bytes_) scratch_bytes_ = needed;  // a figure for whoever asks: races lose little
            }
            if (scratch) {
                build.render_crop(crops[number], static_cast<char*>(scratch.get()));
            } else {
                failed_ = true;
            }
        }
        lock.lock();
        if (--busy_ == 0) end_.notify_all();
    }
}

}  // namespace hjepa
