//! The core passes the golden trajectories in both precisions. A further backend is one more line.

use klshampoo::linalg::Portable;
use klshampoo_ffi::host::Faer;
use klshampoo_tests::harness::{Core, Reflections};

macro_rules! golden {
    ($($module:ident: $t:ty, $linalg:ty;)*) => {$(
        mod $module {
            use super::*;

            klshampoo_tests::golden_tests!($t, Core<$t, $linalg>);
        }
    )*};
}

golden! {
    portable_f32: f32, Portable;
    portable_f64: f64, Portable;
    faer_f32: f32, Faer;
    faer_f64: f64, Faer;
    portable_f32_by_reflections: f32, Reflections<Portable>;
    faer_f32_by_reflections: f32, Reflections<Faer>;
    faer_f64_by_reflections: f64, Reflections<Faer>;
}
