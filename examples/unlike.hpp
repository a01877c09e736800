// Tells why an image is unlike the training images as a whole, by the limits of an exported file.
// The rule in words is in src/pyimgano_openclip/runtime/README.md; images/look.py is the same.
#pragma once
#include <cstdlib>
#include <initializer_list>
#include <limits>
#include <map>

#include "resize_as_pillow.hpp"

using Limits = std::map<std::string, std::pair<double, double>>;  // lowest and highest by name

// Reads the metadata `limits`: {"name": [lowest, highest], ...}.
inline Limits read_limits(const std::string& json) {
    Limits limits;
    for (std::size_t at = json.find('"'); at != std::string::npos; at = json.find('"', at)) {
        const std::size_t end = json.find('"', at + 1);
        char* next;
        const double lowest = std::strtod(json.c_str() + json.find('[', end) + 1, &next);
        limits[json.substr(at + 1, end - at - 1)] = {lowest, std::strtod(next + 1, &next)};
        at = next - json.c_str();
    }
    return limits;
}

struct Grey {
    int rows, cols;
    std::vector<double> level;
    double at(int row, int col) const { return level[std::size_t(row) * cols + col]; }
};

// Differences of pixels below each other and beside each other, within a rectangle.
struct Steps {
    std::vector<double> down, right;
    Steps(const Grey& grey, int top, int bottom, int left, int end) {
        for (int row = top; row < bottom; ++row)
            for (int col = left; col < end; ++col) {
                const double here = grey.at(row, col);
                if (row + 1 < bottom) down.push_back(std::abs(grey.at(row + 1, col) - here));
                if (col + 1 < end) right.push_back(std::abs(grey.at(row, col + 1) - here));
            }
    }
};

inline double detail(std::initializer_list<const std::vector<double>*> parts) {
    double sum = 0, count = 0;
    for (const auto* part : parts) {
        for (double step : *part) sum += step;
        count += double(part->size());
    }
    return std::log((count ? sum / count : 0) + 0.5);
}

inline double detail(const Steps& steps) { return detail({&steps.down, &steps.right}); }

// The value that one in a thousand differences exceed.
inline double edges(const Steps& steps) {
    std::vector<double> every = steps.down;
    every.insert(every.end(), steps.right.begin(), steps.right.end());
    if (every.empty()) return std::log(0.5);
    std::sort(every.begin(), every.end());
    const double place = 0.999 * double(every.size() - 1);
    const std::size_t low = std::size_t(place), high = std::min(low + 1, every.size() - 1);
    return std::log(every[low] + (place - double(low)) * (every[high] - every[low]) + 0.5);
}

// The means of blocks of 4 x 4 pixels; the same image if it is hardly larger than one.
inline Grey in_blocks(const Grey& grey) {
    Grey found{grey.rows / 4, grey.cols / 4, {}};
    if (std::min(found.rows, found.cols) < 2) return grey;
    found.level.resize(std::size_t(found.rows) * found.cols);
    for (int row = 0; row < found.rows * 4; ++row)
        for (int col = 0; col < found.cols * 4; ++col)
            found.level[std::size_t(row / 4) * found.cols + col / 4] += grey.at(row, col) / 16;
    return found;
}

inline double median(std::vector<double> numbers) {
    std::sort(numbers.begin(), numbers.end());
    const std::size_t half = numbers.size() / 2;
    return numbers.size() % 2 ? numbers[half] : (numbers[half - 1] + numbers[half]) / 2;
}

// Whether nothing can be seen: nearly one colour, or nearly black or white.
inline bool flat(const Grey& grey) {
    const double count = double(grey.level.size());
    double brightness = 0, contrast = 0;
    for (double level : grey.level) brightness += level / count;
    for (double level : grey.level) contrast += (level - brightness) * (level - brightness) / count;
    const bool shade = brightness < 12 || brightness > 245;
    return std::sqrt(contrast) < (shade ? 4 : 2);
}

// The name of a limit that an image is beyond; empty if it is like the training images. Without any
// limits, "flat" if nothing can be seen.
//   height, width: of the original image
//   pixels: as the network gets them, rows x cols (of the input `whole`, if there is one)
//   distance: the output; most: that times the median of the patch scores
inline std::string unlike(const Limits& limits, int height, int width, Pixels pixels, int rows,
                          int cols, double distance, double most) {
    const double sides = std::log(double(height)) + std::log(double(width));
    const double shrink = 224.0 / std::max(rows, cols);
    if (shrink < 1) {  // nearbyint rounds halves to even, as Python does
        const int low = std::max(1, int(std::nearbyint(rows * shrink)));
        const int narrow = std::max(1, int(std::nearbyint(cols * shrink)));
        pixels = resize_as_pillow(pixels, rows, cols, low, narrow, "box");
        rows = low, cols = narrow;
    }
    Grey grey{rows, cols, {}};
    double mean[3] = {0, 0, 0};
    for (std::size_t at = 0; at < pixels.size(); at += 3) {
        grey.level.push_back(0.299 * pixels[at] + 0.587 * pixels[at + 1] + 0.114 * pixels[at + 2]);
        for (int channel = 0; channel < 3; ++channel) mean[channel] += pixels[at + channel];
    }
    if (limits.empty()) return flat(grey) ? "flat" : "";
    for (double& channel : mean) channel = std::log(channel / double(grey.level.size()) + 8);
    const Steps all(grey, 0, rows, 0, cols);
    const Grey blocks = in_blocks(grey);
    const double none = std::numeric_limits<double>::infinity();

    std::string why;
    // Of some, values beyond one end only count: the other end is then left out.
    const auto check = [&](const char* name, double value, bool lowest = true, bool highest = true) {
        const auto found = limits.find(name);
        if (found == limits.end()) return;
        const auto [low, high] = found->second;
        if (!(value >= (lowest ? low : -none) && value <= (highest ? high : none))) why = name;
    };
    check("distance", distance);
    check("most", most);
    check("red", mean[0] - mean[1]);
    check("blue", mean[2] - mean[1]);
    check("slant", detail({&all.down}) - detail({&all.right}));
    check("grain", detail(all) - detail(Steps(blocks, 0, blocks.rows, 0, blocks.cols)), false);
    double repeats = none;
    const Steps halves[] = {
        {grey, 0, rows, 0, cols / 2}, {grey, 0, rows, cols / 2, cols},
        {grey, 0, rows / 2, 0, cols}, {grey, rows / 2, rows, 0, cols}};
    for (const Steps& half : halves) {
        check("half", detail(half));
        const double least = std::min(detail({&half.down}), detail({&half.right}));
        repeats = std::min(repeats, least - detail(half));
    }
    check("repeats", repeats, true, false);
    check("edges", edges(all), true, false);
    check("detail", detail(all));
    check("sides", sides / 2);
    check("proportions", std::log(double(width) / height));
    return why;
}
