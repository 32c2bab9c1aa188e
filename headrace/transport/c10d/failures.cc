#include "headrace/transport/c10d/failures.h"

#include <chrono>
#include <sstream>
#include <thread>

namespace headrace {

namespace {

constexpr double kQueryLimit = 1.2;  // seconds: two watches and a bit
constexpr auto kPause = std::chrono::milliseconds(50);

// First line: the reporting rank and the rank at fault; then what happened.
std::string encode(const Failure& failure, int reporter) {
  return cat(reporter, " ", failure.rank, "\n", failure.what);
}

Failure decode_failure(const std::string& text, int rank) {
  Failure failure;
  int reporter = -1;
  std::istringstream in(text);
  in >> reporter >> failure.rank;
  in.get();
  failure.what.assign(std::istreambuf_iterator<char>(in), {});
  failure.reported_here = reporter == rank;
  return failure;
}

std::string encode(const std::optional<Waiting>& waiting) {
  if (!waiting) return "-";
  const Label& label = waiting->label;
  return cat(waiting->peer, " ", waiting->to_send, " ", static_cast<int>(label.purpose), " ",
             label.step, " ", label.stage, " ", label.microbatch);
}

std::optional<Waiting> decode_waiting(const std::string& text) {
  if (text == "-") return std::nullopt;
  Waiting waiting;
  int purpose = 0;
  std::istringstream in(text);
  in >> waiting.peer >> waiting.to_send >> purpose >> waiting.label.step >> waiting.label.stage >>
      waiting.label.microbatch;
  waiting.label.purpose = static_cast<Purpose>(purpose);
  return waiting;
}

std::string wait_key(std::int64_t query, int rank) {
  return cat("wait/", query, "/", rank);
}

void read_failure(RunState& state, c10d::Store& store) {
  if (!store.check({"failure"})) return;
  const Failure failure = decode_failure(store.get_to_str("failure"), state.rank);
  const std::lock_guard lock(state.mutex);
  if (state.failure) return;
  state.failure = failure;
  state.changed.notify_all();
}

// Reads what an alarm was for.
class Watch {
 public:
  explicit Watch(std::shared_ptr<RunState> state) : state_(std::move(state)) {}

  void operator()(c10d::Store& store) {
    const std::int64_t alarm = store.add("alarm", 0);
    if (alarm == seen_) return;
    seen_ = alarm;
    read_failure(*state_, store);
    const std::int64_t query = store.add("query", 0);
    if (query == answered_) return;
    answered_ = query;
    std::optional<Waiting> waiting;
    {
      const std::lock_guard lock(state_->mutex);
      waiting = state_->waiting;
    }
    // Questions asked at the same time have the same answer.
    for (std::int64_t q = query; q > 0 && q > query - state_->size; --q)
      store.set(wait_key(q, state_->rank), encode(waiting));
  }

 private:
  std::shared_ptr<RunState> state_;
  std::int64_t seen_ = 0;
  std::int64_t answered_ = 0;
};

}  // namespace

Failures::Failures(std::shared_ptr<RunState> state, std::unique_ptr<StoreThread> store_thread)
    : state_(std::move(state)), store_(std::move(store_thread)) {
  store_->keep_watch(Watch(state_), [run = state_](const std::string& why) {
    const std::lock_guard lock(run->mutex);
    run->store_lost = why;
    run->changed.notify_all();
  });
}

std::optional<Failure> Failures::publish(const Failure& failure) {
  const auto first =
      store_->ask([rank = state_->rank, text = encode(failure, state_->rank)](c10d::Store& store) {
        const std::string value = store.compareSet("failure", std::string(), text);
        store.add("alarm", 1);
        return decode_failure(value, rank);
      });
  if (first) {
    const std::lock_guard lock(state_->mutex);
    state_->failure = *first;
    state_->changed.notify_all();
  }
  return first;
}

bool Failures::look() {
  return store_
      ->ask([state = state_](c10d::Store& store) {
        read_failure(*state, store);
        return true;
      })
      .has_value();
}

std::optional<Failures::Waits> Failures::ask_all(const Waiting& own) {
  const auto size = static_cast<std::size_t>(state_->size);
  const auto query = store_->ask([](c10d::Store& store) {
    const std::int64_t number = store.add("query", 1);
    store.add("alarm", 1);
    return number;
  });
  if (!query) return std::nullopt;
  Waits result{std::vector<std::optional<Waiting>>(size), std::vector<bool>(size)};
  const auto own_index = static_cast<std::size_t>(state_->rank);
  result.waits[own_index] = own;
  result.answered[own_index] = true;
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(kQueryLimit);
  std::size_t known = 1;
  while (known < size && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(kPause);
    for (std::size_t r = 0; r < size; ++r) {
      if (result.answered[r]) continue;
      const auto answer =
          store_->ask([key = wait_key(*query, static_cast<int>(r))](c10d::Store& store) {
            return store.check({key}) ? store.get_to_str(key) : std::string();
          });
      if (!answer) return std::nullopt;
      if (answer->empty()) continue;
      result.waits[r] = decode_waiting(*answer);
      result.answered[r] = true;
      ++known;
    }
  }
  return result;
}

void Failures::leave() {
  store_->ask([key = cat("left/", state_->rank)](c10d::Store& store) {
    store.set(key, std::string("1"));
    return true;
  });
}

bool Failures::has_left(int rank) {
  return store_->ask([key = cat("left/", rank)](c10d::Store& store) { return store.check({key}); })
      .value_or(false);
}

}  // namespace headrace
