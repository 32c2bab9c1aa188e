// The promise of same_as_one_process_test over shapes that nobody chose: sizes, replicas, model and
// options are drawn for each schedule, and results are to be those of one process, to the bit.
//
// The draws are the same on every run. Others: --gtest_random_seed=7, and with --gtest_shuffle
// --gtest_repeat=10 others each time.
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/base/keyed.h"
#include "headrace/plan/plan.h"
#include "headrace/plan/search/random.h"
#include "tests/runtime/one_process.h"
#include "tests/schedule_lists.h"

namespace headrace {
namespace {

constexpr int kRuns = 4;  // of each schedule
constexpr int kMostRanks = 6;

struct Shape {
  Case c;
  PlanWish wish;
  bool sharded = false;
};

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  const auto& [c, wish, sharded] = shape;
  return out << wish.schedule << ", ranks " << wish.ranks << ", stages_per_rank "
             << wish.stages_per_rank << ", replicas " << testing::PrintToString(wish.replicas)
             << ", microbatches " << c.microbatches << ", rows " << c.rows << " and " << c.last_rows
             << " of the last, layers " << c.layers << (c.tied ? ", tied" : "") << ", dropout "
             << c.dropout << ", clip " << c.clip << ", " << c.precision << ", recompute "
             << testing::PrintToString(wish.recompute) << (sharded ? ", sharded" : "");
}

class Draw {
 public:
  explicit Draw(std::uint64_t seed) : random_(seed) {}

  Shape shape(const std::string& schedule) {
    PlanWish wish;
    wish.schedule = schedule;
    const bool both_ends = schedule == "dualpipe" || schedule == "chimera";  // even ranks alone
    wish.ranks = both_ends ? 2 * between(1, 2) : between(1, 4);
    if (schedule == "interleaved" || schedule == "bfs" || schedule == "gis" || schedule == "auto")
      wish.stages_per_rank = between(1, 3);
    wish.replicas = replicas(schedule, wish.ranks);
    Case c{.microbatches = between(1, 12),
           .tied = heads(),
           .dropout = heads() ? 0.1 : 0,
           .clip = heads() ? 0.05 : 0,
           .layers = between(3, 6)};
    if (between(0, 3) == 0) {
      c.precision = heads() ? torch::kFloat16 : torch::kBFloat16;
      c.backward_scale = 1024;
    }
    c.last_rows = between(1, static_cast<int>(c.rows));
    return {c, std::move(wish), heads()};
  }

  // A third of the stages, or the attention of all.
  RecomputeWish recompute(int stages) {
    if (between(0, 3) == 0) return Recompute::Attention;
    std::vector<int> some;
    for (int s = 0; s < stages; ++s)
      if (between(0, 2) == 0) some.push_back(s);
    return some;
  }

 private:
  int between(int least, int most) {
    return least + static_cast<int>(random_.below(static_cast<std::size_t>(most - least + 1)));
  }
  bool heads() { return between(0, 1) == 1; }

  // One number for all stages or, where the schedule takes it, one each.
  std::vector<int> replicas(const std::string& schedule, int ranks) {
    if (schedule == "auto") return {1};
    if (heads() || (schedule != "1f1b" && schedule != "gpipe"))
      return {between(1, kMostRanks / ranks)};
    std::vector<int> each(static_cast<std::size_t>(ranks), 1);
    for (int more = between(0, kMostRanks - ranks); more > 0; --more)
      ++each[random_.below(each.size())];
    return each;
  }

  orders::Random random_;
};

TEST(DrawnShapes, AreTheSameAsOneProcess) {
  torch::set_num_threads(1);
  // Where none is given, GoogleTest's own comes from the clock.
  const int seed =
      GTEST_FLAG_GET(random_seed) == 0 ? 0 : testing::UnitTest::GetInstance()->random_seed();
  int run = 0, refused = 0;
  std::vector<std::string> schedules = schedules_of_one_copy();
  for (const std::string& name : schedules_of_several_copies()) schedules.push_back(name);
  for (const std::string& schedule : schedules) {
    for (int draws = 0, runs = 0; runs < kRuns; ++draws) {
      ASSERT_LT(draws, 100) << schedule << " refuses almost every shape";
      Draw draw(keyed(static_cast<std::uint64_t>(seed), schedule, draws));
      Shape shape = draw.shape(schedule);
      Plan plan;
      try {
        shape.wish.recompute = draw.recompute(plan_of(shape.c, shape.wish).stages());
        plan = plan_of(shape.c, shape.wish);
        schedule_of(plan, shape.c.microbatches, Pass::Train);
      } catch (const UsageError&) {
        ++refused;
        continue;
      }
      SCOPED_TRACE(testing::Message() << "seed " << seed << ", draw " << draws << ": " << shape);
      expect_same(pipelined(shape.c, shape.wish, shape.sharded),
                  one_process(shape.c, replicas_of_layers(plan)));
      ++runs;
      ++run;
    }
  }
  RecordProperty("run", run);
  RecordProperty("refused", refused);
  EXPECT_LE(refused, run) << "more shapes were refused than run";
}

}  // namespace
}  // namespace headrace
