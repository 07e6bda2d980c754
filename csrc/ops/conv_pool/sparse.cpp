// The sparse gradients of a range of images. Of each image two lists are made, from one pass over dy:
//
//   pixels     of each pixel of the map: (output channel, g), ascending     dx[patch of the pixel] += g * weights[oc]
//   channels   of each output channel: (patch in x, g), pixel by pixel      dweight[oc] += g * x[patch]
//
// dweight: the sums of one output channel stay in registers while its list runs; the list is that of a group of images
// whose block of channels stays in L1, so loading and storing the sums weighs little. dx: the sums of one row kh of a
// patch stay in registers; the weights of that kh, all output channels of a part, stay in L1.

#include <algorithm>
#include <cstring>

#include "ops/conv_pool/parts.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/scratch.h"

namespace pycnn::conv_pool {

// Bytes of L1 that one operand of the products may take. Measured with 32 KB of L1 (Zen 4), half of the windows active:
// conv2 3.7 ms; 12 KB for the weights 4.1, 32 KB 3.6; images in groups of 64 KB: dweight 1.68 instead of 1.50 ms.
static constexpr int64_t kL1 = 24576;

Layout::Layout(const ConvPoolShape& b) {
    const Conv2dShape& s = b.conv;
    // 32 against 16 (one run each, ms): conv2 3.7 and 4.2; conv3 5.0 and 5.0, with AVX2 6.1 and 5.3.
    width = s.C < 16 ? s.C : s.C < 32 ? 16 : 32;
    blocks = ceil_div(s.C, width);
    padded_H = std::max(2 * b.PH - 1 + s.KH, s.pad.top + s.H);
    padded_W = std::max(2 * b.PW - 1 + s.KW, s.pad.left + s.W);
    row = round_up(s.KW * width, 16);
    group = std::clamp<int64_t>(kL1 / (4 * block_size()), 1, 4);
}

bool Layout::fits_int32(const ConvPoolShape& b) const {
    constexpr double kMost = 2147483647.0;
    const double lists = (static_cast<double>(b.PH) * b.PW * group + 16) * b.conv.OC;
    return lists < kMost && static_cast<double>(group) * padded_H * padded_W * width < kMost;
}

void transpose_weights(float* weights, const float* weight, const Conv2dShape& s, const Layout& l) {
    std::memset(weights, 0, sizeof(float) * (l.blocks * s.OC * s.KH * l.row + 16));
    for (int64_t block = 0; block < l.blocks; ++block)
        for (int64_t kh = 0; kh < s.KH; ++kh)
            for (int64_t kw = 0; kw < s.KW; ++kw) {
                const int64_t c = block * l.width;
                kernels().transpose({.to = weights + (block * s.KH + kh) * s.OC * l.row + kw * l.width,
                                     .to_row = l.row,
                                     .from = weight + ((kh * s.KW + kw) * s.C + c) * s.OC,
                                     .from_row = s.OC,
                                     .rows = std::min(l.width, s.C - c),
                                     .columns = s.OC});
            }
}

namespace {

struct Worker {
    const Arrays& a;
    const ConvPoolShape& b;
    const Layout& l;
    const float* weights;
    Scratch scratch;
    int64_t cells, group, part;  // output channels whose weights stay in L1

    float *images, *dx, *room;
    const float* g = nullptr;  // [cells][OC] of the current image
    // The lists of the pixels of one image and one part of the channels: [PH][4] of `list` and of PW + 1 elements.
    int64_t list;
    int32_t *channel, *begin;
    // The lists of the output channels: that of oc starts at oc * (cells * group + 16).
    float* values;
    int32_t *patch, *channel_begin, *channel_end, *pixels;  // pixels: where the patch of (cell, position) starts

