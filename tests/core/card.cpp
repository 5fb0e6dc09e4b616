// A device of torch's own kind "PrivateUse1" that stands for a graphics card where there is none. Its memory is main
// memory, but counted and limited: an allocation beyond it fails with torch's own error, and what lies on it cannot be
// reckoned with what does not. Operators run on the CPU and give the CPU's numbers.

#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/native/TensorFactories.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/view.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_map>

namespace {

constexpr auto kCard = c10::DeviceType::PrivateUse1;

std::mutex lock;
std::unordered_map<void*, size_t> sizes;
size_t now = 0, most = 0, limit = 0;

void give_back(void* data) {
  if (data == nullptr) return;
  std::lock_guard<std::mutex> guard(lock);
  now -= sizes[data];
  sizes.erase(data);
  std::free(data);
}

struct CardAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    const c10::Device device(kCard, 0);
    if (bytes == 0) return {nullptr, nullptr, &give_back, device};
    std::lock_guard<std::mutex> guard(lock);
    TORCH_CHECK_WITH(OutOfMemoryError, now + bytes <= limit, "Card out of memory. Tried to allocate ", bytes,
                     " bytes with ", now, " of ", limit, " taken.");
    void* data = std::malloc(bytes);
    sizes[data] = bytes;
    now += bytes;
    most = std::max(most, now);
    return {data, data, &give_back, device};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &give_back; }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }
};

CardAllocator allocator;
REGISTER_ALLOCATOR(kCard, &allocator);
C10_REGISTER_GUARD_IMPL(PrivateUse1, c10::impl::NoOpDeviceGuardImpl<kCard>);

struct CardHooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  at::Device getDeviceFromPtr(void*) const override { return {kCard, 0}; }
};

const c10::DispatchKeySet keys(c10::DispatchKey::PrivateUse1);

// The same memory as a tensor of the CPU.
at::Tensor seen(const at::Tensor& x) {
  if (!x.defined() || x.device().type() != kCard) return x;
  return at::from_blob(x.data_ptr(), x.sizes(), x.strides(), [x](void*) {}, x.options().device(at::kCPU));
}

at::Tensor empty(c10::SymIntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(C10_AS_INTARRAYREF_SLOW(size), &allocator, keys, c10::dtype_or_default(dtype),
                                   format);
}

at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &allocator, keys, c10::dtype_or_default(dtype));
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  if (to.numel() > 0) seen(to).copy_(seen(from));
  return to;
}

const at::Tensor& resize_to(const at::Tensor& self, c10::IntArrayRef size, std::optional<at::MemoryFormat> format) {
  self.unsafeGetTensorImpl()->shallow_copy_from(
      at::detail::empty_generic(size, &allocator, keys, self.scalar_type(), format).getIntrusivePtr());
  return self;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  if (to.sizes() != from.sizes()) resize_to(to, from.sizes(), std::nullopt);
  return copy_from(from, to, false);
}

at::Tensor view(const at::Tensor& self, c10::IntArrayRef size) { return at::native::view(self, size); }

at::Tensor as_strided(const at::Tensor& self, c10::IntArrayRef size, c10::IntArrayRef stride,
                      std::optional<int64_t> offset) {
  return at::native::as_strided_tensorimpl(self, size, stride, offset);
}

at::Tensor reshape_alias(const at::Tensor& self, c10::IntArrayRef size, c10::IntArrayRef stride) {
  return at::native::_reshape_alias(self, size, stride);
}

at::Scalar local_scalar(const at::Tensor& self) { return seen(self).item(); }

at::Tensor convolution(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                       c10::IntArrayRef stride, c10::IntArrayRef padding, c10::IntArrayRef dilation, bool transposed,
                       c10::IntArrayRef output_padding, int64_t groups) {
  TORCH_CHECK(input.device() == weight.device(), "Expected input and weight on the same device.");
  const auto shift = bias.has_value() ? std::optional<at::Tensor>(seen(*bias)) : std::nullopt;
  return at::convolution(seen(input), seen(weight), shift, stride, padding, dilation, transposed, output_padding,
                         groups).to(input.device());
}

// A tensor's data may come to lie elsewhere, as with the devices that torch knows by name.
bool may_take(const at::Tensor&, const at::Tensor&) { return true; }

// On the CPU, but only with what lies here: torch's own fallback would fetch the rest without a word.
void on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  for (const auto& value : torch::jit::last(*stack, op.schema().arguments().size())) {
    if (!value.isTensor() || !value.toTensor().defined() || value.toTensor().dim() == 0) continue;
    TORCH_CHECK(value.toTensor().device().type() == kCard, "Expected all tensors to be on the same device, but one of ",
                op.schema().name(), " is not.");
  }
  at::native::cpu_fallback(op, stack);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  m.impl("resize_", &resize_to);
  m.impl("view", &view);
  m.impl("as_strided", &as_strided);
  m.impl("_reshape_alias", &reshape_alias);
  m.impl("_local_scalar_dense", &local_scalar);
  m.impl("convolution_overrideable", &convolution);
  m.impl("_has_compatible_shallow_copy_type", &may_take);
  m.impl("scaled_dot_product_attention", torch::CppFunction::makeFromBoxedFunction<&on_cpu>());
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_cpu>()); }

}  // namespace

extern "C" {

// The card has so many bytes, and its most starts anew.
void card_open(size_t size) {
  static CardHooks hooks;
  if (!at::isPrivateUse1HooksRegistered()) at::RegisterPrivateUse1HooksInterface(&hooks);
  std::lock_guard<std::mutex> guard(lock);
  limit = size;
  most = now;
}

size_t card_now() { return now; }
size_t card_most() { return most; }
}
