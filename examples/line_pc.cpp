// Scores an image with an exported detector, by ONNX Runtime's C++ interface:
//   g++ -std=c++17 -O2 line_pc.cpp -I ONNXRUNTIME/include -L ONNXRUNTIME/lib -lonnxruntime -o line_pc
//   ./line_pc leather.onnx part.ppm
// prints score and label. The image is a binary PPM file (P6), which every image tool writes.
#include <onnxruntime_cxx_api.h>

#include <fstream>
#include <iostream>

#include "resize_as_pillow.hpp"

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
    int width, height, most;
    file >> kind >> width >> height >> most;
    file.get();
    Pixels image(std::size_t(3) * width * height);
    file.read(reinterpret_cast<char*>(image.data()), image.size());

    std::vector<const char*> names;
    std::vector<Pixels> pixels;
    std::vector<Ort::Value> inputs;
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    // The second input is there only if images are seen through windows.
    const std::pair<const char*, std::string> canvases[] = {{"images", "canvas"}, {"whole", "whole"}};
    for (const auto& [name, canvas] : canvases) {
        const int rows = std::stoi(fact((canvas + "_height").c_str()));
        const int cols = std::stoi(fact((canvas + "_width").c_str()));
        if (rows == 0) continue;
        names.push_back(name);
        pixels.push_back(resize_as_pillow(image, height, width, rows, cols, fact("resize_filter")));
        const std::int64_t shape[] = {1, rows, cols, 3};
        inputs.push_back(Ort::Value::CreateTensor<std::uint8_t>(
            memory, pixels.back().data(), pixels.back().size(), shape, 4));
    }
    const char* wanted[] = {"score", "label"};
    auto told = session.Run(Ort::RunOptions(), names.data(), inputs.data(), inputs.size(), wanted, 2);
    std::cout << told[0].GetTensorData<float>()[0] << " " << told[1].GetTensorData<std::int64_t>()[0]
              << std::endl;
}
