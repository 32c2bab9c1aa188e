#include "headrace/model/precision.h"

namespace headrace {

const torch::Tensor& Cast::of(const torch::Tensor& matrix,
                              torch::ScalarType type,
                              std::int64_t version) {
  if (matrix.scalar_type() == type) return matrix;
  if (!copy_.defined() || copy_.scalar_type() != type || version < 0 || version != version_) {
    const torch::NoGradGuard no_grad;
    const NoAutocast as_it_is;
    copy_ = matrix.detach().to(type);
    version_ = version;
  }
  return copy_;
}

Autocast::Autocast(torch::DeviceType device, torch::ScalarType type)
    : device_(device), on_(type != torch::kFloat32) {
  if (!on_) return;
  was_on_ = at::autocast::is_autocast_enabled(device);
  was_type_ = at::autocast::get_autocast_dtype(device);
  at::autocast::set_autocast_enabled(device, true);
  at::autocast::set_autocast_dtype(device, type);
  at::autocast::increment_nesting();
}

Autocast::~Autocast() {
  if (!on_) return;
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(device_, was_on_);
  at::autocast::set_autocast_dtype(device_, was_type_);
}

}  // namespace headrace
