//! Bytes as checkpoints, through a buffer, a callback and a file: what an optimizer has saved with other bytes in it, mostly with the checksums
//! that belong to them, so that what lies behind these is reached, and bytes that no optimizer has written. What is refused leaves the optimizer
//! as it was; what is taken can be stepped.

use std::ffi::c_void;
use std::mem::replace;

use klshampoo::checkpoint::Writer;
use klshampoo_ffi::host::to_safetensors;
use klshampoo_ffi::*;

use crate::bytes::Bytes;
use crate::choices::Choices;
use crate::file;
use crate::groups::{self, group, preset};
use crate::optimizer::{LARGEST, Optimizer};
use crate::status::{STEPS, check};
use crate::tensors::{Table, change_formats, plain};

/// Bytes of the prelude, and of it with its seal.
const PRELUDE: (usize, usize) = (56, 64);

/// See the module.
pub fn run(input: &[u8]) -> usize {
    let mut choices = Choices::new(input);
    let (foreign, reseals) = (choices.rarely(8), !choices.rarely(4));
    let way = choices.pick(&[Way::Buffer, Way::Callback, Way::Buffer, Way::File]);
    let written = if foreign { replace(&mut choices, Choices::new(&[])).rest() } else { &[] };
    let table = if foreign { foreign_table() } else { table(&mut choices) };
    let Some(mut saved) = Optimizer::new(&mut choices, &table, LARGEST) else { return 0 };
    let mut numbers = choices.numbers();
    for _ in 0..choices.below(7) {
        saved.fill_gradients(&mut numbers);
        saved.step(0.01);
    }
    let Some(mut loaded) = Optimizer::new(&mut choices, &table, LARGEST) else { return 0 };
    if choices.rarely(2) {
        loaded.fill_gradients(&mut numbers);
        loaded.step(0.01);
    }
    let (steps, fault) = (1 + choices.below(5), Fault::new(&mut choices));
    let patches = if choices.rarely(8) { Vec::new() } else { (0..choices.below(3)).map(|_| Patch::new(&mut choices)).collect() };
    let mut bytes = if foreign { written.to_vec() } else { saved.save().bytes().to_vec() };
    // The state may then be one that no step leaves, but for NaN and infinity.
    loaded.is_tame = patches.is_empty();
    for patch in patches {
        patch.apply(&mut bytes);
    }
    if reseals {
        reseal(&mut bytes);
    }
    load(&loaded, &bytes, way, fault);
    let mut made = 0;
    for _ in 0..steps {
        loaded.fill_gradients(&mut numbers);
        let status = loaded.try_step(0.01);
        assert!(STEPS.contains(&status), "{status}");
        made += usize::from(status == KLS_OK);
        loaded.read_all(false);
    }
    made
}

/// What the bytes of an input belong to that is a checkpoint itself, behind the choices that say so and how it is loaded.
pub const FOREIGN: [u8; 3] = [7, 0, 0];

/// The table of such an input.
pub fn foreign_table() -> Table {
    let group = kls_config { refresh_period: 1, refresh_portion: 100, ..preset(KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13) };
    Table::new(&mut Choices::new(&[]), &[group], vec![plain(&[3, 2])])
}

/// A checkpoint of it after so many steps.
pub fn stepped(steps: usize) -> Vec<u8> {
    let choices = &mut Choices::new(&[]);
    let (mut optimizer, mut numbers) =
        (Optimizer::new(choices, &foreign_table(), LARGEST).expect("a table that is right"), choices.numbers());
    for _ in 0..steps {
        optimizer.fill_gradients(&mut numbers);
        optimizer.step(0.01);
    }
    optimizer.save().bytes().to_vec()
}

/// One group and one or two tensors.
fn table(choices: &mut Choices<'_>) -> Table {
    let mut group = group(choices, 1);
    if choices.rarely(2) {
        groups::in_portions(choices, &mut group);
    }
    if choices.rarely(3) {
        group.factor_format = choices.option(3);
    }
    let mut tensors = vec![plain(choices.pick(&[&[3, 2][..], &[4], &[2, 3, 2], &[6, 4], &[1]]))];
    if choices.rarely(3) {
        let mut second = plain(&[3, 3]);
        second.slices = 1 + choices.below(2) as u64;
        change_formats(choices, &mut second);
        tensors.push(second);
    }
    Table::new(choices, &[group], tensors)
}

/// A change of a checkpoint or a file.
#[derive(Debug)]
struct Patch {
    kind: usize,
    at: usize,
    value: u64,
}

