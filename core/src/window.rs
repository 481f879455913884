//! How well Kronecker products approximate the second moment of a window of gradients (paper B, "A New Perspective on Shampoo's
//! Preconditioner", Figs. 1 and 2).
//!
//! Of W gradients `G` (m x n) the second moment is `H = mean g g^T`, mn x mn, which is never formed: with the linear maps
//! `A(R) = mean G R G^T` and `B(L) = mean G^T L G` of m x m and n x n matrices
//!
//! ```text
//! <H, L (x) R> = <A(R), L> = <B(L), R>          ||H||_F^2 = mean_ij (g_i . g_j)^2
//! ```

use crate::linalg::{LinAlg, LinAlgError, MatMut, MatRef, work_len};
use crate::magnitude::Magnitude;
use crate::rows::dot;
use crate::{Scalar, packed};

/// Most rounds of the alternation for the Kullback-Leibler factors and of the power iteration.
const ROUNDS: u32 = 100;

/// Cosine similarities `<H, L (x) R> / (||H|| ||L|| ||R||)` of a window's second moment with Kronecker products.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Similarity<T> {
    /// Shampoo squared: `L = E[G G^T]`, `R = E[G^T G]`. One round of the power iteration from the identity.
    pub shampoo_squared: T,
    /// Shampoo: `L^{1/2} (x) R^{1/2}` of these.
    pub shampoo: T,
    /// The minimum of `KL(H, L (x) R)`: `L = E[G R^-1 G^T] / n`, `R = E[G^T L^-1 G] / m` (paper A, "Understanding and Improving Shampoo
    /// and SOAP via Kullback-Leibler Minimization", Claim 2), by alternation.
    pub kullback_leibler: T,
    /// The best there is: the power iteration `L <- E[G R G^T]`, `R <- E[G^T L G]` from the best of the above, of which no round makes
    /// the similarity smaller.
    pub optimal: T,
    /// Of Shampoo's `L` with the optimal one (paper B, Fig. 2).
    pub left: T,
    /// Of Shampoo's `R` with the optimal one.
    pub right: T,
    /// Eigenvalues of the Kullback-Leibler factors that were raised in the last round, see [`window_similarity`]. If any were, the window
    /// is too short for a minimum to exist.
    pub raised: u32,
    /// Rounds until the Kullback-Leibler factors came to rest; 100 if they did not.
    pub rounds: u32,
}

/// Why there are no similarities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowError {
    /// The gradients have no rows or no columns, or there are none.
    ZeroDim,
    /// The buffer is not as long as its gradients.
    Length,
    /// Sizes do not fit the address space.
    Overflow,
    /// The scratch is shorter than [`window_scratch_len`].
    ScratchTooShort,
    /// A gradient has a NaN or an infinity.
    NotFinite,
    /// All gradients are zero.
    Zero,
    /// A product or factorisation failed.
    LinAlg(LinAlgError),
}

impl core::fmt::Display for WindowError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::ZeroDim => "a window has at least one gradient with rows and columns",
            Self::Length => "the buffer is not as long as its gradients",
            Self::Overflow => "the window does not fit the address space",
            Self::ScratchTooShort => "the scratch is too short",
            Self::NotFinite => "a gradient has a NaN or an infinity",
            Self::Zero => "all gradients of the window are zero",
            Self::LinAlg(error) => return error.fmt(f),
        })
    }
}

impl core::error::Error for WindowError {}

impl From<LinAlgError> for WindowError {
    fn from(error: LinAlgError) -> Self {
        Self::LinAlg(error)
    }
}

/// Elements of scratch that [`window_similarity`] needs for `count` gradients of `rows x cols`; `None` if they do not fit the address
/// space.
pub const fn window_scratch_len(rows: usize, cols: usize, count: usize) -> Option<usize> {
    const fn product(a: Option<usize>, b: usize) -> Option<usize> {
        match a {
            Some(a) => a.checked_mul(b),
            None => None,
        }
    }
    const fn sum(a: Option<usize>, b: Option<usize>) -> Option<usize> {
        match (a, b) {
            (Some(a), Some(b)) => a.checked_add(b),
            _ => None,
        }
    }
    let longest = if rows > cols { rows } else { cols };
    let (left, right, gradient) = (product(Some(rows), rows), product(Some(cols), cols), product(Some(rows), cols));
    let squares = sum(product(left, 3), product(right, 4));
    // work_len is a multiple of its argument.
    let factorisation = sum(product(product(Some(longest), longest), 2), product(Some(longest), 1 + work_len(1)));
    match sum(sum(squares, product(gradient, 2)), sum(factorisation, Some(count))) {
        Some(len) if len <= isize::MAX as usize / 8 => Some(len),
        _ => None,
    }
}

