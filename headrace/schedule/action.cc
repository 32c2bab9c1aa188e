#include "headrace/schedule/action.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <string>
#include <string_view>
#include <system_error>

#include "headrace/base/error.h"

namespace headrace {
namespace {

// In the order of Kind.
constexpr std::array<std::string_view, 10> kTexts = {
    "F", "B", "I", "W", "SEND_F", "RECV_F", "SEND_B", "RECV_B", "REDUCE_GRAD", "U"};

constexpr std::string_view kDigits = "0123456789";

// Above this a number is a slip of the pen, and stage times microbatch would leave our integers.
constexpr int kLargest = 1 << 30;

bool parse_index(std::string_view digits, int& value) {
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return error == std::errc() && end == digits.data() + digits.size() && value < kLargest;
}

std::string complaint(std::string_view text, std::string_view kind) {
  if (kind == "BW")
    return cat("'", text,
               "' is of the old dialect, whose BW is a full backward and whose B is its ",
               "input half: write B for BW and I for B");
  return cat("'", text, "' is no action; an action is stage, kind, microbatch, as 0F3, 2B0, ",
             "1SEND_F5 or 1REDUCE_GRAD, with kinds F, B, I, W, SEND_F, RECV_F, SEND_B, RECV_B, ",
             "REDUCE_GRAD, U");
}

}  // namespace

std::string_view kind_text(Kind kind) {
  return kTexts.at(static_cast<std::size_t>(kind));
}

std::string to_string(const Action& action) {
  std::string text = std::to_string(action.stage);
  text += kind_text(action.kind);
  if (has_microbatch(action.kind)) text += std::to_string(action.microbatch);
  return text;
}

Action parse_action(std::string_view text) {
  const std::size_t kind_at = std::min(text.find_first_not_of(kDigits), text.size());
  const std::size_t kind_end = text.find_last_not_of(kDigits) + 1;
  const std::string_view kind =
      kind_at < kind_end ? text.substr(kind_at, kind_end - kind_at) : std::string_view();
  for (std::size_t i = 0; i < kTexts.size(); ++i) {
    if (kTexts.at(i) != kind) continue;
    Action action = {.kind = static_cast<Kind>(i)};
    const std::string_view microbatch = text.substr(kind_end);
    const bool number_ok = has_microbatch(action.kind) ? parse_index(microbatch, action.microbatch)
                                                       : microbatch.empty();
    if (number_ok && parse_index(text.substr(0, kind_at), action.stage)) return action;
  }
  throw Error(complaint(text, kind));
}

}  // namespace headrace
