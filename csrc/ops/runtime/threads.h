// How many threads an operator may use.
#pragma once
#include <string>

namespace pycnn {

// set_num_threads, else PYCNN_NUM_THREADS, else OMP_NUM_THREADS, else the CPUs of this process: the smaller of the
// physical cores in its affinity mask and its cgroup's CPU quota. Process-wide. 1 in a forked child (Note [Fork] in
// threads.cpp).
int num_threads();
void set_num_threads(int n);  // n >= 1
int available_cpus();         // cores, affinity and quota alone

// Cores behind the CPUs of the affinity mask, by cpu<n>/topology/thread_siblings_list in this folder of sysfs. Hardware
// threads of one core count once: they share the FMA units that the kernels fill. room: CPUs of the first mask that the
// kernel is asked for; it grows until the kernel's own fits.
int physical_cores(const std::string& folder, int room);
bool in_forked_child();

}  // namespace pycnn
