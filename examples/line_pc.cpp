// Scores an image with an exported detector, by ONNX Runtime's C++ interface:
//   g++ -std=c++17 -O2 line_pc.cpp -I ONNXRUNTIME/include -L ONNXRUNTIME/lib -lonnxruntime -o line_pc
//   ./line_pc leather.onnx part.ppm
// prints score and label, and the limit that it is beyond if it is unlike the training images as a
// whole. The image is a binary PPM file (P6), which every image tool writes.
#include <onnxruntime_cxx_api.h>

#include <fstream>
#include <iostream>

#include "unlike.hpp"

int main(int, char** arguments) {
    Ort::Env environment;
    Ort::Session session(environment, arguments[1], Ort::SessionOptions());
    Ort::AllocatorWithDefaultOptions allocator;
    const Ort::ModelMetadata facts = session.GetModelMetadata();
    const auto fact = [&](const char* name) {
        return std::string(facts.LookupCustomMetadataMapAllocated(name, allocator).get());
    };

    if (!fact("roi").empty()) {
        std::cerr << "the detector has a region of interest, outside of which images must be blank" << std::endl;
        return 1;
    }

    std::ifstream file(arguments[2], std::ios::binary);
    std::string kind;
    int width = 0, height = 0, most = 0;
    file >> kind >> width >> height >> most;
    file.get();
    Pixels image(std::size_t(3) * width * height);
    file.read(reinterpret_cast<char*>(image.data()), image.size());
    if (kind != "P6" || most != 255 || !file) {
        std::cerr << arguments[2] << " is no binary PPM file of 8 bits" << std::endl;
        return 1;
    }

    std::vector<const char*> names;
    std::vector<Pixels> pixels;
    std::vector<Ort::Value> inputs;
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    // The second input is there only if images are seen through windows.
    int rows = 0, cols = 0;  // of the last one
    const std::pair<const char*, std::string> canvases[] = {{"images", "canvas"}, {"whole", "whole"}};
    for (const auto& [name, canvas] : canvases) {
        const int height_of_it = std::stoi(fact((canvas + "_height").c_str()));
        if (height_of_it == 0) continue;
        rows = height_of_it, cols = std::stoi(fact((canvas + "_width").c_str()));
        names.push_back(name);
        pixels.push_back(resize_as_pillow(image, height, width, rows, cols, fact("resize_filter")));
        const std::int64_t shape[] = {1, rows, cols, 3};
        inputs.push_back(Ort::Value::CreateTensor<std::uint8_t>(
            memory, pixels.back().data(), pixels.back().size(), shape, 4));
    }
    // The label in the file heeds the score and the distance only. Without training images there is
    // no distance.
    const Limits limits = read_limits(fact("limits"));
    const char* wanted[] = {"score", "label", "patch_scores", "distance"};
    auto told = session.Run(Ort::RunOptions(), names.data(), inputs.data(), inputs.size(), wanted,
                            limits.empty() ? 2 : 4);
    double score = told[0].GetTensorData<float>()[0];
    std::int64_t label = told[1].GetTensorData<std::int64_t>()[0];
    double distance = 0, most_of_it = 0;
    if (!limits.empty()) {
        const float* patches = told[2].GetTensorData<float>();
        const std::size_t count = told[2].GetTensorTypeAndShapeInfo().GetElementCount();
        distance = told[3].GetTensorData<float>()[0];
        most_of_it = distance * median({patches, patches + count});
    }
    const std::string why =
        unlike(limits, height, width, pixels.back(), rows, cols, distance, most_of_it);
    if (!why.empty()) {
        score += std::stod(fact("span"));
        label = 1;
    }
    std::cout << score << " " << label << (why.empty() ? "" : " ") << why << std::endl;
}
