//! The driver, and the devices that it has.

use super::error::{Error, Version};
use super::image;
use super::shim::{self, succeeded};
use cust::device::{Device as CustDevice, DeviceAttribute};
use cust::sys;

/// The driver's version of CUDA.
///
/// # Errors
/// [`Error::NoDriver`].
pub fn driver_version() -> Result<Version, Error> {
    let mut version = 0;
    // SAFETY: it is told where to write.
    if !succeeded(unsafe { sys::cuDriverGetVersion(&mut version) }) {
        return Err(Error::last("cuDriverGetVersion"));
    }
    Ok(Version(u32::try_from(version).unwrap_or(0)))
}

/// Starts the driver; more than once does no harm.
fn init() -> Result<(), Error> {
    let (driver, needed) = (driver_version()?, image::NEEDED_DRIVER);
    if driver < needed {
        return Err(Error::DriverTooOld { driver, needed });
    }
    cust::init(cust::CudaFlags::empty()).map_err(|_| Error::last("cuInit"))
}

/// How many devices there are.
///
/// # Errors
/// [`Error::NoDriver`], [`Error::DriverTooOld`], or the driver's.
pub fn device_count() -> Result<usize, Error> {
    match init() {
        Err(Error::Driver(fault)) if fault.code == shim::NO_DEVICE => return Ok(0),
        started => started?,
    }
    Ok(CustDevice::num_devices().map_err(|_| Error::last("cuDeviceGetCount"))? as usize)
}

/// A device.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    ordinal: usize,
    pub(super) inner: CustDevice,
}

impl Device {
    /// The device of this number, counted as the driver does (`CUDA_VISIBLE_DEVICES` applies).
    ///
    /// # Errors
    /// [`Error::NoDriver`], [`Error::DriverTooOld`], [`Error::NoSuchDevice`], [`Error::DeviceTooOld`], or the driver's.
    pub fn get(ordinal: usize) -> Result<Self, Error> {
        let count = device_count()?;
        let number = u32::try_from(ordinal).ok().filter(|_| ordinal < count).ok_or(Error::NoSuchDevice { wanted: ordinal, count })?;
        let inner = CustDevice::get_device(number).map_err(|_| Error::last("cuDeviceGet"))?;
        let device = Self { ordinal, inner };
        let (capability, needed) = (device.compute_capability()?, image::NEEDED_CAPABILITY);
        if capability < needed {
            return Err(Error::DeviceTooOld { capability, needed });
        }
        Ok(device)
    }

    /// The device of the context that is current on this thread, as `cudaSetDevice` left it; `None` if there is none.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn current() -> Result<Option<Self>, Error> {
        if device_count()? == 0 || super::context::current()?.is_null() {
            return Ok(None);
        }
        let mut number = 0;
        // SAFETY: it is told where to write.
        if !succeeded(unsafe { sys::cuCtxGetDevice(&mut number) }) {
            return Err(Error::last("cuCtxGetDevice"));
        }
        // A CUdevice is its number.
        Self::get(usize::try_from(number).unwrap_or(usize::MAX)).map(Some)
    }

    /// Its number.
    #[must_use]
    pub fn ordinal(&self) -> usize {
        self.ordinal
    }

    /// Its name.
    ///
    /// # Errors
    /// The driver's.
    pub fn name(&self) -> Result<String, Error> {
        self.inner.name().map_err(|_| Error::last("cuDeviceGetName"))
    }

    /// Its compute capability: major, minor.
    ///
    /// # Errors
    /// The driver's.
    pub fn compute_capability(&self) -> Result<(u32, u32), Error> {
        let attribute = |which| match self.inner.get_attribute(which) {
            Ok(value) => Ok(u32::try_from(value).unwrap_or(0)),
            Err(_) => Err(Error::last("cuDeviceGetAttribute")),
        };
        Ok((attribute(DeviceAttribute::ComputeCapabilityMajor)?, attribute(DeviceAttribute::ComputeCapabilityMinor)?))
    }

    /// Bytes of its memory.
    ///
    /// # Errors
    /// The driver's.
    pub fn total_memory(&self) -> Result<usize, Error> {
        self.inner.total_memory().map_err(|_| Error::last("cuDeviceTotalMem_v2"))
    }
}
