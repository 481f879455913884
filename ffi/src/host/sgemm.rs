//! The caller's own matrix product, for the large ones; everything else is faer's.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};

use ::faer::linalg::matmul::triangular::{self, BlockStructure};
use ::faer::{Accum, Par};
use klshampoo::linalg::{LinAlg, LinAlgError, MatMut, MatRef};

use super::faer::Faer;
use super::faer::product::{view, view_mut};
use super::faer::registers::ClearRegisters;
use super::faer::tiles::{self, Shared};

/// C <- alpha op(A) op(B) + beta C, where op(X) is X, or its transpose with `transpose_x` other than 0: as cblas_sgemm with CblasRowMajor.
/// All matrices are row-major: C is m x n with rows `ldc` apart, op(A) m x k, op(B) k x n; A and B have rows `lda` and `ldb` apart. `beta`
/// is 0 or 1; with 0, C is not to be read, for it may hold anything. The same call must give the same bits. It must not throw or jump
/// out, and must not call into the optimizer that it works for.
#[allow(non_camel_case_types)]
pub type kls_sgemm = Option<
    unsafe extern "C" fn(
        user: *mut c_void,
        transpose_a: i32,
        transpose_b: i32,
        m: usize,
        n: usize,
        k: usize,
        alpha: f32,
        a: *const f32,
        lda: usize,
        b: *const f32,
        ldb: usize,
        beta: f32,
        c: *mut f32,
        ldc: usize,
    ),
>;

/// A [`kls_sgemm`] that is there.
type Function =
    unsafe extern "C" fn(*mut c_void, i32, i32, usize, usize, usize, f32, *const f32, usize, *const f32, usize, f32, *mut f32, usize);

/// The function and what is handed through to it.
#[derive(Clone, Copy)]
pub(crate) struct Sgemm {
    function: Function,
    user: *mut c_void,
}

// SAFETY: `user` is only handed through to the function, which by its contract may be called from any thread.
unsafe impl Send for Sgemm {}
// SAFETY: as above; and from several at once.
unsafe impl Sync for Sgemm {}

/// From this many multiplications on a product is worth the way to the caller's function. Documented in `kls_options`.
const LARGE: usize = 64 * 64 * 64;

/// No side of a product that is handed out is shorter. Likewise.
const SHORT: usize = 16;

impl Sgemm {
    /// The caller's function, if there is one.
    pub(super) fn new(function: kls_sgemm, user: *mut c_void) -> Option<Self> {
        function.map(|function| Self { function, user })
    }

    /// `C <- [C +] alpha A B`; returns whether `C` came out finite. Every matrix has contiguous rows or columns.
    fn product(
        self,
        c: ::faer::MatMut<'_, f32>,
        accumulate: bool,
        alpha: f32,
        a: ::faer::MatRef<'_, f32>,
        b: ::faer::MatRef<'_, f32>,
    ) -> bool {
        if c.col_stride() != 1 {
            return self.product(c.transpose_mut(), accumulate, alpha, b.transpose(), a.transpose());
        }
        let (m, n, k, ldc) = (c.nrows(), c.ncols(), a.ncols(), c.row_stride().unsigned_abs());
        let operand = |x: ::faer::MatRef<'_, f32>| match x.col_stride() {
            1 => (0, x.as_ptr(), x.row_stride().unsigned_abs()),
            ld => (1, x.as_ptr(), ld.unsigned_abs()),
        };
        let ((transpose_a, a, lda), (transpose_b, b, ldb)) = (operand(a), operand(b));
        let beta = if accumulate { 1.0 } else { 0.0 };
        // SAFETY: three matrices of these sizes and leading dimensions, of which the written one overlaps no other; by the word of the
        // caller of kls_optimizer_create the function does what its contract says.
        unsafe { (self.function)(self.user, transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c.as_ptr_mut(), ldc) };
        // Looked at here, where it costs one part in k: so a refresh whose product went wrong ends at once, and a step says which call it was. (The
        // step looks at what is to become state once more, for its size.)
        (0..m).all(|i| {
            // SAFETY: a row of `C`.
            let row = unsafe { std::slice::from_raw_parts(c.as_ptr().offset(i as isize * c.row_stride()), n) };
            row.iter().fold(true, |finite, x| finite & x.is_finite())
        })
    }
}

/// What products that came out finite, or not, come to.
fn outcome(finite: AtomicBool) -> Result<(), LinAlgError> {
    if finite.into_inner() { Ok(()) } else { Err(LinAlgError::NotFinite) }
}

/// faer with the caller's products. Large matrices are cut into the same tiles, so that threads can share them and no bit depends on
/// how many they are.
pub struct WithSgemm {
    sgemm: Sgemm,
    pub(super) faer: Faer,
}

impl core::fmt::Debug for WithSgemm {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("WithSgemm").field("faer", &self.faer).finish_non_exhaustive()
    }
}

impl WithSgemm {
    pub(crate) fn new(sgemm: Sgemm, faer: Faer) -> Self {
        Self { sgemm, faer }
    }
}

