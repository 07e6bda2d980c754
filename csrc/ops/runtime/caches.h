// The data caches of this machine: how much work is done before the next piece, and which results are stored past them.
// Never how a sum is cut, nor which algorithm runs, so the bits are the same on every machine (tests/test_caches.py).
#pragma once
#include <cstdint>
#include <string>

namespace pycnn {

struct Caches {  // bytes
    int64_t l2;  // of one core
    int64_t l3;  // of all cores that share it with the first
};

// As sysfs lists them for the first CPU, read once.
Caches caches();

// The caches in such a folder of sysfs, /sys/devices/system/cpu/cpu0/cache. One that is not listed there, or not in KB or MB, is
// that of the machine on which the shares below were measured (Zen 4: 1 MB and 32 MB), and none is taken to be smaller
// or larger than what a CPU core has these days: virtual machines tell strange sizes.
Caches read_caches(const std::string& folder);

// Others instead, for tests. Not while KernelsInUse is held.
void set_caches(const Caches&);

// Whether so many numbers come from memory, and go there: half of L3.
bool past_caches(int64_t floats);

// Whether a result of so many numbers, in rows of `row`, is stored past the caches: its vectors must be whole.
bool streams(const float* to, int64_t floats, int64_t row);

}  // namespace pycnn
