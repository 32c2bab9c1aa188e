// The program itself, run as people run it.
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>

namespace headrace {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

using testing::AllOf;

struct Outcome {
  int code = -1;
  std::string out;
  std::string err;
};

class Cli : public testing::Test {
 protected:
  Cli() : folder_(std::filesystem::path(testing::TempDir()) / std::to_string(getpid())) {
    std::filesystem::create_directories(folder_);
  }
  ~Cli() override { std::filesystem::remove_all(folder_); }

  Outcome run(const std::string& arguments, const std::string& before = "") const {
    Outcome outcome;
    const std::string errors = path("errors");
    const std::string command =
        before + std::string(HEADRACE_PROGRAM) + " " + arguments + " 2>" + errors;
    std::FILE* pipe = popen(command.c_str(), "r");
    std::array<char, 4096> buffer{};
    while (const std::size_t read = std::fread(buffer.data(), 1, buffer.size(), pipe))
      outcome.out.append(buffer.data(), read);
    const int status = pclose(pipe);
    outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    outcome.err = read(errors);
    return outcome;
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(path(name)) << text;
    return path(name);
  }
  static std::string read(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }

 private:
  std::filesystem::path folder_;
};

TEST_F(Cli, OutputThatCannotBeWrittenIsAnError) {
  for (const std::string command : {"show 1f1b", "simulate 1f1b", "show"}) {
    const Outcome lost = run(command + " > /dev/full");
    EXPECT_EQ(lost.code, 1) << command;
    EXPECT_THAT(lost.err, HasSubstr("cannot write the output")) << command;
  }
}

TEST_F(Cli, ShowDrawsWithBubbleAndPeaks) {
  const Outcome shown = run("show 1f1b --ranks 4 --microbatches 8");
  EXPECT_EQ(shown.code, 0);
  EXPECT_EQ(shown.err, "");
  EXPECT_THAT(shown.out, StartsWith("# headrace "));
  EXPECT_THAT(shown.out, HasSubstr("rank 3 |.........F0 B0--- F1 B1---"));
  EXPECT_THAT(shown.out, HasSubstr("   0  0                      4"));
  EXPECT_THAT(shown.out, HasSubstr("sound: makespan 33, of which compute 24: bubble 27.3%"));
  EXPECT_THAT(shown.out, Not(HasSubstr("\033")));
}

TEST_F(Cli, ShowListsSchedulesAndWritesPictures) {
  const Outcome list = run("show");
  EXPECT_EQ(list.code, 0);
  EXPECT_THAT(list.out, HasSubstr("\n1f1b "));
  EXPECT_EQ(run("show gpipe --svg " + path("a.svg")).code, 0);
  EXPECT_THAT(read(path("a.svg")), StartsWith("<svg"));
}

TEST_F(Cli, CheckPrintsEveryViolation) {
  const std::string bad = write("bad.csv", "0F0,0F1,0B0,0B1\n1F1,1B0,1F2,1B1\n");
  const Outcome checked = run("check " + bad);
  EXPECT_EQ(checked.code, 1);
  EXPECT_THAT(checked.out, HasSubstr("rank 1, 1F0: is missing\n"));
  EXPECT_THAT(checked.out, HasSubstr("NOT SOUND: "));
  EXPECT_EQ(run("check " + write("good.csv", "0F0,0B0\n1F0,1B0\n")).code, 0);
  const Outcome junk = run("check " + write("junk.csv", "0F0,0F0junk\n"));
  EXPECT_EQ(junk.code, 1);
  EXPECT_THAT(junk.err, testing::AllOf(StartsWith("error: "), HasSubstr("row 1 (rank 0), cell 2")));
  EXPECT_EQ(run("check " + path("none.csv")).code, 1);
}

TEST_F(Cli, ExportedSchedulesCheckOut) {
  for (const char* lowered : {"", " --lowered"}) {
    EXPECT_EQ(run(std::string("export 1f1b --ranks 3 --microbatches 5 --output ") + path("x.csv") +
                  lowered)
                  .code,
              0);
    EXPECT_EQ(run("check " + path("x.csv")).code, 0);
  }
  EXPECT_EQ(run("export seq1f1b --sequence-splits 2 --output " + path("s.csv")).code, 0);
  EXPECT_EQ(run("check " + path("s.csv")).code, 1);
  EXPECT_EQ(run("check --sequence-splits 2 " + path("s.csv")).code, 0);
  EXPECT_EQ(run("export 1f1b --ranks 1 --microbatches 2").out, "0F0,0B0,0F1,0B1\n");
}

TEST_F(Cli, SimulateSweepsIntoOneTable) {
  const Outcome swept =
      run("simulate 1f1b,gpipe --ranks 4 --microbatches 4,8 --costs 1,1,1 --format json");
  EXPECT_EQ(swept.code, 0);
  const nlohmann::json records = nlohmann::json::parse(swept.out);
  ASSERT_EQ(records.size(), 4U);
  EXPECT_EQ(records[1],
            nlohmann::json::parse(
                R"({"schedule": "1f1b", "ranks": 4, "stages_per_rank": 1, "microbatches": 8,
                    "makespan": 33, "cost": 33, "ideal": 24, "bubble": 0.2727272727272727,
                    "bubble_cost": 0.2727272727272727, "peak_activations": [4, 3, 2, 1]})"));
  EXPECT_EQ(records[3]["peak_activations"], nlohmann::json::parse("[8, 8, 8, 8]"));
  EXPECT_THAT(run("simulate 1f1b --format csv").out,
              StartsWith("schedule,ranks,stages_per_rank,microbatches,makespan,cost,ideal,bubble,"
                         "bubble_cost,peak_activations\n1f1b,4,1,8,33,"));
  EXPECT_THAT(run("simulate 1f1b --format md").out, StartsWith("| schedule"));
}

TEST_F(Cli, SimulateReadsCostsByStageAndWritesTraces) {
  const std::string toml =
      write("costs.toml", "forward = [1, 2]\nbackward_input = 1\nbackward_weight = [1, 2]\n");
  const std::string json =
      write("costs.json", R"({"forward": [1, 2], "backward_input": 1, "backward_weight": [1, 2]})");
  for (const std::string& costs : {toml, json}) {
    const Outcome simulated =
        run("simulate gpipe --ranks 2 --microbatches 1 --format json --costs " + costs +
            " --timeline " + path("trace.json"));
    EXPECT_EQ(simulated.err, "");
    EXPECT_EQ(nlohmann::json::parse(simulated.out)[0]["makespan"], 8);
    EXPECT_TRUE(nlohmann::json::parse(read(path("trace.json"))).contains("traceEvents"));
  }
  const Outcome wrong = run("simulate gpipe --costs " + write("wrong.toml", "fordward = 1\n"));
  EXPECT_EQ(wrong.code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("did you mean 'forward'?"));
}

TEST_F(Cli, WrongCommandLinesEndWithTwoAndAnAnswer) {
  for (const auto& [arguments, answer] : std::initializer_list<std::pair<const char*, const char*>>{
           {"shwo", "did you mean 'show'?"},
           {"", "subcommand is required"},
           {"show 1f1b --rank 4", "did you mean --ranks?"},
           {"show 1f1n", "did you mean '1f1b'?"},
           {"show 1f1b --ranks 0", "needs ranks >= 1, given 0"},
           {"show 1f1b --ranks x", "--ranks is 'x'"},
           {"simulate", "schedule is required"},
           {"simulate 1f1b --costs 1,2", "three numbers"},
           {"simulate 1f1b --costs 1,-2,1", "--costs 1,-2,1: -2 is no time; it must be 0 or more"},
           {"simulate 1f1b --bandwidth nan --message-bytes 3", "--bandwidth is nan; it must be"},
           {"simulate 1f1b --bandwidth 1 --message-bytes=-3", "--message-bytes is -3; it must be"},
           {"simulate 1f1b --costs nan,1,1",
            "--costs nan,1,1: number 1 is 'nan'; it must be a fin"},
           {"simulate 1f1b --costs 1,inf,1",
            "--costs 1,inf,1: number 2 is 'inf'; it must be a fin"},
           {"simulate 1f1b --costs 1,,1", "--costs 1,,1: number 2 is missing"},
           {"simulate 1f1b --costs 1,2,", "--costs 1,2,: number 3 is missing"},
           {"simulate 1f1b --costs 1,x,1", "--costs 1,x,1: number 2 is 'x'"},
           {"export 1f1b --costs -1,1,1", "--costs -1,1,1: -1 is no time"},
           {"simulate 1f1b --latency nan", "cost latency is nan"},
           {"simulate 1f1b --activation-memory 1,nan,0", "number 2 is 'nan'"},
           {"simulate zb-auto --memory-limit nan", "--memory-limit nan: number 1 is 'nan'"},
           {"show foo",
            "v-adaptive, 1f1b-v, gis, dualpipe, dualpipe-v, chimera, seq1f1b, "
            "pipedream, pipedream-2bw, auto"},
           {"show auot", "did you mean 'auto'?"},
           {"simulate 1f1b --format xml", "text, md, csv or json"},
           {"simulate 1f1b --bandwidth 5", "--message-bytes"},
           {"simulate gpipe --stages-per-rank 2", "has 1 stage a rank, not 2"}}) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, 2) << arguments;
    EXPECT_THAT(outcome.err, StartsWith("error: ")) << arguments;
    EXPECT_THAT(outcome.err, HasSubstr(answer)) << arguments;
    EXPECT_EQ(outcome.out, "") << arguments;
  }
}

