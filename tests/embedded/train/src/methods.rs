//! The methods, their learning rates, and the static memory of each.

use digits::Perceptron;
use klshampoo::linalg::Portable;
use klshampoo::{Config, Cost, FixedOptimizer, TensorSpec, Totals};
use static_cell::StaticCell;

/// A method and the rate that is best for it: of those of `digits/examples/grid.rs`.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// What the table calls it.
    pub name: &'static str,
    /// Its configuration.
    pub config: Config<f32>,
    /// Its learning rate.
    pub rate: f32,
}

pub const KL_SHAMPOO_METHOD: Method = Method { name: "KL-Shampoo", config: Config::<f32>::kl_shampoo(), rate: 0.01 };
pub const ADAMW_METHOD: Method = Method { name: "AdamW", config: Config::<f32>::adamw(), rate: 0.01 };
pub const SGD_METHOD: Method = Method { name: "SGD", config: Config::<f32>::sgd(), rate: 0.64 };

/// One group of four tensors, with the state and scratch that its method needs.
pub type Owner<const STATE: usize, const SCRATCH: usize> = FixedOptimizer<f32, Portable, 1, 4, 4, STATE, SCRATCH>;

const KL_SHAMPOO_NEEDS: Totals = needs(&KL_SHAMPOO_METHOD.config);
const ADAMW_NEEDS: Totals = needs(&ADAMW_METHOD.config);
const SGD_NEEDS: Totals = needs(&SGD_METHOD.config);

/// Filled when the program starts, so that they lie in `.bss` and cost no flash.
pub static KL_SHAMPOO: StaticCell<Owner<{ KL_SHAMPOO_NEEDS.state_len }, { KL_SHAMPOO_NEEDS.scratch_len }>> = StaticCell::new();
pub static ADAMW: StaticCell<Owner<{ ADAMW_NEEDS.state_len }, { ADAMW_NEEDS.scratch_len }>> = StaticCell::new();
pub static SGD: StaticCell<Owner<{ SGD_NEEDS.state_len }, { SGD_NEEDS.scratch_len }>> = StaticCell::new();

/// An optimizer with an empty table.
pub fn empty<const STATE: usize, const SCRATCH: usize>() -> Owner<STATE, SCRATCH> {
    Owner::new(Portable)
}

/// Tensor number `i` of the network.
pub const fn tensor(i: usize) -> TensorSpec {
    match TensorSpec::new(Perceptron::DIMS[i]) {
        Ok(spec) => spec,
        Err(_) => panic!("a tensor has 1 to 6 dims"),
    }
}

/// State of all tensors, scratch of the one that needs most.
const fn needs(config: &Config<f32>) -> Totals {
    let mut sum = Totals { slices: 0, state_len: 0, scratch_len: 0, largest_full_dim: 0, cost: Cost { step: 0, refresh: 0 } };
    let mut i = 0;
    while i < Perceptron::DIMS.len() {
        let Ok(needs) = tensor(i).needs(config) else { panic!("the tensor's dims are wrong") };
        sum.slices += needs.slices;
        sum.state_len += needs.state_len;
        if needs.scratch_len > sum.scratch_len {
            sum.scratch_len = needs.scratch_len;
        }
        i += 1;
    }
    sum
}
