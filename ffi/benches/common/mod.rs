//! The optimizer through the C interface, timed: backend faer, convention Figure 13.

use std::mem::MaybeUninit;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use klshampoo_bench::{Data, LEARNING_RATE, POOL, WEIGHT_DECAY};
use klshampoo_ffi::*;

/// An optimizer to be made.
pub struct Spec<'a> {
    tensors: Vec<&'a [usize]>,
    threads: u32,
    pub config: kls_config,
}

impl<'a> Spec<'a> {
    /// A method (`KLS_METHOD_*`) with a refresh period, or with none that a run reaches.
    pub fn new(tensors: Vec<&'a [usize]>, threads: usize, method: i32, period: Option<u32>) -> Self {
        let mut config = MaybeUninit::<kls_config>::uninit();
        // SAFETY: room for the struct, whose size is given.
        check(unsafe { kls_config_init(config.as_mut_ptr(), size_of::<kls_config>(), method, KLS_CONVENTION_FIGURE13) });
        // SAFETY: it has just been filled.
        let mut config = unsafe { config.assume_init() };
        config.weight_decay = WEIGHT_DECAY;
        config.refresh_period = period.unwrap_or(u32::MAX);
        if period.is_none() {
            // Staggered over so long a period a refresh would fall into the run after all.
            config.stagger = 0;
        }
        Self { tensors, threads: threads.try_into().expect("a number of threads"), config }
    }

    /// Predicted floating-point operations of some steps together, the first one is number 1.
    pub fn flops(&self, steps: RangeInclusive<u64>) -> u64 {
        let optimizer = Optimizer::new(self);
        let of = |step| {
            let mut flops = 0;
            // SAFETY: a live handle that nothing else uses, and a live number.
            check(unsafe { kls_optimizer_predicted_flops(optimizer.0, step, &mut flops) });
            flops
        };
        steps.map(of).sum()
    }
}

fn check(status: kls_status) {
    assert_eq!(status, KLS_OK, "a call of the C interface failed");
}

/// Destroyed when it is dropped.
struct Optimizer(*mut kls_optimizer);

impl Optimizer {
    fn new(spec: &Spec<'_>) -> Self {
        let tensor = |dims: &&[usize]| {
            let (mut tensor, dims) = (MaybeUninit::<kls_tensor>::uninit(), dims.iter().map(|&d| d as u64).collect::<Vec<_>>());
            // SAFETY: room for the struct, whose size is given; as many dims as the order says.
            check(unsafe { kls_tensor_init(tensor.as_mut_ptr(), size_of::<kls_tensor>(), dims.len() as u32, dims.as_ptr()) });
            // SAFETY: it has just been filled.
            unsafe { tensor.assume_init() }
        };
        let tensors: Vec<kls_tensor> = spec.tensors.iter().map(tensor).collect();
        let mut options = MaybeUninit::<kls_options>::uninit();
        // SAFETY: room for the struct, whose size is given.
        check(unsafe { kls_options_init(options.as_mut_ptr(), size_of::<kls_options>()) });
        // SAFETY: it has just been filled.
        let options = kls_options { num_threads: spec.threads, backend: KLS_BACKEND_FAER, ..unsafe { options.assume_init() } };
        let mut optimizer = std::ptr::null_mut();
        // SAFETY: live values, with their numbers.
        check(unsafe { kls_optimizer_create(&mut optimizer, &spec.config, 1, tensors.as_ptr(), tensors.len(), &options) });
        Self(optimizer)
    }
}

impl Drop for Optimizer {
    fn drop(&mut self) {
        // SAFETY: the handle that was made, used for the last time.
        check(unsafe { kls_optimizer_destroy(&mut self.0) });
    }
}

/// An optimizer with parameters, and gradients that it takes in turn.
pub struct Stepper {
    optimizer: Optimizer,
    data: Data,
    params: Vec<*mut f32>,
    grads: [Vec<*const f32>; POOL],
    steps: usize,
}

impl Stepper {
    /// After some untimed steps, of which the first one is a long one: it decomposes the gradient.
    pub fn new(spec: &Spec<'_>, warm_up: u64) -> Self {
        let mut data = Data::new(&spec.tensors);
        let params = data.params.iter_mut().map(|param| param.as_mut_ptr()).collect();
        let grads = data.grads.each_ref().map(|grads| grads.iter().map(|grad| grad.as_ptr()).collect());
        let mut stepper = Self { optimizer: Optimizer::new(spec), data, params, grads, steps: 0 };
        stepper.time(warm_up);
        stepper
    }

    /// The time of some steps.
    pub fn time(&mut self, steps: u64) -> Duration {
        let begin = Instant::now();
        for _ in 0..steps {
            let grads = &self.grads[self.steps % POOL];
            // SAFETY: a live handle that nothing else uses; the vectors behind the pointers live, as long as the tensors, and no
            // reference to their elements does.
            check(unsafe { kls_optimizer_step(self.optimizer.0, self.params.as_ptr(), grads.as_ptr(), grads.len(), LEARNING_RATE) });
            self.steps += 1;
        }
        begin.elapsed()
    }

    /// See [`Data::check`].
    pub fn finish(self) {
        self.data.check();
    }
}
