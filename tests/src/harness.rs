//! One tensor's optimizer behind one trait, so that the same test runs on every face of the library and every backend.

use klshampoo::linalg::{LinAlg, LinAlgError, MatMut, MatRef, Portable};
use klshampoo::{Config, Convention, Mode, Optimizer, Scalar, SliceHeader, StatePart, StepError, StepReport, Tensor, TensorSpec, Totals};
use klshampoo_ffi::host::Faer;

/// An element type with its way to and from the oracle's.
pub trait Number: Scalar {
    /// The nearest number of this type.
    fn from_f64(x: f64) -> Self;
    /// The same number, widened.
    fn to_f64(self) -> f64;
    /// The presets are inherent functions of concrete types; this is the one that tests start from.
    fn kl_shampoo() -> Config<Self>;
    /// [`Config::adamw`].
    fn adamw() -> Config<Self>;
    /// [`Config::in_convention`].
    fn in_convention(config: Config<Self>, convention: Convention) -> Config<Self>;
    /// Every preset with its name.
    fn presets() -> Vec<(&'static str, Config<Self>)>;
}

macro_rules! number {
    ($t:ty; $($preset:ident)*) => {
        impl Number for $t {
            fn from_f64(x: f64) -> Self {
                x as $t
            }
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            fn kl_shampoo() -> Config<Self> {
                Config::<$t>::kl_shampoo()
            }
            fn adamw() -> Config<Self> {
                Config::<$t>::adamw()
            }
            fn in_convention(config: Config<Self>, convention: Convention) -> Config<Self> {
                config.in_convention(convention)
            }
            fn presets() -> Vec<(&'static str, Config<Self>)> {
                vec![$((stringify!($preset), Config::<$t>::$preset())),*]
            }
        }
    };
}

macro_rules! numbers {
    ($($t:ty)*) => {$(
        number! { $t;
            kl_shampoo kl_shampoo_reference kl_soap soap soap_reference shampoo shampoo_half shampoo_quarter shampoo_reference
            vn_shampoo_1 vn_shampoo_2 f_shampoo_1 f_shampoo_2 idealized_kl idealized_vn_1 idealized_vn_2 idealized_f_1 idealized_f_2
            instantaneous_kl one_sided adafactor adamw rmsprop sgd
        }
    )*};
}

numbers!(f32 f64);

/// Every preset in every convention that accepts it, `preset, convention`. The presets that name a published code are among them.
pub fn methods<T: Number>() -> Vec<(String, Config<T>)> {
    let presets = T::presets().into_iter().filter(|(name, _)| !name.ends_with("_reference"));
    let conventions = [Convention::Figure13, Convention::ReferenceKl, Convention::ReferenceSoap, Convention::ReferenceMeta];
    let put = |(name, config): (&'static str, Config<T>)| {
        conventions.map(|convention| (format!("{name}, {convention:?}"), T::in_convention(config, convention), convention, config))
    };
    let new = |method: &(String, Config<T>, Convention, Config<T>)| method.2 == Convention::Figure13 || method.1 != method.3;
    presets.flat_map(put).filter(new).map(|(name, config, ..)| (name, config)).filter(|(_, config)| config.validate().is_ok()).collect()
}

/// The values in another precision.
pub fn converted<T: Number>(values: &[f64]) -> Vec<T> {
    values.iter().map(|&x| T::from_f64(x)).collect()
}

/// The values, widened.
pub fn widened<T: Number>(values: &[T]) -> Vec<f64> {
    values.iter().map(|&x| x.to_f64()).collect()
}

/// An implementation that steps one tensor. Any error is a panic: these runs are expected to succeed.
pub trait Driver<T> {
    /// A tensor of shape `dims`; `modes` has one entry per dim, `None` where the automatic choice is wanted.
    fn new(config: &Config<T>, dims: &[usize], modes: &[Option<Mode>]) -> Self;
    /// One step.
    fn step(&mut self, param: &mut [T], grad: &[T], lr: T);
    /// Replaces the eigenbasis of mode `k` (d x d, row-major, columns are eigenvectors).
    fn set_basis(&mut self, k: usize, basis: &[T]);
    /// A part of the state in the caller's coordinates.
    fn read(&mut self, part: StatePart) -> Vec<T>;
}

/// A backend that makes itself, with room for the largest mode of the tests' tensors.
pub trait Make {
    /// A new one.
    fn make() -> Self;
}

impl Make for Portable {
    fn make() -> Self {
        Portable
    }
}

impl Make for Faer {
    fn make() -> Self {
        Faer::sized_for::<f64>(96).expect("a little memory")
    }
}

/// A backend whose Cholesky factorisations break down, so that every refresh by QR is made by reflections.
#[derive(Clone, Debug)]
pub struct Reflections<L>(L);

impl<L: Make> Make for Reflections<L> {
    fn make() -> Self {
        Self(L::make())
    }
}

/// Methods of [`LinAlg`] that a test's backend has from another one: `forward!(T, self => self.0; matmul qr)`.
#[macro_export]
macro_rules! forward {
    ($t:ty, $self:ident => $inner:expr; $($method:ident)*) => {
        $($crate::forward! { @$method $t, $self => $inner })*
    };
    (@matmul $t:ty, $self:ident => $inner:expr) => {
        fn matmul(&mut $self, c: MatMut<'_, $t>, accumulate: bool, a: MatRef<'_, $t>, b: MatRef<'_, $t>) -> Result<(), LinAlgError> {
            $inner.matmul(c, accumulate, a, b)
        }
    };
    (@matmul_lower $t:ty, $self:ident => $inner:expr) => {
        fn matmul_lower(
            &mut $self,
            c: MatMut<'_, $t>,
            accumulate: bool,
            alpha: $t,
            a: MatRef<'_, $t>,
            b: MatRef<'_, $t>,
        ) -> Result<(), LinAlgError> {
            $inner.matmul_lower(c, accumulate, alpha, a, b)
        }
    };
    (@qr $t:ty, $self:ident => $inner:expr) => {
        fn qr(&mut $self, a: MatMut<'_, $t>, q: MatMut<'_, $t>, work: &mut [$t]) -> Result<(), LinAlgError> {
            $inner.qr(a, q, work)
        }
    };
    (@cholesky $t:ty, $self:ident => $inner:expr) => {
        fn cholesky(&mut $self, a: MatMut<'_, $t>) -> Result<(), LinAlgError> {
            $inner.cholesky(a)
        }
    };
    (@solve_lower $t:ty, $self:ident => $inner:expr) => {
        fn solve_lower(&mut $self, x: MatMut<'_, $t>, l: MatRef<'_, $t>) -> Result<(), LinAlgError> {
            $inner.solve_lower(x, l)
        }
    };
    (@eigh $t:ty, $self:ident => $inner:expr) => {
        fn eigh(&mut $self, a: MatMut<'_, $t>, q: MatMut<'_, $t>, values: &mut [$t], work: &mut [$t]) -> Result<(), LinAlgError> {
            $inner.eigh(a, q, values, work)
        }
    };
}

impl<T: Scalar, L: LinAlg<T>> LinAlg<T> for Reflections<L> {
    forward!(T, self => self.0; matmul matmul_lower qr solve_lower eigh);

