/* SPDX-License-Identifier: MIT */
/* Operations of bnb.h on Metal as lists of kernel launches, for programs that encode Metal's work themselves.
 *
 * WITHOUT THIS HEADER an operation encodes and commits a command buffer of its own on the queue that its stream is. A program whose own
 * work sits in a command buffer that is not committed yet (PyTorch's does) would have to commit it before each operation, and wait for
 * the operation before the next. With it, operations go between the program's own kernels, into the encoder that it has open:
 *
 *   cquantize_4bit(A, BNB_NF4, 64, out, absmax, bnb_metal_recorder());   // checks all arguments, runs nothing
 *   int64_t count;
 *   size_t bytes;
 *   const bnb_metal_launch *launches = bnb_metal_take(&count, &bytes);
 *   id<MTLBuffer> temporary = ...;                                        // of `bytes` bytes
 *   for (int64_t i = 0; i < count; ++i) {
 *     id<MTLFunction> function = ...;   // launches[i].function of the library that launches[i].source compiles to
 *     [encoder setComputePipelineState: ...];
 *     [encoder setBytes:launches[i].bytes length:launches[i].byte_count atIndex:0];
 *     for (int32_t j = 0; j < launches[i].buffer_count; ++j) ...         // setBuffer:offset:atIndex:j + 1
 *     [encoder dispatchThreadgroups:MTLSizeMake(launches[i].groups, 1, 1)
 *             threadsPerThreadgroup:MTLSizeMake(launches[i].threads, 1, 1)];
 *   }
 *
 * Launches run one after the other, in the order of the list, each seeing what those before it wrote, as in an encoder of
 * MTLDispatchTypeSerial. Sources are compiled for the newest language up to 3.1 that the system has or for a later one, without fast math
 * (mathMode safe, precise functions), and need nothing beside them. Simdgroups have 32 lanes, and a pipeline must allow `threads` threads
 * in a threadgroup, as on Apple's own GPUs.
 *
 * The list is good for more than one run: it says which buffers kernels work on, not what is in them. bnb_metal_play() runs it on a queue.
 *
 * A list belongs to the thread that called the operation. */
#ifndef BNB_METAL_H_
#define BNB_METAL_H_

#include "bnb.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum bnb_metal_place {
  BNB_METAL_NOTHING = 0,  /* the kernel does not look at it: 16 bytes of anything */
  BNB_METAL_TENSOR = 1,   /* the buffer of a tensor of the call */
  BNB_METAL_TEMPORARY = 2 /* memory that is used by the launches of this list alone */
} bnb_metal_place;

typedef struct bnb_metal_buffer {
  void *buffer;    /* BNB_METAL_TENSOR: the id<MTLBuffer>, as it was in DLTensor.data; else NULL */
  uint64_t offset; /* bytes: in that buffer, or in the temporary memory */
  int32_t place;   /* bnb_metal_place */
} bnb_metal_buffer;

typedef struct bnb_metal_launch {
  const char *source;   /* text of the kernel file, one address for one file; lives as long as the library is loaded */
  const char *function; /* the kernel's name there */
  uint32_t groups, threads; /* threadgroups, and threads of each, of one dimension */
  const void *bytes;        /* what the kernel has as its buffer 0, in constant memory */
  size_t byte_count;        /* at most 4096 */
  const bnb_metal_buffer *buffers; /* its buffers 1, 2, ... */
  int32_t buffer_count;            /* at most 30 */
} bnb_metal_launch;

/* The stream with which operations on Metal devices put their launches on the list of the calling thread, and do nothing else: no kernel
 * is compiled, no memory taken, no output written. What they check and return is the same; one that fails adds nothing to the list.
 * It is for operations alone: services (bnb_<verb>) and other devices have no such stream. NULL in a library without Metal. */
BNB_API void *bnb_metal_recorder(void);

/* The launches of the operations that the thread called with bnb_metal_recorder() since it last called this, which takes them off the
 * list; *count of them, NULL if there are none. *temporary_bytes: how much memory all of them together need beside their tensors, on the
 * device of the tensors, at an address (or an offset in a buffer) that is a multiple of 256. What is returned, and what it points to,
 * is the thread's until it next calls an operation with that stream. Neither argument may be NULL. */
BNB_API const bnb_metal_launch *bnb_metal_take(int64_t *count, size_t *temporary_bytes);

/* Queues launches that bnb_metal_take() returned, of the library that runs them, on `stream` (an id<MTLCommandQueue>, NULL: the device's
 * default one): with the same list again and again, what an operation checks and looks up is done once. temporary: an id<MTLBuffer> of
 * that device with the bytes that bnb_metal_take() named; NULL if it named 0. The buffers of the tensors must still be there. */
BNB_API bnb_status bnb_metal_play(DLDevice device, const bnb_metal_launch *launches, int64_t count, void *temporary, void *stream);

#ifdef __cplusplus
}
#endif
#endif /* BNB_METAL_H_ */
