#include "ops/maps/combine.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "ops/maps/elementwise.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/scratch.h"
#include "ops/shapes.h"

namespace pycnn {
namespace {

constexpr int64_t kPart = 4096;  // elements that stay in L1 between two kernels: 16 KB of float32

template <class T>
constexpr bool vectorised = std::is_same_v<T, float>;

// The operand's extents, with ones for the axes that it has not.
Sizes with_rank(const Sizes& shape, std::size_t rank) {
    Sizes all(rank - shape.size(), 1);
    all.insert(all.end(), shape.begin(), shape.end());
    return all;
}

// Rows shorter than a vec beside one that repeats: it is written out 16 times, for whole vecs. Two threads, Zen 4,
// 8x112x112x3 times [3], microseconds: 293 -> 42 (PyTorch 103).
bool combine_narrow(const Combination& s) {
    constexpr int64_t kRows = 16;
    const bool a_repeats = s.a_row == 0;
    if (s.C >= 16 || s.rows < 2 * kRows || a_repeats == (s.b_row == 0) || s.a_step == 0 || s.b_step == 0) return false;
    float written[kRows * 16];
    for (int64_t i = 0; i < kRows; ++i) std::copy_n(a_repeats ? s.a : s.b, s.C, written + i * s.C);
    Combination wide = s, rest = s;
    wide.rows = s.rows / kRows, wide.C = kRows * s.C;
    const int64_t done = wide.rows * wide.C;
    (a_repeats ? wide.a : wide.b) = written;
    (a_repeats ? wide.b_row : wide.a_row) = wide.C;
    kernels().combine(wide);
    rest.rows = s.rows - wide.rows * kRows, rest.y += done;
    (a_repeats ? rest.b : rest.a) += done;
    kernels().combine(rest);
    return true;
}

template <class T>
void combine_rows(const CombinationOf<T>& s) {
    if constexpr (vectorised<T>) {
        if (!combine_narrow(s)) kernels().combine(s);
        return;
    }
    for (int64_t r = 0; r < s.rows; ++r)
        for (int64_t c = 0; c < s.C; ++c) {
            const T a = s.a[r * s.a_row + c * s.a_step], b = s.b[r * s.b_row + c * s.b_step];
            s.y[r * s.C + c] = s.op == Combine::add        ? a + b
                               : s.op == Combine::subtract ? a - b
                               : s.op == Combine::multiply ? a * b
                                                           : a / b;
        }
}

// Elements [begin, end) of a op b, in the order of y, to `to`. Each is computed for itself, so cuts change no bits.
template <class T>
void combine_part(T* to, const CombineCall<T>& s, int64_t begin, int64_t end) {
    const std::vector<Broadcast::Axis>& axes = s.shape.axes();
    const Broadcast::Axis one{1, 0, 0}, &inner = axes.back(), &outer = axes.size() > 1 ? axes[axes.size() - 2] : one;
    const int64_t C = inner.extent;
    for (int64_t at = begin; at < end;) {
        const int64_t c = at % C, in_block = at / C % outer.extent;
        const bool whole = c == 0 && end - at >= C;
        const int64_t rows = whole ? std::min((end - at) / C, outer.extent - in_block) : 1;
        const int64_t columns = whole ? C : std::min(C - c, end - at);
        int64_t a = in_block * outer.a + c * inner.a, b = in_block * outer.b + c * inner.b;
        int64_t block = at / C / outer.extent;
        for (std::size_t i = axes.size(); i-- > 2; block /= axes[i - 2].extent) {
            const Broadcast::Axis& axis = axes[i - 2];
            a += block % axis.extent * axis.a, b += block % axis.extent * axis.b;
        }
        combine_rows<T>({.y = to + (at - begin),
                         .a = s.a + a,
                         .b = s.b + b,
                         .rows = rows,
                         .C = columns,
                         .a_row = outer.a,
                         .b_row = outer.b,
                         .a_step = inner.a,
                         .b_step = inner.b,
                         .op = s.op});
        at += rows * columns;
    }
}

// What is summed: x itself, or x op other, made a part at a time.
template <class T>
struct Terms {
    const CombineCall<T>* combined;  // null: x
    const T* x;

