//! The named methods and conventions, and `kls_config_init`, which fills a configuration with them.

use klshampoo::{Config, ConfigError, Convention};

use crate::config::kls_config;
use crate::config_v0_1::ConfigV01;
use crate::error::Locate;
use crate::guard::guard;
use crate::status::*;
use crate::versioned::write_struct;

/// KL-Shampoo (Fig. 13, Claims 2 to 4). Figures, equations and claims are those of the paper "Understanding and Improving Shampoo and
/// SOAP via Kullback-Leibler Minimization".
pub const KLS_METHOD_KL_SHAMPOO: i32 = 0;
/// AdamW, with decoupled weight decay and bias correction.
pub const KLS_METHOD_ADAMW: i32 = 1;
/// KL-SOAP (Sec. 5, Claim 5): KL-Shampoo's eigenbasis, a second moment per element in it.
pub const KLS_METHOD_KL_SOAP: i32 = 2;
/// SOAP (Eq. 2).
pub const KLS_METHOD_SOAP: i32 = 3;
/// Shampoo (Eq. 1) with power 1/(2K) for K preconditioned dims. Set `graft` for a grafted one.
pub const KLS_METHOD_SHAMPOO: i32 = 4;
/// Shampoo with power 1/2.
pub const KLS_METHOD_SHAMPOO_HALF: i32 = 5;
/// Shampoo with power 1/4.
pub const KLS_METHOD_SHAMPOO_QUARTER: i32 = 6;
/// VN-Shampoo, variant 1 (Fig. 6, Claim 6).
pub const KLS_METHOD_VN_SHAMPOO_1: i32 = 7;
/// VN-Shampoo, variant 2 (Fig. 6).
pub const KLS_METHOD_VN_SHAMPOO_2: i32 = 8;
/// F-Shampoo, variant 1 (Fig. 8, Claim 7).
pub const KLS_METHOD_F_SHAMPOO_1: i32 = 9;
/// F-Shampoo, variant 2 (Fig. 8).
pub const KLS_METHOD_F_SHAMPOO_2: i32 = 10;
/// Idealized KL-Shampoo, by eigendecompositions (Fig. 3, left).
pub const KLS_METHOD_IDEALIZED_KL: i32 = 11;
/// Idealized VN-Shampoo, variant 1 (Fig. 6, left).
pub const KLS_METHOD_IDEALIZED_VN_1: i32 = 12;
/// Idealized VN-Shampoo, variant 2 (Fig. 6, left).
pub const KLS_METHOD_IDEALIZED_VN_2: i32 = 13;
/// Idealized F-Shampoo, variant 1 (Fig. 8, left).
pub const KLS_METHOD_IDEALIZED_F_1: i32 = 14;
/// Idealized F-Shampoo, variant 2 (Fig. 8, left).
pub const KLS_METHOD_IDEALIZED_F_2: i32 = 15;
/// KL-Shampoo with instantaneous eigenvalues, the ablation of Fig. 4.
pub const KLS_METHOD_INSTANTANEOUS_KL: i32 = 16;
/// One-sided preconditioning (Claim 1): of a tensor's shortest dim, unless its modes say otherwise.
pub const KLS_METHOD_ONE_SIDED: i32 = 17;
/// RMSProp.
pub const KLS_METHOD_RMSPROP: i32 = 18;
/// Adafactor as VN-Shampoo with diagonal factors (Claim 6); no cap unless `rms_cap` is set, no relative step sizes.
pub const KLS_METHOD_ADAFACTOR: i32 = 19;
/// SGD with (averaged) momentum.
pub const KLS_METHOD_SGD: i32 = 20;

/// The paper's order of operations (Fig. 13): estimate, refresh, apply. The default.
pub const KLS_CONVENTION_FIGURE13: i32 = 0;
/// The published code of KL-Shampoo's authors: apply, estimate, refresh; the first call only sets factors and bases.
pub const KLS_CONVENTION_REFERENCE_KL: i32 = 1;
/// The published code of SOAP's authors: as theirs, eigenvectors sorted, step size bias-corrected.
pub const KLS_CONVENTION_REFERENCE_SOAP: i32 = 2;
/// Distributed Shampoo: no preconditioner before the first refresh, bias-corrected moments, damping of each factor.
pub const KLS_CONVENTION_REFERENCE_META: i32 = 3;

