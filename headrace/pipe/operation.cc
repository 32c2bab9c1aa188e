#include "headrace/pipe/operation.h"

#include <utility>

namespace headrace {

namespace {

// What the two nodes of one forward share.
struct Carrier : torch::CustomClassHolder {
  explicit Carrier(OneToOne backward_of_pipe) : backward(std::move(backward_of_pipe)) {}
  OneToOne backward;
  torch::Tensor output, gradient;  // on their way from one node to the other
};
using Shared = c10::intrusive_ptr<Carrier>;

Shared carrier_of(torch::autograd::AutogradContext* context) {
  return c10::static_intrusive_pointer_cast<Carrier>(context->saved_data["pipe"].toCapsule());
}

// The pipeline is one operation of two nodes, with a number on the CPU between them. Autograd runs a node in the thread
// of its gradient's device, of which there is one for all: a pipeline's backward in there would wait for its ranks,
// whose own backward waits for that thread. The node whose gradient is on the CPU is run by whoever called backward().
class PipeNode : public torch::autograd::Function<PipeNode> {
 public:
  // `anchor` makes the output want a gradient.
  static torch::Tensor forward(torch::autograd::AutogradContext* context,
                               const torch::Tensor& input,
                               const torch::Tensor& /*anchor*/,
                               const OneToOne& run,
                               const Shared& carrier) {
    context->saved_data["pipe"] = c10::IValue::make_capsule(carrier);
    carrier->output = run(input);
    return torch::zeros({});
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list&) {
    const Shared carrier = carrier_of(context);
    return {carrier->backward(std::exchange(carrier->gradient, {})), torch::Tensor(),
            torch::Tensor(), torch::Tensor()};
  }
};

class OutputNode : public torch::autograd::Function<OutputNode> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context,
                               const torch::Tensor& /*between*/,
                               const Shared& carrier) {
    context->saved_data["pipe"] = c10::IValue::make_capsule(carrier);
    return std::exchange(carrier->output, {});
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    carrier_of(context)->gradient = gradients[0];
    return {torch::zeros({}), torch::Tensor()};
  }
};

}  // namespace

torch::Tensor as_one_operation(const torch::Tensor& input,
                               const OneToOne& forward,
                               const OneToOne& backward) {
  const auto carrier = c10::make_intrusive<Carrier>(backward);
  return OutputNode::apply(
      PipeNode::apply(input, torch::zeros({}).requires_grad_(), forward, carrier), carrier);
}

}  // namespace headrace
