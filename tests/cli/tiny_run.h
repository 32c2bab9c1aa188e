// The files of a run that is over in a moment, and the words to start it with.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/program.h"

namespace headrace {

inline std::string tiny_text(std::size_t bytes) {
  const std::vector<std::string> phrases = {"to be or not to be, ", "that is the question: ",
                                            "whether 'tis nobler in the mind ", "to suffer; "};
  std::string text;
  // A small generator of its own: the text is the same everywhere.
  for (unsigned state = 1; text.size() < bytes;) {
    state = state * 1103515245U + 12345U;
    text += phrases[(state >> 16U) % phrases.size()];
  }
  return text.substr(0, bytes);
}

inline std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

// One line that begins with "error: ".
template <class Part>
void expect_one_error(const std::string& err, const Part& part) {
  EXPECT_THAT(lines_of(err),
              testing::ElementsAre(testing::AllOf(testing::StartsWith("error: "), part)));
}

class TinyRun : public testing::Test {
 protected:
  TinyRun() {
    write("a.txt", tiny_text(6000));
    write("a.toml", kConfig);
  }

  // `headrace train a.toml` and what follows it.
  ProgramOptions options(const std::string& more,
                         std::map<std::string, std::string> environment = {}) const {
    environment.try_emplace("OMP_WAIT_POLICY", "PASSIVE");
    return {.arguments = "train a.toml " + more,
            .environment = std::move(environment),
            .folder = folder_.path(),
            .command = {}};
  }
  Outcome train(const std::string& more) const { return Program(options(more)).wait(); }
  // As torchrun starts a rank, but by hand.
  ProgramOptions rank(int rank, int size, int port, const std::string& more) const {
    return options(more, {{"RANK", std::to_string(rank)},
                          {"WORLD_SIZE", std::to_string(size)},
                          {"MASTER_ADDR", "127.0.0.1"},
                          {"MASTER_PORT", std::to_string(port)}});
  }

  std::string write(const std::string& name, const std::string& text) const {
    return folder_.write(name, text);
  }
  std::string read(const std::string& name) const { return read_file(folder_.path(name)); }
  // The records of metrics.jsonl without what differs from run to run.
  std::vector<std::string> metrics(const std::string& run) const {
    std::vector<std::string> records;
    for (const std::string& line : lines_of(read(run + "/metrics.jsonl")))
      records.push_back(line.substr(0, line.find(",\"seconds\"")));
    return records;
  }
  const Folder& folder() const { return folder_; }

  static constexpr const char* kConfig = R"([model]
layers = 4
width = 32
heads = 4
context = 16
vocabulary = 256

[data]
text = ["a.txt"]
cache = "cache"

[train]
steps = 3
batch = 24
microbatches = 3

[optimizer]
learning_rate = 1e-2

[evaluate]
sequences = 4

[pipeline]
threads = 1
)";

 private:
  Folder folder_;
};

}  // namespace headrace
