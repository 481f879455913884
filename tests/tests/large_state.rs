//! States of more than 4 GiB: no size and no offset passes through 32 bits.

use std::io::Write;

use klshampoo::checkpoint::{CheckpointError, Sink, Source};
use klshampoo::{Config, Optimizer, SliceHeader, Tensor, TensorSpec, Totals};
use klshampoo_ffi::*;
use klshampoo_tests::c_abi::{config_to_c, tensor_to_c};
use klshampoo_tests::handle::Handle;

const GIB: u64 = 1 << 30;

/// One momentum of more than 2^32 bytes.
const DIMS: [usize; 2] = [1 << 15, (1 << 15) + 3];
const ELEMENTS: usize = DIMS[0] * DIMS[1];

/// What of a stream of bytes is not zero, by its offset.
#[derive(Default)]
struct Sparse {
    len: u64,
    runs: Vec<(u64, Vec<u8>)>,
}

impl Sparse {
    fn put(&mut self, bytes: &[u8]) {
        if bytes.iter().any(|&byte| byte != 0) {
            self.runs.push((self.len, bytes.to_vec()));
        }
        self.len += bytes.len() as u64;
    }

    fn get(&self, offset: u64, bytes: &mut [u8]) {
        assert!(offset + bytes.len() as u64 <= self.len);
        bytes.fill(0);
        // The runs are in order and as long as what is read at once, so few of them are in it.
        let first = self.runs.partition_point(|(at, run)| at + run.len() as u64 <= offset);
        let end = offset + bytes.len() as u64;
        for (at, run) in self.runs[first..].iter().take_while(|(at, _)| *at < end) {
            for (i, &byte) in run.iter().enumerate() {
                let place = (at + i as u64).checked_sub(offset).and_then(|place| bytes.get_mut(place as usize));
                if let Some(place) = place {
                    *place = byte;
                }
            }
        }
    }

    /// The byte that is not zero and lies nearest to an offset is another one.
    fn flip(&mut self, near: u64) {
        let (_, run) = self.runs.iter_mut().min_by_key(|(at, _)| at.abs_diff(near)).unwrap();
        *run.iter_mut().find(|byte| **byte != 0).unwrap() ^= 1;
    }
}

impl Sink for Sparse {
    fn write(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.put(bytes);
        Ok(())
    }
}

impl Source for &Sparse {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), CheckpointError> {
        self.get(offset, bytes);
        Ok(())
    }
}

/// Memory that can be had, in bytes.
fn available() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.map_or(0, |line| 1024 * line.trim().trim_end_matches(" kB").parse::<u64>().unwrap())
}

/// The core: numbers on both sides of 4 GiB are where they belong, and one of them altered is found.
#[test]
fn numbers_beyond_4_gib_are_saved_and_checked() {
    let (config, mut totals) = (Config::<f32>::sgd(), Totals::default());
    let tensors = [Tensor::resolve(&TensorSpec::new(&DIMS).unwrap(), &[config], &mut totals).unwrap()];
    assert_eq!(totals.state_len, ELEMENTS);
    let (mut headers, mut state) = (vec![SliceHeader::NEW; 1], vec![0f32; ELEMENTS]);
    let marks = [0, (1 << 30) - 1, 1 << 30, (1 << 30) + 1, ELEMENTS - 1];
    for (i, &mark) in marks.iter().enumerate() {
        state[mark] = 1.5 + i as f32;
    }
    let groups = [config];
    let mut optimizer = Optimizer::new(&groups, &tensors, &mut headers, &mut state).unwrap();
    let mut saved = Sparse::default();
    optimizer.save(&mut saved).unwrap();
    assert_eq!(optimizer.save_len(), saved.len);
    assert!(saved.len > 4 * GIB);
    // The state ends where the last seal starts.
    let start = saved.len - 8 - 4 * ELEMENTS as u64;
    for (i, &mark) in marks.iter().enumerate() {
        let mut bytes = [0; 4];
        saved.get(start + 4 * mark as u64, &mut bytes);
        assert_eq!(f32::from_le_bytes(bytes), 1.5 + i as f32, "element {mark}");
    }
    // All else is zero: each of these numbers has two bytes that are not, and none of them is there twice.
    let numbers =
        |at: u64, run: &[u8]| (at..).zip(run.to_vec()).filter(|(at, byte)| *byte != 0 && (start..saved.len - 8).contains(at)).count();
    assert_eq!(saved.runs.iter().map(|(at, run)| numbers(*at, run)).sum::<usize>(), 2 * marks.len());
    saved.flip(start + 4 * GIB);
    assert_eq!(optimizer.load(&mut &saved), Err(CheckpointError::Checksum));
    assert!(marks.iter().enumerate().all(|(i, &mark)| state[mark] == 1.5 + i as f32));
}