// Not by the killer of processes, nor as "std::bad_alloc".
TEST_F(Cli, SizesThatCannotFitAreRefusedAtOnce) {
  for (const std::string command : {"show", "simulate", "export"}) {
    const Outcome outcome = run(command + " 1f1b --ranks 10000000 --microbatches 100000000");
    EXPECT_EQ(outcome.code, 2) << command;
    EXPECT_THAT(outcome.err,
                StartsWith("error: 1f1b with ranks 10000000, microbatches 100000000 has at least "
                           "2,000,000,000,000,000 actions of 16 bytes on 10,000,000 stages: "
                           "29103.8 TiB, and "));
  }
  // Among others it is left out, as sizes that a schedule does not take are.
  const Outcome swept = run("simulate 1f1b --ranks 4 --microbatches 8,2000000000");
  EXPECT_EQ(swept.code, 0);
  EXPECT_THAT(swept.err,
              HasSubstr("left out: 1f1b with ranks 4, microbatches 2000000000 has at least"));
}

TEST_F(Cli, MemoryThatRunsOutIsNamed) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "its shadow memory alone is larger than the limit";
#endif
  // So much address space that the schedule fits, and its simulation does not.
  const Outcome outcome = run("simulate 1f1b --ranks 64 --microbatches 20000", "ulimit -v 150000;");
  EXPECT_EQ(outcome.code, 2) << outcome.err;
  EXPECT_THAT(outcome.err, StartsWith("error: simulating 1f1b with 2,560,000 actions: "));
  EXPECT_THAT(outcome.err, HasSubstr("the limit on this process's address space has "));
}

