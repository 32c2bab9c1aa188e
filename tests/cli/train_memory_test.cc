// Measured memory beside the predicted, over processes.
#include <map>
#include <regex>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "tests/cli/tiny_run.h"

namespace headrace {
namespace {

class TrainMemory : public TinyRun {
 protected:
  struct Row {
    double measured = 0;
    double predicted = 0;
  };

  // The closing table's, stage by stage and replica by replica.
  std::vector<Row> rows(const std::string& more) {
    const Outcome run = train(
        "--set model.width=64 --set model.context=64 --set model.vocabulary=512 --set "
        "evaluate.sequences=2 --overwrite --run-dir r " +
        more);
    EXPECT_EQ(run.code, 0) << run.err;
    static const std::regex pattern("([0-9.]+) (KiB|MiB) +([0-9.]+) (KiB|MiB) *$");
    static const std::map<std::string, double> units = {{"KiB", 1024}, {"MiB", 1024 * 1024}};
    std::vector<Row> all;
    for (const std::string& line : lines_of(run.out)) {
      std::smatch found;
      if (std::regex_search(line, found, pattern))
        all.push_back(
            {std::stod(found[1]) * units.at(found[2]), std::stod(found[3]) * units.at(found[4])});
    }
    return all;
  }
};

TEST_F(TrainMemory, IsWhatWasPredicted) {
  for (const std::string more :
       {"--ranks 1", "--ranks 2", "--ranks 2 --schedule gpipe", "--ranks 2 --schedule zb-v",
        "--ranks 3 --set pipeline.recompute=all", "--ranks 2 --set pipeline.recompute=attention",
        "--ranks 2 --set model.dropout=0.1 --set optimizer.kind=sgd",
        "--ranks 2 --set train.precision=bf16",
        "--ranks 1 --set pipeline.replicas=2 --set pipeline.shard_optimizer=true",
        "--ranks 2 --schedule pipedream --set model.tied=false --set optimizer.clip=0"}) {
    const std::vector<Row> table = rows("--microbatches 8 " + more);
    EXPECT_GE(table.size(), 1U) << more;
    for (const Row& row : table)
      EXPECT_NEAR(row.measured / row.predicted, 1, 0.15) << more << ": " << row.measured;
  }
}

// Four times the microbatches of the same size: of a longer batch only the tokens are more.
TEST_F(TrainMemory, Is1F1BsFlatInTheNumberOfMicrobatches) {
  const std::string more = "--ranks 3 --set train.microbatch=3 ";
  const std::vector<Row> few = rows(more + "--microbatches 4 --set train.batch=12");
  const std::vector<Row> many = rows(more + "--microbatches 16 --set train.batch=48");
  ASSERT_EQ(few.size(), 3U);
  ASSERT_EQ(many.size(), 3U);
  constexpr double kTokens = 36 * 64 * 16;  // bytes of tokens and targets
  for (std::size_t stage = 0; stage < 3; ++stage)
    EXPECT_LT(many[stage].measured, 1.04 * few[stage].measured + kTokens) << stage;
}

}  // namespace
}  // namespace headrace
