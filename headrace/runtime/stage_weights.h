// The weights of one stage's layers: leaves that gradients are added to. While an asynchronous
// schedule runs, also older versions of them, as long as they are wanted; all versions of a weight
// add to one gradient.
//
//   weights.newest()[layer][parameter]
//   weights.begin_versions();
//   weights.advance(true, …);              // an update is about to be made to the newest
//   weights.version(0);                    // what they were before it
#pragma once

#include <cstddef>
#include <map>
#include <utility>
#include <vector>

#include "headrace/tensor/tensors.h"

namespace headrace {

using LayersWeights = std::vector<Tensors>;  // [layer][parameter]

class StageWeights {
 public:
  explicit StageWeights(LayersWeights leaves) : newest_(std::move(leaves)) {}

  const LayersWeights& newest() const { return newest_; }
  // One leaf takes over another's storage.
  void share(std::size_t layer, std::size_t parameter, const torch::Tensor& other);

  // From here on versions count from 0, and the newest are version 0.
  void begin_versions();
  // The newest are about to change: afterwards they may be new leaves with the same values. `keep`:
  // the old ones will be asked for as a version; `in_use`: forwards under way hold them.
  void advance(bool keep, bool in_use);
  // Versions before this one will not be asked for any more.
  void drop_before(int version) { older_.erase(older_.begin(), older_.lower_bound(version)); }
  // One that was kept, or the newest.
  const LayersWeights& version(int version) const {
    return version == newest_version_ ? newest_ : older_.at(version);
  }

 private:
  LayersWeights newest_;
  int newest_version_ = 0;
  std::map<int, LayersWeights> older_;
};

}  // namespace headrace
