// Arrays side by side: the last axis of several joined to one, and cut again. Copies, of any type.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace pycnn {

struct Part {
    std::byte* data;    // [rows][bytes]; null: a part that split leaves out
    std::size_t bytes;  // of one row
};

// y [rows][sum of bytes] = the rows of the parts behind each other.
void concat(std::byte* y, const std::vector<Part>& parts, int64_t rows);
// The reverse; x as y above.
void split(const std::vector<Part>& parts, const std::byte* x, int64_t rows);

}  // namespace pycnn
