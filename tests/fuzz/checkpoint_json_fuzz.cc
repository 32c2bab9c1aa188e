// Any bytes as a checkpoint's state or list of checksums. What is accepted is written again so that
// it reads the same.
#include <cstddef>
#include <cstdint>
#include <string>

#include "headrace/base/error.h"
#include "headrace/checkpoint/manifest.h"
#include "headrace/checkpoint/state.h"
#include "tests/fuzz/text.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(headrace::text_of(data, size));
  try {
    const headrace::CheckpointState state = headrace::parse_state(text, "fuzz");
    headrace::require(headrace::parse_state(headrace::to_json(state), "fuzz") == state);
  } catch (const headrace::Error&) {  // refused
  }
  try {
    headrace::require(headrace::to_json(headrace::parse_manifest(text, "fuzz")) == text);
  } catch (const headrace::Error&) {  // refused
  }
  return 0;
}
