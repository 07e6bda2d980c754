// Powers: y = factor * x^exponent, and with dy times that, what its gradient needs; y may be x or dy.
//
// 1, 2, 3, -1, 1/2 and -1/2 are products, quotients and roots of float32, the others those of power.h. The root of -0 is -0.

#include "power.h"

#include "kernels.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

enum class Kind { one, square, cube, inverse, root, inverse_root, any };

Kind kind_of(double p) {
    return p == 1      ? Kind::one
           : p == 2    ? Kind::square
           : p == 3    ? Kind::cube
           : p == -1   ? Kind::inverse
           : p == 0.5  ? Kind::root
           : p == -0.5 ? Kind::inverse_root
                       : Kind::any;
}

PYCNN_INLINE vec power(vec x, Kind kind, const Exponent& e) {
    switch (kind) {
        case Kind::one:
            return x;
        case Kind::square:
            return x * x;
        case Kind::cube:
            return x * x * x;
        case Kind::inverse:
            return splat(1.0f) / x;
        case Kind::root:
            return square_root(x);
        case Kind::inverse_root:
            return splat(1.0f) / square_root(x);
        case Kind::any:
            return power_of(x, e);
    }
    return x;
}

}  // namespace

void power(const PowerCall& s) {
    const Kind kind = kind_of(s.exponent);
    const Exponent e = exponent_of(s.exponent);
    const vec factor = splat(s.factor);
    for (int64_t i = 0; i < s.size; i += VL) {
        const int64_t lanes = s.size - i < VL ? s.size - i : VL;
        vec v = e.p == 0 ? splat(1.0f) : power(load_first(s.x + i, lanes), kind, e);
        if (s.factor != 1.0f) v = v * factor;
        if (s.dy) v = load_first(s.dy + i, lanes) * v;
        store_first(s.y + i, v, lanes);
    }
}

}  // namespace pycnn::PYCNN_ISA
