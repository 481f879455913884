//! Why a call failed and where: what its status and its message are made of.

use klshampoo::{StepError, StepErrorKind};

use crate::place::Place;
use crate::status::{from_step, kls_status};

/// Why a call failed. A status alone becomes one by `?` or `into`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub status: kls_status,
    /// The system's own number for what went wrong in one of its calls; 0 where it was none of them.
    #[cfg(feature = "host")]
    pub os_error: i32,
    pub place: Place,
}

/// What a call that returns nothing but its status comes to.
pub(crate) type Outcome = Result<(), Failure>;

impl Failure {
    /// A status with more to say than its own text.
    pub(crate) const fn because(status: kls_status, because: &'static str) -> Self {
        Self { place: Place::because(because), ..Self::new(status) }
    }

    /// The same, in an element of an array.
    pub(crate) fn at_element(mut self, field: &'static str, element: usize) -> Self {
        self.place.set_element(field, element);
        self
    }

    /// The same, with what the system said.
    #[cfg(feature = "host")]
    pub(crate) fn with_os_error(mut self, code: Option<i32>) -> Self {
        self.os_error = code.unwrap_or(0);
        self
    }

    const fn new(status: kls_status) -> Self {
        Self {
            status,
            #[cfg(feature = "host")]
            os_error: 0,
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
pub(crate) trait Locate<T> {
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
