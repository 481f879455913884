//! A backend that fails, or lies, in the calls that a test chooses.

use klshampoo::linalg::{LinAlg, LinAlgError, MatMut, MatRef, Portable, work_len};

use crate::harness::Make;

/// What a call that goes wrong leaves in its outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rubbish {
    /// What it was asked for.
    Result,
    /// What was there before.
    Nothing,
    /// NaN.
    Nan,
    /// Infinities of both signs.
    Infinity,
    /// Numbers whose squares leave the range.
    Huge,
    /// The largest numbers that there are.
    Largest,
    /// Numbers below 1 that have nothing to do with the inputs.
    Plausible,
}

impl Rubbish {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::Result, Self::Nothing, Self::Nan, Self::Infinity, Self::Huge, Self::Largest, Self::Plausible];

    /// In place of an element; `None` if that stays as it is.
    fn number(self, row: usize, column: usize) -> Option<f32> {
        let sign = if (row + column).is_multiple_of(2) { 1.0 } else { -1.0 };
        match self {
            Self::Result | Self::Nothing => None,
            Self::Nan => Some(f32::NAN),
            Self::Infinity => Some(sign * f32::INFINITY),
            Self::Huge => Some(sign * 1e30),
            Self::Largest => Some(sign * f32::MAX),
            Self::Plausible => Some(((7 * row + 3 * column + 1) % 5) as f32 * 0.3 - 0.5),
        }
    }

    fn fill(self, values: &mut [f32]) {
        values.iter_mut().enumerate().filter_map(|(i, x)| Some((x, self.number(i, 0)?))).for_each(|(x, number)| *x = number);
    }

    /// Overwrites the elements of a matrix, or its lower triangle.
    fn spoil(self, m: &mut MatMut<'_, f32>, lower: bool) {
        for i in 0..m.rows() {
            (0..if lower { i + 1 } else { m.cols() }).for_each(|j| self.spoil_element(m, i, j));
        }
    }

    fn spoil_element(self, m: &mut MatMut<'_, f32>, i: usize, j: usize) {
        let at = i * m.row_stride() + j * m.col_stride();
        m.data()[at] = self.number(i, j).unwrap_or(m.data()[at]);
    }
}

/// What goes wrong in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails, as the trait allows.
    Fails(LinAlgError, Rubbish),
    /// It says that all is well.
    Lies(Rubbish),
    /// The same, of one element: the first one of the last row, on which no diagonal depends.
    LiesOnce(Rubbish),
}

/// Portable, but for the calls that are to go wrong. Checks its own contract.
#[derive(Clone, Debug, Default)]
pub struct Failing {
    /// Calls so far.
    pub calls: usize,
    /// What goes wrong in which of them.
    pub faults: Vec<(usize, Fault)>,
    /// Whether every factorisation of a refresh fails.
    pub no_qr: bool,
    /// Whether symmetric products come out infinite, as with a narrower range.
    pub overflows: bool,
}

impl Make for Failing {
    fn make() -> Self {
        Self::default()
    }
}

impl Failing {
    /// One that fails in call number `at`, if that is one, and leaves NaN.
    pub fn at(at: Option<usize>) -> Self {
        let faults = at.map(|at| (at, Fault::Fails(LinAlgError::Backend, Rubbish::Nan))).into_iter().collect();
        Self { faults, ..Self::default() }
    }

    fn next(&mut self) -> Option<Fault> {
        let call = self.calls;
        self.calls += 1;
        self.faults.iter().find(|(at, _)| *at == call).map(|&(_, fault)| fault)
    }
}

/// Does a call's work unless it is to leave everything as it was. What it comes to counts where nothing is to go wrong.
fn attempt(fault: Option<Fault>, call: impl FnOnce() -> Result<(), LinAlgError>) -> Result<(), LinAlgError> {
    match fault {
        Some(Fault::Fails(_, Rubbish::Nothing) | Fault::Lies(Rubbish::Nothing)) => Ok(()),
        Some(_) => call().or(Ok(())),
        None => call(),
    }
}

