#include "tests/cli/program.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <thread>
#include <utility>

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace headrace {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// Differs between all that this machine's tests start.
std::string new_name() {
  static std::atomic<int> number{0};
  return std::to_string(::getpid()) + "-" + std::to_string(++number);
}

// The entries of a process's environment; none where it is gone or a zombie.
std::vector<std::string> environment_of(const fs::path& process) {
  std::ifstream file(process / "environ", std::ios::binary);
  std::vector<std::string> entries;
  for (std::string entry; std::getline(file, entry, '\0');) entries.push_back(entry);
  return entries;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> out;
  for (std::string& text : texts) out.push_back(text.data());
  out.push_back(nullptr);
  return out;
}

}  // namespace

Folder::Folder() : path_(fs::path(testing::TempDir()) / ("headrace-" + new_name())) {
  fs::create_directories(path_);
}

Folder::~Folder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string Folder::write(const std::string& name, const std::string& text) const {
  std::ofstream(path_ / name, std::ios::binary) << text;
  return path(name);
}

Program::Program(const ProgramOptions& options) : begin_(Clock::now()) {
  const std::string name = new_name();
  mark_ = "HEADRACE_TEST_MARK=" + name;
  out_ = options.folder / ("out-" + name);
  err_ = options.folder / ("err-" + name);
  std::vector<std::string> arguments = options.command;
  arguments.emplace_back(HEADRACE_PROGRAM);
  std::istringstream words(options.arguments);
  for (std::string word; words >> word;) arguments.push_back(word);
  std::vector<std::string> environment = {mark_};
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (!options.environment.contains(text.substr(0, text.find('=')))) environment.push_back(text);
  }
  for (const auto& [key, value] : options.environment) environment.push_back(key + "=" + value);

  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  constexpr int kWrite = O_WRONLY | O_CREAT | O_TRUNC;
  ::posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, out_.c_str(), kWrite, 0600);
  ::posix_spawn_file_actions_addopen(&files, STDERR_FILENO, err_.c_str(), kWrite, 0600);
  ::posix_spawn_file_actions_addchdir_np(&files, options.folder.c_str());
  pid_t started = -1;
  const int problem = ::posix_spawnp(&started, arguments.front().c_str(), &files, nullptr,
                                     pointers(arguments).data(), pointers(environment).data());
  ::posix_spawn_file_actions_destroy(&files);
  if (problem != 0)
    throw std::runtime_error("cannot start " + arguments.front() + ": " + std::strerror(problem));
  pid_ = started;
}

Program::~Program() {
  for (const pid_t pid : processes()) signal_process(pid, SIGKILL);
  if (!ended_ && pid_ > 0) ::waitpid(pid_, nullptr, 0);
}

const Outcome& Program::wait(double limit) {
  if (ended_) return outcome_;
  int status = 0;
  const bool in_time = eventually([&] { return ::waitpid(pid_, &status, WNOHANG) == pid_; }, limit);
  if (!in_time) {
    ADD_FAILURE() << "not ended after " << limit << " s\n" << out() << err();
    for (const pid_t pid : processes()) signal_process(pid, SIGKILL);
    ::waitpid(pid_, &status, 0);
  }
  ended_ = true;
  outcome_.seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
  outcome_.code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  outcome_.out = out();
  outcome_.err = err();
  // Workers end with a launcher that is killed, but it cannot wait for that.
  if (outcome_.code < 0) eventually([&] { return processes().empty(); }, 5);
  EXPECT_EQ(processes(), std::vector<pid_t>()) << "processes are left\n" << out() << err();
  return outcome_;
}

void Program::signal(int number) const {
  signal_process(ended_ ? 0 : pid_, number);
}

std::map<int, pid_t> Program::ranks() const {
  std::map<int, pid_t> found;
  for (const pid_t pid : processes())
    for (const std::string& entry : environment_of(fs::path("/proc") / std::to_string(pid)))
      if (entry.starts_with("RANK=")) found[std::stoi(entry.substr(5))] = pid;
  return found;
}

std::string Program::out() const {
  return read_file(out_);
}

std::string Program::err() const {
  return read_file(err_);
}

std::vector<pid_t> Program::processes() const {
  std::vector<pid_t> found;
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator("/proc", ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::vector<std::string> environment = environment_of(entry.path());
    if (std::find(environment.begin(), environment.end(), mark_) != environment.end())
      found.push_back(std::stoi(name));
  }
  return found;
}

void signal_process(pid_t pid, int number) {
  // 0, -1 and other negative numbers mean whole groups of processes to kill(2), -1 all of them.
  if (pid <= 1) throw std::logic_error("no process to send a signal to");
  ::kill(pid, number);
}

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

bool eventually(const std::function<bool()>& condition, double limit) {
  const auto end = Clock::now() + std::chrono::duration<double>(limit);
  while (!condition()) {
    if (Clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

int free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  EXPECT_EQ(::bind(fd, generic, length), 0);
  ::getsockname(fd, generic, &length);
  ::close(fd);
  return ntohs(address.sin_port);
}

}  // namespace headrace
