// A user's own Sequential over stages: the same as without, through any schedule.
#include "headrace/pipe.h"

#include <atomic>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/schedule/generators/generators.h"
#include "tests/pipe/plain.h"
#include "tests/schedule_lists.h"

namespace headrace {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;
using torch::Tensor;

constexpr int kModules = 12;

Tensor loss_of(const Tensor& output, const Tensor& target) {
  return torch::mse_loss(output, target);
}

torch::nn::Sequential model_of(int modules = kModules) {
  torch::manual_seed(3);
  torch::nn::Sequential model;
  for (int i = 0; i < modules; ++i) {
    if (i % 3 == 2)
      model->push_back(torch::nn::Tanh());
    else
      model->push_back(torch::nn::Linear(8, 8));
  }
  return model;
}

Batch batch_of(int rows) {
  torch::manual_seed(4);
  return {torch::randn({rows, 8}), torch::randn({rows, 8})};
}

class PipeSchedules : public testing::TestWithParam<std::tuple<std::string, int, bool>> {};

TEST_P(PipeSchedules, StepIsThatOfThePlainModel) {
  torch::set_num_threads(1);
  const auto& [schedule, rows, recompute] = GetParam();
  const bool two_stages_a_rank = find_generator(generators(), schedule).stages_per_rank == 2;
  PipeOptions options;
  options.balance = two_stages_a_rank ? std::vector<int>{2, 4, 3, 3} : std::vector<int>{5, 7};
  options.microbatches = 6;
  options.schedule = schedule;
  options.threads = 1;
  if (recompute) options.recompute = {-1};
  torch::nn::Sequential plain = model_of();
  Pipe pipe(model_of(), options);
  EXPECT_EQ(pipe.ranks(), 2);
  const Batch batch = batch_of(rows);
  torch::optim::SGD ours(pipe.parameters(), 0.1), theirs(plain->parameters(), 0.1);
  for (int i = 0; i < 3; ++i) {
    ours.zero_grad();
    theirs.zero_grad();
    EXPECT_EQ(pipe.step(batch.input, batch.target, loss_of), plain_step(plain, batch, 6, loss_of));
    expect_same_gradients(pipe.parameters(), plain->parameters());
    ours.step();
    theirs.step();
  }
}

std::vector<std::string> schedules_of_pipe() {
  std::vector<std::string> names = schedules_of_one_copy();
  std::erase(names, kSearched);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Grid,
                         PipeSchedules,
                         testing::Combine(testing::ValuesIn(schedules_of_pipe()),
                                          testing::Values(12, 17),
                                          testing::Bool()));

// The loop of any PyTorch program.
TEST(Pipe, AnOrdinaryTrainingLoopRunsUnchanged) {
  torch::set_num_threads(1);
  torch::nn::Sequential plain = model_of();
  Pipe pipe(model_of(), {.balance = {4, 4, 4}, .microbatches = 4, .threads = 1});
  const Batch batch = batch_of(10);
  torch::optim::Adam ours(pipe.parameters(), 0.01), theirs(plain->parameters(), 0.01);
  double first = 0, last = 0;
  for (int i = 0; i < 20; ++i) {
    ours.zero_grad();
    const Tensor loss = torch::mse_loss(pipe.forward(batch.input), batch.target);
    loss.backward();
    ours.step();
    theirs.zero_grad();
    const Tensor expected = torch::mse_loss(plain->forward(batch.input), batch.target);
    expected.backward();
    theirs.step();
    EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 1e-4);
    (i == 0 ? first : last) = loss.item<double>();
  }
  EXPECT_LT(last, 0.9 * first);
}

// A module with side inputs: a mask by row and position, and a table for all rows.
struct Masked : torch::nn::Module {
  Masked() : weight(register_parameter("weight", torch::randn({8, 8}))) {}
  Tensor forward(const Tensor& x, const Tensor& mask, const Tensor& table) {
    return torch::tanh((x * mask).matmul(weight) + table);
  }
  Tensor weight;
};

torch::nn::Sequential masked_model() {
  torch::manual_seed(3);
  return torch::nn::Sequential(torch::nn::Linear(8, 8), Masked(), torch::nn::Tanh(), Masked());
}

