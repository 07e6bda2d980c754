// Convolution in its three directions: checks nothing, chooses the algorithm, runs it.
//
//   y[n][oh][ow][oc]       = sum over kh, kw, c   of x[n][oh*s + kh*d - top][ow*s + kw*d - left][c] * weight[kh][kw][c][oc]
//   dx[n][h][w][c]         = sum over kh, kw, oc  of dy[n][oh][ow][oc] * weight[kh][kw][c][oc],
//                            where h = oh*s + kh*d - top and w = ow*s + kw*d - left
//   dweight[kh][kw][c][oc] = sum over n, oh, ow   of x[n][oh*s + kh*d - top][ow*s + kw*d - left][c] * dy[n][oh][ow][oc]
//
// x [N][H][W][C], weight [KH][KW][C/groups][OC], y and dy [N][OH][OW][OC]; results are overwritten. Group g reads the
// channels [g*C/groups, ...) and writes [g*OC/groups, ...). Pixels outside the image are zero.
#pragma once
#include <span>
#include <string_view>

#include "ops/epilogue.h"
#include "ops/runtime/cut.h"
#include "ops/runtime/scratch.h"
#include "ops/shapes.h"

namespace pycnn {

enum class Direction { forward, backward_input, backward_weight };

// One call of the forward direction with all that is fused to it.
struct Conv2dForward {
    float* y;  // [N][OH][OW][OC], or pooled [N][PH][PW][OC]
    const float* x;
    const float* packed = nullptr;  // the weight as Algorithm::pack made it, or as it is where there is no pack
    const float* weight = nullptr;  // as it is, where packed is null: of an algorithm that packs parts by itself
    const Conv2dShape& shape;
    Epilogue epilogue = {};    // with a pool: no residual, and an activation that never decreases
    int64_t PH = 0, PW = 0;    // of 2 x 2 windows of stride 2; 0: no pool
    uint8_t* where = nullptr;  // beside a pooled y: 2 i + j of the maximum, or null
    int64_t like = 0;          // of a part that a thread has cut off: decide as for so many images

    bool pooled() const { return PH > 0; }
};

// dx of a convolution; or y of a transposed one, with what becomes of its sums. The epilogue has no residual.
struct Conv2dBackwardInput {
    float* dx;
    const float *dy, *weight;
    const float* packed = nullptr;  // as Algorithm::pack_input made it, or null
    const Conv2dShape& shape;
    Epilogue epilogue = {};
};

// An algorithm is an entry of the registry (conv2d.cpp): a constant at the end of its file. All others read the entries:
// the operators, conv_pool, compiled networks, `explain_conv2d`.
struct Algorithm {
    const char* name;
    const char* reason;    // why it may be the fastest
    const char* computes;  // what fits, in words
    bool (*fits)(const Conv2dShape&, Direction);
    // What "auto" compares: multiply-adds of one lane, at the speed of direct convolution. By the shape alone, so every
    // machine and thread count takes the same way. packed: the weights are packed already.
    double (*cost)(const Conv2dShape&, Direction, bool packed);
    Cut (*cut)(const Conv2dShape&, Direction);  // over threads
    void (*forward)(const Conv2dForward&);
    void (*backward_input)(const Conv2dBackwardInput&);
    void (*backward_weight)(float* dweight, const float* x, const float* dy, const Conv2dShape&);

    // What an algorithm may leave out.
    bool pools = false;           // in registers; else the map is pooled in chunks that stay in L2
    bool packs_parts = false;     // forward takes the weight as it is too, and packs what it needs next
    bool finishes_input = false;  // backward_input has an epilogue; else a pass follows
    bool crops = false;           // takes shapes with Conv2dShape::crops
    int64_t (*packed_floats)(const Conv2dShape&) = nullptr;
    void (*pack)(float* packed, const float* weight, const Conv2dShape&) = nullptr;  // null: reads the weight as it is
    // The same for the gradient of the input; null: it takes the weight as it is.
    int64_t (*packed_input_floats)(const Conv2dShape&) = nullptr;
    void (*pack_input)(float* packed, const float* weight, const Conv2dShape&) = nullptr;
};

std::span<const Algorithm* const> algorithms();

// The cheapest entry that fits. packed: as above.
const Algorithm& choose(const Conv2dShape&, Direction, bool packed = false);

// `name` for this shape, "auto" for the cheapest, or null where it does not fit, or there is none.
const Algorithm* find_algorithm(std::string_view name, const Conv2dShape&, Direction);

// The weight packed into scratch memory of the caller; or the weight itself; or null: packs_parts.
const float* packed_in_scratch(Scratch&, const Algorithm&, const float* weight, const Conv2dShape&);

// With all that the call asks for, also what the algorithm itself leaves out.
void run_forward(const Algorithm&, const Conv2dForward&);
void run_backward_input(const Algorithm&, const Conv2dBackwardInput&);

struct Conv2dBackwardWeight {
    float* dweight;
    const float *x, *dy;
    const Conv2dShape& shape;
};
// The algorithm must fit. Forward packs the weight.
void conv2d_forward(const Conv2dForward&, std::string_view algorithm = "auto");
void conv2d_backward_input(const Conv2dBackwardInput&, std::string_view algorithm = "auto");
void conv2d_backward_weight(const Conv2dBackwardWeight&, std::string_view algorithm = "auto");

// `exact` keeps Winograd off F(4 x 4), whose error is two to three times that of direct convolution. It does not change
// while an operator runs.
void set_exact(bool);
bool is_exact();

// The products of one lane that direct convolution needs: taps inside the image, times channels of a group.
double inner_products(const Conv2dShape&);

// A file, or two or three, each. F(4 x 4) and F(2 x 2) are entries of one name.
namespace depthwise {
extern const Algorithm algorithm;
}
namespace grouped {
extern const Algorithm algorithm;
}
namespace few_channels {
extern const Algorithm algorithm;
}
namespace winograd {
extern const Algorithm large_tiles, small_tiles;
}
namespace direct {
extern const Algorithm algorithm;
void backward_weight(float* dweight, const float* x, const float* dy, const Conv2dShape&);
int64_t weight_units(const Conv2dShape&);  // that threads take in backward_weight
}  // namespace direct
namespace im2col {
extern const Algorithm algorithm;
}
namespace naive {
extern const Algorithm algorithm;

template <class T>  // float or double
void forward(T* y, const T* x, const T* weight, const Conv2dShape&, const EpilogueOf<T>&);
template <class T>
void backward_input(T* dx, const T* dy, const T* weight, const Conv2dShape&);
template <class T>
void backward_weight(T* dweight, const T* x, const T* dy, const Conv2dShape&);
}  // namespace naive

}  // namespace pycnn
