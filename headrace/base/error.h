// What a user or a machine did wrong, as an exception whose text says what to do next.
//
//   check(file.good(), "cannot read ", path, ": ", why, "; give another --tokens FILE");
//
// Error ends the program with exit code 1, UsageError (a wrong command line or configuration, found
// before any process or network starts) with 2. Both become text in cli/program.cc. A broken
// promise of our own code is an assert.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace headrace {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class UsageError : public Error {
 public:
  using Error::Error;
};

// The parts written one after the other, as operator<< writes them.
template <class... Parts>
std::string cat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

template <class E = Error, class... Parts>
void check(bool ok, const Parts&... parts) {
  if (!ok) throw E(cat(parts...));
}

// The same for a wrong command line or configuration.
template <class... Parts>
void check_usage(bool ok, const Parts&... parts) {
  check<UsageError>(ok, parts...);
}

}  // namespace headrace
