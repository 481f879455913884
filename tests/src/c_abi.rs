//! The C ABI as a [`Driver`]: every call goes through the exported functions, with C's structs and pointers.

use klshampoo::{
    BadGradient, BiasCorrection, Config, Damping, Direction, Eigenvalues, EstimateOrder, Estimator, FactorInit, FirstBasis, FirstStep,
    Format, Graft, LambdaInit, Mode, Momentum, Refresh, StatePart, StepOrder, WeightDecay,
};
use klshampoo_ffi::*;

use crate::harness::Driver;

/// How the optimizer under test comes to be.
pub trait Face {
    /// The optimizer, and the memory that it lives in if that is lent.
    fn make(group: &kls_config, tensor: &kls_tensor) -> (*mut kls_optimizer, Vec<u128>);
}

/// In lent memory: no allocation, the portable backend.
#[derive(Debug)]
pub struct Lent;

impl Face for Lent {
    fn make(group: &kls_config, tensor: &kls_tensor) -> (*mut kls_optimizer, Vec<u128>) {
        let (mut size, mut alignment) = (0, 0);
        // SAFETY: all pointers are to live values.
        assert_eq!(unsafe { kls_optimizer_query(group, 1, tensor, 1, &mut size, &mut alignment) }, KLS_OK);
        let mut memory = vec![u128::MAX; (size + alignment).div_ceil(16)];
        let pointer = memory.as_mut_ptr().cast::<u8>();
        let offset = pointer.align_offset(alignment);
        let mut optimizer = std::ptr::null_mut();
        // SAFETY: the vector has room for `size` bytes after the offset.
        let status = unsafe { kls_optimizer_init(&mut optimizer, pointer.add(offset).cast(), size, group, 1, tensor, 1) };
        assert_eq!(status, KLS_OK);
        (optimizer, memory)
    }
}

/// On the heap, with a backend (`KLS_BACKEND_*`) and a number of threads.
#[derive(Debug)]
pub struct Created<const BACKEND: i32, const THREADS: u32>;

impl<const BACKEND: i32, const THREADS: u32> Face for Created<BACKEND, THREADS> {
    fn make(group: &kls_config, tensor: &kls_tensor) -> (*mut kls_optimizer, Vec<u128>) {
        let (options, mut optimizer) = (options(THREADS, BACKEND), std::ptr::null_mut());
        // SAFETY: all pointers are to live values.
        assert_eq!(unsafe { kls_optimizer_create(&mut optimizer, group, 1, tensor, 1, &options) }, KLS_OK);
        (optimizer, Vec::new())
    }
}

/// The defaults but for the number of threads and the backend (`KLS_BACKEND_*`).
pub fn options(threads: u32, backend: i32) -> kls_options {
    let mut options = std::mem::MaybeUninit::<kls_options>::uninit();
    // SAFETY: room for the struct, whose size is given; it is filled on success.
    let options = unsafe {
        assert_eq!(kls_options_init(options.as_mut_ptr(), size_of::<kls_options>()), KLS_OK);
        options.assume_init()
    };
    kls_options { num_threads: threads, backend, ..options }
}

/// One tensor stepped through the C ABI.
#[derive(Debug)]
pub struct CAbi<F: Face> {
    optimizer: *mut kls_optimizer,
    /// Lent memory; moving the vector does not move its elements.
    memory: Vec<u128>,
    dims: Vec<usize>,
    face: std::marker::PhantomData<F>,
}

