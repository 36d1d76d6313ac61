// SPDX-License-Identifier: MIT
// DLPack dtypes: recognising the ones the library computes with, naming all of them.
#include "core/dtype.h"

#include <cstdio>

namespace bnb {
namespace {

struct Row {
  DLDataTypeCode code;
  uint8_t bits;
  DType dtype;
  const char *name;
  uint16_t lanes = 1;
};

constexpr Row kRows[] = {
    {kDLFloat, 32, DType::kF32, "float32"},
    {kDLFloat, 16, DType::kF16, "float16"},
    {kDLBfloat, 16, DType::kBF16, "bfloat16"},
    {kDLUInt, 8, DType::kU8, "uint8"},
    {kDLInt, 8, DType::kI8, "int8"},
    {kDLInt, 32, DType::kI32, "int32"},
    {kDLFloat8_e4m3fn, 8, DType::kF8E4M3FN, "float8_e4m3fn"},
    {kDLFloat8_e5m2, 8, DType::kF8E5M2, "float8_e5m2"},
    {kDLFloat8_e8m0fnu, 8, DType::kF8E8M0FNU, "float8_e8m0fnu"},
    {kDLFloat4_e2m1fn, 4, DType::kF4E2M1FNx2, "float4_e2m1fn_x2", 2},
    {kDLFloat, 64, DType::kF64, "float64"},
    {kDLInt, 16, DType::kOther, "int16"},
    {kDLInt, 64, DType::kI64, "int64"},
    {kDLUInt, 16, DType::kOther, "uint16"},
    {kDLUInt, 32, DType::kOther, "uint32"},
    {kDLUInt, 64, DType::kOther, "uint64"},
    {kDLBool, 8, DType::kOther, "bool"},
    {kDLComplex, 64, DType::kOther, "complex64"},
    {kDLComplex, 128, DType::kOther, "complex128"},
};

const Row *find(DLDataType dtype) {
  for (const Row &row : kRows) {
    if (row.code == dtype.code && row.bits == dtype.bits && row.lanes == dtype.lanes) return &row;
  }
  return nullptr;
}

}  // namespace

DType dtype_of(DLDataType dtype) {
  const Row *row = find(dtype);
  return row ? row->dtype : DType::kOther;
}

const char *dtype_name(DLDataType dtype) {
  if (const Row *row = find(dtype)) return row->name;
  thread_local char text[48];
  std::snprintf(text, sizeof text, "dtype(code %d, %d bits, %d lanes)", dtype.code, dtype.bits, dtype.lanes);
  return text;
}

}  // namespace bnb