/// Fills `config` with a method's defaults in a convention (KLS_CONVENTION_*). `struct_size` is sizeof(kls_config). Methods without
/// Kronecker factors have only one convention.
///
/// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE, KLS_ERROR_UNKNOWN_VALUE, KLS_ERROR_NOT_BUILT; `config` is then
/// untouched.
///
/// # Safety
/// `config` points to `struct_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_config_init(config: *mut kls_config, struct_size: usize, method: i32, convention: i32) -> kls_status {
    guard("kls_config_init", || {
        // The first header's struct has room for the methods and conventions that it names.
        if cfg!(feature = "host")
            && struct_size == size_of::<ConfigV01>()
            && (method > KLS_METHOD_ADAMW || convention > KLS_CONVENTION_REFERENCE_KL)
        {
            return Err(KLS_ERROR_UNKNOWN_VALUE.into());
        }
        let preset: Config<f32> = match method {
            KLS_METHOD_KL_SHAMPOO if cfg!(feature = "kl-shampoo") => Config::<f32>::kl_shampoo(),
            KLS_METHOD_ADAMW if cfg!(feature = "adamw") => Config::<f32>::adamw(),
            KLS_METHOD_KL_SOAP if cfg!(feature = "kl-soap") => Config::<f32>::kl_soap(),
            KLS_METHOD_SOAP if cfg!(feature = "soap") => Config::<f32>::soap(),
            KLS_METHOD_SHAMPOO if cfg!(feature = "shampoo") => Config::<f32>::shampoo(),
            KLS_METHOD_SHAMPOO_HALF if cfg!(feature = "shampoo") => Config::<f32>::shampoo_half(),
            KLS_METHOD_SHAMPOO_QUARTER if cfg!(feature = "shampoo") => Config::<f32>::shampoo_quarter(),
            KLS_METHOD_VN_SHAMPOO_1 if cfg!(feature = "vn-shampoo") => Config::<f32>::vn_shampoo_1(),
            KLS_METHOD_VN_SHAMPOO_2 if cfg!(feature = "vn-shampoo") => Config::<f32>::vn_shampoo_2(),
            KLS_METHOD_F_SHAMPOO_1 if cfg!(feature = "f-shampoo") => Config::<f32>::f_shampoo_1(),
            KLS_METHOD_F_SHAMPOO_2 if cfg!(feature = "f-shampoo") => Config::<f32>::f_shampoo_2(),
            KLS_METHOD_IDEALIZED_KL if cfg!(all(feature = "idealized", any(feature = "kl-shampoo", feature = "kl-soap"))) => {
                Config::<f32>::idealized_kl()
            }
            KLS_METHOD_IDEALIZED_VN_1 if cfg!(all(feature = "idealized", feature = "vn-shampoo")) => Config::<f32>::idealized_vn_1(),
            KLS_METHOD_IDEALIZED_VN_2 if cfg!(all(feature = "idealized", feature = "vn-shampoo")) => Config::<f32>::idealized_vn_2(),
            KLS_METHOD_IDEALIZED_F_1 if cfg!(all(feature = "idealized", feature = "f-shampoo")) => Config::<f32>::idealized_f_1(),
            KLS_METHOD_IDEALIZED_F_2 if cfg!(all(feature = "idealized", feature = "f-shampoo")) => Config::<f32>::idealized_f_2(),
            KLS_METHOD_INSTANTANEOUS_KL if cfg!(feature = "instantaneous") => Config::<f32>::instantaneous_kl(),
            KLS_METHOD_ONE_SIDED if cfg!(feature = "one-sided") => Config::<f32>::one_sided(),
            KLS_METHOD_RMSPROP if cfg!(feature = "rmsprop") => Config::<f32>::rmsprop(),
            KLS_METHOD_ADAFACTOR if cfg!(feature = "adafactor") => Config::<f32>::adafactor(),
            KLS_METHOD_SGD if cfg!(feature = "sgd") => Config::<f32>::sgd(),
            KLS_METHOD_KL_SHAMPOO..=KLS_METHOD_SGD => return Err(KLS_ERROR_NOT_BUILT).of_field("method"),
            _ => return Err(KLS_ERROR_UNKNOWN_VALUE).of_field("method"),
        };
        let convention = match convention {
            KLS_CONVENTION_FIGURE13 => Convention::Figure13,
            KLS_CONVENTION_REFERENCE_KL if cfg!(feature = "conventions") => Convention::ReferenceKl,
            KLS_CONVENTION_REFERENCE_SOAP if cfg!(feature = "conventions") => Convention::ReferenceSoap,
            KLS_CONVENTION_REFERENCE_META if cfg!(feature = "conventions") => Convention::ReferenceMeta,
            KLS_CONVENTION_REFERENCE_KL..=KLS_CONVENTION_REFERENCE_META => return Err(KLS_ERROR_NOT_BUILT).of_field("convention"),
            _ => return Err(KLS_ERROR_UNKNOWN_VALUE).of_field("convention"),
        };
        let preset = if cfg!(feature = "conventions") { preset.in_convention(convention) } else { preset };
        // A method that needs another feature besides its own.
        if preset.validate() == Err(ConfigError::NotBuilt) {
            return Err(KLS_ERROR_NOT_BUILT).of_field("method");
        }
        let value = kls_config::from_core(&preset);
        // SAFETY: the caller vouches for the memory; the function checks the pointer and the size.
        unsafe { write_struct(config, struct_size, value) }.of_field("config")
    })
}
