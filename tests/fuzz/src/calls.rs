//! Every function of the C interface, in any order and with hostile arguments: NULL and misaligned pointers, short buffers, wrong sizes,
//! buffers that overlap, handles to lent memory where no optimizer lives. Two optimizers of one table, so that checkpoints travel between them.

use std::ffi::{CStr, c_char, c_void};
use std::mem::offset_of;
use std::ptr::{null, null_mut};

use klshampoo_ffi::*;
use tempfile::TempDir;

use crate::bytes::{Bytes, version_of};
use crate::choices::{Choices, Numbers};
use crate::file;
use crate::groups::{METHODS, group, in_portions};
use crate::optimizer::{LARGEST, Optimizer, options, query, step_request};
use crate::status::{check, check_without};
use crate::tensors::{self, Buffers, Table, change, change_formats, plain, small};

/// Calls of one execution, at most, and with a tensor that is large enough for the caller's matrix product.
const CALLS: usize = 40;
const FEW_CALLS: usize = 4;

/// A side of such a tensor: from it on factorisations are the backend's too.
const LONG: u64 = 64;

/// See the module.
pub fn run(input: &[u8]) -> usize {
    let choices = &mut Choices::new(input);
    let mut calls = Calls::new(choices);
    let large = calls.table.described.iter().any(|tensor| tensor.dims[0] >= LONG);
    for _ in 0..if large { FEW_CALLS } else { CALLS } {
        if choices.is_over() {
            break;
        }
        calls.call(choices);
    }
    // Whatever came before, the last steps are good ones; so many that bases are refreshed.
    for slot in [0, 0, 0, 1] {
        calls.good_step(slot);
    }
    calls.steps
}

/// A place for an optimizer.
#[derive(Default)]
struct Slot {
    optimizer: Option<Optimizer>,
    /// Where no optimizer lives, or not any more.
    dead: Option<Bytes>,
}

impl Slot {
    fn handle(&self) -> *mut kls_optimizer {
        match (&self.optimizer, &self.dead) {
            (Some(optimizer), _) => optimizer.handle,
            (None, Some(memory)) => memory.pointer(),
            (None, None) => null_mut(),
        }
    }
}

/// What the calls work on.
struct Calls {
    table: Table,
    slots: [Slot; 2],
    numbers: Numbers,
    checkpoint: Bytes,
    folder: Option<TempDir>,
    steps: usize,
}

/// Memory for a struct of a known size; what has an unknown one gets just enough to say so.
fn room(size: usize, known: &[usize]) -> Bytes {
    Bytes::zeroed(if known.contains(&size) { size } else { 4 }, 8)
}

unsafe extern "C" fn log(user: *mut c_void, level: i32, message: *const c_char) {
    // SAFETY: the optimizer's handle, which is alive while it logs; a text during the call.
    unsafe {
        assert!([KLS_LOG_ERROR, KLS_LOG_WARNING].contains(&level) && CStr::from_ptr(message).to_bytes().starts_with(b"kls_"));
        assert!(!kls_last_error(user.cast()).is_null());
    }
}

/// Runs the tasks on the calling thread, backwards; with a user it leaves one out and repeats another.
unsafe extern "C" fn parallel_for(user: *mut c_void, count: usize, task: kls_task, context: *mut c_void) {
    let (left_out, repeated) = if user.is_null() { (count, count) } else { (0, count - 1) };
    for index in (0..count).rev().filter(|&index| index != left_out) {
        for _ in 0..1 + usize::from(index == repeated) {
            // SAFETY: the task's own context.
            unsafe { task(context, index) };
        }
    }
}

