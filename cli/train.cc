// headrace train FILE.toml: starts the local workers, or is one.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <future>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <torch/types.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/launcher.h"
#include "headrace/base/error.h"
#include "headrace/launch/cores.h"
#include "headrace/launch/launch.h"
#include "headrace/launch/restart.h"
#include "headrace/launch/run_claim.h"
#include "headrace/launch/status.h"
#include "headrace/launch/worker.h"
#include "headrace/tensor/exception_text.h"
#include "headrace/tensor/memory.h"
#include "headrace/train/agreement.h"
#include "headrace/train/config/config.h"
#include "headrace/train/devices.h"
#include "headrace/train/elastic.h"
#include "headrace/train/loop.h"
#include "headrace/train/resume.h"
#include "headrace/train/trainable.h"
#include "headrace/transport/all_gather.h"
#include "headrace/transport/c10d/c10d.h"
#include "headrace/transport/rendezvous/interfaces.h"
#include "headrace/transport/rendezvous/rendezvous.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;

struct Flags {
  std::string file;
  std::string resume;
  std::vector<std::string> settings;
  std::string ranks, schedule, microbatches, steps, threads;
  std::string run_dir;
  std::string launcher = "auto";
  int max_restarts = 0;
  bool overwrite = false;
  bool elastic = false;
  bool timeline = false;
};

bool torchrun_may_restart() {
  const char* most = std::getenv("TORCHELASTIC_MAX_RESTARTS");
  return most != nullptr && std::string(most) != "0";
}

// Whoever starts a run anew must find it again.
void require_a_folder_to_come_back_to(const Flags& flags, const std::optional<Rendezvous>& place) {
  check_usage(place || !flags.elastic,
              "--elastic is for ranks that a launcher such as torchrun starts, as many as it has; "
              "this process starts "
              "as many as pipeline.ranks says");
  if (!place || is_worker()) return;
  check_usage(flags.max_restarts == 0, "--max-restarts is for ranks that this process starts, and ",
              started_by(*place),
              " has started this one; torchrun has a --max-restarts of its own");
  check_usage(!flags.elastic || !flags.overwrite || !torchrun_may_restart(),
              "--overwrite would delete the run where torchrun takes a host in and starts it anew "
              "(--elastic); "
              "remove ",
              flags.run_dir, " before, if that is what you want");
  check_usage(!torchrun_may_restart() || !flags.run_dir.empty() || !flags.resume.empty(),
              "torchrun may start this run anew (--max-restarts), and would not find what it has "
              "saved; give the run a folder with --run-dir");
}

