/* SPDX-License-Identifier: MIT */
/* Memory that operations of bnb.h take on a GPU while they run: how much it is, and operations in memory of the caller's.
 *
 * WITHOUT THIS HEADER an operation that needs temporary memory on a GPU takes it from the pool of its stream and gives it back, both in
 * the order of the stream (cudaMallocAsync, cudaFreeAsync): nothing waits, a graph can capture it, and from the second call on it costs
 * about as much as a launch. Most operations need none. This header is for programs that plan all memory themselves: ask for the sizes
 * once, allocate the largest, and hand it over.
 *
 *   bnb_workspace_query(1);
 *   cgemm_4bit(A, B, absmax, NULL, BNB_NF4, 64, NULL, out, stream);   // any number of calls, with the real descriptors
 *   bnb_workspace_query(0);
 *   size_t bytes = bnb_workspace_bytes();
 *   bnb_allocate(device, bytes, &memory);
 *   bnb_set_workspace(device, memory, bytes);
 *   cgemm_4bit(A, B, absmax, NULL, BNB_NF4, 64, NULL, out, stream);   // allocates nothing
 *   bnb_set_workspace(device, NULL, 0);
 *
 * All of it belongs to the calling thread: other threads know nothing of its queries and of its memory. */
#ifndef BNB_WORKSPACE_H_
#define BNB_WORKSPACE_H_

#include "bnb.h"

#ifdef __cplusplus
extern "C" {
#endif

/* on 1: from now on the operations that this thread calls check everything, return what they would return, and do nothing else: no
 * output is written, nothing is launched, and the memory that they would take on a device is counted. Counting starts at 0. on 0: they
 * work again; the count stays. Services (bnb_<verb>) are not affected. INVALID_ARGUMENT for any other value. */
BNB_API bnb_status bnb_workspace_query(int32_t on);

/* Bytes on a device that the neediest call of this thread would have taken since bnb_workspace_query(1): so many suffice for any one
 * of these calls, and so for all of them after one another on one stream. It depends on shapes, dtypes, the alignment of pointers
 * and the device, not on values. 0 if there was no call, and for calls on devices that cannot be given memory: the CPU and Metal. */
BNB_API size_t bnb_workspace_bytes(void);

/* Operations of this thread on `device` take their memory from data[0 .. bytes) and from nowhere else, until this is called again;
 * data NULL: from the pools of streams again. One that needs more than `bytes` is BNB_ERROR_OUT_OF_MEMORY before it has written
 * anything, and bnb_last_error() has the number. The functions of bitsandbytes.h put copies of host memory there, too.
 * data: memory of that device (or managed), aligned to 256 bytes; the caller's, and must live until the work that was queued meanwhile
 * is done. Calls on one stream follow one another in it; work on another stream must wait, as for any memory that both write.
 * UNSUPPORTED on Metal; on the CPU, which takes host memory for the length of a call, there is nothing to give and BNB_OK. */
BNB_API bnb_status bnb_set_workspace(DLDevice device, void *data, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif /* BNB_WORKSPACE_H_ */
