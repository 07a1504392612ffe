// Products of rows with weights that lie in panels: kPanel outputs side by side, one column of the
// matrix after another.
//
// Every output is one sum in the order of the columns, whatever is computed beside it: a row gives
// the same bits alone, among others, and on any number of threads.
#pragma once

#include <type_traits>

#include "../numbers.h"

namespace cllm {

typedef int32_t Ints __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef int8_t Bytes __attribute__((vector_size(kLanes), aligned(1), may_alias));

// kLanes stored numbers as floats.
inline Floats widen(const float *at) { return *(const Floats *)at; }
inline Floats widen(const BFloat16 *at) {
    return (Floats)(__builtin_convertvector(*(const Halves *)at, Words) << 16);
}
inline Floats widen(const int8_t *at) {
    return __builtin_convertvector(__builtin_convertvector(*(const Bytes *)at, Ints), Floats);
}

// Rows of floats, one `stride` after another.
struct Rows {
    const float *at;
    int64_t stride;
};
struct Outputs {
    float *at;
    int64_t stride;
};

// `rows` rows with `panels` panels; `columns` long. Sums of one row alone wait for each other, so
// that one row takes several panels together.
template <class W, int rows, int panels>
__attribute__((noinline)) void panel_tile(int64_t columns, Rows x, const W *weights,
                                          int64_t panel_stride, Outputs y) {
    Floats sums[rows][panels][kTileVectors];
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++)
#pragma GCC unroll 2
            for (int v = 0; v < kTileVectors; v++) sums[r][p][v] = Floats{};
    const float *x4 = x.at + 4 * x.stride, *x8 = x.at + 8 * x.stride;
    for (int64_t k = 0; k < columns; k++) {
        Floats right[panels][kTileVectors];
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++)
#pragma GCC unroll 2
            for (int v = 0; v < kTileVectors; v++)
                right[p][v] = widen(weights + p * panel_stride + k * kPanel + v * kLanes);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
            const float *row = r < 4 ? x.at : (r < 8 ? x4 : x8);
            Floats left = Floats{} + row[(r & 3) * x.stride + k];
#pragma GCC unroll 4
            for (int p = 0; p < panels; p++)
#pragma GCC unroll 2
                for (int v = 0; v < kTileVectors; v++) sums[r][p][v] += left * right[p][v];
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++)
#pragma GCC unroll 2
            for (int v = 0; v < kTileVectors; v++)
                *(Floats *)(y.at + r * y.stride + p * kPanel + v * kLanes) = sums[r][p][v];
}

template <class W, int rows>
inline void by_panels(int64_t columns, Rows x, const W *weights, int64_t panel_stride,
                      int64_t panels, Outputs y) {
    constexpr int kMost = rows == 1 ? 4 : (rows == 2 ? 2 : 1);
    int64_t p = 0;
    auto step = [&](auto together) {
        constexpr int n = decltype(together)::value;
        panel_tile<W, rows, n>(columns, x, weights + p * panel_stride, panel_stride,
                               {y.at + p * kPanel, y.stride});
        p += n;
    };
    while (p + kMost <= panels) step(std::integral_constant<int, kMost>());
    if constexpr (kMost > 2)
        if (p + 2 <= panels) step(std::integral_constant<int, 2>());
    if constexpr (kMost > 1)
        if (p < panels) step(std::integral_constant<int, 1>());
}

