// Refusals of layers that know no settings, told in the configuration's words: a text that begins
// with the name of a key ("ranks is 0; …") gets its section before it ("pipeline.ranks is 0; …").
//
//   Plan plan = naming_settings("pipeline", [&] { return make_plan(layers, wish); });
#pragma once

#include <string>

#include "headrace/base/error.h"

namespace headrace {

std::string named_by_section(const std::string& section, const std::string& text);

template <class Work>
auto naming_settings(const std::string& section, Work&& work) {
  try {
    return work();
  } catch (const UsageError& error) {
    throw UsageError(named_by_section(section, error.what()));
  } catch (const Error& error) {
    throw Error(named_by_section(section, error.what()));
  }
}

}  // namespace headrace
