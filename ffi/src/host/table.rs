//! A table of tensors on the heap, for libraries whose optimizers keep it apart from the state.

use klshampoo::{Config, Tensor, Totals};

use super::fallible::collected;
use crate::config::kls_config;
use crate::error::{Failure, Locate, Outcome};
use crate::handle::{group_of, resolve};
use crate::optimizer::set_rates;
use crate::status::*;
use crate::tensor::kls_tensor;
use crate::versioned::Structs;

/// Groups and tensors as the core has them, and what messages and files call the tensors.
#[derive(Debug)]
pub struct Table {
    groups: Vec<Config<f32>>,
    tensors: Vec<Tensor>,
    totals: Totals,
    names: Vec<Vec<u8>>,
}

impl Table {
    /// Checks and copies the groups and tensors of a call, as kls_optimizer_create does.
    ///
    /// # Errors
    /// Those of kls_optimizer_query; KLS_ERROR_OUT_OF_MEMORY.
    pub fn new(groups: Structs<'_, kls_config>, tensors: Structs<'_, kls_tensor>) -> Result<Self, Failure> {
        let mut own = Vec::new();
        own.try_reserve_exact(groups.len()).map_err(|_| KLS_ERROR_OUT_OF_MEMORY)?;
        for (i, group) in groups.iter().enumerate() {
            own.push(group.map_err(Failure::from).and_then(kls_config::to_core).of_group(i)?);
        }
        let mut table = Self { groups: own, tensors: Vec::new(), totals: Totals::default(), names: Vec::new() };
        table.tensors.try_reserve_exact(tensors.len()).map_err(|_| KLS_ERROR_OUT_OF_MEMORY)?;
        table.names.try_reserve_exact(tensors.len()).map_err(|_| KLS_ERROR_OUT_OF_MEMORY)?;
        for (i, tensor) in tensors.iter().enumerate() {
            let tensor = tensor.of_tensor(i)?;
            let entry = group_of(groups, &tensor).and_then(|group| resolve(group, &tensor, false, &mut table.totals)).of_tensor(i)?;
            table.tensors.push(entry);
            // SAFETY: the name is as readable as the struct that points to it.
            let name = unsafe { tensor.kept_name() };
            table.names.push(collected(name.iter().map(|&byte| Ok(byte)))?);
        }
        Ok(table)
    }

    /// The groups.
    pub fn groups(&self) -> &[Config<f32>] {
        &self.groups
    }

    /// Sets a group's rates, as kls_optimizer_set_group does.
    ///
    /// # Errors
    /// KLS_ERROR_GROUP, KLS_ERROR_LR_SCALE, KLS_ERROR_WEIGHT_DECAY; the group is then unchanged.
    pub fn set_rates(&mut self, group: usize, lr_scale: f32, weight_decay: f32) -> Outcome {
        set_rates(&mut self.groups, group, lr_scale, weight_decay)
    }

    /// The tensors.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// What they need.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The name that a tensor was given; empty without one, and for an index that no tensor has.
    pub fn name(&self, index: usize) -> &[u8] {
        self.names.get(index).map_or(&[], Vec::as_slice)
    }
}
