// SPDX-License-Identifier: MIT
//! Slices as the tensor descriptors that the C library takes.

use crate::ffi::{DLDataType, DLTensor, CPU};
use std::marker::PhantomData;

/// An element type that tensors may have.
pub trait Element {
    const DTYPE: DLDataType;
}

impl Element for f32 {
    const DTYPE: DLDataType = DLDataType { code: 2, bits: 32, lanes: 1 };
}
impl Element for u8 {
    const DTYPE: DLDataType = DLDataType { code: 1, bits: 8, lanes: 1 };
}

/// A slice that the library only reads.
pub struct Input<'a> {
    raw: DLTensor,
    _shape: Box<i64>, // raw.shape points to it: a box stays where it is when the struct moves
    _borrow: PhantomData<&'a ()>,
}

/// A slice that the library writes.
pub struct Output<'a> {
    raw: DLTensor,
    _shape: Box<i64>,
    _borrow: PhantomData<&'a mut ()>,
}

fn describe<T: Element>(data: *const T, len: usize, shape: &mut i64) -> DLTensor {
    *shape = len as i64; // a slice never has more than isize::MAX bytes
    DLTensor {
        data: (data as *mut T).cast(),
        device: CPU,
        ndim: 1,
        dtype: T::DTYPE,
        shape,
        strides: std::ptr::null_mut(),
        byte_offset: 0,
    }
}

impl<'a> Input<'a> {
    pub fn new<T: Element>(slice: &'a [T]) -> Self {
        let mut shape = Box::new(0);
        let raw = describe(slice.as_ptr(), slice.len(), &mut shape);
        Input { raw, _shape: shape, _borrow: PhantomData }
    }

    pub fn as_ptr(&self) -> *const DLTensor {
        &self.raw
    }
}

impl<'a> Output<'a> {
    pub fn new<T: Element>(slice: &'a mut [T]) -> Self {
        let mut shape = Box::new(0);
        let raw = describe(slice.as_mut_ptr(), slice.len(), &mut shape);
        Output { raw, _shape: shape, _borrow: PhantomData }
    }

    pub fn as_mut_ptr(&mut self) -> *mut DLTensor {
        &mut self.raw
    }
}
