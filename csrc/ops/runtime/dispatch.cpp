// Probes the CPU once and chooses the table of kernels.
//
// Note [Kernels in use]: operators share `in_use`, use_isa has it alone. std::shared_mutex prefers readers, so threads
// that compute in turn would keep use_isa out for ever; it holds `gate` while it waits, and those who come later queue
// there. A forked child may inherit both locked by threads that it does not have: it makes them anew.

#include "ops/runtime/dispatch.h"

#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <new>
#include <shared_mutex>
#include <stdexcept>

namespace pycnn {

#if defined(__x86_64__)
namespace baseline {
extern const Kernels table;
}
namespace avx2 {
extern const Kernels table;
}
namespace avx512 {
extern const Kernels table;
}
#else
namespace neon {
extern const Kernels table;
}
#endif

namespace {

std::vector<const Kernels*> probe() {
#if defined(__x86_64__)
    std::vector<const Kernels*> found;
    if (cpu_is_supported()) found.push_back(&baseline::table);
    if (!found.empty() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        found.push_back(&avx2::table);
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
            found.push_back(&avx512::table);
    }
    return found;
#else
    return {&neon::table};
#endif
}

const std::vector<const Kernels*>& tables() {
    static const std::vector<const Kernels*> found = probe();
    return found;
}

const Kernels* find(const std::string& name, const char* who) {
    std::string names;
    for (const Kernels* table : tables()) {
        if (name == table->isa) return table;
        names += (names.empty() ? "" : ", ") + std::string(table->isa);
    }
    const bool compiled = ("," PYCNN_ISAS "," + std::string()).find("," + name + ",") != std::string::npos;
    throw std::invalid_argument(
        std::string(who) + ": '" + name + "' is " +
        (compiled ? "compiled, but this CPU does not have it" : "no instruction set of this build") +
        "; this machine can run: " + names + ".");
}

const Kernels* initial() {
    const char* wanted = std::getenv("PYCNN_ISA");
    return wanted && *wanted ? find(wanted, "PYCNN_ISA") : tables().back();
}

std::atomic<const Kernels*> active{nullptr};

struct Locks {
    std::mutex gate;
    std::shared_mutex in_use;
};
// Never destroyed: a daemon thread may compute while the process ends.
alignas(Locks) unsigned char room[sizeof(Locks)];
Locks* const locks = new (room) Locks;

void renew_locks() { new (room) Locks; }  // the forking thread runs no operator, or it could not fork
const int registered = pthread_atfork(nullptr, nullptr, renew_locks);

}  // namespace

KernelsInUse::KernelsInUse() {
    {
        const std::lock_guard<std::mutex> queue(locks->gate);
    }
    locks->in_use.lock_shared();
}

KernelsInUse::~KernelsInUse() { locks->in_use.unlock_shared(); }

NoKernelsInUse::NoKernelsInUse() {
    const std::lock_guard<std::mutex> first(locks->gate);
    locks->in_use.lock();
}

NoKernelsInUse::~NoKernelsInUse() { locks->in_use.unlock(); }

bool cpu_is_supported() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
#else
    return true;
#endif
}

Build build() { return {PYCNN_VERSION, PYCNN_SOURCE_HASH, PYCNN_COMPILER}; }

const Kernels& kernels() {
    const Kernels* table = active.load(std::memory_order_acquire);
    if (!table) {
        table = initial();
        active.store(table, std::memory_order_release);
    }
    return *table;
}

std::vector<std::string> available_isas() {
    std::vector<std::string> names;
    for (const Kernels* table : tables()) names.emplace_back(table->isa);
    return names;
}

void use_isa(const std::string& name) {
    const Kernels* table = find(name, "use_isa");
    const NoKernelsInUse alone;
    active.store(table, std::memory_order_release);
}

}  // namespace pycnn
