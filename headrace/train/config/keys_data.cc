#include <vector>

#include "headrace/tokenizer/tokenizer.h"
#include "headrace/train/config/rules.h"
#include "headrace/train/config/sections.h"

namespace headrace {

using namespace rules;

void add_data_keys(std::vector<Key>& table) {
  Rows data(table, "data", [](auto& c) -> auto& { return c.data; });
  using D = DataConfig;
  data("text", &D::text, ListOf<Text>{.rule = {}, .what = "a list of file names and patterns"},
       "text files, pattern by pattern in the order of their names, joined with nothing between "
       "them; one of `text` and `tokens`")
      .instead_of = "tokens";
  data("tokens", &D::tokens, Text{}, "a token file made before (docs/formats.md)").instead_of =
      "text";
  data("tokenizer", &D::tokenizer, Text{},
       "of `text`: \"byte\", or a tokenizer.json, or a folder that holds one (docs/models.md)");
  data("end_token", &D::end_token, Text{},
       "token put after each file of `text`, as \"<|endoftext|>\"; by default none");
  data("cache", &D::cache, Text{}, "folder of the token files made from `text`");
  data("validation", &D::validation, Number{.high = 1},
       "share of the tokens, from the end, kept for validation");
}

}  // namespace headrace
