#include "tests/device/closed_memory.h"
#include "tests/device/test_device.h"
#include "tests/device/under_test.h"

namespace headrace {

int devices_under_test() {
  return kTestDevices;
}

torch::Device device_under_test(int index) {
  return test_device(index);
}

std::optional<std::int64_t> waits_so_far() {
  return host_waits();
}

double looseness() {
  return 1;
}

}  // namespace headrace
