//! What the benchmarks of the core and of the C interface share. It knows neither of them.

mod data;
mod group;
mod product_rate;
mod sets;
mod table;

pub use data::{Data, LEARNING_RATE, POOL, WEIGHT_DECAY, noise};
pub use group::{Group, Measured, criterion};
pub use product_rate::{RATE_SIZE, product_rate};
pub use sets::{EXAMPLE, LARGE, MATRICES_16X32, MATRICES_64X64, ONE_768, PERIOD, SETS, Set, TENSORS_8X64X64};
pub use table::{Table, cells};
