#include "headrace/train/run_folder.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <ios>
#include <string>
#include <system_error>

#include "headrace/base/error.h"
#include "headrace/base/file.h"
#include "headrace/launch/run_claim.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;

// Nine significant digits tell any two fp32 values apart.
std::string nine_digits(double value) {
  if (!std::isfinite(value)) return "null";  // JSON has no such number
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%.9g", value);
  return text.data();
}

std::ofstream open(const fs::path& path) {
  std::ofstream file(path, std::ios::trunc);
  check(file.good(), "cannot write ", path.string(), "; choose another folder with --run-dir");
  return file;
}

}  // namespace

RunFolder::RunFolder(const Config& config) : path_(config.run_dir) {
  // config.toml, which says that the others are a run's, is replaced last.
  std::error_code ignored;
  for (const char* file : kRunFiles)
    if (std::string(file) != "config.toml") fs::remove(path_ / file, ignored);
  write("config.toml", cat(kRunMark, "\n\n", to_toml(config)));
  metrics_ = open(path_ / "metrics.jsonl");
}

void RunFolder::record(const StepLine& line) {
  metrics_ << R"({"step":)" << line.step << R"(,"loss":)" << nine_digits(line.loss)
           << R"(,"grad_norm":)" << nine_digits(line.norm) << R"(,"lr":)" << nine_digits(line.rate)
           << R"(,"tokens":)" << line.tokens << R"(,"seconds":)" << nine_digits(line.seconds)
           << "}\n"
           << std::flush;
  check(metrics_.good(), "cannot write ", (path_ / "metrics.jsonl").string(),
        "; is the disk full?");
}

void RunFolder::record_evaluation(std::int64_t step,
                                  double loss,
                                  double perplexity,
                                  double accuracy) {
  if (!evaluations_.is_open()) evaluations_ = open(path_ / "evaluations.jsonl");
  evaluations_ << R"({"step":)" << step << R"(,"validation_loss":)" << nine_digits(loss)
               << R"(,"perplexity":)" << nine_digits(perplexity) << R"(,"accuracy":)"
               << nine_digits(accuracy) << "}\n"
               << std::flush;
}

void RunFolder::write(const std::string& file, const std::string& text) const {
  write_file((path_ / file).string(), text);
}

}  // namespace headrace
