// What each row of the table in epilogue.h is, and how steep: y = value(x), dx = gradient(dy, x) or gradient(dy, y), as the
// argument's name says; where both would do it is `v`. V is vec in epilogue.cpp and double in ops/maps/activation.cpp, which
// include this behind the functions of numbers that it is made of.
//
// Every limit is kept below by a bound on x behind which the factor beside it is exactly 0 or 1, in both types.
#pragma once
#include "epilogue.h"

#ifndef PYCNN_INLINE  // in ops/, where there are no vectors
#define PYCNN_INLINE static inline
#endif

namespace pycnn {
namespace {

template <class V>
using bool_of = decltype(greater(V(), V()));

template <class V>
PYCNN_INLINE V at_most(V x, V high) {  // leaves NaN alone
    return select(greater(x, high), high, x);
}
template <class V>
PYCNN_INLINE V at_least(V x, V low) {  // likewise; of -0.0 and 0 the first stays
    return select(greater(low, x), low, x);
}
template <class V>
PYCNN_INLINE V within(V x, double size) {
    return at_most(at_least(x, like(x, -size)), like(x, size));
}

// 1 / (1 + exp(-x)) and its derivative, with e = exp(-|x|) so that neither overflows nor cancels.
template <class V>
struct Logistic {
    V e, sum;
    bool_of<V> positive;
};
template <class V>
PYCNN_INLINE Logistic<V> logistic(V x) {
    const V zero = like(x, 0), one = like(x, 1);
    const bool_of<V> positive = greater(x, zero);
    const V e = exp_of_negative(select(positive, zero - x, x));
    return {e, one + e, positive};
}
template <class V>
PYCNN_INLINE V value_of(const Logistic<V>& s) {
    return select(s.positive, like(s.e, 1), s.e) / s.sum;
}
template <class V>
PYCNN_INLINE V slope_of(const Logistic<V>& s) {
    return s.e / (s.sum * s.sum);
}

// dy * factor, where the factor may be infinite.
template <class V>
PYCNN_INLINE V product(V dy, V factor) {
    const V zero = like(dy, 0);
    return select(greater(dy, zero) | greater(zero, dy), dy * factor, dy);
}

// dy where low < v < high, or v is NaN, else 0.
template <class V>
PYCNN_INLINE V passed(V dy, V v, V low, V high) {
    const V zero = like(dy, 0);
    return select(greater(v, low), select(greater(high, v), dy, zero), select(is_nan(v), dy, zero));
}

template <class V>
struct Numbers {
    V a, b;
};

template <Activation::Kind>
struct Function;

#define PYCNN_FUNCTION(kind) \
    template <>              \
    struct Function<Activation::kind>
#define PYCNN_VALUE    \
    template <class V> \
    PYCNN_INLINE V value
#define PYCNN_GRADIENT \
    template <class V> \
    PYCNN_INLINE V gradient

PYCNN_FUNCTION(relu){PYCNN_VALUE(V x, const Numbers<V>&){return at_least(x, like(x, 0));
}  // namespace
PYCNN_GRADIENT(V dy, V v, const Numbers<V>&) {
    const V zero = like(dy, 0);
    return select(greater(v, zero) | is_nan(v), dy, zero);
}
};  // namespace pycnn
PYCNN_FUNCTION(clip){// low above high: high
                     PYCNN_VALUE(V x, const Numbers<V>& n){return at_most(at_least(x, n.a), n.b);
}
PYCNN_GRADIENT(V dy, V v, const Numbers<V>& n) { return passed(dy, v, n.a, n.b); }
}
;
PYCNN_FUNCTION(leaky_relu){// v may be y where the slope is above 0
                           PYCNN_VALUE(V x, const Numbers<V>& n){return select(greater(like(x, 0), x), x* n.a, x);
}
PYCNN_GRADIENT(V dy, V v, const Numbers<V>& n) { return select(greater(v, like(v, 0)), dy, dy * n.a); }
}
;
PYCNN_FUNCTION(elu){PYCNN_VALUE(V x, const Numbers<V>& n){const V zero = like(x, 0);
return select(greater(x, zero), x, n.a* expm1_of_negative(select(greater(x, zero), zero, x)));
}
PYCNN_GRADIENT(V dy, V y, const Numbers<V>& n) { return select(greater(y, like(y, 0)), dy, dy * (y + n.a)); }
}
;
PYCNN_FUNCTION(hard_sigmoid){
    PYCNN_VALUE(V x, const Numbers<V>& n){return at_most(at_least(fma(x, n.a, n.b), like(x, 0)), like(x, 1));
}
PYCNN_GRADIENT(V dy, V y, const Numbers<V>& n) { return passed(dy * n.a, y, like(y, 0), like(y, 1)); }
}
;
PYCNN_FUNCTION(hard_swish){PYCNN_VALUE(V x, const Numbers<V>&){const V three = like(x, 3), sixth = like(x, 1.0 / 6);
return at_least(x, like(x, -3)) * (at_most(at_least(x + three, like(x, 0)), like(x, 6)) * sixth);
}
PYCNN_GRADIENT(V dy, V x, const Numbers<V>&) {
    const V inside = dy * fma(x, like(x, 1.0 / 3), like(x, 0.5));
    return select(greater(x, like(x, -3)), select(greater(like(x, 3), x), inside, dy),
                  select(is_nan(x), inside, like(x, 0)));
}
}
;
PYCNN_FUNCTION(sigmoid){PYCNN_VALUE(V x, const Numbers<V>&){return value_of(logistic(x));
}
PYCNN_GRADIENT(V dy, V y, const Numbers<V>&) { return dy * (y * (like(y, 1) - y)); }
}
;
PYCNN_FUNCTION(silu){PYCNN_VALUE(V x, const Numbers<V>&){return at_least(x, like(x, -746)) * value_of(logistic(x));
}
PYCNN_GRADIENT(V dy, V x, const Numbers<V>&) {
    const V v = within(x, 746);
    const Logistic<V> s = logistic(v);
    return dy * fma(v, slope_of(s), value_of(s));
}
}
;
PYCNN_FUNCTION(tanh){PYCNN_VALUE(V x, const Numbers<V>&){return tanh_of(x);
}
PYCNN_GRADIENT(V dy, V y, const Numbers<V>&) { return dy * ((like(y, 1) - y) * (like(y, 1) + y)); }
}
;
PYCNN_FUNCTION(gelu){PYCNN_VALUE(V x, const Numbers<V>&){return at_least(x, like(x, -40)) * normal_share(x);
}
PYCNN_GRADIENT(V dy, V x, const Numbers<V>&) {
    const V v = within(x, 40), density = like(x, 0.3989422804014327) * exp_of_negative(like(x, -0.5) * v * v);
    return dy * fma(v, density, normal_share(v));
}
}
;
// x sigmoid(2 v), which is x / 2 (1 + tanh(v)), with 2 v = x (1.5958 + 0.0714 x^2).
PYCNN_FUNCTION(gelu_tanh){PYCNN_VALUE(V x, const Numbers<V>&){
    const V twice = x * fma(x * x, like(x, 0.07135481627260025), like(x, 1.5957691216057308));
return at_least(x, like(x, -40)) * value_of(logistic(twice));
}
PYCNN_GRADIENT(V dy, V x, const Numbers<V>&) {
    const V v = within(x, 40), square = v * v, c = like(x, 1.5957691216057308);
    const Logistic<V> s = logistic(v * fma(square, like(x, 0.07135481627260025), c));
    const V inner = fma(square, like(x, 3 * 0.07135481627260025), c);
    return dy * fma(v * inner, slope_of(s), value_of(s));
}
}
;
PYCNN_FUNCTION(softplus){PYCNN_VALUE(V x, const Numbers<V>& n){const V zero = like(x, 0), t = n.a * x;
const bool_of<V> positive = greater(t, zero);
const V log = log1p_of(exp_of_negative(select(positive, zero - t, t)));
return select(greater(t, n.b), x, (select(positive, t, zero) + log) / n.a);
}
PYCNN_GRADIENT(V dy, V x, const Numbers<V>& n) {
    const V t = n.a * x;
    return select(greater(t, n.b), dy, dy * value_of(logistic(t)));
}
}
;
PYCNN_FUNCTION(exp){PYCNN_VALUE(V x, const Numbers<V>&){return exp_of(x);
}
PYCNN_GRADIENT(V dy, V y, const Numbers<V>&) { return product(dy, y); }
}
;
PYCNN_FUNCTION(erf){PYCNN_VALUE(V x, const Numbers<V>&){return erf_of(x);
}
PYCNN_GRADIENT(V dy, V x, const Numbers<V>&) {
    return dy * (like(x, 1.1283791670955126) * exp_of_negative(like(x, 0) - x * x));
}
}
;
PYCNN_FUNCTION(sqrt){// NaN below 0
                     PYCNN_VALUE(V x, const Numbers<V>&){return square_root(x);
}
PYCNN_GRADIENT(V dy, V y, const Numbers<V>&) { return product(dy, like(y, 0.5) / y); }
}
;
PYCNN_FUNCTION(abs){PYCNN_VALUE(V x, const Numbers<V>&){return absolute(x);
}
PYCNN_GRADIENT(V dy, V x, const Numbers<V>&) {
    const V zero = like(x, 0);
    return select(greater(x, zero), dy, select(greater(zero, x), zero - dy, x * zero));
}
}
;
PYCNN_FUNCTION(log){// -Inf of 0, NaN below
                    PYCNN_VALUE(V x, const Numbers<V>&){return log_of(x);
}
PYCNN_GRADIENT(V dy, V x, const Numbers<V>&) { return product(dy, like(x, 1) / x); }
}
;

#undef PYCNN_FUNCTION
#undef PYCNN_VALUE
#undef PYCNN_GRADIENT

}  // namespace
}  // namespace pycnn
