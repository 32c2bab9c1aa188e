#include "headrace/train/config/refusals.h"

#include <cctype>
#include <cstddef>
#include <string>

#include "headrace/train/config/keys.h"

namespace headrace {

std::string named_by_section(const std::string& section, const std::string& text) {
  std::size_t end = 0;
  while (end < text.size() &&
         (std::isalnum(static_cast<unsigned char>(text[end])) != 0 || text[end] == '_'))
    ++end;
  return find_key(section, text.substr(0, end)) == nullptr ? text : section + "." + text;
}

}  // namespace headrace