TEST(PipeInputs, SideInputsAreCutWithTheBatchOrGivenWhole) {
  torch::set_num_threads(1);
  const Batch batch = batch_of(4);
  const Tensor mask = torch::rand({4, 8}).gt(0.5), table = torch::randn({1, 8});
  for (const std::string schedule : {"gpipe", "1f1b", "zb-h1"}) {
    torch::nn::Sequential plain = masked_model();
    Pipe pipe(masked_model(), {.balance = {2, 1, 1},
                               .microbatches = 4,
                               .schedule = schedule,
                               .whole_inputs = {2},
                               .threads = 1});
    double expected = 0;
    for (int row = 0; row < 4; ++row) {
      const Tensor its_mask = mask.narrow(0, row, 1);
      Tensor x = plain[0]->as<torch::nn::Linear>()->forward(batch.input.narrow(0, row, 1));
      x = plain[1]->as<Masked>()->forward(x, its_mask, table);
      x = plain[3]->as<Masked>()->forward(torch::tanh(x), its_mask, table);
      const Tensor loss = loss_of(x, batch.target.narrow(0, row, 1)) * 0.25;
      loss.backward();
      expected += loss.item<double>();
    }
    EXPECT_EQ(pipe.step({batch.input, mask, table}, batch.target, loss_of), expected);
    expect_same_gradients(pipe.parameters(), plain->parameters());
    loss_of(pipe.forward({batch.input, mask, table}), batch.target).backward();
    for (std::size_t i = 0; i < pipe.parameters().size(); ++i)
      EXPECT_TRUE(torch::allclose(pipe.parameters()[i].grad(), 2 * plain->parameters()[i].grad(),
                                  1e-4, 1e-6));
  }
}

TEST(PipeInputs, OnesThatDoNotFitAreRefused) {
  Pipe pipe(model_of(), {.balance = {6, 6}, .microbatches = 2, .whole_inputs = {2}});
  const Batch batch = batch_of(4);
  const auto refuse = [&](const std::vector<Tensor>& inputs, const std::string& why) {
    EXPECT_THAT([&] { pipe.step(inputs, batch.target, loss_of); },
                ThrowsMessage<UsageError>(HasSubstr(why)));
  };
  refuse({}, "there is no input");
  refuse({batch.input, torch::ones({3})}, "whole_inputs names input 2; there are inputs 0 to 1");
  refuse({batch.input, torch::ones({3}), torch::ones({})},
         "input 1 has 3 rows, and the batch 4; name it in whole_inputs");
  Pipe lacking(masked_model(), {.balance = {2, 2}, .microbatches = 2});
  EXPECT_THAT([&] { lacking.step(batch.input, batch.target, loss_of); },
              ThrowsMessage<Error>(HasSubstr("takes 3 tensors, and there are 1")));
}

// Weights stay fp32, and the gradients are near those of fp32 but not they.
TEST(Pipe, HalfPrecisionIsAutocast) {
  const Batch batch = batch_of(12);
  Pipe exact(model_of(), {.balance = {6, 6}, .microbatches = 3});
  Pipe rounded(model_of(), {.balance = {6, 6}, .microbatches = 3, .precision = torch::kBFloat16});
  const double loss = exact.step(batch.input, batch.target, loss_of);
  EXPECT_NEAR(rounded.step(batch.input, batch.target, loss_of), loss, 0.01);
  for (std::size_t i = 0; i < exact.parameters().size(); ++i) {
    const Tensor gradient = rounded.parameters()[i].grad(), expected = exact.parameters()[i].grad();
    EXPECT_EQ(gradient.scalar_type(), torch::kFloat32);
    EXPECT_FALSE(torch::equal(gradient, expected));
    EXPECT_LT((gradient - expected).norm().item<double>(), 0.05 * expected.norm().item<double>());
  }
}

TEST(Pipe, InputsGetTheirGradient) {
  torch::nn::Sequential plain = model_of();
  Pipe pipe(model_of(), {.balance = {6, 6}, .microbatches = 2});
  const Tensor a = batch_of(4).input.requires_grad_(), b = batch_of(4).input.requires_grad_();
  (pipe.forward(a * 2).sum() + a.sum()).backward();
  (plain->forward(b * 2).sum() + b.sum()).backward();
  EXPECT_TRUE(torch::allclose(a.grad(), b.grad()));
}

