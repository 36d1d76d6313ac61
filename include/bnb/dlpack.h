/* SPDX-License-Identifier: MIT */
/* libbnb's declaration of the DLPack 1.x structs (https://dmlc.github.io/dlpack): the part its C ABI speaks.
 *
 * The layout, names and numbers are those of the DLPack specification. Where a program also includes the original
 * header, whichever comes first wins: both use the same guard and describe the same memory. */
#ifndef DLPACK_DLPACK_H_
#define DLPACK_DLPACK_H_

#ifndef BNB_CDEF
#include <stdint.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Where the data of a tensor lives. libbnb acts on CPU, CUDA, ROCM, Metal and their host and managed kinds. */
#ifdef __cplusplus
typedef enum : int32_t {
#else
typedef enum {
#endif
  kDLCPU = 1,
  kDLCUDA = 2,
  kDLCUDAHost = 3,
  kDLOpenCL = 4,
  kDLVulkan = 7,
  kDLMetal = 8,
  kDLVPI = 9,
  kDLROCM = 10,
  kDLROCMHost = 11,
  kDLExtDev = 12,
  kDLCUDAManaged = 13,
  kDLOneAPI = 14,
  kDLWebGPU = 15,
  kDLHexagon = 16,
  kDLMAIA = 17,
  kDLTrn = 18
} DLDeviceType;

typedef struct {
  DLDeviceType device_type;
  int32_t device_id; /* 0 for the CPU */
} DLDevice;

/* The kind of number that a DLDataType counts bits of. */
typedef enum {
  kDLInt = 0,
  kDLUInt = 1,
  kDLFloat = 2,
  kDLOpaqueHandle = 3,
  kDLBfloat = 4,
  kDLComplex = 5,
  kDLBool = 6,
  kDLFloat8_e3m4 = 7,
  kDLFloat8_e4m3 = 8,
  kDLFloat8_e4m3b11fnuz = 9,
  kDLFloat8_e4m3fn = 10,
  kDLFloat8_e4m3fnuz = 11,
  kDLFloat8_e5m2 = 12,
  kDLFloat8_e5m2fnuz = 13,
  kDLFloat8_e8m0fnu = 14,
  kDLFloat6_e2m3fn = 15,
  kDLFloat6_e3m2fn = 16,
  kDLFloat4_e2m1fn = 17
} DLDataTypeCode;

typedef struct {
  uint8_t code;   /* a DLDataTypeCode */
  uint8_t bits;   /* of one lane: 16 for float16 and bfloat16 */
  uint16_t lanes; /* 1 for everything libbnb accepts */
} DLDataType;

/* A view of somebody else's memory. Element [i, j, ...] lies at
 * (char *)data + byte_offset + itemsize * (i * strides[0] + j * strides[1] + ...). */
typedef struct {
  void *data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t *shape;
  int64_t *strides; /* in elements; NULL means compact and row-major */
  uint64_t byte_offset;
} DLTensor;

/* What travels in a "dltensor" capsule (DLPack before 1.0). */
typedef struct DLManagedTensor {
  DLTensor dl_tensor;
  void *manager_ctx;
  void (*deleter)(struct DLManagedTensor *self);
} DLManagedTensor;

typedef struct {
  uint32_t major;
  uint32_t minor;
} DLPackVersion;

/* What travels in a "dltensor_versioned" capsule. flags: bit 0 read-only, bit 1 copied, bit 2 sub-byte type padded. */
typedef struct DLManagedTensorVersioned {
  DLPackVersion version;
  void *manager_ctx;
  void (*deleter)(struct DLManagedTensorVersioned *self);
  uint64_t flags;
  DLTensor dl_tensor;
} DLManagedTensorVersioned;

#ifdef __cplusplus
}
#endif
#endif /* DLPACK_DLPACK_H_ */