/// The definition; with a user the result is NaN.
#[allow(clippy::too_many_arguments)]
unsafe extern "C" fn sgemm(
    user: *mut c_void,
    transpose_a: i32,
    transpose_b: i32,
    m: usize,
    n: usize,
    k: usize,
    alpha: f32,
    a: *const f32,
    lda: usize,
    b: *const f32,
    ldb: usize,
    beta: f32,
    c: *mut f32,
    ldc: usize,
) {
    for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
        let element = |p: usize| {
            let at_a = if transpose_a == 0 { i * lda + p } else { p * lda + i };
            let at_b = if transpose_b == 0 { p * ldb + j } else { j * ldb + p };
            // SAFETY: inside the operands, by the contract.
            unsafe { *a.add(at_a) * *b.add(at_b) }
        };
        let product = alpha * (0..k).map(element).sum::<f32>() + if user.is_null() { 0.0 } else { f32::NAN };
        // SAFETY: inside the result.
        unsafe { *c.add(i * ldc + j) = if beta == 0.0 { product } else { product + beta * *c.add(i * ldc + j) } };
    }
}

unsafe extern "C" fn write(user: *mut c_void, bytes: *const c_void, len: usize) -> i32 {
    // SAFETY: the vector of `save`, which nothing else uses during the call, and as many bytes.
    let (all, bytes) = unsafe { (&mut *user.cast::<Vec<u8>>(), std::slice::from_raw_parts(bytes.cast::<u8>(), len)) };
    assert!(len <= 512);
    all.extend_from_slice(bytes);
    i32::from(all.len() > 1 << 16)
}

unsafe extern "C" fn read(user: *mut c_void, offset: u64, to: *mut c_void, len: usize) -> i32 {
    // SAFETY: the checkpoint of `load`.
    let bytes = unsafe { (*user.cast::<Bytes>()).bytes() };
    let from = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)?.get(..len));
    let Some(from) = from else { return -1 };
    // SAFETY: as many writable bytes.
    unsafe { to.cast::<u8>().copy_from_nonoverlapping(from.as_ptr(), len) };
    0
}

impl Calls {
    /// A table of a few tensors, and an optimizer of it.
    fn new(choices: &mut Choices<'_>) -> Self {
        let mut groups: Vec<kls_config> = (0..1 + choices.below(2)).map(|_| group(choices, 2)).collect();
        if choices.rarely(4) {
            in_portions(choices, &mut groups[0]);
        }
        if choices.rarely(4) {
            groups[0].bad_gradient = KLS_BAD_GRADIENT_SKIP;
        }
        let mut tensors = Vec::new();
        for _ in 0..choices.pick(&[1, 2, 3]) {
            let mut tensor = if choices.rarely(512) { plain(choices.pick(&[&[LONG + 2, LONG][..], &[260, 17]])) } else { small(choices) };
            tensor.group = choices.below(groups.len()) as u32;
            match choices.below(4) {
                0 => change(choices, &mut tensor),
                1 => change_formats(choices, &mut tensor),
                _ => {}
            }
            tensors.push(tensor);
        }
        let table = Table::new(choices, &groups, tensors);
        let dead = Bytes::zeroed(query(&table, &table).unwrap_or(1 << 10).clamp(1 << 10, LARGEST), KLS_MEMORY_ALIGNMENT);
        let slots = [Slot { optimizer: Optimizer::new(choices, &table, LARGEST), dead: None }, Slot { optimizer: None, dead: Some(dead) }];
        Self { table, slots, numbers: choices.numbers(), checkpoint: Bytes::zeroed(0, 1), folder: None, steps: 0 }
    }

    fn call(&mut self, choices: &mut Choices<'_>) {
        let slot = usize::from(choices.rarely(4));
        let handle = if choices.rarely(48) { choices.pointer(null_mut()) } else { self.slots[slot].handle() };
        let live = self.slots[slot].optimizer.is_some() && !handle.is_null();
        let status = match choices.below(30) {
            0..8 => self.step(choices, slot, handle),
            8 => self.step_tensor(choices, slot, handle),
            9 => self.make(choices, slot),
            10 => self.destroy(choices, slot),
            11 | 12 => self.save(choices, handle),
            13 | 14 => self.load(choices, handle),
            15 => self.files(choices, handle),
            16 | 17 => self.read_state(choices, handle),
            18 => self.set_basis(choices, handle),
            19 => self.reports(choices, handle),
            20 => self.objective(choices, slot, handle),
            21 => self.structs(choices, handle),
            22 => self.numbers_of(choices, handle),
            23 => self.settings(choices, slot, handle),
            24 => self.set_log(choices, handle),
            25 => self.add_tensors(choices, slot, handle),
            26 => window(choices, &mut self.numbers),
            27 => inits(choices),
            28 => constants(choices),
            _ => self.query(choices),
        };
        let Some(status) = status else { return };
        check(handle, status);
        let refused = [KLS_ERROR_HANDLE, KLS_ERROR_NULL, KLS_ERROR_MISALIGNED].contains(&status);
        assert!(live || refused, "{status} from no optimizer");
    }