/// The C ABI: sizes without making anything, offsets of the callbacks, and a file that is nothing but its start and zeros.
#[test]
fn sizes_and_offsets_of_the_c_abi_have_64_bits() {
    let mut config = config_to_c(&Config::<f32>::sgd());
    let (mut size, mut alignment) = (0, 0);
    let mut query = |dims: &[usize], slices: u64| {
        let mut tensor = tensor_to_c(dims, &vec![None; dims.len()]);
        tensor.slices = slices;
        // SAFETY: all pointers are to live values.
        (unsafe { kls_optimizer_query(&config, 1, &tensor, 1, &mut size, &mut alignment) }, size as u64)
    };
    let (status, bytes) = query(&DIMS, 1);
    assert_eq!(status, KLS_OK);
    assert!((4 * ELEMENTS as u64..4 * ELEMENTS as u64 + 8192).contains(&bytes), "{bytes}");
    let (status, slices) = query(&[1 << 10, 1 << 10], 1 << 20);
    assert_eq!(status, KLS_OK);
    assert!(slices > 4096 * GIB, "{slices}");
    assert_eq!(query(&[1 << 20, 1 << 20], 1 << 23).0, KLS_ERROR_OVERFLOW);
    // With factors and scratch.
    config = config_to_c(&Config::<f32>::kl_shampoo());
    config.max_dim = 1 << 20;
    let tensor = tensor_to_c(&[40_000, 30_000], &[None; 2]);
    // SAFETY: all pointers are to live values.
    assert_eq!(unsafe { kls_optimizer_query(&config, 1, &tensor, 1, &mut size, &mut alignment) }, KLS_OK);
    let (m, n) = (40_000u64, 30_000u64);
    let state = m * n + m * m + n * n + (m * m + m + n * n + n) / 2 + m + n;
    assert!(size as u64 > 4 * state, "{size}");

    // On the heap, what is zero is written.
    if available() < 6 * GIB {
        let _ = writeln!(std::io::stderr(), "NOT RUN: callbacks with a state of 4 GiB: less than 6 GiB of memory are available");
        return;
    }
    let optimizer = Handle::new(&Config::<f32>::sgd(), &DIMS, 1);
    let mut saved = Sparse::default();
    assert_eq!(
        optimizer.save_to(|bytes| {
            saved.put(bytes);
            true
        }),
        KLS_OK
    );
    assert_eq!(saved.len, optimizer.save_size());
    assert!(saved.len > 4 * GIB);
    saved.flip(saved.len);
    let (mut next, mut calls) = (0, 0u64);
    let load = |offset: u64, bytes: &mut [u8]| {
        // The first bytes are asked for twice.
        assert!(offset == next || offset == 0, "{offset} after {next}");
        (next, calls) = (offset + bytes.len() as u64, calls + 1);
        saved.get(offset, bytes);
        true
    };
    assert_eq!(optimizer.load_from(load), KLS_ERROR_CHECKPOINT_CHECKSUM);
    assert_eq!(next, saved.len, "it is read to its end");
    assert!(calls > 4 * GIB / 512);
    assert_eq!(optimizer.steps(), 0);
}
