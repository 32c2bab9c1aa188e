#include "headrace/tokenizer/regex.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "headrace/base/error.h"
#include "headrace/base/strict_json.h"
#include "headrace/tokenizer/regex_syntax.h"
#include "headrace/tokenizer/unicode.h"

namespace headrace {
namespace {

// What a match may take before it is given up, by the text's length: no pattern of any tokenizer comes
// near, as none goes back over a text many times.
constexpr std::size_t kLeastSteps = 10'000'000;
constexpr std::size_t kStepsOfByte = 16;
constexpr std::size_t kFirstStack = std::size_t{64} << 10;
constexpr std::size_t kMaxStack = std::size_t{64} << 20;

template <class T, void (*Free)(T*)>
struct Freed {
  void operator()(T* pointer) const { Free(pointer); }
};
template <class T, void (*Free)(T*)>
using Owned = std::unique_ptr<T, Freed<T, Free>>;

std::string reason(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

struct Regex::Code {
  Owned<pcre2_code, pcre2_code_free> code;
  std::string pattern;
};

Regex::Regex(std::unique_ptr<Code> code) : code_(std::move(code)) {}
Regex::Regex(Regex&& other) noexcept = default;
Regex& Regex::operator=(Regex&& other) noexcept = default;
Regex::~Regex() = default;

Regex Regex::of_pcre2(const std::string& pattern) {
  const Owned<pcre2_compile_context, pcre2_compile_context_free> context(
      pcre2_compile_context_create(nullptr));
  check(context != nullptr, "PCRE2 has no memory");
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE at = 0;
  auto code = std::make_unique<Code>();
  code->pattern = pattern;
  code->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                 PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                                 &error, &at, context.get()));
  check_usage(code->code != nullptr, "the pattern ", excerpt(pattern), " is wrong at byte ", at,
              ": ", reason(error));
  // Where there is no JIT for the processor, matches are found without, several times slower.
  pcre2_jit_compile(code->code.get(), PCRE2_JIT_COMPLETE);
  return Regex(std::move(code));
}

Regex Regex::of_pattern(std::string_view pattern) {
  return of_pcre2(pcre2_pattern(pattern));
}

Regex Regex::of_text(std::string_view text) {
  return of_pcre2(pattern_of_text(text));
}

struct RegexMatches::State {
  Owned<pcre2_match_data, pcre2_match_data_free> data;
  Owned<pcre2_match_context, pcre2_match_context_free> context;
  Owned<pcre2_jit_stack, pcre2_jit_stack_free> stack;
};

RegexMatches::RegexMatches(const Regex& regex, std::string_view text)
    : regex_(&regex), text_(text), state_(std::make_unique<State>()) {
  state_->data.reset(pcre2_match_data_create(1, nullptr));
  state_->context.reset(pcre2_match_context_create(nullptr));
  check(state_->data != nullptr && state_->context != nullptr, "PCRE2 has no memory");
  const std::size_t most = std::max(kLeastSteps, kStepsOfByte * text.size());
  pcre2_set_match_limit(state_->context.get(),
                        static_cast<std::uint32_t>(std::min<std::size_t>(most, UINT32_MAX)));
}

RegexMatches::~RegexMatches() = default;

bool RegexMatches::search() {
  const auto match = [&] {
    return pcre2_match(regex_->code_->code.get(), reinterpret_cast<PCRE2_SPTR>(text_.data()),
                       text_.size(), from_, PCRE2_NO_UTF_CHECK, state_->data.get(),
                       state_->context.get());
  };
  int found = match();
  if (found == PCRE2_ERROR_JIT_STACKLIMIT && state_->stack == nullptr) {
    // The machine's stack is enough but for rare texts.
    state_->stack.reset(pcre2_jit_stack_create(kFirstStack, kMaxStack, nullptr));
    check(state_->stack != nullptr, "PCRE2 has no memory");
    pcre2_jit_stack_assign(state_->context.get(), nullptr, state_->stack.get());
    found = match();
  }
  if (found == PCRE2_ERROR_NOMATCH) return false;
  if (found < 0)
    throw Error(cat("the pattern ", excerpt(regex_->code_->pattern), " gave up at byte ", from_,
                    " of a text: ", reason(found)));
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(state_->data.get());
  begin_ = ends[0];
  end_ = ends[1];
  return true;
}

bool RegexMatches::next() {
  while (from_ <= text_.size() && search()) {
    if (begin_ == end_ && last_end_ == end_) {
      from_ += from_ < text_.size() ? code_point(text_, from_).size : 1;
      continue;
    }
    from_ = last_end_ = end_;
    return true;
  }
  from_ = text_.size() + 1;
  return false;
}

}  // namespace headrace