    /// A step whose arguments are right, if there is an optimizer.
    fn good_step(&mut self, slot: usize) {
        if let Some(optimizer) = &mut self.slots[slot].optimizer {
            optimizer.fill_gradients(&mut self.numbers);
            let status = optimizer.try_step(0.01);
            self.steps += usize::from(status == KLS_OK && !optimizer.buffers.is_empty());
        }
    }

    /// Pointers of a step; now and then a tensor is frozen, or its buffers overlap.
    fn step(&mut self, choices: &mut Choices<'_>, slot: usize, handle: *mut kls_optimizer) -> Option<kls_status> {
        if choices.rarely(2) {
            self.good_step(slot);
            return None;
        }
        let numbers = &mut self.numbers;
        let Some(optimizer) = &mut self.slots[slot].optimizer else {
            // SAFETY: no arrays, and none are read where there is no optimizer.
            return Some(unsafe { kls_optimizer_step(handle, null(), null(), choices.any(), 0.1) });
        };
        optimizer.fill_gradients(numbers);
        if let (true, Some(buffers)) = (choices.rarely(4), optimizer.buffers.first_mut()) {
            // In every format these are numbers that are none.
            buffers.grad.bytes_mut().fill(0xff);
        }
        let (first, all) = (if choices.rarely(4) { choices.mostly_below(3) } else { 0 }, optimizer.buffers.len());
        let there = all.saturating_sub(first);
        let count = if choices.rarely(16) { choices.mostly_below(5) } else { there };
        let with_updates = choices.rarely(4);
        let mut arrays = [Vec::new(), Vec::new(), Vec::new()];
        for buffers in optimizer.buffers.iter().skip(first).take(count) {
            let pointers = [&buffers.param, &buffers.grad, &buffers.update].map(|buffer| choices.pointer(buffer.pointer::<u16>()));
            let overlapping = choices.rarely(48).then(|| pointers[choices.below(3)]);
            for (array, pointer) in arrays.iter_mut().zip(pointers) {
                array.push(overlapping.unwrap_or(pointer).cast::<c_void>());
            }
        }
        // What the arrays do not have is refused before it is read.
        let [params, grads, updates] = arrays.map(|array| Bytes::of(&array));
        let (params, grads) = (choices.pointer(params.pointer::<*mut c_void>()), choices.pointer(grads.pointer::<*const c_void>()));
        let count = if count > there && first < all { count.max(all).saturating_add(1) } else { count };
        let lr = choices.float(&[0.01, 0.0, 1.0]);
        let updates = if with_updates { choices.pointer(updates.pointer::<*mut f32>()) } else { null_mut() };
        let status = if first == 0 && choices.rarely(2) {
            // SAFETY: a live optimizer, arrays of the number of its tensors, or another number is said.
            unsafe { kls_optimizer_step(handle, params.cast(), grads.cast(), count, lr) }
        } else {
            let mut request = kls_step { lr, first_tensor: first, tensor_count: count, params, grads, updates, ..step_request() };
            request.grad_scale = choices.float(&[1.0, 0.5, 1024.0]);
            request.reserved = u32::from(choices.rarely(64));
            let size = if choices.rarely(64) { choices.any() } else { size_of::<kls_step>() };
            let bytes = match size == size_of::<kls_step>() {
                true => version_of(&request, size),
                false => (size as u32).to_ne_bytes().to_vec(),
            };
            let bytes = Bytes::copy(&bytes);
            // SAFETY: likewise.
            unsafe { kls_optimizer_step_with(handle, choices.pointer(bytes.pointer())) }
        };
        self.steps += usize::from(status == KLS_OK && count > 0);
        Some(status)
    }