    // Elements [begin, end); room: for kPart of them, or for as many as are asked for at once.
    const T* operator()(T* room, int64_t begin, int64_t end) const {
        if (!combined) return x + begin;
        combine_part(room, *combined, begin, end);
        return room;
    }
};

// ---- sums along one axis: [O][R][I] to [O][I]; long sums are cut in slots by R and I, which are added in order -----

template <class T>
void add_slots(T* y, const T* slots, int64_t O, int64_t S, int64_t I) {
    for (int64_t o = 0; o < O; ++o)
        for (int64_t i = 0; i < I; ++i) {
            T sum = slots[o * S * I + i];
            for (int64_t s = 1; s < S; ++s) sum += slots[(o * S + s) * I + i];
            y[o * I + i] = sum;
        }
}

template <class T>
void sum_columns(T* total, const T* x, int64_t rows, int64_t I) {  // total += the rows, one after the other
    if constexpr (vectorised<T>) return kernels().sum_rows(total, x, rows, I);
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t i = 0; i < I; ++i) total[i] += x[r * I + i];
}

template <class T>
void sum_in_rows(T* total, const T* x, int64_t rows, int64_t R) {
    if constexpr (vectorised<T>) return kernels().row_sums(total, x, rows, R);
    for (int64_t o = 0; o < rows; ++o) {
        total[o] = 0;
        for (int64_t r = 0; r < R; ++r) total[o] += x[o * R + r];
    }
}

// Units are slots: pieces of the R rows of I elements of one o.
template <class T>
void sum_middle(T* y, int64_t O, int64_t R, int64_t I, const Terms<T>& terms) {
    const int64_t S = sum_slots(R, I);
    Scratch scratch;
    T* slots = S > 1 ? scratch.array<T>(O * S * I) : y;
    parallel_for(O * S, grain_units(kGrainBytes, 8.0 * R * I / S), [&](int64_t begin, int64_t end) {
        const int64_t at_once = std::max<int64_t>(kPart / I, 1);
        Scratch inside;
        T* room = terms.combined ? inside.array<T>(at_once * I) : nullptr;
        for (int64_t unit = begin; unit < end; ++unit) {
            const int64_t o = unit / S, s = unit % S, last = (s + 1) * R / S;
            T* total = slots + unit * I;
            std::fill(total, total + I, T(0));
            for (int64_t r = s * R / S; r < last; r += at_once) {
                const int64_t rows = std::min(at_once, last - r), first = (o * R + r) * I;
                sum_columns(total, terms(room, first, first + rows * I), rows, I);
            }
        }
    });
    if (S > 1) add_slots(y, slots, O, S, I);
}

// I = 1. Units are slots again; short ones are taken several at a time.
template <class T>
void sum_inner(T* y, int64_t O, int64_t R, const Terms<T>& terms) {
    const int64_t S = sum_slots(R, 1), longest = ceil_div(R, S);
    Scratch scratch;
    T* slots = S > 1 ? scratch.array<T>(O * S) : y;
    parallel_for(O * S, grain_units(kGrainBytes, 8.0 * R / S), [&](int64_t begin, int64_t end) {
        const int64_t at_once = S > 1 ? 1 : std::max<int64_t>(kPart / std::max<int64_t>(R, 1), 1);
        Scratch inside;
        T* room = terms.combined ? inside.array<T>(at_once * longest) : nullptr;
        for (int64_t unit = begin; unit < end; unit += at_once) {
            const int64_t rows = std::min(at_once, end - unit), o = unit / S, s = unit % S;
            const int64_t first = o * R + s * R / S, size = (s + 1) * R / S - s * R / S;
            sum_in_rows(slots + unit, terms(room, first, first + rows * size), rows, size);
        }
    });
    if (S > 1) add_slots<T>(y, slots, O, S, 1);
}

struct Group {  // adjacent axes that are all kept, or all summed
    int64_t extent;
    bool summed;
};

std::vector<Group> grouped(const Sizes& x, const Sizes& y) {
    std::vector<Group> groups;
    for (std::size_t i = 0; i < x.size(); ++i) {
        if (x[i] == 1) continue;
        const bool summed = y[i] != x[i];
        if (groups.empty() || groups.back().summed != summed) groups.push_back({1, summed});
        groups.back().extent *= x[i];
    }
    return groups;
}

// Axis by axis, the last one first: it makes the most of what lies side by side.
template <class T>
void sum_groups(T* y, std::vector<Group> groups, Terms<T> terms, int64_t size) {
    Scratch scratch;
    for (std::size_t at = groups.size(); at-- > 0;) {
        if (!groups[at].summed) continue;
        const auto product = [&](std::size_t from, std::size_t to) {
            int64_t p = 1;
            for (std::size_t i = from; i < to; ++i) p *= groups[i].extent;
            return p;
        };
        const int64_t O = product(0, at), R = groups[at].extent, I = product(at + 1, groups.size());
        const bool last = std::none_of(groups.begin(), groups.begin() + static_cast<std::ptrdiff_t>(at),
                                       [](const Group& g) { return g.summed; });
        T* to = last ? y : scratch.array<T>(O * I);
        if (I == 1)
            sum_inner(to, O, R, terms);
        else if (O * I > 0)
            sum_middle(to, O, R, I, terms);
        if (last) return;
        terms = {nullptr, to};
        groups[at].extent = 1, groups[at].summed = false;
    }
    std::copy_n(terms(y, 0, size), terms.combined ? 0 : size, y);  // no axis is summed
}

}  // namespace

