//! The state that faer's product kernels leave the vector registers in.
//!
//! They end without `vzeroupper`. While the upper halves of the registers are in use, SSE instructions, which is what all code outside
//! such kernels is compiled to, depend on them and run at a fraction of their speed: the portable QR of a 256 x 256 matrix after a product took
//! four times as long on a Zen 5 core.

/// Clears the upper halves when it is dropped: to be made before the first call of faer on a thread, and dropped after the last.
pub(in crate::host) struct ClearRegisters;

impl Drop for ClearRegisters {
    #[inline]
    fn drop(&mut self) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx") {
            // SAFETY: the processor has AVX. Nothing is kept in an upper half across a call.
            unsafe { std::arch::x86_64::_mm256_zeroupper() };
        }
    }
}
