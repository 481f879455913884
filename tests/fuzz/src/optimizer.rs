//! An optimizer with the buffers of its tensors, and the calls that most targets make.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};

use klshampoo_ffi::*;

use crate::bytes::Bytes;
use crate::choices::{Choices, Numbers};
use crate::status::{STEPS, check, check_without};
use crate::tensors::{Buffers, Table};

/// What is made for a test takes at most so many bytes: then even eigendecompositions take milliseconds.
pub const LARGEST: usize = 1 << 18;

/// Decay that does not throw parameters out of the range of numbers within the steps of an execution.
const TAME: f32 = 16.0;

/// Nothing fits that is larger: a table of that size is tried, because it must fail.
const HOPELESS: usize = 1 << 46;

/// A live optimizer. It is destroyed when this is dropped.
#[derive(Debug)]
pub struct Optimizer {
    /// What the calls get.
    pub handle: *mut kls_optimizer,
    /// One for each tensor.
    pub buffers: Vec<Buffers>,
    /// The largest decay of a group per unit of learning rate.
    pub decay: f32,
    /// Whether the state is what steps have left.
    pub is_tame: bool,
    /// What was lent, if it is not on the heap.
    memory: Option<Bytes>,
}

/// What the tensors of one table take in the groups of another.
pub fn query(groups: &Table, tensors: &Table) -> Result<usize, kls_status> {
    let (mut size, mut alignment) = (usize::MAX, 0);
    let (group_count, tensor_count) = (groups.group_count, tensors.described.len());
    let (groups, tensors) = (groups.groups.pointer(), tensors.tensors.pointer());
    // SAFETY: the tables' arrays; live outputs.
    let status = unsafe { kls_optimizer_query(groups, group_count, tensors, tensor_count, &mut size, &mut alignment) };
    match check_without(status) {
        KLS_OK => {
            assert_eq!(alignment, KLS_MEMORY_ALIGNMENT);
            Ok(size)
        }
        status => {
            assert_eq!((size, alignment), (usize::MAX, 0));
            Err(status)
        }
    }
}

/// Options with up to as many changes.
pub fn options(choices: &mut Choices<'_>) -> kls_options {
    let mut options = MaybeUninit::<kls_options>::uninit();
    // SAFETY: room for the struct, whose size is given; it is filled on success.
    let mut options = unsafe {
        assert_eq!(check_without(kls_options_init(options.as_mut_ptr(), size_of::<kls_options>())), KLS_OK);
        options.assume_init()
    };
    if choices.rarely(3) {
        options.backend = choices.option(3);
    }
    if choices.rarely(24) {
        options.num_threads = choices.pick(&[2, 3, 0, 1025, u32::MAX]);
    }
    if choices.rarely(64) {
        options.products = choices.option(2);
    }
    options
}

impl Optimizer {
    /// Lent memory, or the heap with its options, unless the table is refused or takes more than `largest` bytes.
    pub fn new(choices: &mut Choices<'_>, table: &Table, largest: usize) -> Option<Self> {
        let options = (!choices.rarely(3)).then(|| options(choices));
        let mut optimizer = Self::with_options(table, options.as_ref(), largest)?;
        let mut numbers = choices.numbers();
        optimizer.buffers.iter_mut().for_each(|buffers| buffers.fill_parameter(&mut numbers));
        Some(optimizer)
    }

