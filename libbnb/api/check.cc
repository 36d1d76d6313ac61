// SPDX-License-Identifier: MIT
// The checks of api/check.h.
#include "api/check.h"

#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace bnb::api {
namespace {

bool multiply(int64_t a, int64_t b, int64_t *product) { return !__builtin_mul_overflow(a, b, product); }

// "[4, 96]", cut after a few dimensions.
struct ShapeText {
  char text[96];
  explicit ShapeText(const View &view) {
    int used = std::snprintf(text, sizeof text, "[");
    for (int i = 0; i < view.ndim && used < 72; ++i) {
      used += std::snprintf(text + used, sizeof text - size_t(used), "%s%lld", i ? ", " : "", (long long)view.shape[i]);
    }
    std::snprintf(text + used, sizeof text - size_t(used), "]");
  }
};

constexpr struct {
  DType dtype;
  const char *name;
} kNames[] = {{DType::kF32, "float32"}, {DType::kF16, "float16"}, {DType::kBF16, "bfloat16"},
              {DType::kU8, "uint8"},    {DType::kI8, "int8"},     {DType::kI32, "int32"},
              {DType::kF8E4M3FN, "float8_e4m3fn"}, {DType::kF8E5M2, "float8_e5m2"}, {DType::kF8E8M0FNU, "float8_e8m0fnu"},
              {DType::kF4E2M1FNx2, "float4_e2m1fn_x2"}, {DType::kF64, "float64"}, {DType::kI64, "int64"}};

// "float32, float16 or bfloat16"
void list_dtypes(uint32_t dtypes, char *text, size_t size) {
  int left = 0, used = 0;
  for (const auto &row : kNames) left += (dtypes & bit(row.dtype)) != 0;
  text[0] = 0;
  bool first = true;
  for (const auto &row : kNames) {
    if (!(dtypes & bit(row.dtype))) continue;
    const char *separator = first ? "" : left == 1 ? " or " : ", ";
    used += std::snprintf(text + used, size - size_t(used), "%s%s", separator, row.name);
    first = false;
    --left;
  }
}

}  // namespace

void Check::that(bool condition, const char *format, ...) {
  if (condition || !ok()) return;
  char text[400];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof text, format, args);
  va_end(args);
  if (list_) {
    const char *separator = text[0] == ' ' ? "" : ".";
    status_ = fail(BNB_ERROR_INVALID_ARGUMENT, "%s: %s[%lld]%s%s", function_, list_, (long long)index_, separator, text);
  } else {
    status_ = fail(BNB_ERROR_INVALID_ARGUMENT, "%s: %s", function_, text);
  }
}

void Check::entry(const char *list, int64_t index) {
  if (list_) {
    look_for_overlaps();
    range_count_ = shared_ranges_;
  } else {
    shared_ranges_ = range_count_;
  }
  if (!ok()) return;  // the message has named the entry before
  list_ = list;
  index_ = index;
}

bool Check::check_device(const char *name, const DLTensor &tensor) {
  if (!device_of_) {
    device_ = tensor.device;
    device_of_ = *name ? name : "the first one";
    backend_ = backend_for(tensor.device.device_type);
    if (!backend_) {
      status_ = fail(BNB_ERROR_UNSUPPORTED, "%s: %s is on device type %d, which this library has no backend for",
                     function_, name, int(tensor.device.device_type));
    } else {
      that(tensor.device.device_id >= 0 && tensor.device.device_id < backend_->device_count(),
           "%s is on %s device %d, which does not exist", name, backend_->name, int(tensor.device.device_id));
    }
    return ok();
  }
  that(tensor.device.device_type == device_.device_type && tensor.device.device_id == device_.device_id,
       "%s is on device (%d, %d), but %s is on (%d, %d)", name, int(tensor.device.device_type),
       int(tensor.device.device_id), device_of_, int(device_.device_type), int(device_.device_id));
  return ok();
}