/// The C form of a configuration, field by field on top of a preset.
pub fn config_to_c(config: &Config<f32>) -> kls_config {
    // SAFETY: plain numbers; the init function fills them.
    let mut c: kls_config = unsafe { std::mem::zeroed() };
    // SAFETY: `c` is a live struct of that size.
    assert_eq!(unsafe { kls_config_init(&mut c, size_of::<kls_config>(), KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13) }, KLS_OK);
    c.estimator = match config.estimator {
        Estimator::None => KLS_ESTIMATOR_NONE,
        Estimator::KullbackLeibler => KLS_ESTIMATOR_KL,
        Estimator::OneSided => KLS_ESTIMATOR_ONE_SIDED,
        Estimator::Shampoo => KLS_ESTIMATOR_SHAMPOO,
        Estimator::VonNeumann => KLS_ESTIMATOR_VON_NEUMANN,
        Estimator::Frobenius => KLS_ESTIMATOR_FROBENIUS,
        Estimator::FrobeniusFactor => KLS_ESTIMATOR_FROBENIUS_FACTOR,
    };
    c.estimate_order = match config.estimate_order {
        EstimateOrder::Jacobi => KLS_ESTIMATE_JACOBI,
        EstimateOrder::ReferenceKl => KLS_ESTIMATE_REFERENCE_KL,
    };
    c.eigenvalues = match config.eigenvalues {
        Eigenvalues::Average => KLS_EIGENVALUES_AVERAGE,
        Eigenvalues::Instantaneous => KLS_EIGENVALUES_INSTANTANEOUS,
        Eigenvalues::InstantaneousAfterRefresh => KLS_EIGENVALUES_INSTANTANEOUS_AFTER_REFRESH,
        Eigenvalues::AtRefresh => KLS_EIGENVALUES_AT_REFRESH,
    };
    c.refresh = match config.refresh {
        Refresh::Qr => KLS_REFRESH_QR,
        Refresh::Eigendecomposition => KLS_REFRESH_EIGENDECOMPOSITION,
        Refresh::HouseholderQr => KLS_REFRESH_HOUSEHOLDER_QR,
    };
    (c.direction, c.power) = match config.direction {
        Direction::KroneckerPower(p) => (KLS_DIRECTION_KRONECKER_POWER, p),
        Direction::SecondMoment => (KLS_DIRECTION_SECOND_MOMENT, 0.5),
        Direction::ShampooRoot => (KLS_DIRECTION_SHAMPOO_ROOT, 0.5),
        Direction::TraceScaled => (KLS_DIRECTION_TRACE_SCALED, 0.5),
        Direction::Momentum => (KLS_DIRECTION_MOMENTUM, 0.5),
    };
    c.graft = match config.graft {
        Graft::None => KLS_GRAFT_NONE,
        Graft::Adam => KLS_GRAFT_ADAM,
        Graft::Sgd => KLS_GRAFT_SGD,
        Graft::RmsProp => KLS_GRAFT_RMSPROP,
        Graft::AdaGrad => KLS_GRAFT_ADAGRAD,
    };
    c.step_order = match config.step_order {
        StepOrder::EstimateFirst => KLS_ORDER_ESTIMATE_FIRST,
        StepOrder::ApplyFirst => KLS_ORDER_APPLY_FIRST,
    };
    c.first_step = match config.first_step {
        FirstStep::Full => KLS_FIRST_STEP_FULL,
        FirstStep::FactorsOnly => KLS_FIRST_STEP_FACTORS_ONLY,
    };
    c.first_basis = match config.first_basis {
        FirstBasis::Gradient => KLS_FIRST_BASIS_GRADIENT,
        FirstBasis::Identity => KLS_FIRST_BASIS_IDENTITY,
    };
    c.factor_init = match config.factor_init {
        FactorInit::Zero => KLS_FACTOR_ZERO,
        FactorInit::Lambda => KLS_FACTOR_LAMBDA,
    };
    (c.lambda_init, c.lambda_0) = match config.lambda_init {
        LambdaInit::Constant(lambda) => (KLS_LAMBDA_CONSTANT, lambda),
        LambdaInit::ScaleFree => (KLS_LAMBDA_SCALE_FREE, 0.0),
    };
    c.momentum = match config.momentum {
        Momentum::Average => KLS_MOMENTUM_AVERAGE,
        Momentum::Nesterov => KLS_MOMENTUM_NESTEROV,
        Momentum::None => KLS_MOMENTUM_NONE,
    };
    c.bias_correction = match config.bias_correction {
        BiasCorrection::None => KLS_BIAS_CORRECTION_NONE,
        BiasCorrection::StepSize => KLS_BIAS_CORRECTION_STEP_SIZE,
        BiasCorrection::Moments => KLS_BIAS_CORRECTION_MOMENTS,
    };
    c.damping = match config.damping {
        Damping::Denominator => KLS_DAMPING_DENOMINATOR,
        Damping::Factor => KLS_DAMPING_FACTOR,
    };
    c.weight_decay_kind = match config.weight_decay_kind {
        WeightDecay::Before => KLS_WEIGHT_DECAY_BEFORE,
        WeightDecay::After => KLS_WEIGHT_DECAY_AFTER,
        WeightDecay::L2 => KLS_WEIGHT_DECAY_L2,
        WeightDecay::Independent => KLS_WEIGHT_DECAY_INDEPENDENT,
    };
    c.bad_gradient = match config.bad_gradient {
        BadGradient::Error => KLS_BAD_GRADIENT_ERROR,
        BadGradient::Skip => KLS_BAD_GRADIENT_SKIP,
    };
    c.sort = i32::from(config.sort);
    c.refresh_period = config.refresh_period;
    c.refresh_offset = config.refresh_offset;
    c.stagger = i32::from(config.stagger);
    c.refresh_growth = config.refresh_growth;
    c.staleness = config.staleness;
    c.rms_cap = config.rms_cap.unwrap_or(0.0);
    c.beta1 = config.beta1;
    c.beta2 = config.beta2;
    c.eps = config.eps;
    c.weight_decay = config.weight_decay;
    c.clamp_limit = config.clamp_limit.unwrap_or(0.0);
    c.gauge = i32::from(config.gauge);
    c.measure = i32::from(config.measure);
    c.lr_scale = config.lr_scale;
    c.refresh_portion = config.refresh_portion;
    c.max_dim = config.max_dim as u64;
    c.block_size = config.block_size as u64;
    c.merge_dims = config.merge_dims as u64;
    c.factor_format = match config.factor_format {
        Format::Native => KLS_FORMAT_F32,
        Format::Bf16 => KLS_FORMAT_BF16,
        Format::F16 => KLS_FORMAT_F16,
    };
    c
}

