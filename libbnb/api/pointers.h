// SPDX-License-Identifier: MIT
// Where the bare pointers of a call live, and what stands for host memory on a device.
#ifndef BNB_API_POINTERS_H_
#define BNB_API_POINTERS_H_

#include <initializer_list>

#include "core/backend.h"

namespace bnb::api {

// Memory of a device for the length of a call, given back in the reverse order; with an address that Pointers::place() takes.
bnb_status borrow(const Backend *backend, const Queue &queue, size_t bytes, void **data);
void give_back(const Backend *backend, const Queue &queue, void *data, size_t bytes);

// The pointers of a call of bitsandbytes.h. If one of them is a device's, the call runs there: host memory among the others gets a
// copy on the device, and what the call wrote there is copied back, which waits for the stream. Managed memory is where it is needed;
// it is the only memory of a device whose buffers are handles that has addresses.
class Pointers {
 public:
  // Host memory all of them.
  explicit Pointers(const char *function) : function_(function) {}
  // Wherever they are; NULL among them says nothing.
  Pointers(const char *function, void *stream, std::initializer_list<const void *> all);
  ~Pointers();
  Pointers(const Pointers &) = delete;
  Pointers &operator=(const Pointers &) = delete;

  // The GPU that the calling thread uses; the CPU where there is none.
  static DLDevice current_device();

  const Queue &queue() const { return queue_; }
  const Backend *backend() const { return backend_; }
  bool on_host() const { return queue_.device.device_type == kDLCPU; }
  bool is_host(const void *data) const;

  // What the operation gets for `bytes` bytes at data. NULL if there is no room for a copy, or if an output shares host memory with
  // another argument: finish() has the words, and the operation refuses a NULL without having written anything.
  void *place(const void *data, int64_t bytes, bool written, DLDevice *device);

  // Bytes at `from`, wherever that is, for the host; waits for the stream if they are a device's.
  bnb_status read(void *to, const void *from, int64_t bytes);

  // After the operation: copies back what it wrote, and passes its status on. An error's text gets the function in front.
  bnb_status finish(bnb_status status);

 private:
  struct Copy {
    void *host, *device;
    int64_t bytes;
    bool written;
  };
  static constexpr int kMostCopies = 12;

  void *problem(bnb_status status, const char *text);
  bnb_status copy_to_device(void *copy, const void *data, int64_t bytes);
  bnb_status copy_back(const Copy &copy);

  const char *function_;
  Queue queue_{{kDLCPU, 0}, nullptr};
  const Backend *backend_ = nullptr;  // NULL: all is host memory
  Copy copies_[kMostCopies];
  int count_ = 0;
  bnb_status status_ = BNB_OK;
  char text_[200];
};

}  // namespace bnb::api

#endif  // BNB_API_POINTERS_H_
