#include "headrace/tensor/cuda.h"

#include <ATen/cuda/CUDAContextLight.h>

namespace headrace {

CudaProperties cuda_properties(int index) {
  const cudaDeviceProp& properties =
      *at::cuda::getDeviceProperties(static_cast<c10::DeviceIndex>(index));
  constexpr char kDigits[] = "0123456789abcdef";
  CudaProperties found{properties.name, ""};
  for (const char byte : properties.uuid.bytes) {
    found.uuid += kDigits[static_cast<unsigned char>(byte) >> 4U];
    found.uuid += kDigits[static_cast<unsigned char>(byte) & 15U];
  }
  return found;
}

}  // namespace headrace
