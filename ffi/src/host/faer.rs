//! The host's linear algebra: faer's kernels, with all scratch memory owned up front. Large matrices are cut into tiles, which several threads
//! may share.
//!
//! faer picks its kernels by the processor's features at run time, so a result is the same for the same features only.
//! Small problems, and layouts that faer has no kernel for, go to [`Portable`].

mod bf16;
mod cholesky;
mod columns;
mod eigen;
mod factor;
pub(super) mod product;
pub(super) mod registers;
pub(super) mod tiles;
mod upper;

use ::faer::dyn_stack::{MemBuffer, MemStack, StackReq};
use ::faer::traits::RealField;
use klshampoo::Scalar;
use klshampoo::linalg::{LinAlg, LinAlgError, MatMut, MatRef, Pass, Portable};
use pulp::{Arch, NullaryFnOnce};

pub use self::bf16::Bf16;
use self::registers::ClearRegisters;
use self::tiles::{Shared, Team};
use super::pool::Pool;

/// Up to this dimension the orthogonal factor comes from [`Portable`]. Microseconds on a Zen 3 core, `f32`, [`Portable`] against faer:
/// 4.9 / 14.5 at 16, 22 / 37 at 32, 59 / 66 at 48, 123 / 103 at 64.
const SMALL_QR: usize = 48;

/// Up to this dimension the eigendecomposition comes from [`Portable`]. As above: 15 / 24 at 16, 61 / 90 at 32, 315 / 356 at 64,
/// 862 / 820 at 96.
const SMALL_EIGH: usize = 64;

/// The backend of hosts. One for each thread that steps.
///
/// Nothing is allocated after [`Faer::new`], but for packing buffers that faer and bfloat16 products keep for each thread from its first
/// large product on.
pub struct Faer {
    scratch: MemBuffer,
    /// For elementwise passes; faer detects for itself.
    simd: Arch,
    /// Threads that help with large matrices.
    helpers: Option<&'static Pool>,
    /// How products of `f32` are made whose operands may be rounded.
    bf16: Option<Bf16>,
}

/// The memory for a backend's scratch could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

impl core::fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the memory for the backend's scratch could not be had")
    }
}

impl core::error::Error for OutOfMemory {}

impl core::fmt::Debug for Faer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Faer").field("scratch_bytes", &self.scratch.len()).finish()
    }
}

impl Faer {
    /// Bytes of its scratch.
    pub(super) fn scratch_bytes(&self) -> usize {
        self.scratch.len()
    }

    /// A backend that factorises `f32` matrices of up to `max_dim x max_dim`.
    ///
    /// # Errors
    /// When the memory for its scratch cannot be had.
    pub fn new(max_dim: usize) -> Result<Self, OutOfMemory> {
        Self::sized_for::<f32>(max_dim)
    }

    /// A backend that factorises matrices of up to `max_dim x max_dim` of the given element type.
    ///
    /// Larger ones are factorised all the same, by [`Portable`].
    ///
    /// # Errors
    /// When the memory for its scratch cannot be had.
    pub fn sized_for<T: RealField>(max_dim: usize) -> Result<Self, OutOfMemory> {
        let requirements: [fn(usize) -> StackReq; 4] =
            [product::scratch::<T>, factor::scratch::<T>, eigen::scratch::<T>, cholesky::scratch::<T>];
        // Requirements need not grow with the dimension: their block sizes do not.
        let of = |d: usize| StackReq::any_of(&requirements.map(|requirement| requirement(d)));
        let scratch = (0..=max_dim).map(of).fold(StackReq::empty(), StackReq::or);
        Ok(Self { scratch: MemBuffer::try_new(scratch).map_err(|_| OutOfMemory)?, simd: Arch::new(), helpers: None, bf16: None })
    }

    /// The SIMD levels of this machine, from the target's baseline to the best.
    pub fn simd_levels() -> Vec<Arch> {
        let mut levels = vec![Arch::Scalar];
        #[cfg(target_arch = "x86_64")]
        levels.extend(pulp::x86::V3::try_new().map(Arch::V3));
        if !matches!(Arch::new(), Arch::Scalar) {
            levels.push(Arch::new());
        }
        levels
    }

    /// The same with elementwise passes at one of [`Self::simd_levels`] instead of the best. Their results are the same bits at any of them.
    #[must_use]
    pub fn with_simd(self, simd: Arch) -> Self {
        Self { simd, ..self }
    }

    /// The same with `f32` operands rounded to bfloat16 in large products that allow it, or not (the default). Sums are `f32`.
    #[must_use]
    pub fn with_bf16_products(self, bf16: Option<Bf16>) -> Self {
        Self { bf16, ..self }
    }

    /// See [`LinAlg::matmul_rounding`].
    pub(super) fn matmul_rounding(
        &mut self,
        mut c: MatMut<'_, f32>,
        accumulate: bool,
        a: MatRef<'_, f32>,
        b: MatRef<'_, f32>,
    ) -> Result<(), LinAlgError> {
        let bf16 = self.bf16.filter(|bf16| bf16.pays(&c, &a));
        if bf16.is_some_and(|bf16| bf16.matmul(c.reborrow(), accumulate, a, b, self.team().0)) {
            return Ok(());
        }
        self.matmul(c, accumulate, a, b)
    }

    /// See [`LinAlg::matmul_lower_rounding`].
    pub(super) fn matmul_lower_rounding(
        &mut self,
        mut c: MatMut<'_, f32>,
        accumulate: bool,
        alpha: f32,
        a: MatRef<'_, f32>,
        b: MatRef<'_, f32>,
    ) -> Result<(), LinAlgError> {
        let bf16 = self.bf16.filter(|bf16| bf16.pays(&c, &a));
        if bf16.is_some_and(|bf16| bf16.matmul_lower(c.reborrow(), accumulate, alpha, a, b, self.team().0)) {
            return Ok(());
        }
        self.matmul_lower(c, accumulate, alpha, a, b)
    }

