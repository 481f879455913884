//! The optimizer object: one block of memory, lent or allocated, that holds a header, the table and the state.

use klshampoo::linalg::Portable;
use klshampoo::{Config, Optimizer, SliceHeader, Tensor, Totals};

use crate::checked::check_pointer;
use crate::config::kls_config;
use crate::status::*;
use crate::tensor::kls_tensor;
use crate::versioned::Structs;

/// Alignment of an optimizer's memory, in bytes: a cache line.
pub(crate) const ALIGNMENT: usize = 64;

/// Marks a block in which an init succeeded.
const LIVE: u64 = 0x6b6c_7368_616d_706f;

/// An optimizer over a table of tensors. Opaque.
#[allow(non_camel_case_types)]
#[repr(align(64))]
pub struct kls_optimizer {
    magic: u64,
    /// The whole block, from which the arrays are reached: a reference to the object reaches no further than the object.
    block: *mut u8,
    poisoned: bool,
    plan: Plan,
    /// Floating-point operations of a step's refreshes.
    pub(crate) refresh_budget: u64,
    #[cfg(feature = "host")]
    pub(crate) host: Option<Box<crate::host::Host>>,
}

/// Where everything lies in the block, in bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub totals: Totals,
    pub size: usize,
    group_count: usize,
    tensor_count: usize,
    groups: usize,
    tensors: usize,
    headers: usize,
    state: usize,
    scratch: usize,
    scratch_len: usize,
    /// Whether the block is lent and holds the scratch too.
    own_scratch: bool,
}

/// Adds an array to a block and returns where it starts.
fn append<T>(size: &mut usize, count: usize) -> Result<usize, kls_status> {
    let start = size.checked_next_multiple_of(ALIGNMENT).ok_or(KLS_ERROR_OVERFLOW)?;
    let bytes = count.checked_mul(size_of::<T>()).ok_or(KLS_ERROR_OVERFLOW)?;
    *size = start.checked_add(bytes).filter(|&end| end <= isize::MAX as usize / 2).ok_or(KLS_ERROR_OVERFLOW)?;
    Ok(start)
}

impl Plan {
    /// Checks every group and tensor and computes the block. `own_scratch`: whether the block holds the scratch too.
    pub(crate) fn new(groups: Structs<'_, kls_config>, tensors: Structs<'_, kls_tensor>, own_scratch: bool) -> Result<Self, kls_status> {
        for group in groups.iter() {
            group?.to_core()?;
        }
        let mut totals = Totals::default();
        for tensor in tensors.iter() {
            resolve(groups, &tensor?, own_scratch, &mut totals)?;
        }
        let mut size = size_of::<kls_optimizer>();
        let scratch_len = if own_scratch { totals.scratch_len } else { 0 };
        let plan = Self {
            totals,
            size: 0,
            group_count: groups.len(),
            tensor_count: tensors.len(),
            groups: append::<Config<f32>>(&mut size, groups.len())?,
            tensors: append::<Tensor>(&mut size, tensors.len())?,
            headers: append::<SliceHeader>(&mut size, totals.slices)?,
            state: append::<f32>(&mut size, totals.state_len)?,
            scratch: append::<f32>(&mut size, scratch_len)?,
            scratch_len,
            own_scratch,
        };
        Ok(Self { size, ..plan })
    }
}

/// Resolves one tensor against its group, which is converted on the way: no array of converted groups is needed.
fn resolve(groups: Structs<'_, kls_config>, tensor: &kls_tensor, lent: bool, totals: &mut Totals) -> Result<Tensor, kls_status> {
    let spec = tensor.to_core()?;
    // A host has the room.
    let spec = if lent { spec } else { spec.with_grad_scaling() };
    let group = groups.get(tensor.group as usize).ok_or(KLS_ERROR_GROUP)??.to_core()?;
    Tensor::resolve(&spec.group(0), &[group], totals).map(|entry| entry.in_group(tensor.group as usize)).map_err(from_table)
}

