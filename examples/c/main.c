/* SPDX-License-Identifier: MIT */
/* libbnb from C: quantize a matrix to NF4, bring it back, and see what an error looks like.
 *
 * Build and run, once libbnb is installed:
 *   cc -std=c99 main.c $(pkg-config --cflags --libs libbnb) -lm -o nf4 && ./nf4
 *
 * Every operation takes DLTensor descriptors: a pointer with its dtype, shape and device. The library checks them
 * against each other, returns a status, and explains a failure in bnb_last_error(). It allocates nothing for the
 * caller. */
#include <bnb/bnb.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 512, COLS = 768, BLOCKSIZE = 64 };

/* A compact tensor in host memory. `shape` must live as long as the descriptor. */
static DLTensor host_tensor(void *data, DLDataType dtype, int32_t ndim, int64_t *shape) {
  DLTensor tensor = {0};
  tensor.data = data;
  tensor.device.device_type = kDLCPU;
  tensor.dtype = dtype;
  tensor.ndim = ndim;
  tensor.shape = shape;
  return tensor;
}

/* Ends the program with the library's words if a call failed. */
static void check(bnb_status status) {
  if (status == BNB_OK) return;
  fprintf(stderr, "%s: %s\n", bnb_status_name(status), bnb_last_error());
  exit(1);
}

/* Something like the weights of a layer: the sum of four uniform numbers, from a fixed seed. */
static void fill(float *weights, size_t n) {
  uint32_t state = 42;
  for (size_t i = 0; i < n; ++i) {
    float sum = 0.0f;
    for (int j = 0; j < 4; ++j) {
      state = state * 1664525u + 1013904223u;
      sum += (float)(state >> 8) / 16777216.0f - 0.5f;
    }
    weights[i] = 0.05f * sum;
  }
}

int main(void) {
  const DLDataType float32 = {kDLFloat, 32, 1}, uint8 = {kDLUInt, 8, 1};
  int64_t shape[2] = {ROWS, COLS};
  int64_t packed_shape[1] = {ROWS * COLS / 2}; /* two codes a byte */
  int64_t blocks[1] = {ROWS * COLS / BLOCKSIZE};

  float *weights = malloc(sizeof(float) * ROWS * COLS), *restored = malloc(sizeof(float) * ROWS * COLS);
  uint8_t *packed = malloc(ROWS * COLS / 2);
  float *absmax = malloc(sizeof(float) * ROWS * COLS / BLOCKSIZE);
  if (!weights || !restored || !packed || !absmax) return 1;
  fill(weights, ROWS * COLS);

  DLTensor a = host_tensor(weights, float32, 2, shape);
  DLTensor codes = host_tensor(packed, uint8, 1, packed_shape);
  DLTensor scales = host_tensor(absmax, float32, 1, blocks);
  DLTensor back = host_tensor(restored, float32, 2, shape);

  check(cquantize_4bit(&a, BNB_NF4, BLOCKSIZE, &codes, &scales, NULL));
  check(cdequantize_4bit(&codes, &scales, NULL, BNB_NF4, BLOCKSIZE, &back, NULL));

  double error = 0.0, power = 0.0;
  for (size_t i = 0; i < (size_t)ROWS * COLS; ++i) {
    error += (restored[i] - weights[i]) * (restored[i] - weights[i]);
    power += weights[i] * weights[i];
  }
  printf("libbnb %s, kernels for %s\n", bnb_version(), bnb_isa_active());
  printf("%d x %d float32 in %lld bytes: %.1f bits a weight, relative error %.3f\n", ROWS, COLS,
         (long long)(packed_shape[0] + 4 * blocks[0]), 8.0 * (packed_shape[0] + 4 * blocks[0]) / (ROWS * COLS),
         sqrt(error / power));

  /* A wrong call says what is wrong and writes nothing. */
  blocks[0] -= 1;
  const bnb_status status = cquantize_4bit(&a, BNB_NF4, BLOCKSIZE, &codes, &scales, NULL);
  printf("one scale too few: %s: %s\n", bnb_status_name(status), bnb_last_error());

  free(weights);
  free(restored);
  free(packed);
  free(absmax);
  return status == BNB_ERROR_INVALID_ARGUMENT ? 0 : 1;
}