Config configuration(const Flags& flags, const std::optional<Rendezvous>& place) {
  std::vector<std::string> settings = flags.settings;
  const auto flag = [&](const std::string& key, const std::string& value) {
    if (!value.empty()) settings.push_back(key + "=" + value);
  };
  flag("pipeline.ranks", flags.ranks);
  flag("pipeline.schedule", flags.schedule);
  flag("train.microbatches", flags.microbatches);
  flag("train.steps", flags.steps);
  flag("pipeline.threads", flags.threads);
  check_usage(flags.file.empty() != flags.resume.empty(),
              flags.file.empty() ? "give a configuration, or --resume with a run's folder"
                                 : "a configuration and --resume are both given; a run is resumed "
                                   "with its own, and --set and flags change it");
  check_usage(flags.resume.empty() || (flags.run_dir.empty() && !flags.overwrite),
              "a run is resumed in its own folder; leave out ",
              flags.overwrite ? "--overwrite" : "--run-dir");
  require_a_folder_to_come_back_to(flags, place);
  Config config = flags.resume.empty() ? read_config(flags.file, settings)
                                       : resumed_config(flags.resume, settings);
  config.timeline = flags.timeline;
  config.overwrite = flags.overwrite;
  resolve(config);  // a balance or a split says how many ranks there are
  int& ranks = config.pipeline.ranks;
  const int replicas = config.pipeline.replicas.front();  // a list of them says the ranks itself
  if (ranks == 0) ranks = place && place->size % replicas == 0 ? place->size / replicas : 2;
  if (place && flags.elastic) {
    LaidOut laid_out = laid_out_for(place->size, config);
    config = std::move(laid_out.config);
    config.laid_out = std::move(laid_out.what);
  }
  const int processes = processes_of(config.pipeline);
  if (place && place->size != processes) {
    const int left = place->size % processes;
    check_usage(false, place->size, place->size == 1 ? " process was" : " processes were",
                " started (", started_by(*place), "), but pipeline.ranks is ", ranks,
                processes == ranks ? "" : cat(", with replicas ", processes, " processes"),
                place->size > processes
                    ? cat(": ", place->size, " processes / ", processes, " stages leaves ", left)
                    : "",
                "; start ", processes, ", or --elastic to make do, or use --ranks ",
                std::max(1, place->size / replicas),
                ", or --launcher local for this process to start all ranks");
  }
  if (config.pipeline.threads == 0)
    config.pipeline.threads = std::max(1, available_cores() / processes);
  resolve(config);
  // All that can be refused before any process or network starts.
  const bool is_one_host = !place || place->local_size == place->size;
  if (config.resume != Resume::No && restarts_by_launcher() == 0 && is_one_host &&
      !(place && place->is_restart))
    require_resumable(config);
  bool needs_this_memory = false;
  if (!place) {
    const DeviceChoice first = choose_device(config.pipeline, {0, processes});
    require_cuda(config.pipeline, first);
    needs_this_memory = first.device.is_cpu();
  }
  require_trainable(config, needs_this_memory);
  return config;
}

// This program's command line, to run it anew as a worker.
std::vector<std::string> own_arguments() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::vector<std::string> arguments;
  for (std::string argument; std::getline(file, argument, '\0');) arguments.push_back(argument);
  return arguments;
}

// What makes this rank's errors those of the whole run: the first one is told once, by one rank.
[[noreturn]] void end_failed(std::unique_ptr<Transport> transport,
                             const std::exception& error,
                             int rank,
                             int exit_code) {
  const auto* peer = dynamic_cast<const PeerError*>(&error);
  const int at_fault = peer != nullptr ? peer->peer : rank;
  std::string text = text_of(error);
  bool mine = true;
  if (transport != nullptr) {
    const Failure failure = transport->fail(at_fault, text);
    mine = failure.reported_here;
  }
  // Our launcher picks the cause among all reports; other launchers show whatever is printed.
  if (mine || is_worker()) report_error(text, at_fault, exit_code);
  std::cout.flush();
  // The others still have to read the cause from rank 0, so this rank leaves as the transport says,
  // but not exit(): a transport that has failed has threads that may never end.
  std::promise<void> left;
  try {
    std::thread([&] {
      transport.reset();
      left.set_value();
    }).detach();
    left.get_future().wait_for(std::chrono::seconds(4));
  } catch (const std::system_error&) {  // no memory is left for a thread
    std::this_thread::sleep_for(std::chrono::seconds(2));
  }
  _exit(exit_code);
}

std::unique_ptr<Transport> meet(const Rendezvous& place, double limit, const DeviceUse& use) {
  try {
    return c10d_transport(place, limit, use);
  } catch (const UsageError&) {
    throw;
  } catch (const Error& error) {
    if (is_worker()) throw;
    // What the launcher said may be what is wrong: a rank that nobody started never comes.
    throw Error(cat(error.what(), " (this rank was started by ", started_by(place),
                    "; with --launcher local one process starts all ranks on its host)"));
  }
}

// Whether these ranks are to go on with what the run's folder holds, the same on all.
bool is_started_anew(const Flags& flags, const Rendezvous& place, Transport& transport) {
  if (is_worker()) return restarts_by_launcher() > 0;
  // torchrun does not count it as a restart where it takes a host in, and hosts may count differently: rank 0's word
  // is taken.
  const bool is_there = flags.elastic && torchrun_may_restart() &&
                        fs::exists(fs::path(flags.run_dir) / "config.toml");
  const bool mine = transport.restarts() > 0 || place.is_restart;
  const auto all = all_gather(transport, {mine ? 1.0 : 0.0, is_there ? 1.0 : 0.0}, kAgreement);
  return all[0][0] > 0 ||
         std::ranges::any_of(all, [](const std::vector<double>& of) { return of[1] > 0; });
}