    /// On the heap with these options, or in lent memory, likewise.
    pub fn with_options(table: &Table, options: Option<&kls_options>, largest: usize) -> Option<Self> {
        let size = query(table, table);
        let mut optimizer = Self { handle: null_mut(), buffers: Vec::new(), decay: table.decay, is_tame: true, memory: None };
        let (groups, group_count) = (table.groups.pointer(), table.group_count);
        let (tensors, tensor_count) = (table.tensors.pointer(), table.described.len());
        if size.is_ok_and(|size| size > largest && size < HOPELESS) {
            return None;
        }
        let status = if let Some(options) = options {
            // SAFETY: the table's arrays.
            unsafe { kls_optimizer_create(&mut optimizer.handle, groups, group_count, tensors, tensor_count, options) }
        } else {
            let memory = Bytes::zeroed(size.unwrap_or(0).min(largest), KLS_MEMORY_ALIGNMENT);
            let (pointer, len) = (memory.pointer(), memory.len());
            optimizer.memory = Some(memory);
            // SAFETY: the table's arrays, and memory of the length that is said.
            unsafe { kls_optimizer_init(&mut optimizer.handle, pointer, len, groups, group_count, tensors, tensor_count) }
        };
        if check_without(status) != KLS_OK {
            assert!(optimizer.handle.is_null());
            // What does not fit the address space with its scratch may fit it without.
            let too_large = (size, status) == (Err(KLS_ERROR_OVERFLOW), KLS_ERROR_OUT_OF_MEMORY);
            assert!(size.is_ok() || size == Err(status) || too_large, "a query says what making an optimizer says");
            return None;
        }
        assert!(size.is_ok_and(|size| size <= largest), "what fits no machine must not be had");
        // Tensors with large gaps take little state.
        optimizer.buffers = table.buffers()?;
        Some(optimizer)
    }

    /// Ends it. Lent memory comes back, with no optimizer in it.
    pub fn end(mut self) -> Option<Bytes> {
        self.destroy();
        self.memory.take()
    }

    fn destroy(&mut self) {
        // SAFETY: a live optimizer, or NULL.
        let status = unsafe { kls_optimizer_destroy(&mut self.handle) };
        assert_eq!((status, self.handle.cast_const()), (KLS_OK, null()));
    }

    /// Whether it is on the heap.
    pub fn is_on_heap(&self) -> bool {
        self.memory.is_none()
    }

    /// Sees what a call on it said.
    pub fn check(&self, status: kls_status) -> kls_status {
        check(self.handle, status)
    }

    /// New gradients for all tensors.
    pub fn fill_gradients(&mut self, numbers: &mut Numbers) {
        self.buffers.iter_mut().for_each(|buffers| buffers.fill_gradient(numbers));
    }

    /// One step with what is in the buffers, of all tensors; how many tensors were stepped if it succeeded. What was finite stays so.
    pub fn step(&mut self, lr: f32) -> usize {
        let status = self.try_step(lr);
        assert!(STEPS.contains(&status), "{status}");
        if status == KLS_OK { self.buffers.len() } else { 0 }
    }

    /// Whether a step at that rate has to leave finite numbers: large parameters and decay times rate that is large lead out of the range.
    pub fn stays_finite(&self, tensor: usize, lr: f32) -> bool {
        self.buffers[tensor].parameter_is_tame() && self.is_tame && lr * self.decay <= TAME
    }

    /// The same, and what it says.
    pub fn try_step(&mut self, lr: f32) -> kls_status {
        let tame: Vec<bool> = (0..self.buffers.len()).map(|tensor| self.stays_finite(tensor, lr)).collect();
        let params: Vec<*mut c_void> = self.buffers.iter().map(|buffers| buffers.param.pointer()).collect();
        let grads: Vec<*const c_void> = self.buffers.iter().map(|buffers| buffers.grad.pointer::<c_void>().cast_const()).collect();
        let (count, params, grads) = (self.buffers.len(), Bytes::of(&params), Bytes::of(&grads));
        let status = if self.buffers.iter().all(Buffers::are_f32) {
            // SAFETY: a live optimizer; as many pointers to buffers of the tensors' formats.
            unsafe { kls_optimizer_step(self.handle, params.pointer(), grads.pointer(), count, lr) }
        } else {
            let request = kls_step { lr, tensor_count: count, params: params.pointer(), grads: grads.pointer(), ..step_request() };
            // SAFETY: likewise.
            unsafe { kls_optimizer_step_with(self.handle, &request) }
        };
        for (buffers, tame) in self.buffers.iter().zip(tame) {
            assert!(buffers.parameter_is_finite() || !tame, "a step of finite numbers leaves finite numbers");
        }
        self.check(status)
    }

