// SPDX-License-Identifier: MIT
//! The part of `<bnb/bnb.h>` that this crate calls, declared by hand.

use std::os::raw::{c_char, c_void};

/// BNB_ABI_VERSION of the header that these declarations follow.
pub const ABI_VERSION: u32 = 1;

pub const OK: i32 = 0;
pub const FP4: i32 = 1;
pub const NF4: i32 = 2;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct DLDevice {
    pub device_type: i32,
    pub device_id: i32,
}

pub const CPU: DLDevice = DLDevice { device_type: 1, device_id: 0 };

#[repr(C)]
#[derive(Clone, Copy)]
pub struct DLDataType {
    pub code: u8,
    pub bits: u8,
    pub lanes: u16,
}

#[repr(C)]
pub struct DLTensor {
    pub data: *mut c_void,
    pub device: DLDevice,
    pub ndim: i32,
    pub dtype: DLDataType,
    pub shape: *mut i64,
    pub strides: *mut i64,
    pub byte_offset: u64,
}

extern "C" {
    pub fn bnb_abi_version() -> u32;
    pub fn bnb_version() -> *const c_char;
    pub fn bnb_last_error() -> *const c_char;
    pub fn bnb_create_dynamic_map(is_signed: i32, code: *mut f32) -> i32;
    pub fn cquantize_blockwise(
        a: *const DLTensor,
        code: *const DLTensor,
        blocksize: i64,
        out: *mut DLTensor,
        absmax: *mut DLTensor,
        stream: *mut c_void,
    ) -> i32;
    pub fn cdequantize_blockwise(
        a: *const DLTensor,
        absmax: *const DLTensor,
        code: *const DLTensor,
        blocksize: i64,
        out: *mut DLTensor,
        stream: *mut c_void,
    ) -> i32;
    pub fn cquantize_4bit(
        a: *const DLTensor,
        quant_type: i32,
        blocksize: i64,
        out: *mut DLTensor,
        absmax: *mut DLTensor,
        stream: *mut c_void,
    ) -> i32;
    pub fn cdequantize_4bit(
        a: *const DLTensor,
        absmax: *const DLTensor,
        nested: *const c_void,
        quant_type: i32,
        blocksize: i64,
        out: *mut DLTensor,
        stream: *mut c_void,
    ) -> i32;
}