/// Whether a product goes to the caller.
fn is_large(c: &MatMut<'_, f32>, a: &MatRef<'_, f32>) -> bool {
    let (m, n, k) = (c.rows(), c.cols(), a.cols());
    m.min(n).min(k) >= SHORT && m * n * k >= LARGE
}

impl LinAlg<f32> for WithSgemm {
    fn matmul(&mut self, mut c: MatMut<'_, f32>, accumulate: bool, a: MatRef<'_, f32>, b: MatRef<'_, f32>) -> Result<(), LinAlgError> {
        let (sgemm, m, n) = (self.sgemm, c.rows(), c.cols());
        if is_large(&c, &a)
            && let (Some(to), Some(left), Some(right)) = (view_mut(&mut c), view(a), view(b))
        {
            let (to, strips, finite) = (Shared::new(to), tiles::pieces(n), AtomicBool::new(true));
            self.faer.team().0.run(tiles::pieces(m) * strips, |tile| {
                let (rows, cols) = (tiles::piece(m, tile / strips), tiles::piece(n, tile % strips));
                let (left, right) = (left.get(rows.clone(), ..), right.get(.., cols.clone()));
                // SAFETY: tiles are disjoint, and each is computed once.
                if !sgemm.product(unsafe { to.part(rows, cols) }, accumulate, 1.0, left, right) {
                    finite.store(false, Ordering::Relaxed);
                }
            });
            return outcome(finite);
        }
        self.faer.matmul(c, accumulate, a, b)
    }

    fn matmul_lower(
        &mut self,
        mut c: MatMut<'_, f32>,
        accumulate: bool,
        alpha: f32,
        a: MatRef<'_, f32>,
        b: MatRef<'_, f32>,
    ) -> Result<(), LinAlgError> {
        let (sgemm, d) = (self.sgemm, c.rows());
        // A single tile is all diagonal.
        if is_large(&c, &a)
            && tiles::pieces(d) > 1
            && let (Some(to), Some(left), Some(right)) = (view_mut(&mut c), view(a), view(b))
        {
            let _clear = ClearRegisters;
            let (to, finite) = (Shared::new(to), AtomicBool::new(true));
            let (lower, full) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
            let add = if accumulate { Accum::Add } else { Accum::Replace };
            self.faer.team().0.run(tiles::lower_pieces(d), |tile| {
                let (rows, cols) = tiles::lower_piece(d, tile);
                let (left, right) = (left.get(rows.clone(), ..), right.get(.., cols.clone()));
                let on_diagonal = rows == cols;
                // SAFETY: tiles are disjoint, and each is computed once.
                let to = unsafe { to.part(rows, cols) };
                if on_diagonal {
                    triangular::matmul(to, lower, add, left, full, right, full, alpha, Par::Seq);
                } else if !sgemm.product(to, accumulate, alpha, left, right) {
                    finite.store(false, Ordering::Relaxed);
                }
            });
            return outcome(finite);
        }
        self.faer.matmul_lower(c, accumulate, alpha, a, b)
    }

    fn qr(&mut self, a: MatMut<'_, f32>, q: MatMut<'_, f32>, work: &mut [f32]) -> Result<(), LinAlgError> {
        self.faer.qr(a, q, work)
    }

    fn cholesky(&mut self, a: MatMut<'_, f32>) -> Result<(), LinAlgError> {
        self.faer.cholesky(a)
    }

    fn solve_lower(&mut self, x: MatMut<'_, f32>, l: MatRef<'_, f32>) -> Result<(), LinAlgError> {
        self.faer.solve_lower(x, l)
    }