TEST(Pipe, WithoutGradientsNothingIsSaved) {
  torch::nn::Sequential plain = model_of();
  Pipe pipe(model_of(), {.balance = {6, 6}, .microbatches = 3});
  const torch::NoGradGuard no_grad;
  const Batch batch = batch_of(7);
  const Tensor output = pipe.forward(batch.input);
  EXPECT_FALSE(output.requires_grad());
  EXPECT_TRUE(torch::allclose(output, plain->forward(batch.input)));
}

TEST(Pipe, FrozenModulesStayAsTheyAre) {
  torch::nn::Sequential plain = model_of(), piped = model_of();
  for (torch::nn::Sequential model : {plain, piped})
    for (int i = 0; i < 6; ++i)
      for (Tensor& parameter : model->ptr(static_cast<std::size_t>(i))->parameters())
        parameter.requires_grad_(false);
  for (const char* schedule : {"1f1b", "zb-h1"}) {
    Pipe pipe(piped, {.balance = {6, 6}, .microbatches = 2, .schedule = schedule, .threads = 1});
    for (torch::nn::Sequential model : {plain, piped}) model->zero_grad();
    const Batch batch = batch_of(4);
    EXPECT_EQ(pipe.step(batch.input, batch.target, loss_of), plain_step(plain, batch, 2, loss_of));
    const auto ours = piped->parameters(), theirs = plain->parameters();
    for (std::size_t i = 0; i < ours.size(); ++i) {
      ASSERT_EQ(ours[i].grad().defined(), theirs[i].grad().defined()) << i;
      EXPECT_TRUE(!ours[i].grad().defined() || torch::equal(ours[i].grad(), theirs[i].grad()));
    }
  }
}

TEST(Pipe, TheTimelineHoldsEveryAction) {
  Pipe pipe(model_of(), {.balance = {4, 4, 4}, .microbatches = 5});
  const Batch batch = batch_of(10);
  pipe.step(batch.input, batch.target, loss_of);
  ASSERT_EQ(pipe.timeline().ranks.size(), 3U);
  for (const auto& events : pipe.timeline().ranks) {
    int computed = 0;
    for (const Event& event : events) computed += is_compute(event.action.kind) ? 1 : 0;
    EXPECT_EQ(computed, 10);
  }
}

TEST(Pipe, RunsAScheduleFile) {
  const std::string file = testing::TempDir() + "pipe_test.csv";
  std::ofstream(file) << to_csv(generate("zb-v", {.ranks = 2, .microbatches = 4}));
  torch::nn::Sequential plain = model_of();
  Pipe pipe(model_of(),
            {.balance = {3, 3, 3, 3}, .microbatches = 4, .schedule = file, .threads = 1});
  const Batch batch = batch_of(8);
  EXPECT_EQ(pipe.step(batch.input, batch.target, loss_of), plain_step(plain, batch, 4, loss_of));
  Pipe other(model_of(), {.balance = {3, 3, 3, 3}, .microbatches = 2, .schedule = file});
  EXPECT_THAT([&] { other.step(batch.input, batch.target, loss_of); },
              ThrowsMessage<UsageError>(
                  AllOf(HasSubstr("Pipe: schedule '"), HasSubstr("is for 4 microbatches"))));
}

