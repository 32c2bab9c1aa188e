// What becomes of the matches that a piece is cut at, by the names of tokenizer.json.
//
//   Cutter cutter(Behavior::MergedWithNext, piece, sink);
//   cutter.segment(0, 2, true); cutter.segment(2, 5, false);   // matches and what lies between
//   cutter.finish();                                            // one piece, 0 to 5
#pragma once

#include <cstddef>

#include "headrace/tokenizer/pre_tokenizer.h"

namespace headrace {

enum class Behavior { Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous };
inline constexpr const char* kBehaviors[] = {"Removed", "Isolated", "MergedWithPrevious",
                                             "MergedWithNext", "Contiguous"};

class Cutter {
 public:
  // `sink` must outlive it.
  Cutter(Behavior behavior, const Piece& piece, const PieceSink& sink)
      : behavior_(behavior), piece_(piece), sink_(&sink) {}
  void segment(std::size_t begin, std::size_t end, bool match);
  void finish() { emit(); }

 private:
  bool joins(bool match) const;
  void emit();

  Behavior behavior_;
  Piece piece_;
  const PieceSink* sink_;
  bool held_ = false;  // a piece that the next segment may still join
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  bool last_ = false;  // whether the last segment was a match
};

}  // namespace headrace
