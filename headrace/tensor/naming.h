// How a model's parameters are called and laid out in files that others read, as those of Hugging
// Face. Made by a model family (model/hugging_face/), used by checkpoint/.
//
//   const Naming naming = hugging_face_naming(config);
//   naming.stored.at("blocks.0.mlp.up.weight")   // {"transformer.h.0.mlp.c_fc.weight", true, …}
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace headrace {

struct StoredTensor {
  std::string name;
  bool transposed = false;          // the file holds [in, out] where the layer has [out, in]
  std::vector<std::int64_t> shape;  // the layer's
};

struct Naming {
  // By global name: every parameter of the model, a shared one once.
  std::map<std::string, StoredTensor> stored;

  // What a folder that others wrote may differ in: it may leave this prefix away, …
  std::string optional_prefix;
  // … may hold a tensor again under these names (by file name; the value is the global name of the
  // one that it must equal), …
  std::map<std::string, std::string> copies;
  // … and may hold these, which mean nothing.
  std::set<std::string> ignored;
};

}  // namespace headrace
