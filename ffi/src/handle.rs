//! The optimizer object, and the block of memory that holds the table and the state. Lent memory is one block with the object at its
//! start; on the heap the object stands alone, so that its block can be replaced by a larger one.

use klshampoo::linalg::Portable;
use klshampoo::{Config, Optimizer, SliceHeader, Tensor, Totals};

use crate::checked::check_pointer;
use crate::config::kls_config;
use crate::error::{Failure, Locate};
use crate::log::Log;
use crate::message::Message;
use crate::met::Met;
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
    /// The block, from which the arrays are reached: a reference to the object reaches no further than the object.
    block: *mut u8,
    poisoned: bool,
    /// Why the last failing call failed.
    pub(crate) message: Message,
    pub(crate) log: Log,
    /// What the step under way has met.
    pub(crate) met: Met,
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
    /// The tensors' names one after another, each with a NUL.
    names: usize,
    names_len: usize,
    state: usize,
    scratch: usize,
    scratch_len: usize,
    /// Whether the block is lent: it then holds the object and the scratch too.
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
    /// Checks every group and tensor and computes the block. `lent`: whether it holds the object and the scratch too.
    pub(crate) fn new(groups: Structs<'_, kls_config>, tensors: Structs<'_, kls_tensor>, lent: bool) -> Result<Self, Failure> {
        for (i, group) in groups.iter().enumerate() {
            group.map_err(Failure::from).and_then(kls_config::to_core).of_group(i)?;
        }
        let (mut totals, mut names_len) = (Totals::default(), 0);
        for (i, tensor) in tensors.iter().enumerate() {
            let tensor = tensor.of_tensor(i)?;
            group_of(groups, &tensor).and_then(|group| resolve(group, &tensor, lent, &mut totals)).of_tensor(i)?;
            // SAFETY: the name is as readable as the struct that points to it.
            names_len += unsafe { tensor.kept_name() }.len() + 1;
        }
        Ok(Self::of_sizes(groups.len(), tensors.len(), totals, names_len, lent)?)
    }

    /// Scratch in the block: none where it is not lent.
    pub(crate) fn scratch_bytes(&self) -> usize {
        self.scratch_len * size_of::<f32>()
    }

    fn of_sizes(group_count: usize, tensor_count: usize, totals: Totals, names_len: usize, lent: bool) -> Result<Self, kls_status> {
        let mut size = if lent { size_of::<kls_optimizer>() } else { 0 };
        let scratch_len = if lent { totals.scratch_len } else { 0 };
        let plan = Self {
            totals,
            size: 0,
            group_count,
            tensor_count,
            groups: append::<Config<f32>>(&mut size, group_count)?,
            tensors: append::<Tensor>(&mut size, tensor_count)?,
            headers: append::<SliceHeader>(&mut size, totals.slices)?,
            names: append::<u8>(&mut size, names_len)?,
            names_len,
            state: append::<f32>(&mut size, totals.state_len)?,
            scratch: append::<f32>(&mut size, scratch_len)?,
            scratch_len,
            own_scratch: lent,
        };
        Ok(Self { size, ..plan })
    }

    /// Writes a tensor's entry and name into a block; `names` bytes of names have been written before.
    ///
    /// # Safety
    /// The block is the plan's, and has room for tensor `i` and the name with its NUL.
    unsafe fn write_tensor(&self, block: *mut u8, i: usize, entry: Tensor, name: &[u8], names: &mut usize) {
        // SAFETY: by the caller's word. The NUL is there: the block was zero.
        unsafe {
            block.add(self.tensors).cast::<Tensor>().add(i).write(entry);
            block.add(self.names + *names).copy_from_nonoverlapping(name.as_ptr(), name.len());
        }
        *names += name.len() + 1;
    }
}

/// A tensor's group, converted on the way: no array of converted groups is needed.
pub(crate) fn group_of(groups: Structs<'_, kls_config>, tensor: &kls_tensor) -> Result<Config<f32>, Failure> {
    groups.get(tensor.group as usize).ok_or(KLS_ERROR_GROUP).of_field("group")??.to_core()
}

