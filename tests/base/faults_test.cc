#include "headrace/base/faults.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"

namespace headrace {
namespace {

using testing::ThrowsMessage;

TEST(Faults, AreToldAtOnce) {
  Faults faults;
  EXPECT_TRUE(faults.check(true, "well"));
  EXPECT_TRUE(faults.attempt([] {}));
  EXPECT_NO_THROW(faults.require_none());

  EXPECT_FALSE(faults.check(false, "width is ", 7));
  EXPECT_THAT([&] { faults.require_none(); }, ThrowsMessage<UsageError>("width is 7"));

  EXPECT_FALSE(faults.attempt([] { throw UsageError("heads is 0"); }));
  EXPECT_THAT([&] { faults.require_none(); },
              ThrowsMessage<UsageError>("2 faults:\n  width is 7\n  heads is 0"));
}

TEST(Faults, OfMachinesAreNotCollected) {
  Faults faults;
  EXPECT_THROW(faults.attempt([] { throw Error("the disk is full"); }), Error);
  EXPECT_TRUE(faults.none());
}

}  // namespace
}  // namespace headrace
