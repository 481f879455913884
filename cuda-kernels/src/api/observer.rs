//! How the host learns, without waiting, that every slice has made its first step: later steps are then launched without what a first one needs.

use klshampoo::SliceHeader;
use klshampoo_ffi::error::Failure;
use klshampoo_ffi::host::fallible::collected;

use super::failure::from_device;
use super::transfer::Headers;
use crate::driver::{Context, Error, Launcher, Memory, Readback};
use crate::step::DeviceOptimizer;

/// Headers on their way to the host.
#[derive(Debug)]
pub(super) struct Observer {
    readback: Readback,
    /// In the table's order.
    headers: Vec<SliceHeader>,
    /// What is on its way is of a state that has been replaced.
    outdated: bool,
}

impl Observer {
    pub(super) fn new(context: &Context, optimizer: &DeviceOptimizer) -> Result<Self, Failure> {
        let readback = Readback::new(context, optimizer.program().bytes().headers).map_err(from_device)?;
        let headers = collected((0..optimizer.headers()).map(|_| Ok(SliceHeader::NEW)))?;
        Ok(Self { readback, headers, outdated: false })
    }

    /// The state has been replaced.
    pub(super) fn forget(&mut self) {
        self.outdated = self.readback.is_pending();
    }

    /// Before a step: takes what has come.
    pub(super) fn take(&mut self, queue: &Launcher<'_>, places: &Headers, optimizer: &mut DeviceOptimizer) -> Result<(), Error> {
        if !optimizer.may_start() {
            return Ok(());
        }
        if let Some(bytes) = self.readback.take(queue)?
            && !std::mem::take(&mut self.outdated)
        {
            self.headers.iter_mut().zip(places.all(bytes)).for_each(|(to, header)| *to = header);
            optimizer.observed(&self.headers);
        }
        Ok(())
    }

    /// After a step: asks for them as they are now.
    pub(super) fn ask(
        &mut self,
        queue: &Launcher<'_>,
        places: &Headers,
        memory: &Memory,
        optimizer: &DeviceOptimizer,
    ) -> Result<(), Error> {
        if !optimizer.may_start() {
            return Ok(());
        }
        // SAFETY: the headers in the optimizer's own memory. It is given back after the readback, which waits for a copy under way.
        unsafe { self.readback.begin(queue, memory.at().offset::<u8>(places.range.start), places.range.len())? };
        Ok(())
    }
}