/// Compares the second moment of `count` gradients, `rows x cols` each, row-major, one after another in `grads`, with its Kronecker
/// approximations.
///
/// Where the Kullback-Leibler factors are singular, as they are when the window has too few gradients, their inverses do not exist. So
/// eigenvalues below `d` times the machine epsilon of the largest are raised to that before they are inverted, and no others: a
/// factor of full rank is inverted as it is.
///
/// A product of a round costs `2 count rows cols (rows + cols)` operations; at most 100 rounds, about as many for the optimum.
///
/// # Errors
/// [`WindowError`].
pub fn window_similarity<T: Scalar, L: LinAlg<T>>(
    grads: &[T],
    rows: usize,
    cols: usize,
    count: usize,
    scratch: &mut [T],
    linalg: &mut L,
) -> Result<Similarity<T>, WindowError> {
    if rows == 0 || cols == 0 || count == 0 {
        return Err(WindowError::ZeroDim);
    }
    let needed = window_scratch_len(rows, cols, count).ok_or(WindowError::Overflow)?;
    if Some(grads.len()) != rows.checked_mul(cols).and_then(|n| n.checked_mul(count)) {
        return Err(WindowError::Length);
    }
    if scratch.len() < needed {
        return Err(WindowError::ScratchTooShort);
    }
    let magnitude = Magnitude::of(grads).map_err(|_| WindowError::NotFinite)?;
    if magnitude.is_zero() {
        return Err(WindowError::Zero);
    }
    let mut rest = scratch;
    let mut take = |len: usize| rest.split_off_mut(..len).unwrap_or_default();
    let longest = rows.max(cols);
    let (x, y, gram) = (take(rows * cols), take(rows * cols), take(count));
    let (square, vectors) = (take(longest * longest), take(longest * longest));
    let (values, work) = (take(longest), take(work_len(longest)));
    let [left_0, left, last_left] = core::array::from_fn(|_| take(rows * rows));
    let [right_0, right, best, inverse] = core::array::from_fn(|_| take(cols * cols));
    let window = Window { grads, rows, cols, count, scale: magnitude.normaliser(), x, y, linalg };
    let factor = Factor { square, vectors, values, work };
    Comparison { window, factor, norm: T::ONE }.run(gram, [left_0, left, last_left], [right_0, right, best, inverse])
}

/// Scales a matrix to norm 1.
fn normalise<T: Scalar>(a: &mut [T]) {
    let norm = dot(a, a).sqrt().max(T::FLOOR);
    a.iter_mut().for_each(|x| *x /= norm);
}

/// The gradients and the two maps.
struct Window<'a, T, L> {
    grads: &'a [T],
    rows: usize,
    cols: usize,
    count: usize,
    /// A power of two that brings the largest element near 1: fourth powers of gradients leave the range.
    scale: T,
    /// A gradient, scaled.
    x: &'a mut [T],
    /// Its product with a factor.
    y: &'a mut [T],
    linalg: &'a mut L,
}