    fn step_tensor(&mut self, choices: &mut Choices<'_>, slot: usize, handle: *mut kls_optimizer) -> Option<kls_status> {
        let (tensor, lr) = (choices.mostly_below(2), choices.float(&[0.01]));
        let optimizer = self.slots[slot].optimizer.as_mut();
        let Some(buffers) = optimizer.and_then(|optimizer| optimizer.buffers.get_mut(tensor)) else {
            // SAFETY: a live optimizer or a refused handle, and no such tensor.
            return Some(unsafe { kls_optimizer_step_tensor(handle, tensor, null_mut(), null(), lr) });
        };
        buffers.fill_gradient(&mut self.numbers);
        let (param, grad) = (choices.pointer(buffers.param.pointer()), choices.pointer(buffers.grad.pointer()));
        // SAFETY: a live optimizer, and the buffers of its tensor.
        let status = unsafe { kls_optimizer_step_tensor(handle, tensor, param, grad, lr) };
        self.steps += usize::from(status == KLS_OK);
        Some(status)
    }

    /// Puts a new optimizer into a slot, with plugins of the caller's now and then.
    fn make(&mut self, choices: &mut Choices<'_>, slot: usize) -> Option<kls_status> {
        self.slots[slot] = Slot::default();
        if !choices.rarely(4) {
            self.slots[slot].optimizer = Optimizer::new(choices, &self.table, 1 << 24);
            return None;
        }
        let mut options = options(choices);
        let misbehaves = |choices: &mut Choices<'_>| if choices.rarely(4) { null_mut::<c_void>().wrapping_byte_add(1) } else { null_mut() };
        if choices.rarely(2) {
            options.sgemm = Some(sgemm);
            options.sgemm_user = misbehaves(choices);
        }
        if choices.rarely(2) {
            options.num_threads = choices.pick(&[2, 3, 70, 1]);
            options.parallel_for = Some(parallel_for);
            options.parallel_for_user = misbehaves(choices);
        }
        self.slots[slot].optimizer = Optimizer::with_options(&self.table, Some(&options), 1 << 24);
        None
    }

    /// Ends an optimizer; lent memory stays, with no optimizer in it.
    fn destroy(&mut self, choices: &mut Choices<'_>, slot: usize) -> Option<kls_status> {
        if choices.rarely(4) {
            // SAFETY: NULL, or lent memory without an optimizer.
            let status = unsafe {
                let mut handle: *mut kls_optimizer =
                    if self.slots[slot].optimizer.is_some() { null_mut() } else { self.slots[slot].handle() };
                kls_optimizer_destroy(choices.pointer(&raw mut handle))
            };
            check_without(status);
            return None;
        }
        let optimizer = self.slots[slot].optimizer.take()?;
        self.slots[slot].dead = optimizer.end();
        None
    }

    fn save(&mut self, choices: &mut Choices<'_>, handle: *mut kls_optimizer) -> Option<kls_status> {
        let mut size = 0;
        // SAFETY: a live optimizer or a refused handle; an output.
        let status = unsafe { kls_optimizer_save_size(handle, choices.pointer(&raw mut size)) };
        if status != KLS_OK {
            return Some(status);
        }
        let size = size as usize;
        if choices.rarely(2) {
            let mut all = Vec::new();
            // SAFETY: a live optimizer, a function of this vector.
            let status =
                unsafe { kls_optimizer_save_to(handle, if choices.rarely(16) { None } else { Some(write) }, (&raw mut all).cast()) };
            if status == KLS_OK {
                assert_eq!(all.len(), size);
                self.checkpoint = Bytes::copy(&all);
            }
            return Some(status);
        }
        let len = if choices.rarely(8) { choices.below(size) } else { size + choices.below(2) };
        let bytes = Bytes::zeroed(len, 1);
        // SAFETY: a live optimizer, as many bytes.
        let status = unsafe { kls_optimizer_save(handle, choices.pointer(bytes.pointer()), len) };
        if status == KLS_OK {
            assert!(len >= size);
            self.checkpoint = bytes;
        }
        Some(status)
    }

