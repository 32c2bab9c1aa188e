// A process's environment as a launcher leaves it.
#pragma once

#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <unistd.h>

#include "headrace/base/error.h"
#include "headrace/transport/rendezvous/rendezvous.h"

namespace headrace {

using Variables = std::map<std::string, std::string>;

// Sets these, and no other that a launcher may have set for the test itself.
inline void set_only(const Variables& variables) {
  std::vector<std::string> names;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    names.push_back(text.substr(0, text.find('=')));
  }
  for (const std::string& name : names)
    for (const char* start :
         {"RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "HEADRACE_", "TORCHELASTIC_", "OMPI_", "PMI",
          "MPI", "MV2_", "SLURM_", "GLOO_", "PALS_", "FLUX_"})
      if (name.starts_with(start)) unsetenv(name.c_str());
  for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
}

inline std::optional<Rendezvous> with(const Variables& variables,
                                      Launcher launcher = Launcher::Any) {
  set_only(variables);
  return rendezvous_from_environment(launcher);
}

inline std::string refusal(const Variables& variables, Launcher launcher = Launcher::Any) {
  try {
    with(variables, launcher);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "accepted";
}

inline Variables changed(Variables variables, const std::string& name, const std::string& value) {
  variables[name] = value;
  return variables;
}

}  // namespace headrace
