// What Python builds a network in, and the checks of each step that is added: which values it may read and write.
#pragma once
#include <string>
#include <vector>

#include "array_check.h"
#include "ops/network/network.h"

namespace pycnn {

using Index = Network::Index;
using Indices = std::vector<Index>;
constexpr int64_t kMost = int64_t{1} << 40;  // of every size: no product or sum that is formed of two overflows

struct PythonStep {
    py::object function;
    Indices xs, ys;
    std::vector<Extents> x_shapes, y_shapes;  // of one image
};

struct Program {
    Network net;
    std::vector<bool> is_input, is_output, holds;  // holds: was written, and nothing lies over it since
    std::vector<PythonStep> python;
    bool has_run = false;  // then other threads may be in it, so no step is added
};

inline std::string value_text(Index i) { return "value " + std::to_string(i); }

// The product of sizes, or -1 where one is below 1 or it is beyond any value.
inline int64_t product(const Extents& sizes) {
    int64_t p = 1;
    for (const py::ssize_t size : sizes) {
        if (size < 1 || size > kMost / p) return -1;
        p *= size;
    }
    return p;
}

// One step that is being added: its arguments are checked first, then it is added, then `done` notes what it wrote.
class Adding {
  public:
    Adding(Program& p, const char* step) : program_(p), step_(std::string("Network.") + step) { check_open(); }

    void check_open() const {
        if (program_.has_run)
            refuse(
                "the network has run, perhaps in other threads; expected all steps before the first run: make a new "
                "Network.");
    }

    [[noreturn]] void refuse(const std::string& what) const { throw py::value_error(step_ + ": " + what); }
    const char* op() const { return step_.c_str(); }

    // in_place: y may lie exactly where this one lies.
    Index reads(Index i, const std::string& name, int64_t floats, bool in_place = false) {
        check_size(i, name, floats);
        if (!program_.holds[static_cast<std::size_t>(i)])
            refuse(name + " is " + value_text(i) +
                   ", which no step has written, or another value was written over it; expected an input, or a value "
                   "that holds its numbers.");
        read_.push_back({i, name, in_place});
        return i;
    }

    Index writes(Index i, const std::string& name, int64_t floats) {
        check_size(i, name, floats);
        if (program_.is_input[static_cast<std::size_t>(i)])
            refuse(name + " is " + value_text(i) + ", an input, which belongs to the caller; expected another value.");
        for (const Read& r : read_)
            if (overlap(i, r.index) && !(r.in_place && same_place(i, r.index)))
                refuse(name + " (" + value_text(i) + ") lies over " + r.name + " (" + value_text(r.index) +
                       "), which is still read while it is written; expected " +
                       (r.in_place ? "the same offset, or memory apart." : "memory apart from it."));
        for (const Index other : written_)
            if (overlap(i, other)) refuse(name + " lies over another value that this step writes.");
        written_.push_back(i);
        return i;
    }

    int64_t floats(Index i, const std::string& name) const {
        if (i < 0 || i >= count())
            refuse(name + " is " + value_text(i) + "; expected one of 0 .. " + std::to_string(count() - 1) + ".");
        return program_.net.floats(i);
    }

    void done() {
        for (const Index y : written_) {
            for (Index i = 0; i < count(); ++i)
                if (overlap(i, y)) program_.holds[static_cast<std::size_t>(i)] = false;
        }
        for (const Index y : written_) program_.holds[static_cast<std::size_t>(y)] = true;
    }

  private:
    struct Read {
        Index index;
        std::string name;
        bool in_place;
    };

    Index count() const { return static_cast<Index>(program_.net.values().size()); }
    const NetworkValue& at(Index i) const { return program_.net.values()[static_cast<std::size_t>(i)]; }
    bool same_place(Index a, Index b) const {
        return a == b || (at(a).offset == at(b).offset && at(a).floats == at(b).floats);
    }
    bool overlap(Index a, Index b) const {
        if (a == b) return true;
        const NetworkValue &v = at(a), &w = at(b);
        return v.offset >= 0 && w.offset >= 0 && v.offset < w.offset + w.floats && w.offset < v.offset + v.floats;
    }
    void check_size(Index i, const std::string& name, int64_t expected) const {
        const int64_t found = floats(i, name);
        if (found != expected)
            refuse(name + " is " + value_text(i) + " with " + std::to_string(found) + " floats an image; expected " +
                   (expected < 1 ? "another shape" : std::to_string(expected)) + " for this step.");
    }

    Program& program_;
    std::string step_;
    std::vector<Read> read_;
    Indices written_;
};

// arrays [N, ...] of the inputs -> fresh ones of the outputs, in these shapes (bindings_network_run.cpp).
std::vector<py::array> run_network(Program&, const std::vector<py::object>& arrays, const std::vector<Extents>& shapes);

// add_combine and add_sum_to (bindings_combine.cpp).
void bind_network_combine(py::class_<Program>&);
// add_layer_norm, add_group_norm and add_response_norm (bindings_row_norm.cpp).
void bind_network_row_norm(py::class_<Program>&);

}  // namespace pycnn