bool Check::describe(const char *name, const DLTensor &tensor, Layout layout, View *view) {
  const int64_t itemsize = (int64_t(tensor.dtype.bits) * tensor.dtype.lanes + 7) / 8;
  that(tensor.ndim >= 0 && tensor.ndim <= 64, "%s has %d dimensions", name, int(tensor.ndim));
  that(tensor.ndim == 0 || tensor.shape, "%s.shape is NULL", name);
  that(itemsize > 0, "%s has a dtype of 0 bits", name);
  if (!ok()) return false;

  int64_t n = 1;
  bool empty = false, fits = true;
  for (int i = 0; i < tensor.ndim; ++i) {
    that(tensor.shape[i] >= 0, "%s has a dimension of %lld", name, (long long)tensor.shape[i]);
    if (!ok()) return false;
    empty = empty || tensor.shape[i] == 0;
    fits = fits && multiply(n, tensor.shape[i], &n);
  }
  int64_t bytes = 0;
  if (empty) n = 0;
  that(empty || (fits && multiply(n, itemsize, &bytes)), "%s has more bytes than 64 bits can count", name);
  if (!ok()) return false;

  // Strides of dimensions of one element mean nothing; those of an empty tensor neither.
  view->row_stride = tensor.ndim == 2 ? tensor.shape[1] : 0;
  if (tensor.strides && !empty) {
    int64_t compact = 1;
    for (int i = tensor.ndim - 1; i >= 0; --i) {
      const bool row = layout == Layout::kStridedRows && tensor.ndim == 2 && i == 0;
      if (row && tensor.shape[0] > 1 && tensor.strides[0] > compact) {
        int64_t last = 0;
        that(multiply(tensor.shape[0] - 1, tensor.strides[0], &last) && last <= INT64_MAX - compact &&
                 multiply(last + compact, itemsize, &bytes),
             "%s has a row stride of %lld, beyond what 64 bits can count", name, (long long)tensor.strides[0]);
        view->row_stride = tensor.strides[0];
      } else {
        that(tensor.shape[i] == 1 || tensor.strides[i] == compact, "%s is not %s (stride %lld in dimension %d, must be %lld)",
             name, layout == Layout::kCompact ? "compact and row-major" : "row-major with compact rows",
             (long long)tensor.strides[i], i, (long long)compact);
      }
      if (!ok()) return false;
      compact *= tensor.shape[i];
    }
  }
  that(empty || tensor.data, "%s.data is NULL, but it has %lld elements", name, (long long)n);
  if (!ok()) return false;
  view->n = n;
  view->bytes = bytes;
  view->ndim = tensor.ndim;
  view->shape = tensor.shape;
  view->dlpack_dtype = tensor.dtype;
  view->dtype = dtype_of(tensor.dtype);
  return true;
}

// The address that stands for the first byte of a tensor's buffer, which is a handle.
bool Check::begin_of_buffer(const char *name, const DLTensor &tensor, uint64_t bytes, uintptr_t *begin) {
  *begin = 0;
  if (bytes == 0) return true;
  uint64_t most = 0, offset = 0, end = 0;
  void *buffer = tensor.data;
  backend_->buffer_at(tensor.data, &buffer, &offset);  // changes nothing where data is a handle
  const bnb_status status = backend_->buffer_bytes(device_, buffer, &most);
  if (status != BNB_OK) {
    char text[200];
    std::snprintf(text, sizeof text, "%s", bnb_last_error());
    status_ = fail(status, "%s: %s.data is %s", function_, name, text);
    return false;
  }
  that(!__builtin_add_overflow(tensor.byte_offset, bytes, &end) && !__builtin_add_overflow(end, offset, &end) && end <= most,
       "%s reaches beyond its buffer (byte_offset %llu and %llu bytes, the buffer has %llu)", name,
       (unsigned long long)tensor.byte_offset, (unsigned long long)bytes, (unsigned long long)most);
  // One buffer has one span, so that overlaps are found. Entries of a list are compared with those known before it alone.
  for (int i = 0; i < range_count_ && ok(); ++i) {
    if (handles_.buffer(reinterpret_cast<void *>(ranges_[i].begin)) != buffer) continue;
    *begin = (ranges_[i].begin >> Handles::kOffsetBits << Handles::kOffsetBits) + offset;
    return true;
  }
  if (!ok()) return false;
  *begin = handles_.add(buffer);
  if (*begin == 0) status_ = fail(BNB_ERROR_OUT_OF_MEMORY, "%s: no room to list all buffers of the call", function_);
  *begin += offset;
  return ok();
}

bool Check::place(const char *name, const DLTensor &tensor, View *view) {
  uintptr_t begin = reinterpret_cast<uintptr_t>(tensor.data), end = 0;
  if (backend_->buffer_bytes && !begin_of_buffer(name, tensor, uint64_t(view->bytes), &begin)) return false;
  that(!__builtin_add_overflow(begin, tensor.byte_offset, &begin) && !__builtin_add_overflow(begin, uintptr_t(view->bytes), &end),
       "%s reaches beyond the address space", name);
  view->data = reinterpret_cast<void *>(begin);
  return ok();
}

