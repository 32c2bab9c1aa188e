#include "headrace/pipe/operation.h"

#include <utility>

namespace headrace {

namespace {

// Carries the pipe from the forward to the backward.
struct Carrier : torch::CustomClassHolder {
  explicit Carrier(OneToOne backward_of_pipe) : backward(std::move(backward_of_pipe)) {}
  OneToOne backward;
};

// The whole pipeline as one operation of autograd. `anchor` makes the output want a gradient.
class WholePipe : public torch::autograd::Function<WholePipe> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context,
                               const torch::Tensor& input,
                               const torch::Tensor& /*anchor*/,
                               const OneToOne& run,
                               const c10::intrusive_ptr<Carrier>& carrier) {
    context->saved_data["pipe"] = c10::IValue::make_capsule(carrier);
    return run(input);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto carrier =
        c10::static_intrusive_pointer_cast<Carrier>(context->saved_data["pipe"].toCapsule());
    return {carrier->backward(gradients[0]), torch::Tensor(), torch::Tensor(), torch::Tensor()};
  }
};

}  // namespace

torch::Tensor as_one_operation(const torch::Tensor& input,
                               const OneToOne& forward,
                               const OneToOne& backward) {
  return WholePipe::apply(input, torch::zeros({}).requires_grad_(), forward,
                          c10::make_intrusive<Carrier>(backward));
}

}  // namespace headrace
