// Winograd's convolution, forward and gradient of the input: both are correlations with a 3 x 3 weight.
//
//   filter     u [T T][panels][C][NR]
//   input      v [T T][C / 16][tiles][16]
//   product    m [T T][panels][tiles][NR]          T T matrix products
//   output     y, or the pooled y and its argmax
//
// Two ways, by the shape alone; the bits are the same, since a tile is computed by itself:
//
//   by tiles   u once; then threads own tiles, and where these are few some output channels of them, a block after the
//              other, whose v and m stay in L2; of groups, threads own panels, and make their u just before
//   by parts   a u so wide that reading it again for each block costs more than the products: all threads take a chunk
//              of tiles through one part of the panels after the other, step by step, so each number of u is read once a
//              chunk, and a part of it is made just before, into L3

#include "ops/conv2d/winograd.h"
#include "ops/runtime/caches.h"
#include "ops/runtime/cut.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/scratch.h"

namespace pycnn::winograd {
namespace {

int64_t round_up(int64_t n, int64_t to) { return ceil_div(n, to) * to; }

// Distances between the elements e: never a multiple of 4 KB, or all T T streams would meet in one set of L1.
struct Layout {
    int64_t v_chunk, v_element, m_panel, m_element;

    Layout(int64_t C, int64_t block, int64_t panels) {
        v_chunk = block * 16;
        v_element = ceil_div(C, 16) * v_chunk + 16;
        m_panel = block * kernels().NR;
        m_element = panels * m_panel + 16;
    }
};

int64_t filter_element(int64_t C, int64_t panels) { return panels * C * kernels().NR + 16; }

Map map_of(const Correlation& s) { return {s.in, s.H, s.W, s.C, s.top, s.left}; }

void transform_input(float* v, const Layout& at, WinogradInput in, int64_t m) {
    in.v = v, in.v_element = at.v_element, in.v_chunk = at.v_chunk;
    kernels().winograd_input(in, m);
}

// Output channels of the panels [begin, end).
struct Panels {
    int64_t begin, end;

