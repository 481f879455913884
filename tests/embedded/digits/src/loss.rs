//! Softmax and its cross entropy.

/// `e^x` for `x <= 0`, to about 2 units in the last place: a polynomial, so that no mathematics library can make a difference.
fn exp(x: f32) -> f32 {
    if x < -87.0 {
        return 0.0;
    }
    let exponent = (x * core::f32::consts::LOG2_E - 0.5) as i32;
    let n = exponent as f32;
    let r = x - n * 0.693_359_4 + n * 0.000_212_194_44;
    let power = 1.0 + r * (1.0 + r * (0.5 + r * (0.166_666_67 + r * (0.041_666_667 + r * (0.008_333_334 + r * 0.001_388_889)))));
    power * f32::from_bits(((exponent + 127) as u32) << 23)
}

/// Replaces the outputs of a network by the gradient of the cross entropy with respect to them, times `scale`.
pub(crate) fn differentiate(outputs: &mut [f32], label: u8, scale: f32) {
    let largest = outputs.iter().fold(f32::MIN, |max, &x| if x > max { x } else { max });
    let mut sum = 0.0;
    for output in &mut *outputs {
        *output = exp(*output - largest);
        sum += *output;
    }
    for (class, output) in outputs.iter_mut().enumerate() {
        let target = if class == usize::from(label) { 1.0 } else { 0.0 };
        *output = (*output / sum - target) * scale;
    }
}

/// The class with the largest output, the first of equals.
pub(crate) fn largest(outputs: &[f32]) -> usize {
    let mut best = 0;
    for (class, &output) in outputs.iter().enumerate() {
        if output > outputs[best] {
            best = class;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    extern crate std;

    #[test]
    fn exponential() {
        for i in 0..100_000 {
            let x = -87.0 * i as f32 / 100_000.0;
            let (ours, right) = (f64::from(super::exp(x)), f64::from(x).exp());
            assert!((ours - right).abs() <= 3.0 * right * f64::from(f32::EPSILON), "e^{x}: {ours} {right}");
        }
    }
}
