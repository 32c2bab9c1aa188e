#include "headrace/tokenizer/behavior.h"

#include <cstddef>

#include "headrace/tokenizer/pre_tokenizer.h"

namespace headrace {

bool Cutter::joins(bool match) const {
  switch (behavior_) {
    case Behavior::Removed:
    case Behavior::Isolated:
      return false;
    case Behavior::MergedWithPrevious:
      return match && !last_;
    case Behavior::MergedWithNext:
      return !match && last_;
    case Behavior::Contiguous:
      return match == last_;
  }
  return false;
}

void Cutter::segment(std::size_t begin, std::size_t end, bool match) {
  if (!(held_ && joins(match))) {
    emit();
    begin_ = begin;
    held_ = !(match && behavior_ == Behavior::Removed);
  }
  end_ = end;
  last_ = match;
}

void Cutter::emit() {
  if (held_ && end_ > begin_)
    (*sink_)({piece_.text.substr(begin_, end_ - begin_), piece_.first && begin_ == 0});
  held_ = false;
}

}  // namespace headrace