    fn load(&mut self, choices: &mut Choices<'_>, handle: *mut kls_optimizer) -> Option<kls_status> {
        let len = if choices.rarely(16) { self.checkpoint.len() / 2 } else { self.checkpoint.len() };
        // SAFETY: a live optimizer or a refused handle, as many bytes.
        Some(unsafe {
            if choices.rarely(2) {
                kls_optimizer_load(handle, choices.pointer(self.checkpoint.pointer()), len)
            } else {
                kls_optimizer_load_from(handle, if choices.rarely(16) { None } else { Some(read) }, (&raw mut self.checkpoint).cast())
            }
        })
    }

    /// Saves to a file and loads from it, where there is a folder and where there is none.
    fn files(&mut self, choices: &mut Choices<'_>, handle: *mut kls_optimizer) -> Option<kls_status> {
        let path = match choices.pick(&[0, 0, 0, 0, 0, 1, 2, 3, 4]) {
            0 => file::path(self.folder.get_or_insert_with(file::folder), choices.pick(&["a", "b"])),
            1 => c"/no/such/folder/file".into(),
            2 => c"".into(),
            3 => file::path(self.folder.get_or_insert_with(file::folder), ""),
            _ => c"/".into(),
        };
        let pointer = if choices.rarely(32) { null() } else { path.as_ptr() };
        // SAFETY: a live optimizer or a refused handle, a text.
        Some(unsafe { if choices.rarely(2) { kls_optimizer_load_file(handle, pointer) } else { kls_optimizer_save_file(handle, pointer) } })
    }

    fn read_state(&mut self, choices: &mut Choices<'_>, handle: *mut kls_optimizer) -> Option<kls_status> {
        let (tensor, slice, part, mode) = place(choices);
        let mut len = 0;
        // SAFETY: a live optimizer or a refused handle; an output.
        let status = unsafe { kls_optimizer_state_len(handle, tensor, slice, part, mode, choices.pointer(&raw mut len)) };
        if status != KLS_OK && !choices.rarely(2) {
            return Some(status);
        }
        let len = if choices.rarely(16) { choices.below(9) } else { len };
        let out = Bytes::zeroed(4 * len, 4);
        // SAFETY: as many numbers.
        Some(unsafe { kls_optimizer_read_state(handle, tensor, slice, part, mode, choices.pointer(out.pointer()), len) })
    }

    /// A basis as it was read, a permutation, or any numbers.
    fn set_basis(&mut self, choices: &mut Choices<'_>, handle: *mut kls_optimizer) -> Option<kls_status> {
        let (tensor, slice, _, mode) = place(choices);
        let mut len = 0;
        // SAFETY: a live optimizer or a refused handle; an output.
        let status = unsafe { kls_optimizer_state_len(handle, tensor, slice, KLS_STATE_BASIS, mode, &mut len) };
        if status != KLS_OK {
            return Some(status);
        }
        let (mut basis, d) = (vec![0.0; len], len.isqrt());
        match choices.below(3) {
            0 => (0..d).for_each(|i| basis[i * d + (i + 1) % d] = if i == 0 { -1.0 } else { 1.0 }),
            // SAFETY: as many numbers.
            1 => unsafe {
                check(handle, kls_optimizer_read_state(handle, tensor, slice, KLS_STATE_BASIS, mode, basis.as_mut_ptr(), len));
            },
            _ => basis.fill_with(|| f32::from_bits(choices.any())),
        }
        let basis = Bytes::of(&basis[..len - usize::from(choices.rarely(16))]);
        // SAFETY: as many numbers.
        Some(unsafe { kls_optimizer_set_basis(handle, tensor, slice, mode, choices.pointer(basis.pointer()), basis.len() / 4) })
    }

