//! The methods, their learning rates, and the static memory of each.

use digits::images::{CLASSES, PIXELS};
use digits::perceptron::HIDDEN;
use klshampoo::linalg::Portable;
use klshampoo::{Config, FixedOptimizer, StaticTable, TensorSpec};
use static_cell::ConstStaticCell;

/// A method for the network's tensors.
pub trait Method: StaticTable<f32> {
    /// What the table calls it.
    const NAME: &str;
    /// The learning rate that is best for it: of those of `digits/examples/grid.rs`.
    const RATE: f32;
}

/// Weights and biases of both layers, in the order of `Perceptron::tensors`.
const TENSORS: &[TensorSpec] =
    &[TensorSpec::matrix(HIDDEN, PIXELS), TensorSpec::vector(HIDDEN), TensorSpec::matrix(CLASSES, HIDDEN), TensorSpec::vector(CLASSES)];

/// One group of four tensors, with the state and scratch that its method needs.
pub type Owner<const STATE: usize, const SCRATCH: usize> = FixedOptimizer<f32, Portable, 1, 4, 4, STATE, SCRATCH>;

/// A method, and a static owner that is of the right size for it and lies in `.bss`.
macro_rules! method {
    ($method:ident, $name:literal, $config:expr, $rate:literal, $owner:ident) => {
        pub struct $method;

        impl StaticTable<f32> for $method {
            const GROUPS: &'static [Config<f32>] = &[$config];
            const TENSORS: &'static [TensorSpec] = TENSORS;
        }

        impl Method for $method {
            const NAME: &str = $name;
            const RATE: f32 = $rate;
        }

        pub static $owner: ConstStaticCell<Owner<{ $method::TOTALS.state_len }, { $method::TOTALS.scratch_len }>> =
            ConstStaticCell::new(Owner::new(Portable));
    };
}

method!(KlShampoo, "KL-Shampoo", Config::<f32>::kl_shampoo(), 0.01, KL_SHAMPOO);
method!(AdamW, "AdamW", Config::<f32>::adamw(), 0.01, ADAMW);
method!(Sgd, "SGD", Config::<f32>::sgd(), 0.64, SGD);