/// Resolves one tensor against its group.
pub(crate) fn resolve(group: Config<f32>, tensor: &kls_tensor, lent: bool, totals: &mut Totals) -> Result<Tensor, Failure> {
    let spec = tensor.to_core()?.group(0);
    // A host has the room.
    let spec = if lent { spec } else { spec.with_grad_scaling() };
    let entry = Tensor::resolve(&spec, &[group], totals);
    entry.map(|entry| entry.in_group(tensor.group as usize)).map_err(from_table).map_err(|status| match tensor.zero_dim() {
        Some(zero) if status == KLS_ERROR_ZERO_DIM => Failure::from(status).at_element("dims", zero),
        _ => status.into(),
    })
}

impl kls_optimizer {
    /// Fills a block and puts an optimizer on it at `place`. Nothing can fail any more: the plan was made of the same groups and tensors.
    ///
    /// # Safety
    /// `block` is aligned to [`ALIGNMENT`] and has `plan.size` bytes, all zero, that are the optimizer's from now on; `place` has room for
    /// the object, in the block where the plan says so.
    pub(crate) unsafe fn build(
        place: *mut Self,
        block: *mut u8,
        plan: Plan,
        groups: Structs<'_, kls_config>,
        tensors: Structs<'_, kls_tensor>,
    ) -> Result<(), Failure> {
        // Zero bytes are headers of slices that have not been stepped, and numbers; the rest is written here.
        for (i, group) in groups.iter().enumerate() {
            // SAFETY: the plan has room for `groups.len()` of them at this aligned offset.
            unsafe { block.add(plan.groups).cast::<Config<f32>>().add(i).write(group?.to_core()?) };
        }
        let (mut totals, mut names) = (Totals::default(), 0);
        for (i, tensor) in tensors.iter().enumerate() {
            let tensor = tensor?;
            let entry = resolve(group_of(groups, &tensor)?, &tensor, plan.own_scratch, &mut totals)?;
            // SAFETY: the plan was made of these tensors and their names.
            unsafe { plan.write_tensor(block, i, entry, tensor.kept_name(), &mut names) };
        }
        let object = Self {
            magic: LIVE,
            block,
            poisoned: false,
            message: Message::EMPTY,
            log: Log::NONE,
            met: Met::default(),
            plan,
            refresh_budget: u64::MAX,
            #[cfg(feature = "host")]
            host: None,
        };
        // SAFETY: there is room for the object.
        unsafe { place.write(object) };
        Ok(())
    }