    /// Counters and reports, into structs of any size.
    fn reports(&mut self, choices: &mut Choices<'_>, handle: *mut kls_optimizer) -> Option<kls_status> {
        let (tensor, slice, _, mode) = place(choices);
        // SAFETY: a live optimizer or a refused handle; as many bytes as a known size says.
        Some(unsafe {
            if choices.rarely(2) {
                let known = [offset_of!(kls_counters, refreshes_skipped), size_of::<kls_counters>()];
                let size = if choices.rarely(16) { choices.any() } else { choices.pick(&known) };
                let counters = room(size, &known);
                kls_optimizer_counters(handle, tensor, slice, choices.pointer(counters.pointer()), size)
            } else {
                let known = [size_of::<kls_mode_report>()];
                let size = if choices.rarely(16) { choices.any() } else { known[0] };
                let report = room(size, &known);
                kls_optimizer_mode_report(handle, tensor, slice, mode, choices.pointer(report.pointer()), size)
            }
        })
    }

    fn objective(&mut self, choices: &mut Choices<'_>, slot: usize, handle: *mut kls_optimizer) -> Option<kls_status> {
        let (tensor, slice, _, _) = place(choices);
        let table = self.slots[slot].optimizer.as_ref().and_then(|optimizer| optimizer.buffers.get(tensor));
        let span = table.map_or(3, |buffers| buffers.update.len() / 4);
        let grad: Vec<f32> = self.numbers.by_ref().take(span - usize::from(choices.rarely(16))).collect();
        let (grad, mut objective) = (Bytes::of(&grad), 0.0);
        let (pointer, out) = (choices.pointer(grad.pointer()), choices.pointer(&raw mut objective));
        // SAFETY: a live optimizer or a refused handle; as many numbers; an output.
        Some(unsafe { kls_optimizer_objective(handle, tensor, slice, pointer, grad.len() / 4, out) })
    }

    fn structs(&mut self, choices: &mut Choices<'_>, handle: *mut kls_optimizer) -> Option<kls_status> {
        // SAFETY: a live optimizer or a refused handle; as many bytes as a known size says.
        Some(unsafe {
            if choices.rarely(2) {
                let known = [offset_of!(kls_plan, refresh_step_flops), size_of::<kls_plan>()];
                let size = if choices.rarely(16) { choices.any() } else { choices.pick(&known) };
                let plan = room(size, &known);
                kls_optimizer_plan(handle, choices.mostly_below(2), choices.pointer(plan.pointer()), size)
            } else {
                let known = [size_of::<kls_memory>()];
                let size = if choices.rarely(16) { choices.any() } else { known[0] };
                let memory = room(size, &known);
                kls_optimizer_memory(handle, choices.pointer(memory.pointer()), size)
            }
        })
    }

    fn numbers_of(&mut self, choices: &mut Choices<'_>, handle: *mut kls_optimizer) -> Option<kls_status> {
        let (mut flops, mut bytes) = (0, 0);
        // SAFETY: a live optimizer or a refused handle; outputs.
        Some(unsafe {
            if choices.rarely(2) {
                let step = if choices.rarely(4) { choices.any() } else { choices.below(40) as u64 };
                kls_optimizer_predicted_flops(handle, step, choices.pointer(&raw mut flops))
            } else {
                kls_optimizer_state_bytes(handle, choices.pointer(&raw mut bytes))
            }
        })
    }

    fn settings(&mut self, choices: &mut Choices<'_>, slot: usize, handle: *mut kls_optimizer) -> Option<kls_status> {
        if choices.rarely(2) {
            // SAFETY: a live optimizer or a refused handle.
            return Some(unsafe { kls_optimizer_set_refresh_budget(handle, choices.pick(&[0, 1, 500, 100_000, u64::MAX])) });
        }
        let (group, lr_scale, decay) = (choices.mostly_below(2), choices.float(&[1.0, 0.5, 0.0]), choices.float(&[0.0, 0.1]));
        if let Some(optimizer) = &mut self.slots[slot].optimizer {
            optimizer.decay = optimizer.decay.max(lr_scale.max(1.0) * decay);
        }
        // SAFETY: likewise.
        Some(unsafe { kls_optimizer_set_group(handle, group, lr_scale, decay) })
    }

