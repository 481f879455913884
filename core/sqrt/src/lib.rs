//! The square root of an `f32`, by the processor's own instruction where it has one.
//!
//! A crate of its own for the one instruction that neither `core` nor `libm` gives to safe code: `vsqrt.f32` of 32-bit ARM processors with
//! a floating-point unit (Cortex-M4F, M7, M33, M55). `libm` knows those of x86, AArch64 and wasm, and computes it in integers elsewhere.
//! All of them round correctly, so the bits are the same everywhere.
#![no_std]

/// The square root, correctly rounded; NaN of a negative number.
#[cfg(not(all(target_arch = "arm", target_abi = "eabihf")))]
#[inline]
pub fn sqrtf(x: f32) -> f32 {
    libm::sqrtf(x)
}

/// The square root, correctly rounded; NaN of a negative number.
// Targets of the hard-float ABI have the unit; the target feature itself cannot be asked for on a stable compiler.
#[cfg(all(target_arch = "arm", target_abi = "eabihf"))]
#[inline(always)]
pub fn sqrtf(x: f32) -> f32 {
    let bits: u32;
    // SAFETY: instructions from register to register, of which those that change are named. It may set sticky flags in FPSCR, which
    // nothing reads and the compiler assumes nothing about. The operand takes the way through a core register because the compiler's
    // class of single-precision registers asks for a unit with double precision too.
    unsafe {
        core::arch::asm!("vmov s0, {0}", "vsqrt.f32 s0, s0", "vmov {0}, s0", inlateout(reg) x.to_bits() => bits, out("s0") _, options(pure, nomem, nostack));
    }
    f32::from_bits(bits)
}

#[cfg(test)]
mod tests {
    use super::sqrtf;

    #[test]
    fn it_is_the_correctly_rounded_root() {
        let edges = [0.0, -0.0, f32::MIN_POSITIVE, f32::from_bits(1), f32::from_bits(0x7f_ffff), f32::MAX, f32::INFINITY];
        let spread = (0..4096u32).map(|i| f32::from_bits(i.wrapping_mul(0x9e37_79b9) & 0x7f7f_ffff));
        for x in edges.into_iter().chain(spread) {
            assert_eq!(sqrtf(x).to_bits(), (libm::sqrt(f64::from(x)) as f32).to_bits(), "{x:e}");
        }
        assert!(sqrtf(-1.0).is_nan() && sqrtf(f32::NAN).is_nan());
    }
}