    int64_t count() const { return end - begin; }
    int64_t first() const { return begin * kernels().NR; }
    int64_t channels(int64_t OC) const { return std::min(end * kernels().NR, OC) - first(); }
};

void transform_output(const float* m, const Layout& at, const Correlation& s, const Tiles& tiles, int64_t tile,
                      const Panels& panels) {
    const Place place = place_of(tiles, tile), next = later(tiles, place);
    const int64_t h = place.row * tiles.m, w = place.col * tiles.m, half = tiles.m / 2;
    const int64_t rows = std::min(tiles.m, s.OH - h), cols = std::min(tiles.m, s.OW - w);
    const int64_t pool_rows = std::min(half, s.PH - h / 2), pool_cols = std::min(half, s.PW - w / 2);
    const bool pool = s.PH > 0;
    if (pool && (pool_rows <= 0 || pool_cols <= 0)) return;  // the odd last row of a VALID pool
    const auto pixel_of = [&](const Place& p) { return (p.n * s.OH + p.row * tiles.m) * s.OW + p.col * tiles.m; };
    const int64_t pixel = pool ? (place.n * s.PH + h / 2) * s.PW + w / 2 : pixel_of(place);
    const int64_t to = pixel * s.OC + panels.first();
    kernels().winograd_output({.m = m,
                               .m_element = at.m_element,
                               .m_panel = at.m_panel,
                               .y = s.out + to,
                               .where = s.where ? s.where + to : nullptr,
                               .row = (pool ? s.PW : s.OW) * s.OC,
                               .OC = s.OC,
                               .channels = panels.channels(s.OC),
                               .rows = rows,
                               .cols = cols,
                               .pool_rows = pool ? pool_rows : 0,
                               .pool_cols = pool ? pool_cols : 0,
                               .next = s.out + pixel_of(next) * s.OC + panels.first(),
                               .epilogue = part_of(s.epilogue, panels.first(), to)},
                              tiles.m);
}

// u of some panels.
void transform_filter(float* u, const Filter& f, const FilterShape& s, const Panels& panels) {
    const int64_t C = s.C, OC = s.OC, m = s.m;
    const int64_t NR = kernels().NR, element = filter_element(C, panels.count());
    constexpr int64_t kRows = 16;  // channels a unit
    const int64_t parts = ceil_div(C, kRows);
    parallel_for(panels.count() * parts, grain_units(kGrainBytes, 4.0 * kRows * NR * (9 + (m + 2) * (m + 2))),
                 [&](int64_t begin, int64_t end) {
                     for (int64_t unit = begin; unit < end; ++unit) {
                         const int64_t p = unit / parts, panel = panels.begin + p, c = unit % parts * kRows;
                         kernels().winograd_filter({.u = u + (p * C + c) * NR,
                                                    .element = element,
                                                    .w = f.taps + panel * f.panel + c * f.row,
                                                    .tap = f.tap,
                                                    .row = f.row,
                                                    .rows = std::min(kRows, C - c),
                                                    .columns = Panels{panel, panel + 1}.channels(OC)},
                                                   m);
                     }
                 });
}

// Tiles that are computed together: v and m, three eighths of L2, stay there between their three uses. 56x56x64, 16
// images, of 1 MB of L2 (Zen 4, two threads): 3/16 6.0, 3/8 6.1, 3/4 7.0 ms.
int64_t block_size(const Tiles& tiles, int64_t C, int64_t OC) {
    const int64_t floats = caches().l2 * 3 / 8 / 4;
    const int64_t MR = kernels().MR, tile = tiles.elements() * (round_up(C, 16) + round_up(OC, kernels().NR));
    return std::max<int64_t>(floats / tile / MR, 1) * MR;
}

// Panels that a thread takes at least: those of a wide group read the same v.
int64_t unit_panels(int64_t group_OC, int64_t groups) { return groups > 1 ? ceil_div(group_OC, kernels().NR) : 1; }

// Panels that a block takes together: all of one group; through groups those of 64 channels, whose u, v and m stay in L2.
int64_t panels_together(const Correlation& s) {
    constexpr int64_t kChannels = 128;
    const int64_t NR = kernels().NR;
    return s.groups > 1 ? kChannels / NR : ceil_div(s.OC, NR);
}

// Tiles [first, last) through some panels, a block after the other. u: from these panels on, of u_panels.
void run_tiles(const Correlation& s, const Tiles& tiles, const float* u, int64_t u_panels, int64_t first, int64_t last,
               const Panels& panels) {
    const int64_t NR = kernels().NR, E = tiles.elements(), all = ceil_div(s.OC, NR), K = s.group_C();
    const bool grouped = s.groups > 1;
    const int64_t g0 = panels.first() / s.group_OC(),
                  g1 = ceil_div(panels.first() + panels.channels(s.OC), s.group_OC());
    const int64_t C = (g1 - g0) * K;  // that these panels read
    const int64_t most = block_size(tiles, C, grouped ? panels.channels(s.OC) : s.OC);
    const int64_t size = ceil_div(last - first, ceil_div(last - first, most));
    const int64_t u_element = filter_element(K, u_panels);
    const Layout at(C, size, grouped ? panels.count() : all);
    Scratch scratch;
    float* v = scratch.floats(E * at.v_element);
    float* product = scratch.floats(E * at.m_element);
    const Map map = map_of(s);
    Band band(scratch,
              {.tiles = tiles, .map = map, .first = g0 * K, .channels = grouped ? C : 0, .extent = tiles.m + 2});
    for (; first < last; first += size) {
        const int64_t count = std::min(size, last - first);
        Scratch list;
        const Order order(list, tiles, first, count);
        for (int64_t t = first; t < first + count; ++t)
            transform_input(v + order.slot(t - first) * 16, at,
                            grouped ? band.input(t) : in_place(map, tiles, t, tiles.m + 2), tiles.m);
        for (int64_t e = 0; e < E; ++e) {
            const Range slots = order.slots(e);
            kernels().winograd_product({.m = product + e * at.m_element + slots.begin * NR,
                                        .m_panel = at.m_panel,
                                        .v = v + e * at.v_element + slots.begin * 16,
                                        .v_chunk = at.v_chunk,
                                        .u = u + e * u_element,
                                        .tiles = slots.count(),
                                        .K = K,
                                        .columns = panels.channels(s.OC),
                                        .group = grouped ? s.group_OC() : 0,
                                        .v_group = K / 16 * at.v_chunk});
        }
        for (int64_t t = 0; t < count; ++t)
            transform_output(product + order.slot(t) * NR, at, s, tiles, first + t, panels);
    }
}

void by_tiles(const Correlation& s, const Tiles& tiles, const Filter& filter) {
    const float* u = filter.u;
    const int64_t K = s.group_C(), NR = kernels().NR, panels = ceil_div(s.OC, NR), together = panels_together(s),
                  unit = unit_panels(s.group_OC(), s.groups);
    const FilterShape shape{.C = K, .OC = s.OC, .m = tiles.m};
    Scratch scratch;
    if (!u && s.groups == 1) {
        float* room = scratch.floats(filter_size(K, s.OC, tiles.m));
        transform_filter(room, filter, shape, {0, panels});
        u = room;
    }
    const double flop = 2.0 * tiles.elements() * K * s.OC;
    parallel_rectangles(forward_cut(tiles, s.C, s.OC, s.groups), kGrainFlop, flop * static_cast<double>(tiles.count()),
                        [&](int64_t t0, int64_t t1, int64_t first, int64_t last) {
                            const int64_t end = last * unit;
                            Scratch own;  // u of groups, just before it is used
                            float* room = u ? nullptr : own.floats(filter_size(K, together * NR, tiles.m));
                            for (int64_t p = first * unit; p < end; p += together) {
                                const Panels part{p, std::min(p + together, end)};
                                if (room) transform_filter(room, filter, shape, part);
                                run_tiles(s, tiles, room ? room : u + p * K * NR, room ? part.count() : panels, t0, t1,
                                          part);
                            }
                        });
}

// m of the tiles of a chunk: threads own panels of single elements.
void multiply(float* product, const Layout& at, const float* v, const float* u, int64_t u_element, const Order& order,
              const Correlation& s, const Panels& part, int64_t E, double flop) {
    const int64_t NR = kernels().NR, panels = part.count();
    parallel_for(
        E * panels, grain_units(kGrainFlop, flop / static_cast<double>(E * panels)), [&](int64_t begin, int64_t end) {
            while (begin < end) {
                const int64_t e = begin / panels, p = begin % panels, last = std::min(panels, p + end - begin);
                const Range slots = order.slots(e);
                kernels().winograd_product({.m = product + e * at.m_element + p * at.m_panel + slots.begin * NR,
                                            .m_panel = at.m_panel,
                                            .v = v + e * at.v_element + slots.begin * 16,
                                            .v_chunk = at.v_chunk,
                                            .u = u + e * u_element + p * s.C * NR,
                                            .tiles = slots.count(),
                                            .K = s.C,
                                            .columns = Panels{part.begin + p, part.begin + last}.channels(s.OC),
                                            .fetches = true});
                begin += last - p;
            }
        });
}

// Panels of a part: its u is 9.4 MB at most, all of 256 x 256 channels. Forward of 28x28x256->256, 16 images, two parts
// instead of one: 28.8 ms instead of 25.2; 14x14x512->512, parts of 4.7 and of 9.4 MB: 39.4 and 40.3 (Zen 4, slow state).
int64_t panels_of_part(int64_t C, int64_t OC, int64_t E) {
    constexpr int64_t kFloats = 2359296;
    const int64_t NR = kernels().NR, panels = ceil_div(OC, NR);
    return ceil_div(panels, ceil_div(panels, std::max<int64_t>(kFloats / (E * C * NR), 1)));
}

// Tiles of a chunk, a multiple of MR, all chunks alike. v and m are 4 MB where u is one part, and 12 MB where each
// chunk makes u again: 28x28x256, 16 images, 4, 8 and 12 MB: 22.5, 23.6 and 25.2 ms; 14x14x512: 49.9, 43.1 and 40.3.
// Neither follows L3: parts and chunks of a quarter took 36.0 instead of 31.4 ms there, and to make u so often may cost
// more than a small L3 does.
int64_t chunk_size(const Correlation& s, const Tiles& tiles, int64_t each, int64_t panels) {
    const int64_t kFloats = each < panels ? 3000000 : 1000000;
    const int64_t tile = tiles.elements() * (round_up(s.C, 16) + each * kernels().NR);
    const int64_t chunks = ceil_div(tiles.count(), std::max<int64_t>(kFloats / tile, 1));
    return round_up(ceil_div(tiles.count(), chunks), kernels().MR);
}

// A tile's transforms take as long as so many operations at the FMA peak, for each channel.
constexpr double kInputFlop = 800, kOutputFlop = 500;

void by_parts(const Correlation& s, const Tiles& tiles, const Filter& filter) {
    const int64_t NR = kernels().NR, E = tiles.elements(), panels = ceil_div(s.OC, NR);
    const int64_t each = panels_of_part(s.C, s.OC, E), size = chunk_size(s, tiles, each, panels);
    const Layout at(s.C, size, each);
    const Map map = map_of(s);
    Scratch scratch;
    float* v = scratch.floats(E * at.v_element);
    float* product = scratch.floats(E * at.m_element);
    float* room = filter.u ? nullptr : scratch.floats(E * filter_element(s.C, each));
    // The grains count all chunks, whose steps follow each other while the threads still spin.
    const double chunks = static_cast<double>(ceil_div(tiles.count(), size));
    const double flop = 2.0 * E * s.C * s.OC * static_cast<double>(tiles.count());
    for (int64_t first = 0; first < tiles.count(); first += size) {
        const int64_t count = std::min(size, tiles.count() - first);
        Scratch list;
        const Order order(list, tiles, first, count);
        parallel_for(count, grain_units(kGrainFlop, kInputFlop * s.C * chunks), [&](int64_t begin, int64_t end) {
            for (int64_t t = begin; t < end; ++t)
                transform_input(v + order.slot(t) * 16, at, in_place(map, tiles, first + t, tiles.m + 2), tiles.m);
        });
        for (int64_t p = 0; p < panels; p += each) {
            const Panels part{p, std::min(p + each, panels)};
            if (room && (first == 0 || each < panels))
                transform_filter(room, filter, {.C = s.C, .OC = s.OC, .m = tiles.m}, part);
            const float* u = room ? room : filter.u + p * s.C * NR;
            multiply(product, at, v, u, filter_element(s.C, room ? part.count() : panels), order, s, part, E, flop);
            parallel_for(count, grain_units(kGrainFlop, kOutputFlop * s.OC * chunks), [&](int64_t begin, int64_t end) {
                for (int64_t t = begin; t < end; ++t)
                    transform_output(product + order.slot(t) * NR, at, s, tiles, first + t, part);
            });
        }
    }
}

// At 256 x 256 channels both ways take the same time (14x14, 16 images: 7.3 to 7.8 ms). Above it parts are faster
// (14x14x512->512 43.6 and 33.1 ms, one image 10.8 and 4.2), below it tiles: the steps of parts are regions, and four of
// them take longer than a small layer (the lecture's network, one image: 53 microseconds by tiles, 67 by parts).
bool takes_parts(int64_t C, int64_t OC, int64_t groups) {
    constexpr int64_t kPairs = 65536;
    return groups == 1 && C * OC > kPairs;
}

}  // namespace

int64_t filter_size(int64_t C, int64_t OC, int64_t m) {
    return (m + 2) * (m + 2) * filter_element(C, ceil_div(OC, kernels().NR));
}

void transform_filter(float* u, const Filter& filter, const FilterShape& s) {
    transform_filter(u, filter, s, {0, ceil_div(s.OC, kernels().NR)});
}

Cut forward_cut(const Tiles& tiles, int64_t C, int64_t OC, int64_t groups) {
    const int64_t panels = ceil_div(OC, kernels().NR);
    if (groups > 1) return {tiles.count(), panels / unit_panels(OC / groups, groups), true, true};
    if (takes_parts(C, OC, groups)) return cut_units(tiles.elements() * panels_of_part(C, OC, tiles.elements()));
    return cut_winograd(tiles.count(), panels, OC);
}

void run(const Correlation& s, int64_t m, const Filter& filter) {
    const Tiles tiles(m, s.N, s.OH, s.OW);
    if (tiles.count() == 0) return;
    takes_parts(s.C, s.OC, s.groups) ? by_parts(s, tiles, filter) : by_tiles(s, tiles, filter);
}

}  // namespace pycnn::winograd
