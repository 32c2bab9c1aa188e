// The program as its users meet it: started as a process of its own, with arguments, an environment
// and a folder.
//
//   Folder folder;
//   Program program({.arguments = "train a.toml --ranks 2", .folder = folder.path()});
//   const Outcome& outcome = program.wait();
//   EXPECT_EQ(outcome.code, 0) << outcome.err;
//
// Standard input is empty and the output goes to files, so that nothing is a terminal. What it and
// the processes that it started leave behind fails the test and is ended.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <sys/types.h>

namespace headrace {

// A new folder, removed in the end.
class Folder {
 public:
  Folder();
  ~Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::string path(const std::string& name) const { return (path_ / name).string(); }
  std::string write(const std::string& name, const std::string& text) const;  // the path

 private:
  std::filesystem::path path_;
};

struct Outcome {
  int code = -1;  // of its exit; minus the signal that ended it
  std::string out;
  std::string err;
  double seconds = 0;
};

struct ProgramOptions {
  std::string arguments;  // words parted by single spaces
  std::map<std::string, std::string> environment;
  std::filesystem::path folder;      // to run in
  std::vector<std::string> command;  // another program that is to start this one
};

class Program {
 public:
  // Throws where it cannot be started.
  explicit Program(const ProgramOptions& options);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // Its end, which must come within the limit and leave no process.
  const Outcome& wait(double limit = 60);

  void signal(int number) const;  // throws once it has been waited for
  // By rank: the processes that it has started, or itself, once they are a run's ranks.
  std::map<int, pid_t> ranks() const;
  std::string out() const;
  std::string err() const;

 private:
  std::vector<pid_t> processes() const;

  std::string mark_;  // in the environment of all of its processes
  std::filesystem::path out_;
  std::filesystem::path err_;
  std::chrono::steady_clock::time_point begin_;
  pid_t pid_ = -1;
  bool ended_ = false;
  Outcome outcome_;
};

// kill(2), for one process only: throws where `pid` is none.
void signal_process(pid_t pid, int number);
std::string read_file(const std::filesystem::path& path);  // "" where there is none
std::vector<std::string> lines_of(const std::string& text);
// Whether the condition comes true before the limit, in seconds.
bool eventually(const std::function<bool()>& condition, double limit = 30);
// A port of 127.0.0.1 that was free.
int free_port();

}  // namespace headrace
