//! An optimizer of one tensor, and what can be measured of it.

use klshampoo::linalg::Portable;
use klshampoo::{SliceHeader, StatePart, StepError, TensorSpec};
use klshampoo_tests::golden::norm;
use klshampoo_tests::harness::{Core, Driver, Number, widened};

use crate::methods::Method;

/// An optimizer in single precision, its parameter, and a twin in double precision that takes its state when it is asked.
#[derive(Clone, Debug)]
pub struct Subject {
    core: Core<f32, Portable>,
    twin: Core<f64, Portable>,
    param: Vec<f32>,
    /// Steps that were refused.
    pub refused: u64,
}

/// The learning rate of every step.
const LR: f32 = 1e-3;

impl Subject {
    /// Of a tensor of this shape, whose parameter is zero.
    ///
    /// # Panics
    /// If there is no such tensor.
    #[must_use]
    pub fn new(method: &Method, dims: &[usize]) -> Self {
        let spec = TensorSpec::new(dims).expect("a shape");
        let (core, twin) = (Core::table(&[method.single], &[spec]), Core::table(&[method.double], &[spec]));
        let param = vec![0.0; dims.iter().product()];
        Self { core, twin, param, refused: 0 }
    }

    /// Elements of the tensor.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.param.len()
    }

    /// A step.
    ///
    /// # Errors
    /// What the optimizer says; it is counted.
    pub fn step(&mut self, grad: &[f32]) -> Result<(), StepError> {
        let (mut optimizer, scratch, linalg) = self.core.view();
        let result = optimizer.step_tensor(0, &mut self.param, grad, LR, scratch, linalg);
        self.refused += u64::from(result.is_err());
        result.map(|_| ())
    }

    /// The counters.
    #[must_use]
    pub fn header(&self) -> &SliceHeader {
        &self.core.headers[0]
    }

    /// Root mean square of the last update.
    #[must_use]
    pub fn update_rms(&self) -> f64 {
        f64::from(self.header().update_rms)
    }

    /// Whether state and parameter are.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.core.state.iter().chain(&self.param).all(|x| x.is_finite()) && self.update_rms().is_finite()
    }

    /// The largest element of `Q^T Q - I` over all bases, in double precision.
    #[must_use]
    pub fn orthogonality_error(&mut self) -> f64 {
        let shape = *self.core.tensors[0].layout().shape();
        let mut worst = 0.0;
        for k in (0..shape.order()).filter(|&k| shape.is_full(k)) {
            let (d, q) = (shape.dim(k), widened(&self.core.read(StatePart::Basis(k))));
            for i in 0..d {
                for j in 0..=i {
                    let dot: f64 = (0..d).map(|row| q[row * d + i] * q[row * d + j]).sum();
                    worst = f64::max(worst, (dot - f64::from(u8::from(i == j))).abs());
                }
            }
        }
        worst
    }

    /// The smallest eigenvalue; infinite of a method that has none.
    #[must_use]
    pub fn smallest_eigenvalue(&mut self) -> f64 {
        let layout = *self.core.tensors[0].layout();
        let mut smallest = f64::INFINITY;
        for k in (0..layout.shape().order()).filter(|&k| layout.has_lambda(k)) {
            smallest = widened(&self.core.read(StatePart::Eigenvalues(k))).into_iter().fold(smallest, f64::min);
        }
        smallest
    }

    /// 1 less the cosine of the next update and the one that double precision makes of the same state, widened, and the same gradient; nothing of
    /// it stays. 0 if both are zero.
    ///
    /// # Errors
    /// If one of them refuses the step.
    pub fn distance_from_double(&self, grad: &[f32]) -> Result<f64, StepError> {
        let mut single = self.clone();
        let Self { core, twin, .. } = &mut single;
        twin.state = widened(&core.state);
        twin.headers.clone_from(&core.headers);
        let (a, b) = (direction(core, grad)?, direction(twin, &widened(grad))?);
        let length = |x: &[f64]| norm(x.iter().copied());
        let (lengths, dot) = ((length(&a), length(&b)), a.iter().zip(&b).map(|(a, b)| a * b).sum::<f64>());
        Ok(if lengths == (0.0, 0.0) { 0.0 } else { 1.0 - dot / lengths.0 / lengths.1 })
    }
}

/// A step from a parameter of zero at a learning rate of 1 is the direction.
fn direction<T: Number>(core: &mut Core<T, Portable>, grad: &[T]) -> Result<Vec<f64>, StepError> {
    let mut param = vec![T::ZERO; grad.len()];
    let (mut optimizer, scratch, linalg) = core.view();
    optimizer.step_tensor(0, &mut param, grad, T::ONE, scratch, linalg)?;
    Ok(widened(&param))
}