impl<T: Scalar, L: LinAlg<T>> Window<'_, T, L> {
    /// Gradient `i` times the scale, into `x`.
    fn load(&mut self, i: usize) {
        let n = self.rows * self.cols;
        for (x, &g) in self.x.iter_mut().zip(&self.grads[i * n..(i + 1) * n]) {
            *x = g * self.scale;
        }
    }

    /// `out = A(R) = mean G R G^T`, scaled to norm 1; without an `R`, of the identity. Returns what the norm was.
    fn left_of(&mut self, right: Option<&[T]>, out: &mut [T]) -> Result<T, LinAlgError> {
        let (m, n) = (self.rows, self.cols);
        for i in 0..self.count {
            self.load(i);
            let x = MatRef::row_major(self.x, m, n);
            let product = match right {
                Some(right) => {
                    self.linalg.matmul(MatMut::row_major(self.y, m, n), false, x, MatRef::row_major(right, n, n))?;
                    MatRef::row_major(self.y, m, n)
                }
                None => x,
            };
            self.linalg.matmul_lower(MatMut::row_major(out, m, m), i > 0, self.weight(), product, x.t())?;
        }
        Ok(finish(out, m))
    }

    /// `out = B(L) = mean G^T L G`, likewise.
    fn right_of(&mut self, left: Option<&[T]>, out: &mut [T]) -> Result<T, LinAlgError> {
        let (m, n) = (self.rows, self.cols);
        for i in 0..self.count {
            self.load(i);
            let x = MatRef::row_major(self.x, m, n);
            let product = match left {
                Some(left) => {
                    self.linalg.matmul(MatMut::row_major(self.y, m, n), false, MatRef::row_major(left, m, m), x)?;
                    MatRef::row_major(self.y, m, n)
                }
                None => x,
            };
            self.linalg.matmul_lower(MatMut::row_major(out, n, n), i > 0, self.weight(), x.t(), product)?;
        }
        Ok(finish(out, n))
    }

    fn weight(&self) -> T {
        T::ONE / T::from_usize(self.count)
    }

    /// `||H||_F` of the scaled gradients, from a row of their inner products at a time.
    fn norm(&mut self, gram: &mut [T]) -> Result<T, LinAlgError> {
        let n = self.rows * self.cols;
        let mut sum = T::ZERO;
        for i in 0..self.count {
            self.load(i);
            let (x, all) = (MatRef::row_major(self.x, 1, n), MatRef::row_major(self.grads, self.count, n));
            self.linalg.matmul(MatMut::row_major(gram, 1, self.count), false, x, all.t())?;
            gram.iter_mut().for_each(|x| *x *= self.scale);
            sum += dot(gram, gram);
        }
        Ok(sum.sqrt() * self.weight())
    }
}

/// Fills the upper triangle and scales to norm 1; returns the norm.
fn finish<T: Scalar>(square: &mut [T], d: usize) -> T {
    packed::mirror_up(square, d);
    let norm = dot(square, square).sqrt();
    normalise(square);
    norm
}

/// Functions of a symmetric matrix, by its eigenvalues.
struct Factor<'a, T> {
    square: &'a mut [T],
    vectors: &'a mut [T],
    values: &'a mut [T],
    work: &'a mut [T],
}

impl<T: Scalar> Factor<'_, T> {
    /// `out = f(S)` for a positive semidefinite `d x d` matrix `S`; `f` sees eigenvalues over the largest. Returns in how many it said so.
    fn map<L: LinAlg<T>>(
        &mut self,
        linalg: &mut L,
        d: usize,
        s: &[T],
        out: &mut [T],
        f: impl Fn(T) -> (T, bool),
    ) -> Result<u32, LinAlgError> {
        let (square, vectors) = (&mut self.square[..d * d], &mut self.vectors[..d * d]);
        let (values, work) = (&mut self.values[..d], &mut self.work[..work_len(d)]);
        square.copy_from_slice(s);
        linalg.eigh(MatMut::row_major(square, d, d), MatMut::row_major(vectors, d, d), values, work)?;
        let largest = values[0].max(T::FLOOR);
        let mut counted = 0;
        for value in values.iter_mut() {
            let (new, count) = f(*value / largest);
            *value = new;
            counted += u32::from(count);
        }
        for (scaled, row) in square.chunks_exact_mut(d).zip(vectors.chunks_exact(d)) {
            for ((out, &q), &value) in scaled.iter_mut().zip(row).zip(&*values) {
                *out = q * value;
            }
        }
        let (scaled, q) = (MatRef::row_major(square, d, d), MatRef::row_major(vectors, d, d));
        linalg.matmul_lower(MatMut::row_major(out, d, d), false, T::ONE, scaled, q.t())?;
        finish(out, d);
        Ok(counted)
    }

    fn root<L: LinAlg<T>>(&mut self, linalg: &mut L, d: usize, s: &[T], out: &mut [T]) -> Result<(), LinAlgError> {
        self.map(linalg, d, s, out, |value| (value.max(T::ZERO).sqrt(), false)).map(|_| ())
    }

    /// The inverse but for scale, with the ridge of [`window_similarity`]; returns how many eigenvalues were raised.
    fn inverse<L: LinAlg<T>>(&mut self, linalg: &mut L, d: usize, s: &[T], out: &mut [T]) -> Result<u32, LinAlgError> {
        let lowest = T::EPSILON * T::from_usize(d);
        self.map(linalg, d, s, out, |value| (T::ONE / value.max(lowest), value < lowest))
    }
}

