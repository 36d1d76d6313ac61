// SPDX-License-Identifier: MIT
//! A safe wrapper of libbnb: k-bit quantization of `f32` slices, with `Result` for everything that can go wrong.
//!
//! ```
//! let weights: Vec<f32> = (0..1000).map(|i| (i as f32).sin()).collect();
//! let packed = bnb::quantize_4bit(&weights, bnb::QuantType::Nf4, 64)?;
//! assert_eq!(packed.codes().len(), 500);
//! let restored = packed.dequantize()?;
//! assert!(weights.iter().zip(&restored).all(|(a, b)| (a - b).abs() < 0.16));
//! # Ok::<(), bnb::Error>(())
//! ```

mod ffi;
mod tensor;

use std::ffi::CStr;
use std::fmt;
use std::ptr::{null, null_mut};
use tensor::{Input, Output};

/// What the library reports: a status of `bnb_status` and its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub status: i32,
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

fn check(status: i32) -> Result<(), Error> {
    if status == ffi::OK {
        return Ok(());
    }
    // SAFETY: the text is valid until this thread's next failing call.
    let message = unsafe { CStr::from_ptr(ffi::bnb_last_error()) }.to_string_lossy().into_owned();
    Err(Error { status, message })
}

/// The version of the library that is loaded. An error if its ABI is another one than this crate was written for.
pub fn version() -> Result<&'static str, Error> {
    // SAFETY: no arguments; the string is static and ASCII.
    let (abi, version) = unsafe { (ffi::bnb_abi_version(), CStr::from_ptr(ffi::bnb_version())) };
    if abi != ffi::ABI_VERSION {
        let message = format!("libbnb has ABI {abi}, this crate needs {}", ffi::ABI_VERSION);
        return Err(Error { status: -1, message });
    }
    Ok(version.to_str().unwrap_or("?"))
}

// Blocks of `len` elements, the last one maybe short; none if the size is wrong, which the library says.
fn blocks(len: usize, blocksize: usize) -> usize {
    if blocksize == 0 || len == 0 {
        0
    } else {
        (len - 1) / blocksize + 1
    }
}

// A block size beyond i64 is as good as the largest one: one block.
fn as_i64(blocksize: usize) -> i64 {
    i64::try_from(blocksize).unwrap_or(i64::MAX - 1)
}

/// A 4-bit format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantType {
    Fp4,
    Nf4,
}

impl QuantType {
    fn raw(self) -> i32 {
        match self {
            QuantType::Fp4 => ffi::FP4,
            QuantType::Nf4 => ffi::NF4,
        }
    }
}

/// Numbers of 4 bits each, two a byte, with one scale per block.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantized4bit {
    codes: Vec<u8>,
    absmax: Vec<f32>,
    len: usize,
    blocksize: usize,
    quant_type: QuantType,
}

/// Quantizes to 4 bits. `blocksize`: elements that share a scale, even.
pub fn quantize_4bit(values: &[f32], quant_type: QuantType, blocksize: usize) -> Result<Quantized4bit, Error> {
    let mut codes = vec![0u8; blocks(values.len(), 2)];
    let mut absmax = vec![0f32; blocks(values.len(), blocksize)];
    // SAFETY: the descriptors hold the true lengths of live slices, and the outputs are borrowed exclusively.
    check(unsafe {
        ffi::cquantize_4bit(
            Input::new(values).as_ptr(),
            quant_type.raw(),
            as_i64(blocksize),
            Output::new(&mut codes).as_mut_ptr(),
            Output::new(&mut absmax).as_mut_ptr(),
            null_mut(),
        )
    })?;
    Ok(Quantized4bit { codes, absmax, len: values.len(), blocksize, quant_type })
}

impl Quantized4bit {
    /// Puts together what was stored; `dequantize` tells whether the parts fit.
    pub fn from_parts(codes: Vec<u8>, absmax: Vec<f32>, len: usize, blocksize: usize, quant_type: QuantType) -> Self {
        Quantized4bit { codes, absmax, len, blocksize, quant_type }
    }

    /// The packed codes, element 2i in the high half of byte i.
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// The largest magnitude of each block.
    pub fn absmax(&self) -> &[f32] {
        &self.absmax
    }

    pub fn dequantize(&self) -> Result<Vec<f32>, Error> {
        let mut values = vec![0f32; self.len];
        // SAFETY: as in quantize_4bit.
        check(unsafe {
            ffi::cdequantize_4bit(
                Input::new(&self.codes).as_ptr(),
                Input::new(&self.absmax).as_ptr(),
                null(),
                self.quant_type.raw(),
                as_i64(self.blocksize),
                Output::new(&mut values).as_mut_ptr(),
                null_mut(),
            )
        })?;
        Ok(values)
    }
}

