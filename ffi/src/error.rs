//! Why a call failed and where: what its status and its message are made of.

use klshampoo::{StepError, StepErrorKind};

use crate::place::Place;
use crate::status::{from_step, kls_status};

/// Why a call failed. A status alone becomes one by `?` or `into`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the call returns.
    pub status: kls_status,
    /// The number that the system gave, or for KLS_ERROR_CUDA_* the driver; 0 where none of their calls failed.
    #[cfg(feature = "host")]
    pub(crate) code: i32,
    pub(crate) place: Place,
}

/// What a call that returns nothing but its status comes to.
pub type Outcome = Result<(), Failure>;

impl Failure {
    /// A status with more to say than its own text.
    pub const fn because(status: kls_status, because: &'static str) -> Self {
        Self { place: Place::because(because), ..Self::new(status) }
    }

    /// The same, in an element of an array.
    #[must_use]
    pub fn at_element(mut self, field: &'static str, element: usize) -> Self {
        self.place.set_element(field, element);
        self
    }

    /// The same, with what the system said.
    #[cfg(feature = "host")]
    pub(crate) fn with_os_error(mut self, code: Option<i32>) -> Self {
        self.code = code.unwrap_or(0);
        self
    }

    /// A call of the CUDA driver, or of cuBLAS, that failed, with its number and the words for that. `status` is one of KLS_ERROR_CUDA_*.
    #[cfg(feature = "host")]
    #[must_use]
    pub const fn of_driver(status: kls_status, call: &'static str, code: u32, words: &'static str) -> Self {
        Self { status, code: code as i32, place: Place::in_call(call, words) }
    }

    const fn new(status: kls_status) -> Self {
        Self {
            status,
            #[cfg(feature = "host")]
            code: 0,
            place: Place::NOWHERE,
        }
    }
}

impl From<kls_status> for Failure {
    fn from(status: kls_status) -> Self {
        Self::new(status)
    }
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Self {
        let mut failure = Self::new(from_step(error.kind));
        // These are about the call, whatever tensor they name.
        if !matches!(error.kind, StepErrorKind::LearningRate | StepErrorKind::TensorCount) {
            failure.place.set_slice(error.tensor, error.slice);
        }
        failure
    }
}

/// Says where a failure happened; what it knows already stays.
///
/// # Errors
/// Those of the result.
pub trait Locate<T> {
    /// In this argument of the call, or this field of a struct.
    fn of_field(self, field: &'static str) -> Result<T, Failure>;
    /// In this element of an array.
    fn of_element(self, field: &'static str, element: usize) -> Result<T, Failure>;
    /// In this group.
    fn of_group(self, group: usize) -> Result<T, Failure>;
    /// In this tensor.
    fn of_tensor(self, tensor: usize) -> Result<T, Failure>;
    /// In this mode.
    fn of_mode(self, mode: usize) -> Result<T, Failure>;
}

impl<T, E: Into<Failure>> Locate<T> for Result<T, E> {
    fn of_field(self, field: &'static str) -> Result<T, Failure> {
        locate(self, |place| place.add_field(field))
    }

    fn of_element(self, field: &'static str, element: usize) -> Result<T, Failure> {
        self.map_err(|error| error.into().at_element(field, element))
    }

    fn of_group(self, group: usize) -> Result<T, Failure> {
        locate(self, |place| place.add_group(group))
    }

    fn of_tensor(self, tensor: usize) -> Result<T, Failure> {
        locate(self, |place| place.add_tensor(tensor))
    }

    fn of_mode(self, mode: usize) -> Result<T, Failure> {
        locate(self, |place| place.add_mode(mode))
    }
}

fn locate<T, E: Into<Failure>>(result: Result<T, E>, here: impl FnOnce(&mut Place)) -> Result<T, Failure> {
    result.map_err(|error| {
        let mut failure = error.into();
        here(&mut failure.place);
        failure
    })
}