View Check::add(const char *name, const DLTensor *tensor, uint32_t dtypes, Layout layout, bool output) {
  View view;
  that(tensor != nullptr, "%s is NULL", name);
  if (!ok() || !describe(name, *tensor, layout, &view) || !check_device(name, *tensor) || !place(name, *tensor, &view)) return View{};
  if (dtypes != kAnyDType && !(dtypes & bit(view.dtype))) {
    char wanted[128];
    list_dtypes(dtypes, wanted, sizeof wanted);
    that(false, "%s is %s, must be %s", name, dtype_name(tensor->dtype), wanted);
    return View{};
  }
  if (view.bytes > 0 && range_count_ < kMaxTensors) {
    const uintptr_t begin = reinterpret_cast<uintptr_t>(view.data);
    ranges_[range_count_++] = {name, begin, begin + uintptr_t(view.bytes), output};
  }
  return view;
}

View Check::input(const char *name, const DLTensor *tensor, uint32_t dtypes, Layout layout) {
  return add(name, tensor, dtypes, layout, false);
}
View Check::output(const char *name, DLTensor *tensor, uint32_t dtypes, Layout layout) {
  return add(name, tensor, dtypes, layout, true);
}

void Check::rank(const char *name, const View &view, int32_t ndim) {
  that(view.ndim == ndim, "%s has %d dimensions, must have %d", name, int(view.ndim), int(ndim));
}

void Check::elements(const char *name, const View &view, int64_t expected, const char *why) {
  that(view.n == expected, "%s has %lld elements, must have %lld (%s)", name, (long long)view.n, (long long)expected, why);
}

void Check::same_shape(const char *name, const View &view, const char *other_name, const View &other) {
  if (!ok()) return;
  bool same = view.ndim == other.ndim;
  for (int i = 0; same && i < view.ndim; ++i) same = view.shape[i] == other.shape[i];
  that(same, "%s has shape %s, must have that of %s, %s", name, ShapeText(view).text, other_name, ShapeText(other).text);
}

void Check::blocksize(const char *name, int64_t blocksize, bool even) {
  that(blocksize >= 1, "%s is %lld, must be at least %d", name, (long long)blocksize, even ? 2 : 1);
  that(!even || blocksize % 2 == 0, "%s is %lld, must be even", name, (long long)blocksize);
}

void Check::sorted_code(const char *name, const View &code) {
  if (!ok() || device_.device_type != kDLCPU) return;  // a device's memory cannot be looked at without waiting for it
  float previous = -INFINITY;
  bool ascends = true;  // found without a branch: this is most of what a small call does
  for (int64_t i = 0; i < code.n; ++i) {
    const float value = load<float>(code.data, i);
    ascends &= (value >= previous) & (value < INFINITY);
    previous = value;
  }
  if (ascends && load<float>(code.data, 0) > -INFINITY) return;

  previous = -INFINITY;
  for (int64_t i = 0; i < code.n && ok(); ++i) {
    const float value = load<float>(code.data, i);
    that(std::isfinite(value), "%s[%lld] is %g, must be finite", name, (long long)i, double(value));
    that(value >= previous, "%s[%lld] is %g, below the entry before it: it must ascend", name, (long long)i, double(value));
    previous = value;
  }
}

void Check::look_for_overlaps() {
  for (int i = 0; i < range_count_ && ok(); ++i) {
    for (int j = 0; j < i; ++j) {
      const Range &a = ranges_[i], &b = ranges_[j];
      that(!(a.output || b.output) || a.end <= b.begin || b.end <= a.begin, "%s overlaps %s", a.name, b.name);
    }
  }
}

bnb_status Check::finish() {
  look_for_overlaps();
  return status_;
}

bnb_status Check::unsupported() {
  return fail(BNB_ERROR_UNSUPPORTED, "%s: the %s backend has no kernel for it", function_, backend_->name);
}

bnb_status Check::named(bnb_status status) {
  if (status == BNB_OK || std::strncmp(bnb_last_error(), function_, std::strlen(function_)) == 0) return status;
  char text[400];
  std::snprintf(text, sizeof text, "%s", bnb_last_error());
  return fail(status, "%s: %s", function_, text);
}

// In a query, what the operation would take is counted. In memory that the thread gave, too, and before anything is launched.
bnb_status Check::run_in_workspace(bnb_status (*call)(const void *closure), const void *closure) {
  size_t most = 0;
  if (!backend_->borrow) return workspace::querying() ? BNB_OK : named(call(closure));
  if (workspace::querying() || !workspace::given(device_.device_id, &most)) return named(call(closure));
  size_t needed = 0;
  {
    const workspace::Query query;
    const bnb_status status = call(closure);
    if (status != BNB_OK) return named(status);
    needed = query.bytes();
  }
  if (needed <= most) return named(call(closure));
  return fail(BNB_ERROR_OUT_OF_MEMORY, "%s: needs a workspace of %zu bytes, bnb_set_workspace gave %zu", function_, needed, most);
}

View vector_of(Check &check, const char *name, View view, int64_t expected, const char *why) {
  check.rank(name, view, 1);
  check.elements(name, view, expected, why);
  return view;
}

}  // namespace bnb::api
