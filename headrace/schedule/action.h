// An Action is one thing that one rank does: the unit every schedule is made of.
//
// It has a text form, PyTorch's, used in files, tests and error messages: stage, kind, microbatch.
//
//   "2F0"  forward of microbatch 0 on stage 2
//   "2B0"  its backward;  "2I0" + "2W0" the same split in input-gradient and weight-gradient halves
//   "2SEND_F0"  stage 2 sends its output of microbatch 0 to stage 3, which has "3RECV_F0"
//   "2SEND_B0"  stage 2 sends its input gradient to stage 1, which has "1RECV_B0"
//   "2REDUCE_GRAD"  stage 2 adds its gradients over its replicas
//   "2U"  its optimizer step, in asynchronous schedules
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace headrace {

enum class Kind : std::uint8_t {
  Forward,
  Backward,
  BackwardInput,
  BackwardWeight,
  SendForward,
  RecvForward,
  SendBackward,
  RecvBackward,
  ReduceGradients,
  Update,
};

struct Action {
  Kind kind = Kind::Forward;
  int stage = 0;
  int microbatch = -1;  // -1 for ReduceGradients and Update, which belong to no microbatch
  // Runs as one with the next action of its rank: "(0F7;7B3)OVERLAP_F_B". Order still holds where
  // there is no overlap.
  bool overlaps_next = false;

  bool operator==(const Action&) const = default;
};

constexpr bool is_send(Kind kind) {
  return kind == Kind::SendForward || kind == Kind::SendBackward;
}
constexpr bool is_recv(Kind kind) {
  return kind == Kind::RecvForward || kind == Kind::RecvBackward;
}
constexpr bool is_compute(Kind kind) {
  return kind <= Kind::BackwardWeight;
}

// ReduceGradients and Update belong to no microbatch.
constexpr bool has_microbatch(Kind kind) {
  return kind <= Kind::RecvBackward;
}

// "F", "B", "I", "W", "SEND_F", "RECV_F", "SEND_B", "RECV_B", "REDUCE_GRAD", "U".
std::string_view kind_text(Kind kind);

std::string to_string(const Action& action);

// One action, without overlap. Strict: the whole text must match; throws Error that quotes it
// ("0F0junk", "2BW0").
Action parse_action(std::string_view text);

}  // namespace headrace