/// What a call comes to whose outputs are these matrices, of which some are lower triangles, and these vectors.
fn conclude(fault: Option<Fault>, matrices: &mut [(MatMut<'_, f32>, bool)], vectors: &mut [&mut [f32]]) -> Result<(), LinAlgError> {
    match fault {
        None => {}
        Some(Fault::Fails(_, rubbish) | Fault::Lies(rubbish)) => {
            matrices.iter_mut().for_each(|(matrix, lower)| rubbish.spoil(matrix, *lower));
            vectors.iter_mut().for_each(|vector| rubbish.fill(vector));
        }
        Some(Fault::LiesOnce(rubbish)) => {
            matrices.iter_mut().for_each(|(matrix, _)| rubbish.spoil_element(matrix, matrix.rows() - 1, 0));
        }
    }
    match fault {
        Some(Fault::Fails(error, _)) => Err(error),
        None | Some(Fault::Lies(_) | Fault::LiesOnce(_)) => Ok(()),
    }
}

impl LinAlg<f32> for Failing {
    fn matmul(&mut self, mut c: MatMut<'_, f32>, accumulate: bool, a: MatRef<'_, f32>, b: MatRef<'_, f32>) -> Result<(), LinAlgError> {
        assert_eq!((c.rows(), c.cols(), a.cols()), (a.rows(), b.cols(), b.rows()));
        let fault = self.next();
        attempt(fault, || Portable.matmul(c.reborrow(), accumulate, a, b))?;
        conclude(fault, &mut [(c.reborrow(), false)], &mut [])
    }

    fn matmul_lower(
        &mut self,
        mut c: MatMut<'_, f32>,
        accumulate: bool,
        alpha: f32,
        a: MatRef<'_, f32>,
        b: MatRef<'_, f32>,
    ) -> Result<(), LinAlgError> {
        assert_eq!((c.rows(), c.cols(), a.cols()), (a.rows(), b.cols(), b.rows()));
        let fault = self.next();
        attempt(fault, || Portable.matmul_lower(c.reborrow(), accumulate, alpha, a, b))?;
        if self.overflows {
            c.data()[0] = f32::INFINITY;
        }
        conclude(fault, &mut [(c.reborrow(), true)], &mut [])
    }

    fn qr(&mut self, mut a: MatMut<'_, f32>, mut q: MatMut<'_, f32>, work: &mut [f32]) -> Result<(), LinAlgError> {
        assert!(work.len() >= work_len(a.rows()), "{} elements of work for {} rows", work.len(), a.rows());
        let fault = self.next().or(self.no_qr.then_some(Fault::Fails(LinAlgError::NoConvergence, Rubbish::Nan)));
        attempt(fault, || Portable.qr(a.reborrow(), q.reborrow(), work))?;
        conclude(fault, &mut [(a.reborrow(), false), (q.reborrow(), false)], &mut [work])
    }

    fn cholesky(&mut self, mut a: MatMut<'_, f32>) -> Result<(), LinAlgError> {
        let fault = self.next().or(self.no_qr.then_some(Fault::Fails(LinAlgError::NotPositive, Rubbish::Nan)));
        attempt(fault, || Portable.cholesky(a.reborrow()))?;
        conclude(fault, &mut [(a.reborrow(), true)], &mut [])
    }

    fn solve_lower(&mut self, mut x: MatMut<'_, f32>, l: MatRef<'_, f32>) -> Result<(), LinAlgError> {
        let fault = self.next();
        attempt(fault, || Portable.solve_lower(x.reborrow(), l))?;
        conclude(fault, &mut [(x.reborrow(), false)], &mut [])
    }

    fn eigh(&mut self, mut a: MatMut<'_, f32>, mut q: MatMut<'_, f32>, values: &mut [f32], work: &mut [f32]) -> Result<(), LinAlgError> {
        assert!(work.len() >= work_len(a.rows()) && values.len() == a.rows());
        let fault = self.next();
        attempt(fault, || Portable.eigh(a.reborrow(), q.reborrow(), values, work))?;
        conclude(fault, &mut [(a.reborrow(), false), (q.reborrow(), false)], &mut [values, work])
    }
}