    Worker(const Arrays& arrays, const ConvPoolShape& shape, const Layout& layout, const float* transposed);
    PixelLists lists_of_row(int64_t ph) const;
    void copy_image(int64_t n, int64_t at);
    void list_pixels(int64_t n, int64_t oc, int64_t end);
    void list_channels(int64_t n, int64_t at);
    void add_to_dx(int64_t oc);
    void copy_dx(int64_t n);
    void add_to_sums(float* slot);
};

Worker::Worker(const Arrays& arrays, const ConvPoolShape& shape, const Layout& layout, const float* transposed)
    : a(arrays), b(shape), l(layout), weights(transposed) {
    const int64_t OC = b.conv.OC;
    cells = b.PH * b.PW, group = l.group;
    part = std::min(OC, std::max<int64_t>(kL1 / (4 * l.row) / 16 * 16, 16));
    list = round_up(b.PW * part + 16, 16);
    // Everything in one buffer.
    enum { kImages, kDx, kRoom, kChannel, kBegin, kValues, kPatch, kChannelBegin, kChannelEnd, kPixels, kCount };
    const int64_t lists = (cells * group + 16) * OC;
    const int64_t sizes[kCount] = {group * l.image_size() + 16,
                                   a.dx ? l.image_size() : 0,
                                   cells * OC,
                                   4 * b.PH * list,
                                   4 * b.PH * (b.PW + 1),
                                   lists,
                                   lists,
                                   OC,
                                   OC,
                                   4 * cells};
    float* parts[kCount];
    int64_t total = 0;
    for (const int64_t size : sizes) total += round_up(size, 16);
    float* at = scratch.floats(total);
    for (int i = 0; i < kCount; ++i) parts[i] = at, at += round_up(sizes[i], 16);
    images = parts[kImages], dx = parts[kDx], room = parts[kRoom], values = parts[kValues];
    channel = reinterpret_cast<int32_t*>(parts[kChannel]);
    begin = reinterpret_cast<int32_t*>(parts[kBegin]);
    patch = reinterpret_cast<int32_t*>(parts[kPatch]);
    channel_begin = reinterpret_cast<int32_t*>(parts[kChannelBegin]);
    channel_end = reinterpret_cast<int32_t*>(parts[kChannelEnd]);
    pixels = reinterpret_cast<int32_t*>(parts[kPixels]);
    std::memset(images, 0, sizeof(float) * sizes[kImages]);
    for (int64_t oc = 0; oc < OC; ++oc) channel_begin[oc] = static_cast<int32_t>(oc * (cells * group + 16));
}

PixelLists Worker::lists_of_row(int64_t ph) const {
    PixelLists lists;
    for (int64_t p = 0; p < 4; ++p) {
        lists.channel[p] = channel + (4 * ph + p) * list;
        lists.begin[p] = begin + (4 * ph + p) * (b.PW + 1);
    }
    return lists;
}

// The inside of image `at` of the group; [blocks][group][padded_H][padded_W][width].
void Worker::copy_image(int64_t n, int64_t at) {
    const Conv2dShape& s = b.conv;
    for (int64_t block = 0; block < l.blocks; ++block)
        for (int64_t h = 0; h < s.H; ++h) {
            const int64_t c = block * l.width, count = std::min(l.width, s.C - c);
            const float* from = a.x + (n * s.H + h) * s.W * s.C + c;
            float* to =
                images + (block * group + at) * l.block_size() + ((h + s.pad.top) * l.padded_W + s.pad.left) * l.width;
            if (l.width == s.C) {
                std::memcpy(to, from, sizeof(float) * s.W * s.C);
                continue;
            }
            for (int64_t w = 0; w < s.W; ++w) std::memcpy(to + w * l.width, from + w * s.C, sizeof(float) * count);
        }
}

// The lists of output channels [oc, end) of all pixels of image n.
void Worker::list_pixels(int64_t n, int64_t oc, int64_t end) {
    const int64_t OC = b.conv.OC;
    for (int64_t ph = 0; ph < b.PH; ++ph) {
        const int64_t row = ph * b.PW * OC + oc;
        kernels().sparse_row({g + row, a.where + n * cells * OC + row, b.PW, end - oc, OC, lists_of_row(ph)});
    }
}

// Appends the non-zeros of image n, which is image `at` of the group.
void Worker::list_channels(int64_t n, int64_t at) {
    const int64_t OC = b.conv.OC;
    for (int64_t cell = 0; cell < cells; ++cell)
        for (int64_t p = 0; p < 4; ++p) {
            const int64_t oh = 2 * (cell / b.PW) + p / 2, ow = 2 * (cell % b.PW) + p % 2;
            pixels[4 * cell + p] = static_cast<int32_t>(at * l.block_size() + (oh * l.padded_W + ow) * l.width);
        }
    kernels().sparse_channels({g, a.where + n * cells * OC, cells, OC, pixels, patch, values, channel_end});
}

// The lists of output channels [oc, ...) times their weights.
void Worker::add_to_dx(int64_t oc) {
    const Conv2dShape& s = b.conv;
    for (int64_t block = 0; block < l.blocks; ++block)
        for (int64_t kh = 0; kh < s.KH; ++kh)
            for (int64_t oh = 0; oh < 2 * b.PH; ++oh)
                kernels().sparse_pixels({dx + block * l.block_size() + (oh + kh) * l.padded_W * l.width, l.width,
                                         s.KW * l.width, weights + ((block * s.KH + kh) * s.OC + oc) * l.row, l.row,
                                         g + oh / 2 * b.PW * s.OC + oc, b.PW, s.OC, lists_of_row(oh / 2), oh % 2});
}

void Worker::copy_dx(int64_t n) {
    const Conv2dShape& s = b.conv;
    for (int64_t block = 0; block < l.blocks; ++block)
        for (int64_t h = 0; h < s.H; ++h) {
            const int64_t c = block * l.width, count = std::min(l.width, s.C - c);
            const float* from = dx + block * l.block_size() + ((h + s.pad.top) * l.padded_W + s.pad.left) * l.width;
            float* to = a.dx + (n * s.H + h) * s.W * s.C + c;
            if (l.width == s.C) {
                std::memcpy(to, from, sizeof(float) * s.W * s.C);
                continue;
            }
            for (int64_t w = 0; w < s.W; ++w) std::memcpy(to + w * s.C, from + w * l.width, sizeof(float) * count);
        }
}

void Worker::add_to_sums(float* slot) {
    const Conv2dShape& s = b.conv;
    for (int64_t block = 0; block < l.blocks; ++block)
        kernels().sparse_sum({slot + block * s.OC * s.KH * l.row, s.KH * l.row, l.row,
                              images + block * group * l.block_size(), l.padded_W * l.width, s.KH, l.row, patch, values,
                              channel_begin, channel_end, s.OC});
}

}  // namespace

void sparse_images(const SlotImages& images, const Layout& l, const float* weights) {
    const auto& [slot, a, b, begin, end] = images;
    const int64_t OC = b.conv.OC;
    Worker w(a, b, l, weights);
    for (int64_t first = begin; first < end; first += w.group) {
        std::memcpy(w.channel_end, w.channel_begin, sizeof(int32_t) * OC);
        for (int64_t n = first; n < std::min(first + w.group, end); ++n) {
            w.copy_image(n, n - first);
            w.g = masked(w.room, a, b, n);
            if (a.dbias) kernels().sum_rows(slot + l.blocks * OC * b.conv.KH * l.row, w.g, w.cells, OC);
            w.list_channels(n, n - first);
            if (!a.dx) continue;
            std::memset(w.dx, 0, sizeof(float) * l.image_size());
            for (int64_t oc = 0; oc < OC; oc += w.part) {
                w.list_pixels(n, oc, std::min(oc + w.part, OC));
                w.add_to_dx(oc);
            }
            w.copy_dx(n);
        }
        w.add_to_sums(slot);
    }
}

void one_channel_images(const SlotImages& images) {
    const auto& [slot, a, b, begin, end] = images;
    const Conv2dShape& s = b.conv;
    const int64_t rows = 2 * b.PH - 1 + s.KH, columns = 2 * b.PW - 1 + s.KW, image = b.PH * b.PW * s.OC;
    const int64_t padded_H = std::max(rows, s.pad.top + s.H) + 1, padded_W = std::max(columns, s.pad.left + s.W) + 1;
    Scratch scratch;
    float* padded = scratch.floats(padded_H * padded_W + 4 * rows * columns + image);
    float *windows = padded + padded_H * padded_W, *room = windows + 4 * rows * columns;
    std::memset(padded, 0, sizeof(float) * padded_H * padded_W);
    for (int64_t n = begin; n < end; ++n) {
        for (int64_t h = 0; h < s.H; ++h)
            std::memcpy(padded + (h + s.pad.top) * padded_W + s.pad.left, a.x + (n * s.H + h) * s.W,
                        sizeof(float) * s.W);
        for (int64_t h = 0; h < rows; ++h)
            for (int64_t w = 0; w < columns; ++w) {
                const float* pixel = padded + h * padded_W + w;
                std::memcpy(windows + 4 * (h * columns + w), pixel, 2 * sizeof(float));
                std::memcpy(windows + 4 * (h * columns + w) + 2, pixel + padded_W, 2 * sizeof(float));
            }
        const float* g = masked(room, a, b, n);
        for (int64_t oc = 0; oc < s.OC; oc += 16)
            kernels().picked_taps({slot + oc * s.taps(), windows, columns, s.KH, s.KW, g + oc, a.where + n * image + oc,
                                   b.PH, b.PW, s.OC, std::min<int64_t>(16, s.OC - oc)});
        if (a.dbias) kernels().sum_rows(slot + round_up(s.OC, 16) * s.taps(), g, b.PH * b.PW, s.OC);
    }
}

}  // namespace pycnn::conv_pool
