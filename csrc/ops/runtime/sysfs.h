// Reading what the kernel tells in small files.
#pragma once
#include <fstream>
#include <string>

namespace pycnn {

// Empty where there is no such file.
inline std::string first_line(const std::string& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

}  // namespace pycnn