    /// The optimizer behind a handle, poisoned or not, if an init succeeded there and no destroy followed.
    ///
    /// # Safety
    /// `handle` is NULL or points to readable memory of an optimizer's size, which is the caller's to use during `'a`.
    pub(crate) unsafe fn from_handle<'a>(handle: *mut Self) -> Result<&'a mut Self, Failure> {
        check_pointer(handle)?;
        // SAFETY: aligned and readable. Only the number is read: the rest may be anything where no init succeeded.
        if unsafe { (&raw const (*handle).magic).read() } != LIVE {
            return Err(KLS_ERROR_HANDLE.into());
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

    /// Threads, their scratch in bytes, and the object's own bytes, of an optimizer that is not lent memory.
    pub(crate) fn host_memory(&self) -> Option<(usize, usize, usize)> {
        #[cfg(feature = "host")]
        return self.host.as_ref().map(|host| (host.tasks(), host.scratch_bytes(), size_of::<Self>()));
        #[cfg(not(feature = "host"))]
        None
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// An array of the block.
    ///
    /// # Safety
    /// `offset` and `len` are those of the plan for an array of `T`, and no other borrow of that array is alive.
    unsafe fn array<'a, T>(&self, offset: usize, len: usize) -> &'a mut [T] {
        // SAFETY: `build` made the block of `plan.size` bytes, of which this array is a part, and filled it.
        unsafe { core::slice::from_raw_parts_mut(self.block.add(offset).cast::<T>(), len) }
    }

    /// The name that a tensor was given; empty without one, and for an index that no tensor has.
    pub(crate) fn tensor_name(&self, index: Option<usize>) -> &[u8] {
        // SAFETY: the plan's own array, which nothing writes while an optimizer is built on it; the result borrows the optimizer.
        let names: &[u8] = unsafe { self.array(self.plan.names, self.plan.names_len) };
        index.and_then(|index| names.split(|&byte| byte == 0).nth(index)).unwrap_or_default()
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
        let view = Optimizer::new(groups, tensors, headers, state).map_err(from_table)?;
        #[cfg(feature = "refresh-budget")]
        let view = view.with_refresh_budget(self.refresh_budget);
        Ok(Parts {
            view,
            scratch,
            portable: Portable,
            met: &mut self.met,
            #[cfg(feature = "host")]
            host: self.host.as_deref_mut(),
        })
    }
}

/// How an optimizer grows, on the heap.
#[cfg(feature = "host")]
impl kls_optimizer {
    /// The plan of the same table with more tensors at its end.
    pub(crate) fn plan_with(&mut self, tensors: Structs<'_, kls_tensor>) -> Result<Plan, Failure> {
        let Plan { group_count, tensor_count, mut totals, mut names_len, .. } = self.plan;
        for (i, tensor) in tensors.iter().enumerate() {
            let tensor = tensor.of_tensor(i)?;
            self.own_group(&tensor).and_then(|group| resolve(group, &tensor, false, &mut totals)).of_tensor(i)?;
            // SAFETY: the name is as readable as the struct that points to it.
            names_len += unsafe { tensor.kept_name() }.len() + 1;
        }
        let tensor_count = tensor_count.checked_add(tensors.len()).ok_or(KLS_ERROR_OVERFLOW)?;
        Ok(Plan::of_sizes(group_count, tensor_count, totals, names_len, false)?)
    }

    fn own_group(&mut self, tensor: &kls_tensor) -> Result<Config<f32>, Failure> {
        self.groups_mut().get(tensor.group as usize).copied().ok_or(KLS_ERROR_GROUP).of_field("group")
    }

    /// Fills another block with a copy of the table and the state and with the tensors of [`Self::plan_with`] behind them; returns the whole
    /// table there.
    ///
    /// # Safety
    /// `block` is aligned to [`ALIGNMENT`] and has `plan.size` bytes, all zero, that nothing else uses during `'a`.
    pub(crate) unsafe fn copy_to<'a>(
        &mut self,
        block: *mut u8,
        plan: &Plan,
        tensors: Structs<'_, kls_tensor>,
    ) -> Result<&'a [Tensor], Failure> {
        let old = self.plan;
        for (from, to, bytes) in [
            (old.groups, plan.groups, old.group_count * size_of::<Config<f32>>()),
            (old.tensors, plan.tensors, old.tensor_count * size_of::<Tensor>()),
            (old.headers, plan.headers, old.totals.slices * size_of::<SliceHeader>()),
            (old.names, plan.names, old.names_len),
            (old.state, plan.state, old.totals.state_len * size_of::<f32>()),
        ] {
            // SAFETY: arrays of the two plans, of which the new one is as long or longer.
            unsafe { block.add(to).copy_from_nonoverlapping(self.block.add(from), bytes) };
        }
        let (mut totals, mut names) = (old.totals, old.names_len);
        for (i, tensor) in tensors.iter().enumerate() {
            let tensor = tensor?;
            let entry = resolve(self.own_group(&tensor)?, &tensor, false, &mut totals)?;
            // SAFETY: the plan was made of these tensors and their names.
            unsafe { plan.write_tensor(block, old.tensor_count + i, entry, tensor.kept_name(), &mut names) };
        }
        // SAFETY: the plan's array, which has just been filled.
        Ok(unsafe { core::slice::from_raw_parts(block.add(plan.tensors).cast(), plan.tensor_count) })
    }

    /// Works with another block from now on, which [`Self::copy_to`] has filled.
    ///
    /// # Safety
    /// The block stays as long as the optimizer does or works with it.
    pub(crate) unsafe fn move_to(&mut self, block: *mut u8, plan: Plan) {
        (self.block, self.plan) = (block, plan);
    }
}

/// What a call works with.
pub(crate) struct Parts<'a> {
    pub view: Optimizer<'a, f32>,
    pub scratch: &'a mut [f32],
    pub portable: Portable,
    pub met: &'a mut Met,
    #[cfg(feature = "host")]
    pub host: Option<&'a mut crate::host::Host>,
}
