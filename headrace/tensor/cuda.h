// What only CUDA's own headers tell; empty in builds without them.
#pragma once

#include <string>

namespace headrace {

struct CudaProperties {
  std::string name;  // "NVIDIA H100 80GB HBM3"
  std::string uuid;  // in hexadecimal digits
};

#ifdef HEADRACE_CUDA
CudaProperties cuda_properties(int index);
#else
inline CudaProperties cuda_properties(int) {
  return {};
}
#endif

}  // namespace headrace