RunClaim claim_folder(const Flags& flags, bool goes_on) {
  if (!flags.resume.empty()) return RunClaim::resumed(flags.resume);
  // By torchrun, which leaves the folder to rank 0; the attempt before may not have come to it.
  if (goes_on && fs::exists(fs::path(flags.run_dir) / "config.toml"))
    return RunClaim::resumed(flags.run_dir);
  const std::filesystem::path own = "runs" / std::filesystem::path(flags.file).stem();
  if (!flags.run_dir.empty()) return RunClaim::named(flags.run_dir, flags.overwrite);
  return flags.overwrite ? RunClaim::named(own, true) : RunClaim::next(own);
}

int work(const Flags& flags, Config config, const Rendezvous& place) {
  torch::set_num_threads(config.pipeline.threads);
  if (place.size > 1) prepare_cuda();
  install_memory_accounts();
  StatusPage page = StatusPage::from_environment(place.size);
  page.note_phase(place.rank, Phase::Starting);
  std::unique_ptr<Transport> transport;
  std::optional<RunClaim> claim;
  try {
    const DeviceChoice choice = choose_device(
        config.pipeline,
        {.rank = place.local_rank, .size = place.local_size, .same_view = is_worker()});
    transport =
        meet(place, config.pipeline.start_limit,
             {.device = choice.device, .ranks_per_device = config.pipeline.ranks_per_device});
    require_devices(config.pipeline, gather_devices(*transport, choice));
    install_stop_handler();  // until here there is nothing to end well, and a signal just ends it
    page.note_phase(place.rank, Phase::Loading);
    config.run_dir = run_dir_of_launcher();
    transport->set_limit(config.pipeline.start_limit);
    const bool goes_on = is_started_anew(flags, place, *transport);
    // Other launchers leave it to rank 0, which can now tell all ranks if there is none to be had.
    if (!is_worker() && place.rank == 0) {
      config.run_dir = claim.emplace(claim_folder(flags, goes_on)).folder();
      if (config.resume == Resume::No && !goes_on) {
        // An earlier run's must not be taken for this one's when it is started anew.
        if (flags.overwrite && torchrun_may_restart()) clear_run(config.run_dir);
        claim_checkpoints(config, flags.overwrite);
      }
    }
    if (goes_on && config.resume == Resume::No) {
      config.resume = Resume::IfThere;
      config.resume_from = checkpoint_directory(config).string();
    }
    std::optional<Console> console;
    if (place.rank == 0) console.emplace(std::cout, isatty(STDOUT_FILENO) == 1);
    TrainingHooks hooks;
    hooks.console = console ? &*console : nullptr;
    hooks.choice = choice;
    hooks.stop_requested = stop_requested;
    hooks.on_step = [&](std::int64_t step) {
      page.note_phase(place.rank, Phase::Training);
      page.note_step(place.rank, step);
    };
    hooks.on_action = [&](const Action& action) {
      page.note_stage(place.rank, action.stage);
      page.note_action(place.rank, to_string(action));
    };
    hooks.on_evaluation = [&] { page.note_phase(place.rank, Phase::Evaluating); };
    hooks.on_saving = [&] { page.note_phase(place.rank, Phase::Saving); };
    const TrainingResult result = run_training(config, *transport, hooks);
    page.note_phase(place.rank, Phase::Ending);
    transport.reset();
    return result.stopped.empty() ? 0 : kStoppedExit;
  } catch (const UsageError& error) {
    end_failed(std::move(transport), error, place.rank, 2);
  } catch (const std::exception& error) {
    end_failed(std::move(transport), error, place.rank, 1);
  }
}