/// The C form of a tensor.
pub fn tensor_to_c(dims: &[usize], modes: &[Option<Mode>]) -> kls_tensor {
    let dims: Vec<u64> = dims.iter().map(|&d| d as u64).collect();
    // SAFETY: plain numbers; the init function fills them.
    let mut c: kls_tensor = unsafe { std::mem::zeroed() };
    // SAFETY: `c` is a live struct of that size, `dims` has as many numbers.
    assert_eq!(unsafe { kls_tensor_init(&mut c, size_of::<kls_tensor>(), dims.len() as u32, dims.as_ptr()) }, KLS_OK);
    for (c, mode) in c.modes.iter_mut().zip(modes) {
        *c = match mode {
            None => KLS_MODE_AUTO,
            Some(Mode::Full) => KLS_MODE_FULL,
            Some(Mode::Diagonal) => KLS_MODE_DIAGONAL,
            Some(Mode::Identity) => KLS_MODE_IDENTITY,
        };
    }
    c
}

impl<F: Face> Driver<f32> for CAbi<F> {
    fn new(config: &Config<f32>, dims: &[usize], modes: &[Option<Mode>]) -> Self {
        let (optimizer, memory) = F::make(&config_to_c(config), &tensor_to_c(dims, modes));
        Self { optimizer, memory, dims: dims.to_vec(), face: std::marker::PhantomData }
    }

    fn step(&mut self, param: &mut [f32], grad: &[f32], lr: f32) {
        assert_eq!((param.len(), grad.len()), (self.dims.iter().product(), param.len()));
        let (params, grads) = ([param.as_mut_ptr()], [grad.as_ptr()]);
        // SAFETY: a live optimizer, buffers of the tensor's length.
        assert_eq!(unsafe { kls_optimizer_step(self.optimizer, params.as_ptr(), grads.as_ptr(), 1, lr) }, KLS_OK);
    }

    fn set_basis(&mut self, k: usize, basis: &[f32]) {
        // SAFETY: a live optimizer, a slice.
        assert_eq!(unsafe { kls_optimizer_set_basis(self.optimizer, 0, 0, k, basis.as_ptr(), basis.len()) }, KLS_OK);
    }

    fn read(&mut self, part: StatePart) -> Vec<f32> {
        let (c, k, len) = match part {
            StatePart::Factor(k) => (KLS_STATE_FACTOR, k, self.dims[k] * self.dims[k]),
            StatePart::Basis(k) => (KLS_STATE_BASIS, k, self.dims[k] * self.dims[k]),
            StatePart::Eigenvalues(k) => (KLS_STATE_EIGENVALUES, k, self.dims[k]),
            StatePart::Momentum => (KLS_STATE_MOMENTUM, 0, self.dims.iter().product()),
            StatePart::SecondMoment => (KLS_STATE_SECOND_MOMENT, 0, self.dims.iter().product()),
            StatePart::GraftMoment => (KLS_STATE_GRAFT_MOMENT, 0, self.dims.iter().product()),
            StatePart::Master => (KLS_STATE_MASTER, 0, self.dims.iter().product()),
        };
        let mut out = vec![0.0; len];
        // SAFETY: a live optimizer, a slice.
        assert_eq!(unsafe { kls_optimizer_read_state(self.optimizer, 0, 0, c, k, out.as_mut_ptr(), out.len()) }, KLS_OK);
        out
    }
}

impl<F: Face> Drop for CAbi<F> {
    fn drop(&mut self) {
        // SAFETY: a live optimizer, destroyed once; lent memory is dropped after it.
        assert_eq!(unsafe { kls_optimizer_destroy(&mut self.optimizer) }, KLS_OK);
        self.memory.clear();
    }
}
