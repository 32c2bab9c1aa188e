// Ranks that would train on different things are refused before the first step.
#pragma once

#include <string>

#include "headrace/base/error.h"
#include "headrace/transport/transport.h"

namespace headrace {

// Messages outside the steps are labelled with numbers below the first step's.
constexpr std::int64_t kAgreement = -1, kStageTimes = -2, kTimeline = -3, kCheckpoint = -4;

// What ends a run on all ranks at the same place, so that they can still save what is under way.
class AgreedError : public Error {
 public:
  using Error::Error;
};

// Every rank calls it with its own text. Throws Error on every rank, with the first line in which
// two of them differ, where one does.
void require_agreement(Transport& transport, const std::string& what, const std::string& mine);

}  // namespace headrace