    fn cholesky(&mut self, _: MatMut<'_, T>) -> Result<(), LinAlgError> {
        Err(LinAlgError::NotPositive)
    }
}

/// The core's optimizer with its memory on the heap.
#[derive(Clone, Debug)]
pub struct Core<T, L> {
    /// The groups' configurations.
    pub groups: Vec<Config<T>>,
    /// The resolved table.
    pub tensors: Vec<Tensor>,
    /// One header per slice.
    pub headers: Vec<SliceHeader>,
    /// The state.
    pub state: Vec<T>,
    /// The scratch.
    pub scratch: Vec<T>,
    /// The backend.
    pub linalg: L,
}

impl<T: Number, L: LinAlg<T> + Make> Core<T, L> {
    /// A table of several tensors.
    ///
    /// # Panics
    /// If the table is refused.
    pub fn table(groups: &[Config<T>], specs: &[TensorSpec]) -> Self {
        let mut totals = Totals::default();
        let tensors = specs.iter().map(|spec| Tensor::resolve(spec, groups, &mut totals).unwrap()).collect();
        Core {
            groups: groups.to_vec(),
            tensors,
            headers: vec![SliceHeader::NEW; totals.slices],
            state: vec![T::ZERO; totals.state_len],
            scratch: vec![T::ZERO; totals.scratch_len],
            linalg: L::make(),
        }
    }
}

impl<T: Number, L: LinAlg<T>> Core<T, L> {
    /// The optimizer over this memory, its scratch and its backend.
    pub fn view(&mut self) -> (Optimizer<'_, T>, &mut [T], &mut L) {
        let optimizer = Optimizer::new(&self.groups, &self.tensors, &mut self.headers, &mut self.state).unwrap();
        (optimizer, &mut self.scratch, &mut self.linalg)
    }

    /// One step of the whole table.
    ///
    /// # Errors
    /// As the optimizer's.
    pub fn try_step(&mut self, params: &mut [Vec<T>], grads: &[Option<Vec<T>>], lr: T) -> Result<StepReport, StepError> {
        let mut params: Vec<&mut [T]> = params.iter_mut().map(Vec::as_mut_slice).collect();
        let grads: Vec<Option<&[T]>> = grads.iter().map(Option::as_deref).collect();
        let (mut optimizer, scratch, linalg) = self.view();
        optimizer.step(&mut params, &grads, lr, scratch, linalg)
    }

    /// A part of one slice's state.
    ///
    /// # Panics
    /// If there is no such part.
    pub fn read_slice(&mut self, tensor: usize, slice: usize, part: StatePart) -> Vec<T> {
        let mut out = vec![T::ZERO; part.len(self.tensors[tensor].layout()).unwrap()];
        let (optimizer, scratch, linalg) = self.view();
        optimizer.read(tensor, slice, part, &mut out, scratch, linalg).unwrap();
        out
    }
}

impl<T: Number, L: LinAlg<T> + Make> Driver<T> for Core<T, L> {
    fn new(config: &Config<T>, dims: &[usize], modes: &[Option<Mode>]) -> Self {
        assert_eq!(dims.len(), modes.len());
        let spec = TensorSpec::new(dims).unwrap();
        let choose = |spec: TensorSpec, (k, &mode): (usize, &Option<Mode>)| mode.map_or(spec, |mode| spec.mode(k, mode));
        Core::table(&[*config], &[modes.iter().enumerate().fold(spec, choose)])
    }

    fn step(&mut self, param: &mut [T], grad: &[T], lr: T) {
        let (mut optimizer, scratch, linalg) = self.view();
        optimizer.step_tensor(0, param, grad, lr, scratch, linalg).unwrap();
    }

    fn set_basis(&mut self, k: usize, basis: &[T]) {
        let (mut optimizer, scratch, linalg) = self.view();
        optimizer.set_basis(0, 0, k, basis, scratch, linalg).unwrap();
    }

    fn read(&mut self, part: StatePart) -> Vec<T> {
        self.read_slice(0, 0, part)
    }
}
