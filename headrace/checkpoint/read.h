// Reading a checkpoint: only the tensors that are asked for, out of mapped files.
//
//   const Snapshot share = read_checkpoint("runs/one/checkpoints/step-00001200", names, naming);
//   const NamedTensors weights = read_weights("gpt2", names, naming);   // a Hugging Face folder
//
// `names` are global names of parameters, each of which must be in `naming`. Throws Error, naming
// the file, where a name is missing or none of the model's, where a shape or a type is another, and
// where a file is damaged: of a checkpoint of ours each file that is read is checked by its
// checksum. What is returned is on the CPU, fp32, in the layers' shapes.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "headrace/checkpoint/snapshot.h"
#include "headrace/tensor/naming.h"

namespace headrace {

// With moments and numbers. The folder must be a checkpoint of ours that has the files of these names.
Snapshot read_checkpoint(const std::filesystem::path& folder,
                         const std::vector<std::string>& names,
                         const Naming& naming);

// Those of `names` whose files lie in the folder, all of them: it may be a checkpoint without the shards
// of other hosts, or not be there at all.
std::vector<std::string> parameters_here(const std::filesystem::path& folder,
                                         const std::vector<std::string>& names,
                                         const Naming& naming);

// Weights alone, of such a folder or of one that transformers wrote: model.safetensors, or shards
// with model.safetensors.index.json, in fp32, bf16 or fp16.
NamedTensors read_weights(const std::filesystem::path& folder,
                          const std::vector<std::string>& names,
                          const Naming& naming);

}  // namespace headrace