TEST_F(Cli, HelpAndVersion) {
  EXPECT_THAT(run("--version").out, StartsWith("headrace "));
  const Outcome help = run("simulate --help");
  EXPECT_EQ(help.code, 0);
  for (const char* flag :
       {"--ranks", "--microbatches", "--stages-per-rank", "--costs", "--latency", "--bandwidth",
        "--memory-limit", "--activation-memory", "--sequence-splits", "--group-size",
        "--overlapped-cost", "--format", "--timeline"})
    EXPECT_THAT(help.out, HasSubstr(flag));
}

TEST_F(Cli, AsynchronousSchedulesShowTheirWeights) {
  const Outcome shown = run("show pipedream --ranks 3 --microbatches 5");
  EXPECT_EQ(shown.code, 0);
  EXPECT_THAT(shown.out, AllOf(HasSubstr("asynchronous"), HasSubstr("0 0 0 1 2")));
  const Outcome table = run("show pipedream --ranks 3 --microbatches 5 --weights --format json");
  const auto stages = nlohmann::json::parse(table.out);
  ASSERT_EQ(stages.size(), 3U);
  EXPECT_EQ(stages[0]["stored_versions"], 3);
  EXPECT_EQ(stages[0]["version_of_each_microbatch"], nlohmann::json({0, 0, 0, 1, 2}));
  EXPECT_EQ(stages[0]["staleness_of_each_microbatch"], nlohmann::json({0, 1, 2, 2, 2}));
  EXPECT_EQ(stages[2]["staleness_of_each_microbatch"], nlohmann::json({0, 0, 0, 0, 0}));
  EXPECT_THAT(run("show 1f1b --ranks 2 --microbatches 2").out, Not(HasSubstr("asynchronous")));
}

}  // namespace
}  // namespace headrace