    fn set_log(&mut self, choices: &mut Choices<'_>, handle: *mut kls_optimizer) -> Option<kls_status> {
        // SAFETY: a live optimizer or a refused handle; a function of the handle.
        Some(unsafe { kls_optimizer_set_log(handle, if choices.rarely(4) { None } else { Some(log) }, handle.cast()) })
    }

    fn add_tensors(&mut self, choices: &mut Choices<'_>, slot: usize, handle: *mut kls_optimizer) -> Option<kls_status> {
        let mut tensor = small(choices);
        if choices.rarely(2) {
            change(choices, &mut tensor);
        }
        let size = tensors::SIZES[2];
        let more = Table::of_bytes(&[], 0, vec![tensor], size, Vec::new());
        let buffers = Buffers::new(&tensor)?;
        if query(&self.table, &more).is_ok_and(|size| size > LARGEST) {
            return None;
        }
        // SAFETY: a live optimizer or a refused handle; one tensor.
        let status = unsafe { kls_optimizer_add_tensors(handle, choices.pointer(more.tensors.pointer()), 1) };
        if let (KLS_OK, Some(optimizer)) = (status, &mut self.slots[slot].optimizer) {
            optimizer.buffers.push(buffers);
        }
        Some(status)
    }

    /// Queries and tries to make with hostile pointers.
    fn query(&mut self, choices: &mut Choices<'_>) -> Option<kls_status> {
        let table = &self.table;
        let (groups, tensors) = (choices.pointer(table.groups.pointer()), choices.pointer(table.tensors.pointer()));
        let (group_count, tensor_count) = (choices.below(table.group_count + 1), choices.below(table.described.len() + 1));
        let (mut size, mut alignment, mut handle) = (0, 0, null_mut());
        // SAFETY: arrays of at least as many; outputs.
        let status = unsafe {
            let (size, alignment) = (choices.pointer(&raw mut size), choices.pointer(&raw mut alignment));
            kls_optimizer_query(groups, group_count, tensors, tensor_count, size, alignment)
        };
        check_without(status);
        if status != KLS_OK || size > LARGEST {
            return None;
        }
        let (ranks, mut costs) = (choices.below(5), [0u64; 4]);
        let mut firsts = vec![0u64; tensor_count * (ranks + 1)];
        let len = firsts.len() + usize::from(choices.rarely(8));
        // SAFETY: the same, and as many numbers as are written; another length is refused before.
        let status = unsafe {
            let (firsts, costs) = (choices.pointer(firsts.as_mut_ptr()), choices.pointer(costs.as_mut_ptr()));
            kls_table_partition(groups, group_count, tensors, tensor_count, ranks as u32, firsts, len, costs)
        };
        check_without(status);
        assert!(status != KLS_OK || firsts.chunks(ranks + 1).all(|row| row[0] == 0 && row[ranks] > 0 && row.is_sorted()));
        let short = choices.rarely(4);
        let memory = Bytes::zeroed(size - usize::from(short), KLS_MEMORY_ALIGNMENT);
        // SAFETY: the same, and memory of that length.
        let status = unsafe {
            let place = if choices.rarely(16) { memory.pointer::<u8>().wrapping_add(8).cast() } else { memory.pointer::<c_void>() };
            kls_optimizer_init(choices.pointer(&raw mut handle), place, memory.len(), groups, group_count, tensors, tensor_count)
        };
        assert!(check_without(status) != KLS_OK || !short);
        // SAFETY: NULL, or the optimizer just made.
        assert_eq!(unsafe { kls_optimizer_destroy(&mut handle) }, KLS_OK);
        // SAFETY: the same, with the default options.
        let status = unsafe { kls_optimizer_create(choices.pointer(&raw mut handle), groups, group_count, tensors, tensor_count, null()) };
        check_without(status);
        // SAFETY: likewise.
        assert_eq!(unsafe { kls_optimizer_destroy(&mut handle) }, KLS_OK);
        None
    }
}

