// How many threads an operator may use.
#pragma once

namespace pycnn {

// set_num_threads, else PYCNN_NUM_THREADS, else OMP_NUM_THREADS, else the CPUs of this process: the smaller of its
// affinity mask and its cgroup's CPU quota. Process-wide. 1 in a forked child (Note [Fork] in threads.cpp).
int num_threads();
void set_num_threads(int n);  // n >= 1
int available_cpus();         // affinity and quota alone
bool in_forked_child();

}  // namespace pycnn
