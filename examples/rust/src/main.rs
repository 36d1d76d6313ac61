// SPDX-License-Identifier: MIT
//! Quantizes numbers in three formats and says what each costs; then makes a mistake.

use bnb::{dynamic_map, quantize_4bit, quantize_blockwise, Error, QuantType};

fn relative_error(values: &[f32], restored: &[f32]) -> f64 {
    let error: f64 = values.iter().zip(restored).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    let power: f64 = values.iter().map(|a| f64::from(*a).powi(2)).sum();
    (error / power).sqrt()
}

fn main() -> Result<(), Error> {
    println!("libbnb {}", bnb::version()?);
    let values: Vec<f32> = (0..1 << 16).map(|i| (i as f32 * 0.01).sin() * (i as f32 * 0.0007).cos()).collect();

    for quant_type in [QuantType::Nf4, QuantType::Fp4] {
        let packed = quantize_4bit(&values, quant_type, 64)?;
        let error = relative_error(&values, &packed.dequantize()?);
        println!(
            "{quant_type:?}: {} values in {} bytes, relative error {error:.4}",
            values.len(),
            packed.codes().len()
        );
    }
    let packed = quantize_blockwise(&values, &dynamic_map(true)?, 256)?;
    println!("8 bits: relative error {:.4}", relative_error(&values, &packed.dequantize()?));

    match quantize_4bit(&values, QuantType::Nf4, 7) {
        Err(error) => println!("a block of 7: {error}"),
        Ok(_) => unreachable!("4-bit blocks hold an even number of elements"),
    }
    Ok(())
}
