// The only `#pragma omp` of the project.
//
// Note [Yielding]: while a neighbour has a CPU, every region waits for the thread that is not scheduled, and the
// threads that spin meanwhile take the other CPUs from those that work. Then the caller had better work alone. A thread
// that wakes up late, or on its caller's CPU, looks the same once or twice, so only the third late region within 20 ms
// is believed: the caller works alone for a pause, 2 ms at first, and tries again. A region that is late soon after
// doubles the pause, up to 256 ms, so a lasting neighbour costs one late region in a quarter of a second. The bits do
// not change: ranges never matter. Figures: docs/kernels.md, Threads.

// Note [Awake]: the grains of parallel.h are for threads that sleep. Within 100 microseconds of a region of this team
// its threads still spin, and a tenth of the grain pays. A loop of regions that are all below the grain would never
// wake them: after 10 ms of such regions, without a gap, one wakes them on trial. That may cost 3 ms once, where the
// kernel starts a thread on its waker's CPU.
//
// Note [One team]: a region of another size than the last one makes libgomp end threads and start new ones (4 threads,
// one region of 2 between two of 4: two threads gone, two new ones). So every region of more than one range has all
// threads, and those beyond the ranges return at once; PyTorch does the same. What that costs where 2 of 16 threads
// have work: the caller wakes all that sleep, and the end of the region waits for the last. That is more than the 28
// microseconds of one wake-up, but a new thread costs more still, and the scratch memory of one that ends is gone with
// it. With two threads nothing changes. Giving the 14 a share, since they are awake, was not done: a share below the
// grain moves its input to one more L2, for a few microseconds of work.

#include "ops/runtime/parallel.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>

#include "ops/runtime/threads.h"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace pycnn {

static thread_local int largest_team = 1;

int take_team_size() {
    const int size = largest_team;
    largest_team = 1;
    return size;
}

static std::atomic<bool> yields{false};

void set_yielding(bool on) { yields = on; }
bool yielding() { return yields; }

#ifdef _OPENMP

bool has_openmp() { return true; }

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// What this thread knows of its team: how long it works alone, and since when.
class Pause {
  public:
    bool lasts() const { return Clock::now() < end_; }

    // A region of which this thread had done its own share after `share`, and waited `wait` for the others. Shares are
    // equal, so a wait as long as the own share and a wake-up (28 microseconds) ten times over, is late.
    void after_region(Clock::duration share, Clock::duration wait) {
        constexpr std::chrono::microseconds kLate{300};
        constexpr milliseconds kShortest{2}, kLongest{256}, kSoon{50}, kAWhile{20};
        if (wait <= share + kLate) return;
        const Clock::time_point now = Clock::now();
        const bool again = now - end_ < kSoon;
        late_ = now - first_late_ < kAWhile ? late_ + 1 : 1;
        if (late_ == 1) first_late_ = now;
        if (!again && late_ < 3) return;
        length_ = again ? std::min<Clock::duration>(2 * length_, kLongest) : kShortest;
        end_ = now + length_;
    }

  private:
    Clock::time_point end_{}, first_late_{};
    int late_ = 0;  // regions since first_late_
    Clock::duration length_{};
};

thread_local Pause pause;

// Whether the other threads of this one's team are awake (Note [Awake]).
class Awake {
  public:
    // At the start of a region that is too small for threads that sleep.
    bool now() {
        constexpr std::chrono::microseconds kSpin{100};
        constexpr milliseconds kLongBurst{10};
        const Clock::time_point start = Clock::now();
        if (start - end_ < kSpin) return true;
        if (start - small_end_ > kSpin) burst_ = start;
        return start - burst_ > kLongBurst;
    }
    void after_small(Clock::time_point end) { small_end_ = end; }
    void after_team(Clock::time_point end) { end_ = small_end_ = end; }

  private:
    Clock::time_point end_{}, small_end_{}, burst_{};
};

thread_local Awake awake;

}  // namespace

void parallel_ranges(int64_t n, int64_t grain, RangeBody body, void* context) {
    if (n <= 0) return;
    const int size = num_threads();  // once: another thread may set it meanwhile
    const auto threads_for = [n, size](int64_t units) {
        return std::min<int64_t>(size, n / std::max<int64_t>(units, 1));
    };
    if (threads_for(grain / kAwakeShare) <= 1 || omp_in_parallel()) return body(context, 0, n);
    const bool timed = yields.load(std::memory_order_relaxed);
    if (timed && pause.lasts()) return body(context, 0, n);
    int64_t wanted = threads_for(grain);
    if (timed && wanted < size && awake.now()) wanted = threads_for(grain / kAwakeShare);
    if (wanted <= 1) {
        body(context, 0, n);
        if (timed) awake.after_small(Clock::now());
        return;
    }
    std::exception_ptr error;
    Clock::time_point start, done;
    if (timed) start = Clock::now();
    int team = 1;
#pragma omp parallel num_threads(size)  // never `wanted`: Note [One team]
    {
        const int64_t thread = omp_get_thread_num(), ranges = std::min<int64_t>(wanted, omp_get_num_threads());
        if (thread == 0) team = static_cast<int>(ranges);
        try {  // an exception must not leave the region
            const int64_t begin = n * thread / ranges, end = n * (thread + 1) / ranges;
            if (thread < ranges && begin < end) body(context, begin, end);
        } catch (...) {
#pragma omp critical(pycnn_parallel_error)
            if (!error) error = std::current_exception();
        }
        if (timed && thread == 0) done = Clock::now();
    }
    if (timed) {
        const Clock::time_point end = Clock::now();
        pause.after_region(done - start, end - done);
        awake.after_team(end);
    }
    largest_team = std::max(largest_team, team);
    if (error) std::rethrow_exception(error);
}

#else

bool has_openmp() { return false; }

void parallel_ranges(int64_t n, int64_t, RangeBody body, void* context) {
    if (n > 0) body(context, 0, n);
}

#endif

}  // namespace pycnn