impl Patch {
    fn new(choices: &mut Choices<'_>) -> Self {
        let value =
            if choices.rarely(2) { choices.any() } else { choices.pick(&[0x7fc0_0000, 0x7f80_0000, 0, 1, u64::MAX, 0x7fff_ffff_ffff]) };
        Self { kind: choices.below(12), at: usize::from(choices.any::<u16>()), value }
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        let Some(at) = self.at.checked_rem(bytes.len()) else { return };
        let aligned = at & !3;
        let mut put = |at: usize, value: &[u8]| bytes[at..].iter_mut().zip(value).for_each(|(byte, &value)| *byte = value);
        match self.kind {
            0..4 => put(aligned, &(self.value as u32).to_le_bytes()),
            4..6 => put(at, &[self.value as u8]),
            6 => put(aligned, &self.value.to_le_bytes()),
            7 => put(at & !1, &(self.value as u16).to_le_bytes()),
            8 => bytes[at] ^= 1 << (self.value % 8),
            9 => bytes.truncate(at),
            10 => bytes.extend_from_slice(&self.value.to_le_bytes()),
            _ => bytes.truncate(at & !7),
        }
    }
}

/// Gives bytes the length and the checksums of a checkpoint.
fn reseal(bytes: &mut Vec<u8>) {
    let (prelude, sealed) = PRELUDE;
    if bytes.len() < sealed + 8 {
        return;
    }
    let len = bytes.len();
    bytes[16..24].copy_from_slice(&(len as u64).to_le_bytes());
    let mut out = vec![0; len];
    let mut sink = out.as_mut_slice();
    let mut writer = Writer::new(&mut sink);
    writer.bytes(&bytes[..prelude]).expect("room");
    writer.seal().expect("room");
    writer.bytes(&bytes[sealed..len - 8]).expect("room");
    writer.seal().expect("room");
    *bytes = out;
}

/// How the bytes get to the library.
#[derive(Clone, Copy, Debug)]
enum Way {
    Buffer,
    Callback,
    File,
}

/// What goes wrong on the way: in a file a byte, in a callback the reading with a number.
#[derive(Debug)]
struct Fault {
    patch: Option<Patch>,
    fails: Option<usize>,
    changes: Option<usize>,
}

impl Fault {
    fn new(choices: &mut Choices<'_>) -> Self {
        let reading = |choices: &mut Choices<'_>| choices.rarely(6).then(|| choices.below(24));
        let (fails, changes) = (reading(choices), reading(choices));
        Self { patch: choices.rarely(3).then(|| Patch::new(choices)), fails, changes }
    }
}

/// A source with a fault.
struct Source<'a> {
    bytes: &'a [u8],
    fault: &'a Fault,
    readings: usize,
}

unsafe extern "C" fn read(user: *mut c_void, offset: u64, to: *mut c_void, len: usize) -> i32 {
    // SAFETY: the source of `load`, which nothing else uses during the call.
    let source = unsafe { &mut *user.cast::<Source<'_>>() };
    source.readings += 1;
    assert!(len <= 512);
    let from = usize::try_from(offset).ok().and_then(|offset| source.bytes.get(offset..)?.get(..len));
    let (Some(from), true) = (from, source.fault.fails != Some(source.readings)) else { return 1 };
    // SAFETY: as many writable bytes.
    let to = unsafe { std::slice::from_raw_parts_mut(to.cast::<u8>(), len) };
    to.copy_from_slice(from);
    if source.fault.changes == Some(source.readings) {
        to[len / 2] ^= 1;
    }
    0
}

/// Loads, and sees that a failure left the optimizer as it was or, where it says so, as a new one.
fn load(optimizer: &Optimizer, bytes: &[u8], way: Way, fault: Fault) {
    let (before, handle) = (optimizer.save(), optimizer.handle);
    let status = match way {
        Way::Buffer => {
            let bytes = Bytes::copy(bytes);
            // SAFETY: a live optimizer, as many bytes.
            unsafe { kls_optimizer_load(handle, bytes.pointer(), bytes.len()) }
        }
        Way::Callback => {
            let mut source = Source { bytes, fault: &fault, readings: 0 };
            // SAFETY: a live optimizer, a function of this source.
            unsafe { kls_optimizer_load_from(handle, Some(read), (&raw mut source).cast()) }
        }
        Way::File => {
            let (folder, mut file) = (file::folder(), Vec::new());
            // What is no checkpoint is written as it is.
            match to_safetensors(bytes, |index| format!("t{index}")) {
                Ok(converted) => converted.write_to(&mut file).expect("memory"),
                Err(_) => file.extend_from_slice(bytes),
            }
            if let Some(patch) = &fault.patch {
                patch.apply(&mut file);
            }
            std::fs::write(folder.path().join("file"), file).expect("room");
            let path = file::path(&folder, "file");
            // SAFETY: a live optimizer, a text.
            unsafe { kls_optimizer_load_file(handle, path.as_ptr()) }
        }
    };
    let after = optimizer.save();
    match check(handle, status) {
        KLS_OK => {}
        KLS_ERROR_CHECKPOINT_CHANGED => assert_ne!(way as i32, Way::Buffer as i32, "nobody writes to it"),
        _ => assert_eq!(before.bytes(), after.bytes(), "the optimizer is unchanged"),
    }
}