TEST(Pipe, Refusals) {
  const auto refuse = [](const PipeOptions& options, const std::string& part) {
    EXPECT_THAT([&] { Pipe(model_of(), options); }, ThrowsMessage<UsageError>(HasSubstr(part)));
  };
  refuse({.balance = {5, 6}}, "11 modules in all, and the model has 12");
  refuse({.balance = {12, 0}}, "each stage needs a module");
  refuse({.balance = {6, 6}, .microbatches = 0}, "microbatches is 0");
  refuse({}, "give balance");
  refuse({.balance = {4, 4, 4}, .schedule = "zb-v"}, "3 stages, and schedule 'zb-v' puts 2");
  refuse({.balance = {6, 6}, .schedule = "chimera"}, "2 copies");
  refuse({.balance = {6, 6}, .schedule = "1f1"},
         "Pipe: no schedule is called '1f1'; did you mean '1f1b'");
  refuse({.balance = {6, 6}, .schedule = "auto"}, "schedule 'auto' is searched for by what layers");
  refuse({.balance = {6, 6}, .recompute = {2}}, "recompute names stage 2");
  refuse({.balance = {6, 6}, .devices = {torch::kCPU}}, "1 devices");
  torch::nn::Linear shared(8, 8);
  EXPECT_THAT([&] { Pipe(torch::nn::Sequential(shared, shared), {.balance = {1, 1}}); },
              ThrowsMessage<UsageError>(HasSubstr("shares parameter")));
  Pipe pipe(model_of(), {.balance = {6, 6}, .microbatches = 4});
  EXPECT_THAT([&] { pipe.forward(torch::zeros({3, 8})); },
              ThrowsMessage<UsageError>(AllOf(HasSubstr("3 rows"), HasSubstr("4 microbatches"))));
  EXPECT_THAT([&] { pipe.step(torch::zeros({8, 8}), torch::zeros({4, 8}), loss_of); },
              ThrowsMessage<UsageError>(HasSubstr("the target 4")));
}

TEST(Pipe, AFailingModuleIsNamedAndTheNextStepRuns) {
  Pipe pipe(model_of(), {.balance = {6, 6}, .microbatches = 2});
  EXPECT_THAT([&] { pipe.step(torch::zeros({4, 9}), torch::zeros({4, 8}), loss_of); },
              ThrowsMessage<Error>(AllOf(HasSubstr("stage 0"), HasSubstr("0F0"))));
  EXPECT_THAT([&] { pipe.step(torch::zeros({4, 8}), torch::zeros({4, 7}), loss_of); },
              ThrowsMessage<Error>(AllOf(HasSubstr("stage 1"), HasSubstr("1F0"))));
  const Batch batch = batch_of(4);
  EXPECT_GT(pipe.step(batch.input, batch.target, loss_of), 0);
}

// Counts the threads that have called it and ended.
struct ThreadsImpl : torch::nn::Module {
  struct Mark {
    explicit Mark(std::atomic<int>& count) : ended(count) {}
    ~Mark() { ++ended; }
    std::atomic<int>& ended;
  };
  explicit ThreadsImpl(std::atomic<int>& count) : ended(count) {}
  Tensor forward(const Tensor& x) {
    thread_local const Mark mark(ended);
    seen.insert(std::this_thread::get_id());
    return x * 1;
  }
  std::atomic<int>& ended;
  std::set<std::thread::id> seen;  // written by one thread at a time
};
TORCH_MODULE(Threads);

TEST(Pipe, ThreadsAreKeptUntilItsEnd) {
  std::atomic<int> ended = 0;
  Threads first(ended), second(ended);
  const Batch batch = batch_of(4);
  Tensor late;
  {
    Pipe pipe(torch::nn::Sequential(first, second), {.balance = {1, 1}, .microbatches = 2});
    for (int i = 0; i < 3; ++i) pipe.step(batch.input, batch.target, loss_of);
    pipe.forward(batch.input.clone().requires_grad_()).sum().backward();
    EXPECT_EQ(ended, 0);
    EXPECT_EQ(first->seen.size(), 1U);
    EXPECT_EQ(second->seen.size(), 1U);
    EXPECT_NE(first->seen, second->seen);
    EXPECT_FALSE(first->seen.contains(std::this_thread::get_id()));
    EXPECT_THROW(pipe.step(batch.input, torch::zeros({4, 7}), loss_of), Error);
    EXPECT_EQ(ended, 2);  // what a failed run leaves behind goes with its threads
    pipe.step(batch.input, batch.target, loss_of);
    late = pipe.forward(batch.input).sum();
  }
  EXPECT_EQ(ended, 4);
  late.backward();  // with threads of its own again
}

TEST(Pipe, ASecondBackwardIsRefused) {
  Pipe pipe(model_of(), {.balance = {6, 6}, .microbatches = 2});
  const Tensor early = pipe.forward(batch_of(4).input).sum();
  const Tensor late = pipe.forward(batch_of(4).input).sum();
  late.backward();
  EXPECT_THAT([&] { early.backward(); }, ThrowsMessage<std::exception>(HasSubstr("backward()")));
}

}  // namespace
}  // namespace headrace
