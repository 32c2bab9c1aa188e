// The rules and the table; longer than most files because a key is a row and there are many.
#include "headrace/train/config/keys.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/data/tokenizer.h"
#include "headrace/train/config/config.h"
#include "headrace/train/config/value.h"

namespace headrace {
namespace {

// A rule says what a key takes, reads it from a Value (false: not that) and writes it back.

struct Whole {
  std::int64_t low = 0;

  std::string expected() const { return cat("a whole number of ", low, " or more"); }
  template <class T>
  bool read(const Value& value, T& out) const {
    const auto* n = std::get_if<std::int64_t>(&value.is);
    if (n == nullptr || *n < low || !std::in_range<T>(*n)) return false;
    out = static_cast<T>(*n);
    return true;
  }
  template <class T>
  Value write(T n) const {
    return {std::in_range<std::int64_t>(n) ? static_cast<std::int64_t>(n) : -1};
  }
};

struct Number {
  double low = 0;
  double high = std::numeric_limits<double>::infinity();  // always left out
  bool above = false;                                     // low is left out as well

  std::string expected() const {
    std::string text = cat("a number ", above ? "above " : "of at least ", low);
    if (high < std::numeric_limits<double>::infinity()) text += cat(" and below ", high);
    return text;
  }
  bool read(const Value& value, double& out) const {
    double x = 0;
    if (const auto* number = std::get_if<double>(&value.is)) {
      x = *number;
    } else if (const auto* whole = std::get_if<std::int64_t>(&value.is)) {
      x = static_cast<double>(*whole);
    } else {
      return false;
    }
    if (!(above ? x > low : x >= low) || !(x < high)) return false;
    out = x;
    return true;
  }
  Value write(double x) const { return {x}; }
};

struct Seconds {
  // Some years: clocks count nanoseconds in 64 bits, and what is meant as "no limit" fits.
  static constexpr double kMost = 1e8;

  std::string expected() const {
    return "seconds above 0, at most 1e8, as 30, \"500ms\" or \"2min\"";
  }
  bool read(const Value& value, double& out) const {
    const Number number{.above = true};
    const auto* text = std::get_if<std::string>(&value.is);
    try {
      const Value seconds = text == nullptr ? value : Value{parse_seconds(*text, "")};
      return number.read(seconds, out) && out <= kMost;
    } catch (const UsageError&) {
      return false;
    }
  }
  Value write(double x) const { return {x}; }
};

struct Flag {
  std::string expected() const { return "true or false"; }
  bool read(const Value& value, bool& out) const {
    const auto* b = std::get_if<bool>(&value.is);
    if (b != nullptr) out = *b;
    return b != nullptr;
  }
  Value write(bool b) const { return {b}; }
};

struct Text {
  std::string expected() const { return "a text"; }
  bool read(const Value& value, std::string& out) const {
    const auto* text = std::get_if<std::string>(&value.is);
    if (text == nullptr || text->empty()) return false;
    out = *text;
    return true;
  }
  Value write(const std::string& text) const { return {text}; }
};

struct Choice {
  std::vector<std::string> words;

  std::string expected() const { return "one of \"" + join_text(words, "\", \"") + "\""; }
  bool read(const Value& value, std::string& out) const {
    const auto* text = std::get_if<std::string>(&value.is);
    if (text == nullptr || std::find(words.begin(), words.end(), *text) == words.end())
      return false;
    out = *text;
    return true;
  }
  Value write(const std::string& text) const { return {text}; }
  std::string hint(const Value& value) const {
    const auto* text = std::get_if<std::string>(&value.is);
    const std::string near = text == nullptr ? "" : nearest(*text, words);
    return near.empty() ? "" : cat("; did you mean \"", near, "\"?");
  }
};

template <class Rule>
struct ListOf {
  Rule rule;
  std::string what;

  std::string expected() const { return what; }
  template <class T>
  bool read(const Value& value, std::vector<T>& out) const {
    const auto* list = std::get_if<Value::List>(&value.is);
    if (list == nullptr || list->empty()) return false;
    std::vector<T> items(list->size());
    for (std::size_t i = 0; i < items.size(); ++i)
      if (!rule.read((*list)[i], items[i])) return false;
    out = std::move(items);
    return true;
  }
  template <class T>
  Value write(const std::vector<T>& items) const {
    Value::List list;
    for (const T& item : items) list.push_back(rule.write(item));
    return {std::move(list)};
  }
};

struct RecomputeRule {
  ListOf<Whole> stages{};

