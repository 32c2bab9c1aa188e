#include "headrace/timeline/account.h"

namespace headrace {
namespace {

Activity activity_of(Kind kind) {
  switch (kind) {
    case Kind::Forward:
      return Activity::Forward;
    case Kind::Backward:
      return Activity::Backward;
    case Kind::BackwardInput:
      return Activity::BackwardInput;
    case Kind::BackwardWeight:
      return Activity::BackwardWeight;
    case Kind::SendForward:
    case Kind::RecvForward:
    case Kind::SendBackward:
    case Kind::RecvBackward:
      return Activity::Transfer;
    case Kind::ReduceGradients:
      return Activity::Reduce;
    case Kind::Update:
      return Activity::Update;
  }
  return Activity::Transfer;
}

}  // namespace

Spent spent_on(const Event& event) {
  return {activity_of(event.action.kind), event.end - event.start - event.wait - event.transfer,
          event.transfer, event.wait};
}

}  // namespace headrace
