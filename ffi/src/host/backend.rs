//! The backend that an optimizer was created with.

use klshampoo::linalg::{LinAlg, LinAlgError, MatMut, MatRef, Pass, Portable};

use super::faer::{Bf16, Faer};
use super::fallible::boxed;
use super::pool::Pool;
use super::sgemm::{Sgemm, WithSgemm};
use crate::status::{KLS_ERROR_OUT_OF_MEMORY, kls_status};

/// One of the backends, chosen once. The choice costs a branch per call, which a product does not notice.
#[derive(Debug)]
pub enum Backend {
    /// The core's own kernels.
    Portable(Portable),
    /// faer's kernels, with SIMD by run-time detection.
    Faer(Box<Faer>),
    /// The same, but for large products, which are the caller's.
    Sgemm(Box<WithSgemm>),
}

/// Which backend an optimizer works with; each thread has one of its own.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Portable,
    Faer(Option<Bf16>),
    Sgemm(Sgemm),
}

impl Kind {
    /// Makes one for matrices of up to `largest x largest`.
    ///
    /// # Errors
    /// `KLS_ERROR_OUT_OF_MEMORY`.
    pub(super) fn make(self, largest: usize) -> Result<Backend, kls_status> {
        let faer = || Faer::new(largest).map_err(|_| KLS_ERROR_OUT_OF_MEMORY);
        Ok(match self {
            Self::Portable => Backend::Portable(Portable),
            Self::Faer(bf16) => Backend::Faer(boxed(faer()?.with_bf16_products(bf16))?),
            Self::Sgemm(sgemm) => Backend::Sgemm(boxed(WithSgemm::new(sgemm, faer()?))?),
        })
    }

    /// Whether threads can share its work on one matrix.
    pub(super) fn is_shareable(self) -> bool {
        !matches!(self, Self::Portable)
    }
}

impl Backend {
    /// What it holds for itself.
    pub(super) fn scratch_bytes(&self) -> usize {
        match self {
            Self::Portable(_) => 0,
            Self::Faer(faer) => faer.scratch_bytes(),
            Self::Sgemm(products) => products.faer.scratch_bytes(),
        }
    }

    /// What its elementwise passes go by.
    #[inline(always)]
    fn faer(&self) -> Option<&Faer> {
        match self {
            Self::Portable(_) => None,
            Self::Faer(faer) => Some(faer),
            Self::Sgemm(products) => Some(&products.faer),
        }
    }

    /// See [`Faer::set_helpers`].
    pub(super) fn set_helpers(&mut self, helpers: Option<&'static Pool>) {
        match self {
            Self::Portable(_) => {}
            Self::Faer(faer) => faer.set_helpers(helpers),
            Self::Sgemm(products) => products.faer.set_helpers(helpers),
        }
    }
}

macro_rules! each {
    ($self:expr, $linalg:ident => $call:expr) => {
        match $self {
            Self::Portable($linalg) => $call,
            Self::Faer($linalg) => $call,
            Self::Sgemm($linalg) => $call,
        }
    };
}

impl LinAlg<f32> for Backend {
    fn matmul(&mut self, c: MatMut<'_, f32>, accumulate: bool, a: MatRef<'_, f32>, b: MatRef<'_, f32>) -> Result<(), LinAlgError> {
        each!(self, linalg => linalg.matmul(c, accumulate, a, b))
    }

    fn matmul_lower(
        &mut self,
        c: MatMut<'_, f32>,
        accumulate: bool,
        alpha: f32,
        a: MatRef<'_, f32>,
        b: MatRef<'_, f32>,
    ) -> Result<(), LinAlgError> {
        each!(self, linalg => linalg.matmul_lower(c, accumulate, alpha, a, b))
    }

    fn matmul_rounding(&mut self, c: MatMut<'_, f32>, accumulate: bool, a: MatRef<'_, f32>, b: MatRef<'_, f32>) -> Result<(), LinAlgError> {
        each!(self, linalg => linalg.matmul_rounding(c, accumulate, a, b))
    }

    fn matmul_lower_rounding(
        &mut self,
        c: MatMut<'_, f32>,
        accumulate: bool,
        alpha: f32,
        a: MatRef<'_, f32>,
        b: MatRef<'_, f32>,
    ) -> Result<(), LinAlgError> {
        each!(self, linalg => linalg.matmul_lower_rounding(c, accumulate, alpha, a, b))
    }

    fn upper_times(&mut self, c: MatMut<'_, f32>, u: MatRef<'_, f32>, b: MatRef<'_, f32>) -> Result<(), LinAlgError> {
        each!(self, linalg => linalg.upper_times(c, u, b))
    }

    fn qr(&mut self, a: MatMut<'_, f32>, q: MatMut<'_, f32>, work: &mut [f32]) -> Result<(), LinAlgError> {
        each!(self, linalg => linalg.qr(a, q, work))
    }

    fn cholesky(&mut self, a: MatMut<'_, f32>) -> Result<(), LinAlgError> {
        each!(self, linalg => linalg.cholesky(a))
    }

    fn solve_lower(&mut self, x: MatMut<'_, f32>, l: MatRef<'_, f32>) -> Result<(), LinAlgError> {
        each!(self, linalg => linalg.solve_lower(x, l))
    }

    fn eigh(&mut self, a: MatMut<'_, f32>, q: MatMut<'_, f32>, values: &mut [f32], work: &mut [f32]) -> Result<(), LinAlgError> {
        each!(self, linalg => linalg.eigh(a, q, values, work))
    }

    /// The caller's products are looked at by the step.
    fn is_trusted(&self) -> bool {
        !matches!(self, Self::Sgemm(_))
    }

    #[inline(always)]
    fn vectorise<P: Pass<Self>>(&self, pass: P) -> P::Output {
        match self.faer() {
            Some(faer) => faer.vectorise_with(self, pass),
            None => pass.run(self),
        }
    }

    #[inline(always)]
    fn shares(&self) -> bool {
        self.faer().is_some_and(Faer::has_helpers)
    }

    fn share<P: Pass<Self, Output = ()> + Send>(&self, parts: &mut [Option<P>]) {
        match self.faer() {
            Some(faer) => faer.share_with(self, parts),
            None => parts.iter_mut().filter_map(Option::take).for_each(|part| part.run(self)),
        }
    }

    #[inline(always)]
    fn sqrt(&self, x: f32) -> f32 {
        x.sqrt()
    }
}
