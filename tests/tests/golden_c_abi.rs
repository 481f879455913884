//! The golden trajectories through the C ABI: lent memory and heap, both backends, one thread and two.

use klshampoo_ffi::{KLS_BACKEND_FAER, KLS_BACKEND_PORTABLE};
use klshampoo_tests::c_abi::{CAbi, Created, Lent};

macro_rules! golden {
    ($($module:ident: $face:ty;)*) => {$(
        mod $module {
            use super::*;

            klshampoo_tests::golden_tests!(f32, CAbi<$face>);
        }
    )*};
}

golden! {
    lent: Lent;
    portable: Created<KLS_BACKEND_PORTABLE, 1>;
    faer: Created<KLS_BACKEND_FAER, 1>;
    faer_two_threads: Created<KLS_BACKEND_FAER, 2>;
}