/// The 256 values of a dynamic map, the usual code for 8 bits.
pub fn dynamic_map(signed: bool) -> Result<[f32; 256], Error> {
    let mut code = [0f32; 256];
    // SAFETY: room for 256 floats.
    check(unsafe { ffi::bnb_create_dynamic_map(signed as i32, code.as_mut_ptr()) })?;
    Ok(code)
}

/// Numbers of 8 bits each, the index of the nearest entry of a code, with one scale per block.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedBlockwise {
    codes: Vec<u8>,
    absmax: Vec<f32>,
    code: [f32; 256],
    blocksize: usize,
}

/// Quantizes to 8 bits by a code of 256 ascending values.
pub fn quantize_blockwise(values: &[f32], code: &[f32; 256], blocksize: usize) -> Result<QuantizedBlockwise, Error> {
    let mut codes = vec![0u8; values.len()];
    let mut absmax = vec![0f32; blocks(values.len(), blocksize)];
    // SAFETY: as in quantize_4bit.
    check(unsafe {
        ffi::cquantize_blockwise(
            Input::new(values).as_ptr(),
            Input::new(code).as_ptr(),
            as_i64(blocksize),
            Output::new(&mut codes).as_mut_ptr(),
            Output::new(&mut absmax).as_mut_ptr(),
            null_mut(),
        )
    })?;
    Ok(QuantizedBlockwise { codes, absmax, code: *code, blocksize })
}

impl QuantizedBlockwise {
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    pub fn dequantize(&self) -> Result<Vec<f32>, Error> {
        let mut values = vec![0f32; self.codes.len()];
        // SAFETY: as in quantize_4bit.
        check(unsafe {
            ffi::cdequantize_blockwise(
                Input::new(&self.codes).as_ptr(),
                Input::new(&self.absmax).as_ptr(),
                Input::new(&self.code).as_ptr(),
                as_i64(self.blocksize),
                Output::new(&mut values).as_mut_ptr(),
                null_mut(),
            )
        })?;
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(len: usize) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * 0.37).sin()).collect()
    }

    #[test]
    fn nf4_levels_come_back_as_they_are() {
        let levels = [-1.0, 0.0, 1.0, 0.0, -1.0];
        let packed = quantize_4bit(&levels, QuantType::Nf4, 2).unwrap();
        assert_eq!(packed.codes(), [0x07, 0xF7, 0x07]);
        assert_eq!(packed.absmax(), [1.0, 1.0, 1.0]);
        assert_eq!(packed.dequantize().unwrap(), levels);
    }

    #[test]
    fn both_formats_stay_close_at_any_length() {
        for len in [0, 1, 2, 63, 64, 65, 1000] {
            let values = wave(len);
            for (quant_type, bound) in [(QuantType::Nf4, 0.16), (QuantType::Fp4, 0.18)] {
                let restored = quantize_4bit(&values, quant_type, 64).unwrap().dequantize().unwrap();
                assert_eq!(restored.len(), len);
                assert!(values.iter().zip(&restored).all(|(a, b)| (a - b).abs() < bound));
            }
        }
    }

    #[test]
    fn eight_bits_are_much_closer() {
        let values = wave(1000);
        let packed = quantize_blockwise(&values, &dynamic_map(true).unwrap(), 100).unwrap();
        let restored = packed.dequantize().unwrap();
        assert!(values.iter().zip(&restored).all(|(a, b)| (a - b).abs() < 0.01));
        assert_eq!(packed.codes().len(), 1000);
    }

    #[test]
    fn mistakes_are_errors_with_words() {
        let error = quantize_4bit(&wave(10), QuantType::Nf4, 3).unwrap_err();
        assert_eq!(error.status, 1);
        assert_eq!(error.to_string(), "cquantize_4bit: blocksize is 3, must be even");
        assert!(quantize_4bit(&wave(10), QuantType::Nf4, 0).is_err());
        let short = Quantized4bit::from_parts(vec![0; 5], vec![], 10, 64, QuantType::Nf4);
        assert!(short.dequantize().unwrap_err().message.contains("absmax has 0 elements, must have 1"));
        let mut unsorted = dynamic_map(true).unwrap();
        unsorted[9] = 2.0;
        assert!(quantize_blockwise(&wave(10), &unsorted, 64).unwrap_err().message.contains("code[10]"));
    }

    #[test]
    fn the_library_is_the_right_one() {
        assert!(!version().unwrap().is_empty());
    }
}
