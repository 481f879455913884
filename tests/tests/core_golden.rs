//! The core passes the golden trajectories in both precisions. A further backend is one more line.

use klshampoo::linalg::Portable;
use klshampoo_tests::acceptance;
use klshampoo_tests::harness::Core;

macro_rules! golden {
    ($($module:ident: $t:ty, $linalg:ty;)*) => {$(
        mod $module {
            use super::*;

            #[test]
            fn published_klshampoo() {
                acceptance::published_klshampoo::<$t, Core<$t, $linalg>>();
            }

            #[test]
            fn published_adamw() {
                acceptance::published_adamw::<$t, Core<$t, $linalg>>();
            }

            #[test]
            fn family_klshampoo() {
                acceptance::family_klshampoo::<$t, Core<$t, $linalg>>();
            }
        }
    )*};
}

golden! {
    portable_f32: f32, Portable;
    portable_f64: f64, Portable;
}