/// Tensor, slice, part and mode, mostly there.
fn place(choices: &mut Choices<'_>) -> (usize, usize, i32, usize) {
    (choices.mostly_below(2), choices.pick(&[0, 0, 0, 1, 2, usize::MAX]), choices.option(7), choices.mostly_below(2))
}

/// Similarities of a window of gradients.
fn window(choices: &mut Choices<'_>, numbers: &mut Numbers) -> Option<kls_status> {
    let (rows, columns, count) = (choices.below(5), choices.below(5), choices.below(4));
    let mut len = 0;
    let huge = choices.rarely(8);
    let (rows, columns) = if huge { (choices.any(), choices.any()) } else { (rows, columns) };
    // SAFETY: an output.
    let status = check_without(unsafe { kls_window_scratch_len(rows, columns, count, choices.pointer(&raw mut len)) });
    if huge || (status != KLS_OK && len > 0) {
        return None;
    }
    let grads: Vec<f32> = numbers.take(rows * columns * count).collect();
    let (mut grads, scratch) = (Bytes::of(&grads), Bytes::zeroed(4 * (len - usize::from(len > 0 && choices.rarely(8))), 4));
    if choices.rarely(4) && grads.len() > 0 {
        let at = 4 * choices.below(grads.len() / 4);
        grads.bytes_mut()[at..at + 4].copy_from_slice(&choices.any::<u32>().to_ne_bytes());
    }
    let known = [size_of::<kls_similarity>()];
    let size = if choices.rarely(16) { choices.any() } else { known[0] };
    let similarity = room(size, &known);
    // SAFETY: as many numbers and bytes as is said.
    let status = unsafe {
        let (grads, out) = (choices.pointer(grads.pointer()), choices.pointer(similarity.pointer()));
        kls_window_similarity(grads, rows, columns, count, choices.pointer(scratch.pointer()), scratch.len() / 4, out, size)
    };
    check_without(status);
    None
}

/// The init functions, with structs of any size.
fn inits(choices: &mut Choices<'_>) -> Option<kls_status> {
    let any = |choices: &mut Choices<'_>, known: &[usize]| if choices.rarely(8) { choices.any() } else { choices.pick(known) };
    // SAFETY: as many bytes as a known size says.
    let status = unsafe {
        match choices.below(4) {
            0 => {
                let size = any(choices, &crate::groups::SIZES);
                let group = room(size, &crate::groups::SIZES);
                kls_config_init(choices.pointer(group.pointer()), size, choices.option(METHODS), choices.option(4))
            }
            1 => {
                let size = any(choices, &tensors::SIZES);
                let (tensor, order) = (room(size, &tensors::SIZES), choices.mostly_below(8) as u32);
                let dims = Bytes::of(&[2u64; 7][..(order as usize).min(7)]);
                kls_tensor_init(choices.pointer(tensor.pointer()), size, order, choices.pointer(dims.pointer()))
            }
            2 => {
                let size = any(choices, &[size_of::<kls_options>()]);
                let options = room(size, &[size_of::<kls_options>()]);
                kls_options_init(choices.pointer(options.pointer()), size)
            }
            _ => {
                let size = any(choices, &[size_of::<kls_step>()]);
                let step = room(size, &[size_of::<kls_step>()]);
                kls_step_init(choices.pointer(step.pointer()), size)
            }
        }
    };
    check_without(status);
    None
}

/// What needs no optimizer and cannot fail.
fn constants(choices: &mut Choices<'_>) -> Option<kls_status> {
    // SAFETY: static texts, and the thread's own last message.
    unsafe {
        assert!(!CStr::from_ptr(kls_version()).is_empty());
        assert!(!CStr::from_ptr(kls_status_string(choices.any())).is_empty());
        assert!(CStr::from_ptr(kls_last_error(null())).to_bytes().len() < 1024);
    }
    None
}