impl kls_optimizer {
    /// Builds an optimizer in `memory`. Nothing can fail any more: the plan was made of the same groups and tensors.
    ///
    /// # Safety
    /// `memory` is aligned to [`ALIGNMENT`] and has `plan.size` bytes, all zero, that are the optimizer's from now on.
    pub(crate) unsafe fn build(
        memory: *mut u8,
        plan: Plan,
        groups: Structs<'_, kls_config>,
        tensors: Structs<'_, kls_tensor>,
    ) -> Result<*mut Self, kls_status> {
        // Zero bytes are headers of slices that have not been stepped, and numbers; the rest is written here.
        for (i, group) in groups.iter().enumerate() {
            // SAFETY: the plan has room for `groups.len()` of them at this aligned offset.
            unsafe { memory.add(plan.groups).cast::<Config<f32>>().add(i).write(group?.to_core()?) };
        }
        let mut totals = Totals::default();
        for (i, tensor) in tensors.iter().enumerate() {
            let entry = resolve(groups, &tensor?, plan.own_scratch, &mut totals)?;
            // SAFETY: the plan has room for `tensors.len()` of them at this aligned offset.
            unsafe { memory.add(plan.tensors).cast::<Tensor>().add(i).write(entry) };
        }
        let optimizer = memory.cast::<Self>();
        let object = Self {
            magic: LIVE,
            block: memory,
            poisoned: false,
            plan,
            refresh_budget: u64::MAX,
            #[cfg(feature = "host")]
            host: None,
        };
        // SAFETY: the block starts with room for the object.
        unsafe { optimizer.write(object) };
        Ok(optimizer)
    }

    /// The optimizer behind a handle, poisoned or not, if an init succeeded there and no destroy followed.
    ///
    /// # Safety
    /// `handle` is NULL or points to readable memory of an optimizer's size, which is the caller's to use during `'a`.
    pub(crate) unsafe fn from_handle<'a>(handle: *mut Self) -> Result<&'a mut Self, kls_status> {
        check_pointer(handle)?;
        // SAFETY: aligned and readable. Only the number is read: the rest may be anything where no init succeeded.
        if unsafe { (&raw const (*handle).magic).read() } != LIVE {
            return Err(KLS_ERROR_HANDLE);
        }
        // SAFETY: an init wrote all of it.
        Ok(unsafe { &mut *handle })
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    pub(crate) fn poison(&mut self) {
        self.poisoned = true;
    }

    /// Marks the block as no optimizer.
    pub(crate) fn retire(&mut self) {
        self.magic = 0;
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// An array of the block.
    ///
    /// # Safety
    /// `offset` and `len` are those of the plan for an array of `T`, and no other borrow of that array is alive.
    unsafe fn array<'a, T>(&mut self, offset: usize, len: usize) -> &'a mut [T] {
        // SAFETY: `build` made the block of `plan.size` bytes, of which this array is a part, and filled it.
        unsafe { core::slice::from_raw_parts_mut(self.block.add(offset).cast::<T>(), len) }
    }

    pub(crate) fn groups_mut(&mut self) -> &mut [Config<f32>] {
        let Plan { groups, group_count, .. } = self.plan;
        // SAFETY: the plan's own array; the result borrows the optimizer.
        unsafe { self.array(groups, group_count) }
    }

    /// The view over the table and the state, and the scratch and backend of lent memory.
    pub(crate) fn parts(&mut self) -> Result<Parts<'_>, kls_status> {
        let p = self.plan;
        // SAFETY: five disjoint arrays of the plan, and the host part of the object that is none of them; the result borrows the
        // optimizer.
        let (groups, tensors, headers, state, scratch) = unsafe {
            (
                self.array(p.groups, p.group_count),
                self.array(p.tensors, p.tensor_count),
                self.array(p.headers, p.totals.slices),
                self.array(p.state, p.totals.state_len),
                self.array(p.scratch, p.scratch_len),
            )
        };
        Ok(Parts {
            view: Optimizer::new(groups, tensors, headers, state).map_err(from_table)?.with_refresh_budget(self.refresh_budget),
            scratch,
            portable: Portable,
            #[cfg(feature = "host")]
            host: self.host.as_deref_mut(),
        })
    }
}

/// What a call works with.
pub(crate) struct Parts<'a> {
    pub view: Optimizer<'a, f32>,
    pub scratch: &'a mut [f32],
    pub portable: Portable,
    #[cfg(feature = "host")]
    pub host: Option<&'a mut crate::host::Host>,
}
