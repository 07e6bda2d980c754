// The thread count: environment, affinity, physical cores, cgroup quota, fork.
//
// Note [Fork]: a child that enters an OpenMP region after its parent did hangs in libgomp, whose pool of threads did
// not survive the fork. So a forked child runs every operator on its own single thread; the bits are the same.

#include "ops/runtime/threads.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "ops/runtime/sysfs.h"

namespace pycnn {
namespace {

std::atomic<int> chosen{0};  // 0: not yet
std::atomic<bool> forked{false};

// The first whole number of e.g. OMP_NUM_THREADS="4,2"; 0 where there is none. pycnn/_runtime/machine.py refuses a bad
// PYCNN_NUM_THREADS with a sentence before this is asked.
int from_environment(const char* name) {
    const char* text = std::getenv(name);
    if (!text) return 0;
    const long n = std::strtol(text, nullptr, 10);
    return n >= 1 && n <= 4096 ? static_cast<int>(n) : 0;
}

// CPUs that quota / period microseconds allow, rounded up; 0: no limit.
int quota_cpus(const std::string& quota, const std::string& period) {
    const double q = std::atof(quota.c_str()), p = std::atof(period.c_str());
    return q > 0 && p > 0 ? std::max(1, static_cast<int>(std::ceil(q / p))) : 0;
}

// The tightest limit from this process's cgroup up to the root, v2 (cpu.max) or v1 (cpu.cfs_*_us).
int cgroup_cpus() {
    int limit = 0;
    const auto tighten = [&](int cpus) {
        if (cpus > 0) limit = limit ? std::min(limit, cpus) : cpus;
    };
    std::ifstream groups("/proc/self/cgroup");
    for (std::string line; std::getline(groups, line);) {
        const std::size_t first = line.find(':'), second = line.find(':', first + 1);
        if (second == std::string::npos) continue;
        // append: GCC 12 warns of an overlap in "," + ... that is none (GCC bug 105651)
        const std::string controllers = std::string(",").append(line, first + 1, second - first - 1).append(",");
        const bool v2 = controllers == ",,";
        if (!v2 && controllers.find(",cpu,") == std::string::npos) continue;
        std::string path = line.substr(second + 1);
        for (;;) {
            if (v2) {
                std::istringstream max(first_line("/sys/fs/cgroup" + path + "/cpu.max"));
                std::string quota, period;
                max >> quota >> period;
                tighten(quota_cpus(quota, period));
            } else {
                const std::string folder = "/sys/fs/cgroup/cpu" + path + "/";
                tighten(quota_cpus(first_line(folder + "cpu.cfs_quota_us"), first_line(folder + "cpu.cfs_period_us")));
            }
            const std::size_t slash = path.rfind('/');
            if (slash == std::string::npos || path.size() <= 1) break;
            path.erase(slash == 0 ? 1 : slash);
        }
    }
    return limit;
}

// The CPUs of the affinity mask. The kernel refuses (EINVAL) a mask that is shorter than its own, and a cpu_set_t ends
// at 1,024, so it is asked with room for twice as many until it answers. None where it refuses for another reason.
std::vector<int> allowed_cpus(int room) {
    constexpr int kMost = 1 << 22;
    std::vector<int> cpus;
    for (; room <= kMost; room = std::max(2 * room, 64)) {
        const std::size_t bytes = CPU_ALLOC_SIZE(room);
        const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set(CPU_ALLOC(room), [](cpu_set_t* s) { CPU_FREE(s); });
        if (!set) break;
        CPU_ZERO_S(bytes, set.get());
        if (sched_getaffinity(0, bytes, set.get()) == 0) {
            for (int cpu = 0; cpu < static_cast<int>(8 * bytes); ++cpu)
                if (CPU_ISSET_S(static_cast<std::size_t>(cpu), bytes, set.get())) cpus.push_back(cpu);
            break;
        }
        if (errno != EINVAL) break;
    }
    return cpus;
}

int default_threads() {
    if (const int n = from_environment("PYCNN_NUM_THREADS")) return n;
    if (const int n = from_environment("OMP_NUM_THREADS")) return n;
    return available_cpus();
}

void note_fork() { forked = true; }

const int registered = pthread_atfork(nullptr, nullptr, note_fork);

}  // namespace

int physical_cores(const std::string& folder, int room) {
    std::set<std::string> cores;
    for (const int cpu : allowed_cpus(room)) {
        const std::string name = std::to_string(cpu);
        const std::string siblings = first_line(folder + "/cpu" + name + "/topology/thread_siblings_list");
        cores.insert(siblings.empty() ? name : siblings);  // where the file is hidden, each CPU is a core
    }
    return std::max(static_cast<int>(cores.size()), 1);
}

int available_cpus() {
    const int cores = physical_cores("/sys/devices/system/cpu", CPU_SETSIZE), quota = cgroup_cpus();
    return quota ? std::min(cores, quota) : cores;
}

int num_threads() {
    if (forked) return 1;
    int n = chosen;
    if (n == 0) {
        n = default_threads();
        int expected = 0;
        if (!chosen.compare_exchange_strong(expected, n)) n = expected;
    }
    return n;
}

void set_num_threads(int n) { chosen = n; }

bool in_forked_child() { return registered == 0 && forked; }

}  // namespace pycnn