/// All of it, under way.
struct Comparison<'a, T, L> {
    window: Window<'a, T, L>,
    factor: Factor<'a, T>,
    /// `||H||`
    norm: T,
}

impl<T: Scalar, L: LinAlg<T>> Comparison<'_, T, L> {
    fn run(mut self, gram: &mut [T], lefts: [&mut [T]; 3], rights: [&mut [T]; 4]) -> Result<Similarity<T>, WindowError> {
        let ([left_0, left, temporary], [right_0, right, best, inverse]) = (lefts, rights);
        let (m, n) = (self.window.rows, self.window.cols);
        self.norm = self.window.norm(gram)?;
        self.window.left_of(None, left_0)?;
        self.window.right_of(None, right_0)?;
        let mut found = Similarity { shampoo_squared: self.cosine(left_0, right_0, temporary)?, ..Similarity::default() };
        best.copy_from_slice(right_0);
        found.optimal = found.shampoo_squared;

        self.factor.root(self.window.linalg, m, left_0, left)?;
        self.factor.root(self.window.linalg, n, right_0, right)?;
        found.shampoo = self.cosine(left, right, temporary)?;
        if found.shampoo > found.optimal {
            best.copy_from_slice(right);
            found.optimal = found.shampoo;
        }

        left.copy_from_slice(left_0);
        (found.raised, found.rounds) = self.kullback_leibler(left, right, temporary, inverse)?;
        found.kullback_leibler = self.cosine(left, right, temporary)?;
        if found.kullback_leibler > found.optimal {
            best.copy_from_slice(right);
        }

        found.optimal = self.optimum(left, best)?;
        found.left = dot(left_0, left);
        found.right = dot(right_0, best);
        Ok(found)
    }

    /// The cosine of `L (x) R` with `H`, both of norm 1.
    fn cosine(&mut self, left: &[T], right: &[T], temporary: &mut [T]) -> Result<T, LinAlgError> {
        let norm = self.window.left_of(Some(right), temporary)?;
        Ok(dot(temporary, left) * norm / self.norm)
    }

    /// Alternates between the two conditions of Claim 2 from a given `L`. Returns how many eigenvalues the last round raised, and how
    /// many rounds there were.
    fn kullback_leibler(
        &mut self,
        left: &mut [T],
        right: &mut [T],
        last_left: &mut [T],
        inverse_right: &mut [T],
    ) -> Result<(u32, u32), LinAlgError> {
        let (m, n) = (self.window.rows, self.window.cols);
        // Below epsilon^(3/4) the changes are what inverting an ill-conditioned factor rounds to.
        let still = T::EPSILON.sqrt() * T::EPSILON.sqrt().sqrt();
        let mut raised = 0;
        for round in 1..=ROUNDS {
            last_left.copy_from_slice(left);
            raised = self.factor.inverse(self.window.linalg, m, last_left, left)?;
            self.window.right_of(Some(left), right)?;
            raised += self.factor.inverse(self.window.linalg, n, right, inverse_right)?;
            self.window.left_of(Some(inverse_right), left)?;
            let change = left.iter().zip(&*last_left).fold(T::ZERO, |sum, (&new, &old)| sum + (new - old) * (new - old));
            if change.sqrt() <= still {
                return Ok((raised, round));
            }
        }
        Ok((raised, ROUNDS))
    }

    /// The power iteration from `R`; leaves the pair in `left` and `right` and returns its cosine. Its norms grow with every half round.
    fn optimum(&mut self, left: &mut [T], right: &mut [T]) -> Result<T, LinAlgError> {
        let mut reached = T::ZERO;
        for _ in 0..ROUNDS {
            self.window.left_of(Some(right), left)?;
            let norm = self.window.right_of(Some(left), right)?;
            let gain = norm - reached;
            reached = norm;
            if gain <= T::EPSILON * norm {
                break;
            }
        }
        Ok(reached / self.norm)
    }
}
