// SPDX-License-Identifier: MIT
// How operations run kernels: arguments packed, pointers turned into buffers again, pipelines found or made, errors as one status.
//
//   Commands commands(queue);
//   commands.run({"blockwise", "dequantize_blockwise", args.dtype}, {groups, threads}, kernel_args, args.a, args.out);
//   return commands.commit();
//
// Buffer 0 of a kernel is its struct of arguments, in constant memory; buffers 1, 2, ... are the pointers in the order of the call.
// With the stream of bnb/metal.h launches go on a list and nothing runs; operations do not notice.
#ifndef BNB_METAL_LAUNCH_H_
#define BNB_METAL_LAUNCH_H_

#include <bnb/metal.h>

#include <optional>
#include <type_traits>

#include "metal/device.h"

namespace bnb::metal {

// A kernel: the file it is in, without ".metal", and the name it has there: `name`, then "_" and `suffix`, then "_f32", "_f16" or
// "_bf16" if it is one of a float dtype.
struct Kernel {
  const char *file, *name;
  DType dtype = DType::kOther;
  const char *suffix = nullptr;
};

struct Grid {
  int64_t groups;
  int threads;  // of each, a multiple of kSimdWidth
};

// Memory of the device for the duration of an operation. Commands keep it until they are done.
class Workspace {
 public:
  Workspace(const Queue &queue, size_t bytes);
  ~Workspace();
  Workspace(const Workspace &) = delete;
  Workspace &operator=(const Workspace &) = delete;
  bnb_status status() const { return status_; }
  void *buffer() const { return buffer_; }

 private:
  void *buffer_ = nullptr;  // on a list of launches: where in its temporary memory
  bool owned_ = false;
  bnb_status status_ = BNB_OK;
};

// What a kernel gets as a buffer: memory of the caller by its pointer, or a workspace and a byte in it.
struct Place {
  void *buffer;
  uint64_t offset;
};

class Commands {
 public:
  explicit Commands(const Queue &queue);
  ~Commands();
  Commands(const Commands &) = delete;
  Commands &operator=(const Commands &) = delete;

  const Traits &traits() const { return traits_of(queue_.device.device_id); }

  // Threadgroups for `units` of work of which each does one after the other.
  int64_t groups_for(int64_t units) const { return units < traits().groups ? units : traits().groups; }

  // One launch. No groups is no launch; after a failure nothing is done any more. For NULL the kernel gets memory that it must not use.
  template <typename Args, typename... Pointers>
  void run(const Kernel &kernel, const Grid &grid, const Args &args, const Pointers &...pointers) {
    static_assert(std::is_trivially_copyable<Args>::value && sizeof(Args) <= kMaxInline, "goes to the kernel byte by byte");
    static_assert(sizeof...(Pointers) < kMaxBuffers, "no more indices");
    const Place places[sizeof...(Pointers) + 1] = {place(pointers)...};
    launch(kernel, grid, &args, sizeof args, places, int(sizeof...(Pointers)));
  }

  // Whether all of them lie at multiples of `bytes`.
  template <typename... Pointers>
  bool aligned(uint64_t bytes, const Pointers &...pointers) const {
    return ((place(pointers).offset % bytes == 0) && ...);
  }

  Place place(const void *pointer) const { return {queue_.handles->buffer(pointer), Handles::offset(pointer)}; }
  Place place(const Workspace &workspace) const { return {workspace.buffer(), 0}; }
  Place place(const Place &given) const { return given; }

  // A failure of something else that these commands need: nothing is done any more.
  void need(bnb_status status) {
    if (status_ == BNB_OK) status_ = status;
  }

  bnb_status commit();

 private:
  void launch(const Kernel &kernel, const Grid &grid, const void *args, size_t bytes, const Place *places, int count);
  bnb_status encode(const Kernel &kernel, const bnb_metal_launch &launch);

  Queue queue_;
  std::optional<CommandBuffer> buffer_;  // none for a list of launches
  int64_t listed_before_ = 0;
  bool committed_ = false;
  bnb_status status_ = BNB_OK;
};

// bnb_metal_play().
bnb_status play(DLDevice device, const bnb_metal_launch *list, int64_t count, void *temporary, void *stream);

}  // namespace bnb::metal

#endif  // BNB_METAL_LAUNCH_H_