    fn eigh(&mut self, a: MatMut<'_, f32>, q: MatMut<'_, f32>, values: &mut [f32], work: &mut [f32]) -> Result<(), LinAlgError> {
        self.faer.eigh(a, q, values, work)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use klshampoo::linalg::Portable;

    use super::*;

    /// By the definition; counts its calls in `user`.
    unsafe extern "C" fn naive(
        user: *mut c_void,
        transpose_a: i32,
        transpose_b: i32,
        m: usize,
        n: usize,
        k: usize,
        alpha: f32,
        a: *const f32,
        lda: usize,
        b: *const f32,
        ldb: usize,
        beta: f32,
        c: *mut f32,
        ldc: usize,
    ) {
        // SAFETY: the test's own.
        unsafe { &*user.cast::<AtomicUsize>() }.fetch_add(1, Ordering::Relaxed);
        assert!(lda >= if transpose_a == 0 { k } else { m } && ldb >= if transpose_b == 0 { n } else { k } && ldc >= n);
        for i in 0..m {
            for j in 0..n {
                let element = |p: usize| {
                    let a_at = if transpose_a == 0 { i * lda + p } else { p * lda + i };
                    let b_at = if transpose_b == 0 { p * ldb + j } else { j * ldb + p };
                    // SAFETY: inside the matrices, by their sizes.
                    unsafe { *a.add(a_at) * *b.add(b_at) }
                };
                let sum: f32 = (0..k).map(element).sum();
                // SAFETY: likewise.
                unsafe {
                    let c = c.add(i * ldc + j);
                    *c = if beta == 0.0 { alpha * sum } else { alpha * sum + *c };
                }
            }
        }
    }

    /// How a matrix lies: its strides for a shape, and the elements that it takes.
    type Lay = fn(usize, usize) -> (usize, usize);
    const LAYS: [(&str, Lay); 5] = [
        ("rows", |_, n| (n, 1)),
        ("columns", |m, _| (1, m)),
        ("rows apart", |_, n| (n + 3, 1)),
        ("columns apart", |m, _| (1, m + 5)),
        ("neither", |_, n| (2 * n, 2)),
    ];

    /// A matrix, laid out; outside of it NaN.
    fn matrix(m: usize, n: usize, lay: Lay, seed: usize) -> Vec<f32> {
        let (rows, cols) = lay(m, n);
        let mut data = vec![f32::NAN; (m - 1) * rows + (n - 1) * cols + 1];
        for i in 0..m {
            for j in 0..n {
                data[i * rows + j * cols] = ((i * 31 + j * 17 + seed) % 23) as f32 / 11.0 - 1.0;
            }
        }
        data
    }

    #[test]
    fn products_are_right_for_every_layout_and_only_large_ones_of_contiguous_lines_are_handed_out() {
        let calls = AtomicUsize::new(0);
        let user = (&raw const calls).cast_mut().cast();
        let mut backend = WithSgemm::new(Sgemm::new(Some(naive), user).unwrap(), Faer::new(600).unwrap());
        for (m, n, k) in [(64, 64, 64), (80, 20, 300), (20, 270, 70), (15, 300, 300), (64, 64, 63)] {
            for (c_name, c_lay) in LAYS {
                for (a_name, a_lay) in LAYS {
                    for (b_name, b_lay) in LAYS {
                        let accumulate = (m + c_name.len() + a_name.len()) % 2 == 0;
                        let (a, b) = (matrix(m, k, a_lay, 1), matrix(k, n, b_lay, 2));
                        let mut c = matrix(m, n, c_lay, 3);
                        let (c_rows, c_cols) = c_lay(m, n);
                        if !accumulate {
                            c.fill(f32::NAN);
                        }
                        let mut expected = c.clone();
                        let (a_lay, b_lay) = (a_lay(m, k), b_lay(k, n));
                        let (a, b) = (MatRef::strided(&a, m, k, a_lay.0, a_lay.1), MatRef::strided(&b, k, n, b_lay.0, b_lay.1));
                        Portable.matmul(MatMut::strided(&mut expected, m, n, c_rows, c_cols), accumulate, a, b).unwrap();
                        calls.store(0, Ordering::Relaxed);
                        backend.matmul(MatMut::strided(&mut c, m, n, c_rows, c_cols), accumulate, a, b).unwrap();
                        let lines = [c_name, a_name, b_name].iter().all(|&name| name != "neither");
                        let out = m.min(n).min(k) >= SHORT && m * n * k >= LARGE && lines;
                        let tiles = if out { tiles::pieces(m) * tiles::pieces(n) } else { 0 };
                        assert_eq!(calls.load(Ordering::Relaxed), tiles, "{m} {n} {k}, {c_name}, {a_name}, {b_name}");
                        let close = |(&x, &y): (&f32, &f32)| (x.is_nan() && y.is_nan()) || (x - y).abs() <= 1e-3;
                        assert!(c.iter().zip(&expected).all(close), "{m} {n} {k}, {c_name}, {a_name}, {b_name}");
                    }
                }
            }
        }
    }

    #[test]
    fn of_a_lower_triangle_the_tiles_off_the_diagonal_are_handed_out() {
        let calls = AtomicUsize::new(0);
        let user = (&raw const calls).cast_mut().cast();
        let mut backend = WithSgemm::new(Sgemm::new(Some(naive), user).unwrap(), Faer::new(600).unwrap());
        for (d, k) in [(256, 40), (300, 20), (530, 17), (530, 15)] {
            for accumulate in [false, true] {
                let a = matrix(d, k, |_, n| (n, 1), 1);
                let a = MatRef::row_major(&a, d, k);
                let mut c = matrix(d, d, |_, n| (n, 1), 3);
                let mut expected = c.clone();
                Portable.matmul_lower(MatMut::row_major(&mut expected, d, d), accumulate, 0.5, a, a.t()).unwrap();
                calls.store(0, Ordering::Relaxed);
                backend.matmul_lower(MatMut::row_major(&mut c, d, d), accumulate, 0.5, a, a.t()).unwrap();
                let off_diagonal = tiles::lower_pieces(d) - tiles::pieces(d);
                assert_eq!(calls.load(Ordering::Relaxed), if k < SHORT { 0 } else { off_diagonal });
                assert!(c.iter().zip(&expected).all(|(x, y)| (x - y).abs() <= 1e-4), "{d}, {accumulate}");
            }
        }
    }
}
