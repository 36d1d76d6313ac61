/* SPDX-License-Identifier: MIT */
/* A C99 program that links the library, and the memory layout of what it passes. */
#include <bnb/bitsandbytes.h>
#include <bnb/bnb.h>
#include <stddef.h>
#include <stdio.h>

/* The layout is DLPack's and cannot change. */
#define CHECK_LAYOUT(name, condition) typedef char name[(condition) ? 1 : -1]
CHECK_LAYOUT(device_size, sizeof(DLDevice) == 8);
CHECK_LAYOUT(dtype_size, sizeof(DLDataType) == 4);
CHECK_LAYOUT(status_size, sizeof(bnb_status) == 4 && sizeof(bnb_quant_type) == 4);
CHECK_LAYOUT(device_offset, offsetof(DLTensor, device) == sizeof(void *));
CHECK_LAYOUT(ndim_offset, offsetof(DLTensor, ndim) == sizeof(void *) + 8);
CHECK_LAYOUT(dtype_offset, offsetof(DLTensor, dtype) == sizeof(void *) + 12);
CHECK_LAYOUT(shape_offset, offsetof(DLTensor, shape) == sizeof(void *) + 16);
CHECK_LAYOUT(strides_offset, offsetof(DLTensor, strides) == 2 * sizeof(void *) + 16);
CHECK_LAYOUT(byte_offset_offset, offsetof(DLTensor, byte_offset) == 3 * sizeof(void *) + 16);
CHECK_LAYOUT(tensor_size, sizeof(DLTensor) == 3 * sizeof(void *) + 24);

static DLTensor vector(void *data, uint8_t code, uint8_t bits, int64_t *shape) {
  DLTensor tensor = {0};
  tensor.data = data;
  tensor.device.device_type = kDLCPU;
  tensor.ndim = 1;
  tensor.dtype.code = code;
  tensor.dtype.bits = bits;
  tensor.dtype.lanes = 1;
  tensor.shape = shape;
  return tensor;
}

int main(void) {
  float values[4] = {1.0f, -0.5f, 0.0f, 0.25f}, absmax[1] = {0}, back[4] = {0};
  uint8_t packed[2] = {0}, same[2] = {0};
  int64_t four = 4, two = 2, one = 1;
  DLTensor A = vector(values, kDLFloat, 32, &four), out = vector(packed, kDLUInt, 8, &two);
  DLTensor scale = vector(absmax, kDLFloat, 32, &one), result = vector(back, kDLFloat, 32, &four);
  if (bnb_abi_version() != BNB_ABI_VERSION) return 1;
  if (cquantize_4bit(&A, BNB_FP4, 64, &out, &scale, NULL) != BNB_OK) return 2;
  if (cdequantize_4bit(&out, &scale, NULL, BNB_FP4, 64, &result, NULL) != BNB_OK) return 3;
  if (back[0] != 1.0f || back[1] != -0.5f || back[2] != 0.0f || back[3] != 0.25f) return 4;
  if (cquantize_blockwise_fp32_fp4(NULL, values, absmax, same, 64, 4) != BNB_OK) return 5;
  if (same[0] != packed[0] || same[1] != packed[1]) return 6;
  printf("libbnb %s, %s\n", bnb_version(), bnb_isa_active());
  return 0;
}
