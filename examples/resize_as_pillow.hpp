// Resizes RGB images as Pillow does, to the last bit: columns first, then rows, 8 bits in between.
// The rule in words is in src/pyimgano_openclip/runtime/README.md; resize() in line_pc.py is the same.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

using Pixels = std::vector<std::uint8_t>;  // RGB, row by row

// Half the width of a filter in pixels: 2 of bicubic, 1 of bilinear, 0.5 of box.
inline double weight(double x, double half) {
    if (half < 1) return x > -0.5 && x <= 0.5;
    x = std::abs(x);
    if (half < 2) return std::max(0.0, 1 - x);
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

// Resizes one axis of `old` pixels to `count`. Neighbours along it are `step` bytes apart; there are
// `outer` blocks of `old * step` bytes.
inline Pixels resize_axis(const Pixels& image, int outer, int old, int step, int count, double half) {
    const double scale = double(old) / count, wide = std::max(scale, 1.0);
    const double reach = half * wide;
    Pixels result(std::size_t(outer) * count * step);
    for (int place = 0; place < count; ++place) {
        const double centre = (place + 0.5) * scale;
        const int first = std::max(0, int(centre - reach + 0.5));
        const int last = std::min(old, int(centre + reach + 0.5));
        std::vector<double> weights;
        double total = 0;
        for (int at = first; at < last; ++at) {
            weights.push_back(weight((at - centre + 0.5) / wide, half));
            total += weights.back();
        }
        std::vector<int> fixed;  // with 22 bits of fraction; halves are rounded away from zero
        for (double w : weights) fixed.push_back(int(w / total * (1 << 22) + (w < 0 ? -0.5 : 0.5)));
        for (int block = 0; block < outer; ++block)
            for (int byte = 0; byte < step; ++byte) {
                std::int64_t sum = 1 << 21;
                for (int at = first; at < last; ++at)
                    sum += std::int64_t(fixed[at - first]) *
                           image[(std::size_t(block) * old + at) * step + byte];
                result[(std::size_t(block) * count + place) * step + byte] =
                    std::uint8_t(std::clamp<std::int64_t>(sum >> 22, 0, 255));
            }
    }
    return result;
}

inline Pixels resize_as_pillow(const Pixels& image, int height, int width, int new_height,
                               int new_width, const std::string& filter) {
    const double half = filter == "bicubic" ? 2 : filter == "bilinear" ? 1 : 0.5;
    const Pixels across = resize_axis(image, height, width, 3, new_width, half);
    return resize_axis(across, 1, height, 3 * new_width, new_height, half);
}
