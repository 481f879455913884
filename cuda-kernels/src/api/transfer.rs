//! State and headers between the device and the host.

use std::ops::Range;

use klshampoo::SliceHeader;
use klshampoo_ffi::error::Outcome;

use super::failure::from_device;
use super::handle::kls_cuda;
use super::host_copy::HostCopy;
use crate::driver::Stream;
use crate::step::{DeviceOptimizer, Transfer, Transferred};

/// The headers on the device: one run of bytes, in the order of the batches.
#[derive(Debug)]
pub(super) struct Headers {
    /// In the optimizer's block.
    pub range: Range<usize>,
    /// Where each of the table's headers is in that range.
    places: Vec<usize>,
}

impl Headers {
    pub(super) fn new(optimizer: &DeviceOptimizer, count: usize) -> Self {
        let bytes = optimizer.program().bytes();
        let range = bytes.state..bytes.state + bytes.headers;
        let mut places = vec![0; count];
        for transfer in optimizer.transfers().filter(|transfer| transfer.what == Transferred::Headers) {
            for (i, place) in places[transfer.first..][..transfer.count].iter_mut().enumerate() {
                *place = transfer.device_bytes - range.start + i * size_of::<SliceHeader>();
            }
        }
        Self { range, places }
    }

    /// A header of the table, from the bytes of the range.
    pub(super) fn get(&self, bytes: &[u8], index: usize) -> SliceHeader {
        let from = &bytes[self.places[index]..][..size_of::<SliceHeader>()];
        // SAFETY: so many bytes, and any bytes are a header.
        unsafe { from.as_ptr().cast::<SliceHeader>().read_unaligned() }
    }

    /// All of them.
    pub(super) fn all<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = SliceHeader> + 'a {
        (0..self.places.len()).map(|index| self.get(bytes, index))
    }
}

/// The transfers of what lies in these ranges of the core's arrays, neighbours together.
fn transfers(optimizer: &DeviceOptimizer, headers: Range<usize>, state: Range<usize>) -> impl Iterator<Item = Transfer> {
    let wanted = move |transfer: &Transfer| {
        let range = if transfer.what == Transferred::State { &state } else { &headers };
        range.contains(&transfer.first) && transfer.count > 0
    };
    let of = |what| optimizer.transfers().filter(move |transfer| transfer.what == what);
    let mut all = of(Transferred::State).chain(of(Transferred::Headers)).filter(wanted).peekable();
    std::iter::from_fn(move || {
        let mut run = all.next()?;
        while let Some(next) = all
            .next_if(|next| (next.what, next.first, next.device_bytes) == (run.what, run.first + run.count, run.device_bytes + run.bytes))
        {
            run.count += next.count;
            run.bytes += next.bytes;
        }
        Some(run)
    })
}

/// Copies these parts of the core's arrays from the device, after what was given to the stream before, and waits for that.
pub(super) fn download(
    optimizer: &kls_cuda,
    stream: Stream,
    copy: &mut HostCopy<'_>,
    headers: Range<usize>,
    state: Range<usize>,
) -> Outcome {
    for transfer in transfers(&optimizer.optimizer, headers, state) {
        optimizer.memory.read(stream, transfer.device_bytes, copy.bytes(&transfer)).map_err(from_device)?;
    }
    Ok(())
}

/// Copies all of them.
pub(super) fn download_all(optimizer: &kls_cuda, stream: Stream, copy: &mut HostCopy<'_>) -> Outcome {
    let totals = optimizer.table.totals();
    download(optimizer, stream, copy, 0..totals.slices, 0..totals.state_len)
}

/// The other way round.
pub(super) fn upload_all(optimizer: &kls_cuda, stream: Stream, copy: &mut HostCopy<'_>) -> Outcome {
    let totals = optimizer.table.totals();
    for transfer in transfers(&optimizer.optimizer, 0..totals.slices, 0..totals.state_len) {
        optimizer.memory.write(stream, transfer.device_bytes, copy.bytes(&transfer)).map_err(from_device)?;
    }
    Ok(())
}
