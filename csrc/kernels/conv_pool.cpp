// The end of a block: 2 x 2 max pool of the map of a convolution, and the epilogue; one row of windows a call.
//
//   y[pw][c]     = activation(max over i, j of map[i][2 pw + j][c] + bias[c])
//   where[pw][c] = 2 i + j of that maximum
//
//   map [rows][OW][C], rows 1 or 2; y, where [PW][C], overwritten. Windows are cut to the map.
//
// The maximum, its NaN and ties: simd_maps.h. The activation never decreases, or the maximum of its results may be another.

#include "finish.h"
#include "kernels.h"
#include "simd_maps.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

PYCNN_INLINE void window(float* y, uint8_t* where, const float* map, const ConvPoolRow& s, int64_t c, int64_t columns,
                         int64_t lanes) {
    Maximum best{load_first(map, lanes), isplat(0)};
    for (int64_t i = 0; i < s.rows; ++i)
        for (int64_t j = i == 0; j < columns; ++j) take(best, load_first(map + (i * s.OW + j) * s.C, lanes), 2 * i + j);
    vec sum = best.value;
    if (s.epilogue.bias) sum = sum + load_first(s.epilogue.bias + c, lanes);
    store_first(y, relu_if(has_relu(s.epilogue), sum), lanes);
    if (where) store_bytes(where, best.at, lanes);
}

}  // namespace

void conv_pool_row(float* y, uint8_t* where, const ConvPoolRow& s) {
    for (int64_t pw = 0; pw < s.PW; ++pw) {
        const float* map = s.map + 2 * pw * s.C;
        const int64_t columns = s.OW - 2 * pw < 2 ? 1 : 2;
        for (int64_t c = 0; c < s.C; c += VL) {
            const int64_t at = pw * s.C + c;
            uint8_t* bytes = where ? where + at : nullptr;
            if (s.C - c >= VL)
                window(y + at, bytes, map + c, s, c, columns, VL);
            else
                window(y + at, bytes, map + c, s, c, columns, s.C - c);
        }
    }
    finish_late({.y = y, .size = s.PW * s.C}, s.epilogue);
}

}  // namespace pycnn::PYCNN_ISA