    /// Has the threads of a pool, none of which is busy, help with large matrices from now on, or none. No bit of a result depends on it.
    pub(super) fn set_helpers(&mut self, helpers: Option<&'static Pool>) {
        self.helpers = helpers;
    }

    /// Who works on what is large.
    fn threads(&self) -> Team<'static> {
        self.helpers.map_or(Team::Alone, Team::Pool)
    }

    /// Who works on a large matrix, and the memory for it.
    pub(super) fn team(&mut self) -> (Team<'_>, &mut MemStack) {
        (self.threads(), MemStack::new(&mut self.scratch))
    }

    /// Makes a pass, compiled for the level, with `linalg` at hand.
    #[inline(always)]
    pub fn vectorise_with<L, P: Pass<L>>(&self, linalg: &L, pass: P) -> P::Output {
        self.simd.dispatch(AtLevel { linalg, pass })
    }

    /// Whether other threads help.
    #[inline(always)]
    pub(super) fn has_helpers(&self) -> bool {
        self.helpers.is_some()
    }

    /// Makes passes that touch disjoint memory, the helpers too, each as [`Self::vectorise_with`].
    pub(super) fn share_with<L: Sync, P: Pass<L, Output = ()> + Send>(&self, linalg: &L, parts: &mut [Option<P>]) {
        let count = parts.len();
        let parts = Shared::new(::faer::MatMut::from_column_major_slice_mut(parts, count, 1));
        self.threads().run(count, |i| {
            // SAFETY: each is taken once.
            let part = unsafe { &mut *parts.part(i..i + 1, 0..1).as_ptr_mut() };
            if let Some(pass) = part.take() {
                self.vectorise_with(linalg, pass);
            }
        });
    }
}

/// A pass as pulp takes it: see [`Pass`] for why it is no closure.
struct AtLevel<'a, L, P> {
    linalg: &'a L,
    pass: P,
}

impl<L, P: Pass<L>> NullaryFnOnce for AtLevel<'_, L, P> {
    type Output = P::Output;

    #[inline(always)]
    fn call(self) -> P::Output {
        self.pass.run(self.linalg)
    }
}

impl<T: Scalar + RealField> LinAlg<T> for Faer {
    fn matmul(&mut self, c: MatMut<'_, T>, accumulate: bool, a: MatRef<'_, T>, b: MatRef<'_, T>) -> Result<(), LinAlgError> {
        let _clear = ClearRegisters;
        let (team, stack) = self.team();
        product::matmul(c, accumulate, a, b, team, stack)
    }

    fn matmul_lower(
        &mut self,
        c: MatMut<'_, T>,
        accumulate: bool,
        alpha: T,
        a: MatRef<'_, T>,
        b: MatRef<'_, T>,
    ) -> Result<(), LinAlgError> {
        let _clear = ClearRegisters;
        let (team, stack) = self.team();
        product::matmul_lower(c, accumulate, alpha, a, b, team, stack)
    }

    fn upper_times(&mut self, c: MatMut<'_, T>, u: MatRef<'_, T>, b: MatRef<'_, T>) -> Result<(), LinAlgError> {
        let _clear = ClearRegisters;
        upper::upper_times(c, u, b, self.threads())
    }

    fn qr(&mut self, a: MatMut<'_, T>, q: MatMut<'_, T>, work: &mut [T]) -> Result<(), LinAlgError> {
        let d = a.rows();
        let stack = MemStack::new(&mut self.scratch);
        if d > SMALL_QR && stack.can_hold(factor::scratch::<T>(d)) && columns::is_dense(&a) && columns::is_dense(&q) {
            let _clear = ClearRegisters;
            factor::qr(a, q, stack)
        } else {
            Portable.qr(a, q, work)
        }
    }

    fn cholesky(&mut self, a: MatMut<'_, T>) -> Result<(), LinAlgError> {
        let _clear = ClearRegisters;
        let (team, stack) = self.team();
        cholesky::cholesky(a, team, stack)
    }

    fn solve_lower(&mut self, x: MatMut<'_, T>, l: MatRef<'_, T>) -> Result<(), LinAlgError> {
        let _clear = ClearRegisters;
        let (team, stack) = self.team();
        cholesky::solve_lower(x, l, team, stack)
    }

    fn eigh(&mut self, a: MatMut<'_, T>, q: MatMut<'_, T>, values: &mut [T], work: &mut [T]) -> Result<(), LinAlgError> {
        let d = a.rows();
        let stack = MemStack::new(&mut self.scratch);
        if d > SMALL_EIGH && stack.can_hold(eigen::scratch::<T>(d)) && columns::is_dense(&a) && columns::is_dense(&q) {
            let _clear = ClearRegisters;
            eigen::eigh(a, q, values, work, stack)
        } else {
            Portable.eigh(a, q, values, work)
        }
    }

    #[inline(always)]
    fn is_trusted(&self) -> bool {
        true
    }

    #[inline(always)]
    fn vectorise<P: Pass<Self>>(&self, pass: P) -> P::Output {
        self.vectorise_with(self, pass)
    }

    #[inline(always)]
    fn shares(&self) -> bool {
        self.has_helpers()
    }

    fn share<P: Pass<Self, Output = ()> + Send>(&self, parts: &mut [Option<P>]) {
        self.share_with(self, parts);
    }

    #[inline(always)]
    fn sqrt(&self, x: T) -> T {
        ::faer::traits::math_utils::sqrt(&x)
    }
}
