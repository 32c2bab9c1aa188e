// What to say about keys and sections that there are not.
#include <algorithm>
#include <cctype>
#include <string>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/train/config/keys.h"

namespace headrace {
namespace {

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

std::string unknown_key(const std::string& section, const std::string& name) {
  const std::string opening = section.empty() ? cat("'", name, "' stands in no section")
                                              : cat("unknown key '", name, "' in [", section, "]");
  if (name == "run_dir" || name == "timeline")
    return cat(opening, "; it is a flag only: --", name == "run_dir" ? "run-dir" : name);
  if (find_key(section, normal(name)) != nullptr)
    return cat(opening, "; did you mean '", normal(name), "'?");
  const auto& known = sections();
  if (std::ranges::find(known, normal(name)) != known.end())
    return cat(opening, "; [", normal(name), "] is a section");
  for (const Key& key : keys())
    if (cat(key.section, "_", key.name) == normal(name))
      return cat(opening, "; it is '", key.name, "' of [", key.section, "]");
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

}  // namespace headrace