  std::string expected() const {
    return "\"none\", \"attention\", \"all\" or a list of stages, as [0, 2]";
  }
  bool read(const Value& value, RecomputeWish& out) const {
    for (const auto& [word, of_all] : kWords) {
      if (value != Value{std::string(word)}) continue;
      out = of_all;
      return true;
    }
    std::vector<int> listed;
    if (!stages.read(value, listed)) return false;
    out = listed;
    return true;
  }
  Value write(const RecomputeWish& wish) const {
    for (const auto& [word, of_all] : kWords)
      if (wish == RecomputeWish(of_all)) return {std::string(word)};
    return stages.write(std::get<std::vector<int>>(wish));
  }

  static constexpr std::array<std::pair<const char*, Recompute>, 3> kWords = {
      {{"none", Recompute::None}, {"attention", Recompute::Attention}, {"all", Recompute::All}}};
};

struct Replicas {
  ListOf<Whole> stages{.rule = {1}, .what = {}};

  std::string expected() const {
    return "a whole number of 1 or more, or a list of them, one a stage, as [3, 1]";
  }
  bool read(const Value& value, std::vector<int>& out) const {
    int all = 0;
    if (!stages.rule.read(value, all)) return stages.read(value, out);
    out = {all};
    return true;
  }
  Value write(const std::vector<int>& items) const {
    return items.size() == 1 ? stages.rule.write(items[0]) : stages.write(items);
  }
};

// The rows of one section.
template <class Within>
class Rows {
 public:
  using Part = std::remove_cvref_t<std::invoke_result_t<Within, Config&>>;

  // `within` finds the section's part in a configuration.
  Rows(std::vector<Key>& table, std::string section, Within within)
      : table_(table), section_(std::move(section)), within_(within) {}

  template <class T, class Rule>
  Key& operator()(std::string name, T Part::* member, Rule rule, std::string help) {
    const Within within = within_;
    Key key;
    key.section = section_;
    key.name = std::move(name);
    key.expected = rule.expected();
    key.help = std::move(help);
    key.set = [=](Config& config, const Value& value) {
      return rule.read(value, within(config).*member);
    };
    key.get = [=](const Config& config) { return rule.write(within(config).*member); };
    key.reset = [=](Config& config) { within(config).*member = Part().*member; };
    key.hint = [=](const Value& value) -> std::string {
      if constexpr (requires { rule.hint(value); }) return rule.hint(value);
      return "";
    };
    return table_.emplace_back(std::move(key));
  }

