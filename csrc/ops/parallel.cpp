// The only `#pragma omp` of the project.

#include "parallel.h"

#include <algorithm>
#include <exception>

#include "threads.h"

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

#ifdef _OPENMP

bool has_openmp() { return true; }

void parallel_ranges(int64_t n, int64_t grain, RangeBody body, void* context) {
    if (n <= 0) return;
    const int64_t wanted = std::min<int64_t>(num_threads(), std::max<int64_t>(n / std::max<int64_t>(grain, 1), 1));
    if (wanted <= 1 || omp_in_parallel()) return body(context, 0, n);
    std::exception_ptr error;
    int team = 1;
#pragma omp parallel num_threads(static_cast<int>(wanted))
    {
        const int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
        if (thread == 0) team = static_cast<int>(threads);
        try {  // an exception must not leave the region
            const int64_t begin = n * thread / threads, end = n * (thread + 1) / threads;
            if (begin < end) body(context, begin, end);
        } catch (...) {
#pragma omp critical(pycnn_parallel_error)
            if (!error) error = std::current_exception();
        }
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
