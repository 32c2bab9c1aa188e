// What checkpoints cost, beside a plain write of the same bytes to the same disk: one rank with the
// benchmark's GPT.
//
//   checkpoint_bench FOLDER      on the disk that is measured; what it writes there is removed
//
// Medians of several rounds, in each of which both are measured.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include "headrace/base/keyed.h"
#include "headrace/base/text.h"
#include "headrace/checkpoint/files.h"
#include "headrace/checkpoint/folder.h"
#include "headrace/checkpoint/read.h"
#include "headrace/checkpoint/write.h"
#include "headrace/model/hugging_face/hugging_face.h"
#include "headrace/model/transformer.h"
#include "headrace/tensor/exception_text.h"
#include "headrace/tensor/memory.h"
#include "headrace/train/trainer.h"
#include "headrace/transport/local.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;

const TransformerConfig kModel{.layers = 8,
                               .width = 384,
                               .heads = 6,
                               .context = 256,
                               .vocabulary = 8192,
                               .tied = false,
                               .dropout = 0};
constexpr std::int64_t kRows = 32;
constexpr int kRounds = 5;

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

void plain_write(const fs::path& file, std::uint64_t bytes) {
  const std::vector<std::byte> piece(std::size_t{1} << 22U, std::byte{7});
  FileWriter writer(file);
  for (std::uint64_t left = bytes; left > 0;) {
    const auto some = std::min<std::uint64_t>(left, piece.size());
    writer.append({piece.data(), some});
    left -= some;
  }
  writer.finish();
}

// What this process has had the disk read so far, in bytes.
std::uint64_t disk_reads() {
  std::ifstream io("/proc/self/io");
  std::string name;
  std::uint64_t bytes = 0;
  while (io >> name >> bytes)
    if (name == "read_bytes:") return bytes;
  return 0;
}

void drop_from_page_cache(const fs::path& folder) {
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const int fd = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
    ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    ::close(fd);
  }
}

void measure(const fs::path& folder, Transport& transport) {
  TrainConfig config;
  config.batch = kRows;
  config.microbatch = 4;
  config.microbatches = kRows / 4;
  Trainer trainer({.train = config, .optimizer = {.clip = 0}, .steps = 100}, transformer(kModel),
                  make_plan(transformer_layers(kModel), {.schedule = "1f1b"}), transport);
  auto generator = at::detail::createCPUGenerator(1);
  Batch batch;
  batch.inputs =
      torch::randint(0, kModel.vocabulary, {kRows, kModel.context}, generator, torch::kInt64);
  batch.targets = batch.inputs;
  trainer.step(batch, {});
  const Naming naming = naming_of(kModel);
  std::vector<std::string> names;
  for (const auto& [name, stored] : naming.stored) names.push_back(name);

  const auto middle = names.begin() + static_cast<std::ptrdiff_t>(names.size() / 2);
  const std::vector<std::string> half(names.begin(), middle);
  std::vector<double> steps, copies, writes, plains, reads;
  std::uint64_t bytes = 0, read = 0, own = 0;
  for (int round = 0; round < kRounds; ++round) {
    steps.push_back(seconds_of([&] { trainer.step(batch, {}); }));
    Snapshot share;
    copies.push_back(seconds_of([&] { share = trainer.snapshot(); }));
    fs::path written;
    writes.push_back(seconds_of([&] {
      bytes = write_share(folder, share, naming, 0, 1);
      written = complete_checkpoint(folder, share.step, 1, naming, {config_json(kModel), ""});
    }));
    plains.push_back(seconds_of([&] { plain_write(folder / "plain", bytes); }));
    reads.push_back(seconds_of([&] { read_checkpoint(written, names, naming); }));
    drop_from_page_cache(written);
    const std::uint64_t before = disk_reads();
    const Snapshot of_one = read_checkpoint(written, half, naming);
    read = disk_reads() - before;
    own = 0;
    for (const NamedTensors* tensors : {&of_one.weights, &of_one.first, &of_one.second})
      for (const auto& [name, tensor] : *tensors) own += tensor.nbytes();
    fs::remove_all(written);
    fs::remove(folder / "plain");
  }
  const auto rate = [&](double seconds) {
    return bytes_text(static_cast<double>(bytes) / seconds) + "/s";
  };
  std::cout << "checkpoint of " << bytes_text(static_cast<double>(bytes)) << ", medians of "
            << kRounds << " rounds\n"
            << "  written, with checksums, on disk   " << rate(median(writes)) << "\n"
            << "  plain write of as many bytes       " << rate(median(plains)) << "\n"
            << "  ratio                              "
            << fixed_text(median(plains) / median(writes), 2) << "\n"
            << "  read, from the page cache          " << rate(median(reads)) << "\n"
            << "  read from the disk for a rank with " << bytes_text(static_cast<double>(own))
            << " of them: " << bytes_text(static_cast<double>(read)) << "\n"
            << "  training waits for the copy        " << seconds_text(median(copies)) << ", "
            << fixed_text(100 * median(copies) / median(steps), 1) << "% of a step of "
            << seconds_text(median(steps)) << "\n";
}

}  // namespace
}  // namespace headrace

int main(int argc, char** argv) {
  try {
    torch::set_num_threads(1);
    headrace::install_memory_accounts();
    const std::filesystem::path folder =
        std::filesystem::path(argc > 1 ? argv[1] : ".") / "checkpoint_bench";
    headrace::run_ranks(
        1, [&](headrace::Transport& transport) { headrace::measure(folder, transport); });
    std::filesystem::remove_all(folder);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "error: " << headrace::text_of(error) << "\n";
    return 1;
  }
}
