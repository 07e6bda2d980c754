// Rows of memcpy, cut into ranges of rows for the threads.

#include "ops/maps/join.h"

#include <cstring>

#include "ops/runtime/parallel.h"

namespace pycnn {
namespace {

// Calls copy(place in a row of the joined array, part, row) for each row of each part.
template <class Copy>
void for_rows(const std::vector<Part>& parts, int64_t rows, Copy&& copy) {
    std::size_t width = 0;
    for (const Part& part : parts) width += part.bytes;
    if (width == 0) return;
    parallel_for(rows, grain_units(kGrainBytes, 2.0 * static_cast<double>(width)), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
            std::size_t at = static_cast<std::size_t>(r) * width;
            for (const Part& part : parts) {
                if (part.data && part.bytes) copy(at, part, part.data + static_cast<std::size_t>(r) * part.bytes);
                at += part.bytes;
            }
        }
    });
}

}  // namespace

void concat(std::byte* y, const std::vector<Part>& parts, int64_t rows) {
    for_rows(parts, rows,
             [&](std::size_t at, const Part& part, const std::byte* row) { std::memcpy(y + at, row, part.bytes); });
}

void split(const std::vector<Part>& parts, const std::byte* x, int64_t rows) {
    for_rows(parts, rows,
             [&](std::size_t at, const Part& part, std::byte* row) { std::memcpy(row, x + at, part.bytes); });
}

}  // namespace pycnn