int train(const Flags& flags, const std::vector<std::string>& arguments) {
  bind_to_launcher();
  const std::optional<Rendezvous> place = place_in_run(flags.launcher);
  Config config;
  try {
    config = configuration(flags, place);
  } catch (const UsageError&) {
    // Under a launcher every process of a host finds the same fault: one says so. What only another host
    // than the first one lacks is said there.
    if (place && place->local_rank > 0) return 2;
    throw;
  }
  if (place) return work(flags, config, *place);
  chosen_interfaces();  // a fault of theirs is every worker's
  const RunClaim claim = claim_folder(flags, false);
  config.run_dir = claim.folder().string();
  if (config.resume == Resume::No) {
    if (flags.overwrite && flags.max_restarts > 0) clear_run(claim.folder());
    claim_checkpoints(config, flags.overwrite);
    config.resume_from = checkpoint_directory(config).string();
  }
  Listening listening;
  const auto options = [&](int restarts) {
    if (listening.fd >= 0) ::close(listening.fd);
    listening = listen_on_free_port();
    return LaunchOptions{.workers = processes_of(config.pipeline),
                         .arguments = arguments,
                         .port = listening.port,
                         .listen_fd = listening.fd,
                         .run_dir = claim.folder(),
                         .lock_fd = claim.lock_fd(),
                         .restarts = restarts,
                         .threads = config.pipeline.threads};
  };
  const auto origin = [&] {
    const auto newest = newest_checkpoint(config);
    return newest ? newest->string() : "the start, as no checkpoint is complete";
  };
  return launch_with_restarts(
      {.most = flags.max_restarts,
       .options = options,
       .origin = origin,
       .say = [](const std::string& line) { std::cerr << line << std::endl; }});
}

}  // namespace

void add_train(CLI::App& program) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = program.add_subcommand(kTorchCommands[0].first, kTorchCommands[0].second);
  command->add_option("file", flags->file,
                      "configuration (TOML); docs/configuration.md lists its keys");
  command->add_option("--resume", flags->resume,
                      "go on from the newest checkpoint of the run in this folder, with its own "
                      "configuration under flags and settings");
  command->add_option("--ranks", flags->ranks, "ranks of the pipeline (default: the file's, or 2)");
  command->add_option("--schedule", flags->schedule, "schedule (default: the file's, or 1f1b)");
  command->add_option("--microbatches", flags->microbatches,
                      "microbatches in a global batch (default: the file's)");
  command->add_option("--steps", flags->steps, "steps to train (default: the file's)");
  command->add_option("--threads", flags->threads, "threads a rank (default: cores ÷ ranks)");
  command->add_option("--run-dir", flags->run_dir,
                      "folder of the run's files (default: runs/<name of the file>, or the next of "
                      "runs/<name>-2, … that has no run)");
  command->add_flag("--overwrite", flags->overwrite,
                    "delete the files of an earlier run in that folder");
  command
      ->add_option(
          "--launcher", flags->launcher,
          "who starts the ranks: local (this process), torchrun, mpi or slurm, none (it is "
          "the only rank)")
      ->check(CLI::IsMember(launcher_names()))
      ->capture_default_str();
  command
      ->add_option("--max-restarts", flags->max_restarts,
                   "how often the ranks are started anew, from the newest checkpoint, when one has "
                   "failed")
      ->check(CLI::Range(0, 1000000))
      ->capture_default_str();
  command->add_flag("--elastic", flags->elastic,
                    "where a launcher has started another number of ranks than the configuration "
                    "asks for, lay the "
                    "run out anew for them");
  command->add_flag("--timeline", flags->timeline,
                    "write timeline.json, a trace of the last step for Perfetto");
  command
      ->add_option("--set", flags->settings,
                   "section.key=value, over what the file says; may be repeated")
      ->type_size(1)
      ->allow_extra_args(false);
  command->final_callback([flags] {
    const int code = train(*flags, own_arguments());
    if (code != 0) throw CLI::RuntimeError(code);
  });
}

}  // namespace headrace
