#include "headrace/tensor/exception_text.h"

#include <new>
#include <stdexcept>
#include <string>

#include <ATen/Context.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "headrace/base/error.h"
#include "headrace/transport/local.h"

namespace headrace {
namespace {

using testing::HasSubstr;
using testing::Not;

template <class Work>
std::string text_of_what(const Work& work) {
  try {
    work();
  } catch (const std::exception& error) {
    return text_of(error);
  }
  return "nothing was thrown";
}

const auto multiply = [] { (void)torch::mm(torch::ones({2, 3}), torch::ones({4, 5})); };

TEST(ExceptionText, OfLibtorchIsOneLineWithoutItsBacktrace) {
  EXPECT_EQ(text_of_what(multiply), "mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)");
  EXPECT_THAT(text_of_what([] { TORCH_CHECK(false, "first\n  second"); }), "first second");
}

TEST(ExceptionText, OfLibtorchHandedOnInAnotherTypeHasNoBacktraceEither) {
  const std::string text = text_of_what([] {
    try {
      multiply();
    } catch (const std::exception& error) {
      ASSERT_THAT(error.what(), HasSubstr("Exception raised from "));  // else this tests nothing
      throw std::runtime_error(error.what());
    }
  });
  EXPECT_EQ(text, "mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)");
}

TEST(ExceptionText, OfOursKeepsItsLines) {
  EXPECT_EQ(text_of_what([] { throw Error("two faults:\n  one\n  another"); }),
            "two faults:\n  one\n  another");
}

TEST(ExceptionText, OfNoMemorySaysSo) {
  EXPECT_EQ(text_of_what([] { (void)torch::empty({std::int64_t{1} << 58}); }),
            "this machine has no memory left for a tensor of 1048576.0 TiB");
  EXPECT_THAT(text_of_what([] { throw std::bad_alloc(); }), HasSubstr("memory ran out"));
}

// As CUDA's caching allocator writes it.
constexpr const char* kCudaIsFull =
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.11 GiB of "
    "which 1.25 GiB is "
    "free. Including non-PyTorch memory, this process has 77.85 GiB memory in use. Of the "
    "allocated memory 75.10 GiB "
    "is allocated by PyTorch, and 312.00 MiB is reserved by PyTorch but unallocated. If reserved "
    "but unallocated "
    "memory is large try setting PYTORCH_ALLOC_CONF=expandable_segments:True to avoid "
    "fragmentation.";

TEST(ExceptionText, OfADeviceWithoutMemorySaysWhatIsHeld) {
  EXPECT_EQ(text_of_what([] { TORCH_CHECK_WITH(OutOfMemoryError, false, kCudaIsFull); }),
            "this rank's device has no memory left for a tensor of 20.00 GiB: of its 79.11 GiB, "
            "1.25 GiB are free, "
            "and 75.10 GiB hold this rank's tensors");
  EXPECT_EQ(text_of_what([] { TORCH_CHECK_WITH(OutOfMemoryError, false, "none left"); }),
            "none left");
}

TEST(ExceptionText, OfAnOperationThatIsNotDeterministicNamesIt) {
  at::globalContext().setDeterministicAlgorithms(true, false);
  const auto refused = [] { at::globalContext().alertNotDeterministic("kthvalue CUDA"); };
  const std::string text = text_of_what(refused);
  EXPECT_EQ(text, "kthvalue CUDA has no way to give the same bits each time");
  EXPECT_THROW(
      try { refused(); } catch (const std::exception& error) { rethrow(error, "rank 1: "); },
      DeterminismError);
  at::globalContext().setDeterministicAlgorithms(false, false);
}

TEST(ExceptionText, ThatThereIsNoMemoryIsAnErrorOfItsOwn) {
  const auto kind = [](const auto& work) {
    try {
      try {
        work();
      } catch (const std::exception& error) {
        rethrow(error, "rank 1: ");
      }
    } catch (const MemoryError& error) {
      EXPECT_THAT(error.what(), testing::StartsWith("rank 1: "));
      return "memory";
    } catch (const Error&) {
      return "other";
    }
    return "none";
  };
  EXPECT_STREQ(kind([] { TORCH_CHECK_WITH(OutOfMemoryError, false, kCudaIsFull); }), "memory");
  EXPECT_STREQ(kind([] { (void)torch::empty({std::int64_t{1} << 58}); }), "memory");
  EXPECT_STREQ(kind([] { throw std::bad_alloc(); }), "memory");
  EXPECT_STREQ(kind(multiply), "other");
}

// What a rank's work throws reaches the caller of run_ranks(): libtorch's as an Error of ours.
TEST(ExceptionText, OfARankThatIsAThreadHasNoBacktrace) {
  try {
    run_ranks(2, [](Transport& transport) {
      if (transport.rank() == 1) multiply();
    });
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("mat1 and mat2 shapes"));
    EXPECT_THAT(error.what(), Not(HasSubstr("Exception raised")));
  }
}

}  // namespace
}  // namespace headrace