 private:
  std::vector<Key>& table_;
  std::string section_;
  Within within_;
};

void add_model_and_data(std::vector<Key>& table) {
  Rows model(table, "model", [](auto& c) -> auto& { return c.model.gpt; });
  using M = GptConfig;
  model("layers", &M::layers, Whole{1}, "transformer blocks");
  model("width", &M::width, Whole{1}, "of the residual stream; a multiple of `heads`");
  model("heads", &M::heads, Whole{1}, "attention heads");
  model("context", &M::context, Whole{1}, "tokens a sequence");
  model("vocabulary", &M::vocabulary, Whole{1}, "ids; at least the tokenizer's (byte: 256)");
  model("tied", &M::tied, Flag{}, "the head's matrix is the embedding's");
  model("dropout", &M::dropout, Number{.high = 1}, "share of activations dropped in training");

  Rows any(table, "model", [](auto& c) -> auto& { return c.model; });
  any("from", &ModelConfig::from, Text{},
      "folder with the weights to begin with: a checkpoint, or a GPT-2 of Hugging Face of these "
      "sizes");

  Rows data(table, "data", [](auto& c) -> auto& { return c.data; });
  using D = DataConfig;
  data("text", &D::text, ListOf<Text>{.rule = {}, .what = "a list of file names and patterns"},
       "text files, pattern by pattern in the order of their names, joined with nothing between "
       "them; one of `text` and `tokens`")
      .instead_of = "tokens";
  data("tokens", &D::tokens, Text{}, "a token file made before (docs/formats.md)").instead_of =
      "text";
  data("tokenizer", &D::tokenizer, Choice{tokenizer_names()}, "of `text`");
  data("cache", &D::cache, Text{}, "folder of the token files made from `text`");
  data("validation", &D::validation, Number{.high = 1},
       "share of the tokens, from the end, kept for validation");
}

void add_train(std::vector<Key>& table) {
  Rows train(table, "train", [](auto& c) -> auto& { return c.train; });
  using T = TrainConfig;
  train("steps", &T::steps, Whole{1}, "optimizer steps; one of `steps` and `epochs`").instead_of =
      "epochs";
  train("epochs", &T::epochs, Whole{1}, "passes over the training data").instead_of = "steps";
  train("drop_last", &T::drop_last, Flag{},
        "with `epochs`: leave out the smaller last batch of each");
  train("batch", &T::batch, Whole{1},
        "sequences a step; of `batch` = `microbatch` × `microbatches` any two give the third");
  train("microbatch", &T::microbatch, Whole{1}, "sequences a microbatch");
  train("microbatches", &T::microbatches, Whole{1}, "microbatches a step");
  train("optimizer", &T::optimizer, Choice{{"adamw", "sgd"}}, "how weights are updated");
  train("learning_rate", &T::learning_rate, Number{}, "the highest: at the end of the warm-up");
  train("minimum_learning_rate", &T::minimum_learning_rate, Number{},
        "the last step's, with `cosine`");
  train("warmup", &T::warmup, Whole{0}, "steps of linear warm-up");
  train("decay", &T::decay, Choice{{"cosine", "constant"}}, "of the learning rate");
  train("weight_decay", &T::weight_decay, Number{}, "on matrices only");
  train("beta1", &T::beta1, Number{.high = 1}, "adamw: decay of the first moment");
  train("beta2", &T::beta2, Number{.high = 1}, "adamw: decay of the second moment");
  train("epsilon", &T::epsilon, Number{}, "adamw: added to the root of the second moment");
  train("momentum", &T::momentum, Number{.high = 1}, "sgd");
  train("precision", &T::precision, Choice{{"fp32", "bf16", "fp16"}},
        "of matrix products and attention; weights, sums of gradients and the rest are fp32");
  train("loss_scale", &T::loss_scale, Number{.low = 0, .above = true},
        "fp16: what it starts at, a power of two; halved where gradients overflow, doubled after "
        "2,000 steps without");
  train("clip", &T::clip, Number{}, "greatest gradient norm over all stages; 0: no limit");
  train("seed", &T::seed, Whole{0}, "of the initial weights, the order of the data and dropout");
  train("evaluate_every", &T::evaluate_every, Whole{0},
        "steps between evaluations; 0: at the end only");
  train("evaluate_sequences", &T::evaluate_sequences, Whole{0}, "of the validation split; 0: all");
  train("evaluate_microbatch", &T::evaluate_microbatch, Whole{0},
        "sequences a microbatch in evaluation; 0: as in training");
}

void add_pipeline(std::vector<Key>& table) {
  Rows pipeline(table, "pipeline", [](auto& c) -> auto& { return c.pipeline; });
  using P = PipelineConfig;
  pipeline("ranks", &P::ranks, Whole{1},
           "of one pipeline; not given: as `balance` or the launcher says, else 2");
  pipeline("replicas", &P::replicas, Replicas{},
           "of every stage, or of each: so many times the processes");
  pipeline("shard_optimizer", &P::shard_optimizer, Flag{},
           "with replicas: each keeps and updates its part of the optimizer's state");
  pipeline("schedule", &P::schedule, Text{},
           "`headrace show` lists them; `auto` searches one; or a schedule file, .csv");
  pipeline("stages_per_rank", &P::stages_per_rank, Whole{1},
           "not given: the schedule's own, 2 for interleaved and V shapes");
  pipeline("balance", &P::balance,
           ListOf<Whole>{.rule = {}, .what = "a list of whole numbers, as [3, 5]"},
           "transformer blocks a stage; not given: by estimated cost")
      .instead_of = "split";
  pipeline("split", &P::split,
           ListOf<Text>{.rule = {}, .what = "a list of layers, as [\"blocks.3.mlp\"]"},
           "the first layer of each later stage")
      .instead_of = "balance";
  pipeline("recompute", &P::recompute, RecomputeRule{},
           "what is computed again in the backward instead of kept: the attention branches, all "
           "activations, or all of some stages");
  pipeline("threads", &P::threads, Whole{0}, "a rank; 0: cores ÷ ranks, at least 1");
  pipeline("start_limit", &P::start_limit, Seconds{}, "longest wait until the first step is done");
  pipeline("step_limit", &P::step_limit, Seconds{}, "longest wait in a later step");
}

void add_checkpoint(std::vector<Key>& table) {
  Rows checkpoint(table, "checkpoint", [](auto& c) -> auto& { return c.checkpoint; });
  using C = CheckpointConfig;
  checkpoint("every", &C::every, Whole{0}, "steps between checkpoints; 0: none by steps");
  checkpoint("every_minutes", &C::every_minutes, Number{.high = 1e6},
             "minutes between checkpoints; 0: none by time");
  checkpoint("keep", &C::keep, Whole{0}, "the newest complete ones; 0: all");
  checkpoint("at_end", &C::at_end, Flag{},
             "write one where the run ends, also where it is asked to stop");
  checkpoint("directory", &C::directory, Text{},
             "of the checkpoints; not given: `checkpoints` in the run's folder");
  checkpoint("on_failure", &C::on_failure, Choice{{"continue", "stop"}},
             "what the run does where a checkpoint cannot be written; at the end it fails");
}

// As people mistype it: Learning-Rate for learning_rate.
std::string normal(std::string name) {
  for (char& c : name)
    c = c == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return name;
}

// "'microbatch' or 'microbatches'": the nearest, and another that is as near; "" for none.
std::string nearest_ones(const std::string& name, std::vector<std::string> candidates) {
  const std::string first = nearest(name, candidates);
  if (first.empty()) return "";
  std::erase(candidates, first);
  const std::string second = nearest(name, candidates);
  // Of equally near candidates the first of the list is taken.
  const bool equal = !second.empty() && nearest(name, {second, first}) == second;
  return equal ? cat("'", first, "' or '", second, "'") : cat("'", first, "'");
}

}  // namespace

const std::vector<Key>& keys() {
  static const std::vector<Key> table = [] {
    std::vector<Key> rows;
    add_model_and_data(rows);
    add_train(rows);
    add_pipeline(rows);
    add_checkpoint(rows);
    return rows;
  }();
  return table;
}

const std::vector<std::string>& sections() {
  static const std::vector<std::string> names = {"model", "data", "train", "pipeline",
                                                 "checkpoint"};
  return names;
}

const Key* find_key(const std::string& section, const std::string& name) {
  const auto found = std::find_if(keys().begin(), keys().end(), [&](const Key& key) {
    return key.section == section && key.name == name;
  });
  return found == keys().end() ? nullptr : &*found;
}

void set_key(const Key& key, Config& config, const Value& value, const std::string& where) {
  check_usage(key.set(config, value), where, key.name, " in [", key.section, "] must be ",
              key.expected, ", and is ", describe(value), key.hint(value));
}

std::string unknown_key(const std::string& section, const std::string& name) {
  const std::string opening = section.empty() ? cat("'", name, "' stands in no section")
                                              : cat("unknown key '", name, "' in [", section, "]");
  if (name == "run_dir" || name == "timeline")
    return cat(opening, "; it is a flag only: --", name == "run_dir" ? "run-dir" : name);
  if (find_key(section, normal(name)) != nullptr)
    return cat(opening, "; did you mean '", normal(name), "'?");
  std::vector<std::string> here;
  std::vector<std::string> elsewhere;
  for (const Key& key : keys()) {
    if (key.name == normal(name))
      return cat(opening, "; ", key.name, " belongs to [", key.section, "]");
    (key.section == section ? here : elsewhere).push_back(key.name);
  }
  if (const std::string near = nearest_ones(normal(name), here); !near.empty())
    return cat(opening, "; did you mean ", near, "?");
  if (const std::string near = nearest(normal(name), elsewhere); !near.empty())
    for (const Key& key : keys())
      if (key.name == near)
        return cat(opening, "; did you mean '", near, "', which belongs to [", key.section, "]?");
  if (here.empty()) here = sections();
  return cat(opening, " (known: ", join_text(here, ", "), ")");
}

std::string unknown_section(const std::string& section) {
  const std::string near = nearest(normal(section), sections());
  return cat("unknown section [", section, "]",
             near.empty() ? "" : cat("; did you mean [", near, "]?"), " (known: [",
             join_text(sections(), "], ["), "])");
}

bool is_unset(const Key& key, const Config& config) {
  const Value value = key.get(config);
  Config scratch;
  return value == key.get(scratch) && !key.set(scratch, value);
}

}  // namespace headrace