// y[r] = the products of row r with each of `panels` panels, `panel_stride` numbers apart.
template <class W>
void panel_product(int64_t rows, int64_t columns, Rows x, const W *weights, int64_t panel_stride,
                   int64_t panels, Outputs y) {
    auto step = [&](auto count) {
        constexpr int n = decltype(count)::value;
        by_panels<W, n>(columns, x, weights, panel_stride, panels, y);
        x.at += n * x.stride, y.at += n * y.stride, rows -= n;
    };
    if (rows > 2 * kTileRows) {
        // A panel stays in the first cache while all rows pass it.
        for (int64_t p = 0; p < panels; p++, weights += panel_stride, y.at += kPanel) {
            Rows from = x;
            Outputs to = y;
            int64_t left = rows;
            for (; left >= kTileRows; left -= kTileRows) {
                by_panels<W, kTileRows>(columns, from, weights, panel_stride, 1, to);
                from.at += kTileRows * x.stride, to.at += kTileRows * y.stride;
            }
            if (left) panel_product(left, columns, from, weights, panel_stride, 1, to);
        }
        return;
    }
    while (rows >= kTileRows) step(std::integral_constant<int, kTileRows>());
    if constexpr (kTileRows > 8) {
        if (rows >= 8) step(std::integral_constant<int, 8>());
    }
    if (rows >= 4) step(std::integral_constant<int, 4>());
    if (rows >= 2) step(std::integral_constant<int, 2>());
    if (rows >= 1) step(std::integral_constant<int, 1>());
}

// ---- sums over the keys ----

// Keys whose values are summed by themselves: one row can take several blocks together, and adds
// them up in the order in which many rows do.
constexpr int64_t kKeyBlock = 32;

template <class W, int rows, int vectors, int blocks>
inline void add_blocks(Floats (&totals)[rows][vectors], Rows weights, const W *values,
                       int64_t step) {
    Floats parts[blocks][rows][vectors];
#pragma GCC unroll 4
    for (int b = 0; b < blocks; b++)
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) parts[b][r][v] = Floats{};
    for (int64_t j = 0; j < kKeyBlock; j++) {
#pragma GCC unroll 4
        for (int b = 0; b < blocks; b++) {
            const W *value = values + (b * kKeyBlock + j) * step;
            Floats right[vectors];
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) right[v] = widen(value + v * kLanes);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
                Floats left = Floats{} + weights.at[r * weights.stride + b * kKeyBlock + j];
#pragma GCC unroll 2
                for (int v = 0; v < vectors; v++) parts[b][r][v] += left * right[v];
            }
        }
    }
#pragma GCC unroll 4
    for (int b = 0; b < blocks; b++)
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) totals[r][v] += parts[b][r][v];
}

template <class W, int rows, int vectors>
__attribute__((noinline)) void mix_tile(int64_t keys, Rows weights, const W *values, int64_t step,
                                        Outputs y) {
    Floats totals[rows][vectors];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) totals[r][v] = Floats{};
    constexpr int kTogether = rows == 1 ? 4 : (rows == 2 ? 2 : 1);
    auto go_on = [&](auto blocks) {
        constexpr int n = decltype(blocks)::value;
        add_blocks<W, rows, vectors, n>(totals, weights, values, step);
        weights.at += n * kKeyBlock, values += n * kKeyBlock * step, keys -= n * kKeyBlock;
    };
    while (keys > (kTogether - 1) * kKeyBlock) go_on(std::integral_constant<int, kTogether>());
    if constexpr (kTogether > 1)
        while (keys > 0) go_on(std::integral_constant<int, 1>());
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            *(Floats *)(y.at + r * y.stride + v * kLanes) = totals[r][v];
}

// y[r] = Σ_j weights[r, j] · values[j], `width` numbers (whole vectors) each. `keys` is rounded up
// to whole blocks: behind the last key, weights are 0 and values finite.
template <class W>
void mix(int64_t rows, int64_t keys, int64_t width, Rows weights, const W *values, Outputs y) {
    constexpr int kMost = 6;
    while (rows > 0) {
        auto step = [&](auto count) {
            constexpr int n = decltype(count)::value;
            for (int64_t c = 0; c < width; c += 2 * kLanes) {
                Outputs to = {y.at + c, y.stride};
                if (c + kLanes < width) mix_tile<W, n, 2>(keys, weights, values + c, width, to);
                else mix_tile<W, n, 1>(keys, weights, values + c, width, to);
            }
            weights.at += n * weights.stride, y.at += n * y.stride, rows -= n;
        };
        if (rows >= kMost) step(std::integral_constant<int, kMost>());
        else if (rows >= 2) step(std::integral_constant<int, 2>());
        else step(std::integral_constant<int, 1>());
    }
}

}  // namespace cllm