    /// All that a checkpoint holds.
    pub fn save(&self) -> Bytes {
        let mut size = 0;
        // SAFETY: a live optimizer; a live output.
        assert_eq!(self.check(unsafe { kls_optimizer_save_size(self.handle, &mut size) }), KLS_OK);
        let bytes = Bytes::zeroed(size as usize, 1);
        // SAFETY: as many bytes as it asked for.
        assert_eq!(self.check(unsafe { kls_optimizer_save(self.handle, bytes.pointer(), bytes.len()) }), KLS_OK);
        bytes
    }

    /// The plan of a tensor.
    pub fn plan(&self, tensor: usize) -> kls_plan {
        let mut plan = MaybeUninit::<kls_plan>::uninit();
        // SAFETY: a live optimizer, room for the struct; it is filled on success.
        unsafe {
            assert_eq!(self.check(kls_optimizer_plan(self.handle, tensor, plan.as_mut_ptr(), size_of::<kls_plan>())), KLS_OK);
            plan.assume_init()
        }
    }

    /// The plans of all tensors, which say together what the optimizer says.
    pub fn check_plans(&self) {
        let (mut plans_bytes, mut bytes) = (0, 0);
        for tensor in 0..self.buffers.len() {
            let plan = self.plan(tensor);
            plans_bytes += plan.state_bytes + plan.slices * plan.pieces * KLS_HEADER_BYTES as u64;
        }
        // SAFETY: a live optimizer; a live output.
        assert_eq!(self.check(unsafe { kls_optimizer_state_bytes(self.handle, &mut bytes) }), KLS_OK);
        assert_eq!(plans_bytes, bytes as u64);
    }

    /// Reads every part of the state of the first slices; all of it must be finite if that is said.
    pub fn read_all(&self, must_be_finite: bool) {
        for tensor in 0..self.buffers.len() {
            for (slice, part, mode) in (0..2).flat_map(|slice| (0..7).flat_map(move |part| (0..3).map(move |mode| (slice, part, mode)))) {
                let mut len = 0;
                // SAFETY: a live optimizer; a live output.
                let status = self.check(unsafe { kls_optimizer_state_len(self.handle, tensor, slice, part, mode, &mut len) });
                if status != KLS_OK {
                    assert!([KLS_ERROR_INDEX, KLS_ERROR_NO_SUCH_STATE].contains(&status), "{status}");
                    continue;
                }
                let out = Bytes::zeroed(4 * len, 4);
                // SAFETY: as many numbers as it said.
                let status = self.check(unsafe { kls_optimizer_read_state(self.handle, tensor, slice, part, mode, out.pointer(), len) });
                assert!(status == KLS_OK || (status == KLS_ERROR_LINALG && !must_be_finite), "{status}");
                let finite = out.bytes().chunks_exact(4).all(|x| f32::from_ne_bytes([x[0], x[1], x[2], x[3]]).is_finite());
                assert!(finite || !must_be_finite, "tensor {tensor}, slice {slice}, part {part}, mode {mode}");
            }
        }
    }
}

/// A request as the library fills it.
pub fn step_request() -> kls_step {
    let mut request = MaybeUninit::<kls_step>::uninit();
    // SAFETY: room for the struct, whose size is given; it is filled on success.
    unsafe {
        assert_eq!(check_without(kls_step_init(request.as_mut_ptr(), size_of::<kls_step>())), KLS_OK);
        request.assume_init()
    }
}

impl Drop for Optimizer {
    fn drop(&mut self) {
        // Lent memory is freed after it.
        self.destroy();
    }
}