int64_t sum_slots(int64_t R, int64_t I) {
    constexpr int64_t kSlots = 64, kElements = 16384;
    return std::max<int64_t>(std::min({kSlots, R / 16, R * I / kElements}), 1);
}

Broadcast::Broadcast(const Sizes& y, const Sizes& a_given, const Sizes& b_given) {
    const Sizes a = with_rank(a_given, y.size()), b = with_rank(b_given, y.size());
    int64_t a_next = 1, b_next = 1;  // elements to the next one along the axis that comes
    for (std::size_t i = y.size(); i-- > 0;) {
        size_ *= y[i];
        if (y[i] == 1) continue;
        const Axis axis{y[i], a[i] == 1 ? 0 : a_next, b[i] == 1 ? 0 : b_next};
        if (axes_.empty() || (axes_.front().a == 0) != (axis.a == 0) || (axes_.front().b == 0) != (axis.b == 0))
            axes_.insert(axes_.begin(), axis);
        else
            axes_.front().extent *= y[i];
        a_next *= a[i], b_next *= b[i];
    }
    if (axes_.empty()) axes_.push_back({1, 1, 1});
}

template <class T>
void combine(const CombineCall<T>& s) {
    const bool activates = s.activation.kind != Activation::none;
    if (s.op == Combine::add && activates && !s.shape.repeats())  // one pass
        return finish<T>({.y = s.y,
                          .x = s.a,
                          .rows = 1,
                          .C = s.shape.size(),
                          .epilogue = {.residual = s.b, .activation = s.activation}});
    parallel_for(s.shape.size(), grain_units(kGrainBytes, 3.0 * sizeof(T)), [&](int64_t begin, int64_t end) {
        if (!activates) return combine_part(s.y + begin, s, begin, end);
        for (int64_t at = begin; at < end; at += kPart) {
            const int64_t size = std::min(kPart, end - at);
            combine_part(s.y + at, s, at, at + size);
            finish_here<T>(
                {.y = s.y + at, .x = s.y + at, .rows = 1, .C = size, .epilogue = {.activation = s.activation}});
        }
    });
}

template <class T>
void sum_to(const SumCall<T>& s) {
    int64_t size = 1, sums = 1;
    for (const int64_t extent : s.x_shape) size *= extent;
    for (const int64_t extent : s.y_shape) sums *= extent;
    if (sums == 0) return;
    const Broadcast shape(s.x_shape, s.x_shape, s.other ? s.other_shape : s.x_shape);
    const CombineCall<T> call{.y = nullptr, .a = s.x, .b = s.other, .op = s.op, .shape = shape};
    sum_groups<T>(s.y, grouped(s.x_shape, s.y_shape), {s.other ? &call : nullptr, s.x}, size);
    if (s.scale == 1) return;
    const T scale = static_cast<T>(s.scale);
    if constexpr (vectorised<T>)
        kernels().scale(s.y, scale, sums);
    else
        for (int64_t i = 0; i < sums; ++i) s.y[i] *= scale;
}

template <class T>
void power(const PowerOf<T>& s) {
    parallel_for(s.size, grain_units(kGrainBytes, 3.0 * sizeof(T)), [&](int64_t begin, int64_t end) {
        const T *x = s.x + begin, *dy = s.dy ? s.dy + begin : nullptr;
        T* y = s.y + begin;
        if constexpr (vectorised<T>)
            return kernels().power({.y = y,
                                    .x = x,
                                    .dy = dy,
                                    .size = end - begin,
                                    .exponent = s.exponent,
                                    .factor = static_cast<float>(s.factor)});
        for (int64_t i = 0; i < end - begin; ++i) {
            const T value = std::pow(x[i], s.exponent) * s.factor;
            y[i] = dy ? dy[i] * value : value;
        }
    });
}

template <class T>
void sum_rows(T* total, const T* x, int64_t rows, int64_t C) {
    sum_to<T>({.y = total, .x = x, .x_shape = {rows, C}, .y_shape = {1, C}});
}

template void combine(const CombineCall<float>&);
template void combine(const CombineCall<double>&);
template void sum_to(const SumCall<float>&);
template void sum_to(const SumCall<double>&);
template void power(const PowerOf<float>&);
template void power(const PowerOf<double>&);
template void sum_rows(float*, const float*, int64_t, int64_t);
template void sum_rows(double*, const double*, int64_t, int64_t);

}  // namespace pycnn
