//! Whole steps of a set.

use crate::Options;
use crate::device::{Failure, Gpu};
use crate::products::{self, RATE, Rates};
use crate::rows::Rows;
use crate::stepped::{Data, Run, WARM_UP, Warm};
use klshampoo::{Config, Estimator};
use klshampoo_bench::WEIGHT_DECAY;
use klshampoo_cuda::linalg::Precision;
use klshampoo_cuda::step::Precisions;

/// Beyond what is stepped.
const NEVER: u32 = 1 << 30;

/// A method by its name.
pub fn method(name: &str) -> Result<(String, Config<f32>), String> {
    let config = match name {
        "kl_shampoo" => Config::<f32>::kl_shampoo(),
        "kl_soap" => Config::<f32>::kl_soap(),
        "soap" => Config::<f32>::soap(),
        "shampoo" => Config::<f32>::shampoo(),
        "adamw" => Config::<f32>::adamw(),
        _ => return Err(format!("there is no method {name:?}; there are kl_shampoo, kl_soap, soap, shampoo, adamw")),
    };
    let config = Config { beta1: 0.95, beta2: 0.95, eps: 1e-8, weight_decay: WEIGHT_DECAY, max_dim: 8192, ..config };
    Ok((name.into(), config))
}

/// A way to make a step's products.
struct Mix {
    /// As rows name it, after the method.
    name: &'static str,
    precision: Precisions,
    /// Whether cuBLAS makes the large ones.
    library: bool,
    /// What the rate of a plain step is compared with.
    like: Precision,
}

/// Steps at lower precision, and refreshes that keep the bases orthogonal and the eigenvalues right.
const fn careful(precision: Precision) -> Precisions {
    Precisions { project: precision, factor: precision, refresh: Precision::Tf32x3 }
}

/// The ways that are timed in full.
const MIXES: [Mix; 4] = [
    Mix { name: "", precision: Precisions::all(Precision::Fp32), library: false, like: Precision::Fp32 },
    Mix { name: " f32 cuBLAS", precision: Precisions::all(Precision::Fp32), library: true, like: Precision::Fp32 },
    Mix { name: " TF32 cuBLAS; refresh 3xTF32", precision: careful(Precision::Tf32), library: true, like: Precision::Tf32 },
    Mix { name: " bf16 cuBLAS; refresh 3xTF32", precision: careful(Precision::Bf16), library: true, like: Precision::Bf16 },
];

/// What is known of the device, if it was measured.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Bytes per second that the driver's copy reads and writes.
    pub copied: Option<f64>,
    /// Of products.
    pub rates: Rates,
}

/// A method's steps of a set, and where their times go.
pub struct Timing<'a> {
    pub data: &'a Data,
    pub name: &'a str,
    pub config: Config<f32>,
    pub options: &'a Options,
}

impl Timing<'_> {
    fn of(&self) -> &'static str {
        self.data.set.name
    }

    fn who(&self, way: &str) -> String {
        format!("klshampoo {}{way}", self.name)
    }

    fn is_elementwise(&self) -> bool {
        matches!(self.config.estimator, Estimator::None)
    }

    fn plain(&self) -> Config<f32> {
        Config { refresh_period: NEVER, stagger: false, ..self.config }
    }

    /// Times the steps in every way that is timed in full. Returns the state after the first steps, if there were any to speak of.
    pub fn in_full(&self, gpu: &mut Gpu, known: Known, rows: &mut Rows) -> Result<Option<Warm>, Failure> {
        if self.options.is_out_of_time(&format!("{} of {}", self.who(""), self.of())) {
            return Ok(None);
        }
        let warm = self.begin(gpu, known, rows)?;
        if self.is_elementwise() {
            return Ok(None);
        }
        let (mut failures, has_blas) = (Vec::new(), gpu.has_blas());
        for mix in MIXES.iter().filter(|mix| !mix.library || has_blas) {
            let what = format!("{} of {}", self.who(mix.name), self.of());
            if self.options.is_out_of_time(&what) {
                break;
            }
            gpu.use_blas(mix.library.then_some(self.options.blas_from));
            // What one way cannot do the others may.
            if let Err(error) = self.mix(gpu, mix, &warm, known, rows) {
                failures.push(format!("{what}: {error}"));
            }
            gpu.use_blas(None);
        }
        if failures.is_empty() { Ok(Some(warm)) } else { Err(failures.join("; ").into()) }
    }

    /// The first steps; what a step takes and moves; and all of it of a method without factors.
    fn begin(&self, gpu: &mut Gpu, known: Known, rows: &mut Rows) -> Result<Warm, Failure> {
        let (of, who, elements) = (self.of(), self.who(""), self.data.set.elements());
        let mut run = Run::new(gpu, self.data, self.plain(), Precisions::default(), None)?;
        for (what, bytes) in [("memory in all", run.bytes.total), ("state", run.bytes.state), ("workspace", run.bytes.workspace)] {
            rows.add("memory", of, &who, what, bytes as f64, "bytes")?;
        }
        let moved = self.data.traffic(self.plain())?.total() as f64;
        rows.add("traffic", of, &who, "read and written in passes over elements", moved, "bytes")?;
        rows.add("traffic", of, &who, "of each element", moved / elements as f64, "bytes per element")?;
        if let Some(copied) = known.copied {
            rows.add("traffic", of, &who, "at the bandwidth of the driver's copy", moved / copied * 1e3, "ms")?;
        }
        let first = run.warm_up(gpu, WARM_UP)?;
        if self.is_elementwise() {
            let (_, seconds) = self.plain_steps(gpu, &mut run, &who, rows)?;
            // Nothing else takes time.
            let rate = moved / seconds;
            rows.add("elementwise", of, &who, "bandwidth", rate * 1e-9, "GB/s")?;
            if let Some(copied) = known.copied {
                rows.add("traffic", of, &who, "bandwidth over that of the driver's copy", rate / copied, "ratio")?;
            }
        } else {
            rows.add("steps", of, &who, "first step", first * 1e3, "ms")?;
        }
        run.check(gpu)?;
        run.warm(gpu)
    }

    /// Seconds of steps without refreshes, launch by launch and as a graph.
    fn plain_steps(&self, gpu: &mut Gpu, run: &mut Run<'_>, who: &str, rows: &mut Rows) -> Result<(f64, f64), Failure> {
        let samples = self.options.rounds * self.options.period;
        let plain = gpu.sampled(samples, |gpu| gpu.time(|queue| run.step(queue)))?;
        rows.add("steps", self.of(), who, "plain step", plain * 1e3, "ms")?;
        let graph = gpu.capture(|queue| run.step(queue))?;
        let replayed = gpu.median(samples, 1, |queue| graph.launch(queue))?;
        rows.add("steps", self.of(), who, "plain step; graph", replayed * 1e3, "ms")?;
        run.check(gpu)?;
        Ok((plain, replayed))
    }

    /// Of a period, divided by its steps, launch by launch and as a graph of them all.
    fn amortised_steps(&self, gpu: &mut Gpu, run: &mut Run<'_>, who: &str, what: &str, rows: &mut Rows) -> Result<(), Failure> {
        let (rounds, period) = (self.options.rounds, self.options.period);
        let steps = f64::from(period);
        let seconds = gpu.sampled(rounds, |gpu| gpu.time(|queue| (0..period).try_for_each(|_| run.step(queue))))? / steps;
        rows.add("steps", self.of(), who, what, seconds * 1e3, "ms")?;
        let graph = gpu.capture(|queue| (0..period).try_for_each(|_| run.step(queue)))?;
        let seconds = gpu.median(rounds, 1, |queue| graph.launch(queue))? / steps;
        rows.add("steps", self.of(), who, &format!("{what}; graph"), seconds * 1e3, "ms")?;
        run.check(gpu)
    }

    /// Without refreshes, with all at once, and amortised over a period: refreshed together, and one after another.
    fn mix(&self, gpu: &mut Gpu, mix: &Mix, warm: &Warm, known: Known, rows: &mut Rows) -> Result<(), Failure> {
        let (of, who, period) = (self.of(), self.who(mix.name), self.options.period);
        let mut run = Run::new(gpu, self.data, self.plain(), mix.precision, Some(warm))?;
        run.warm_up(gpu, WARM_UP)?;
        let (plain, _) = self.plain_steps(gpu, &mut run, &who, rows)?;
        drop(run);
        // To the eigenbasis and back with every mode's basis; of the factors' updates a triangle.
        let (rate, best) = (2.5 * self.data.projection_flops() / plain, known.rates.of(mix.like));
        rows.add("rates", of, &who, "plain step: 2.5 products over its time", rate * 1e-9, "GFLOP/s")?;
        rows.add("rates", of, &who, RATE, best * 1e-9, "GFLOP/s")?;
        rows.add("rates", of, &who, "share", rate / best, "ratio")?;

        let together = Config { refresh_period: period, stagger: false, ..self.config };
        let mut run = Run::new(gpu, self.data, together, mix.precision, Some(warm))?;
        run.warm_up(gpu, period.max(2))?;
        let before = run.refreshes(gpu)?;
        let longest = gpu.sampled(self.options.rounds, |gpu| {
            (0..period).try_fold(0f64, |longest, _| Ok(longest.max(gpu.time(|queue| run.step(queue))?)))
        })?;
        if run.refreshes(gpu)? == before {
            return Err("no refresh was made".into());
        }
        rows.add("steps", of, &who, "step with all refreshes", longest * 1e3, "ms")?;
        rows.add("refresh", of, &who, "all refreshes: the difference to a plain step", (longest - plain) * 1e3, "ms")?;
        self.amortised_steps(gpu, &mut run, &who, "amortised step; not staggered", rows)?;
        drop(run);

        let staggered = Config { refresh_period: period, ..self.config };
        let mut run = Run::new(gpu, self.data, staggered, mix.precision, Some(warm))?;
        run.warm_up(gpu, period.max(2))?;
        self.amortised_steps(gpu, &mut run, &who, "amortised step", rows)
    }

    /// Plain and amortised steps at every other precision, with all products made by the kernels, and with the large ones made by cuBLAS.
    pub fn uniformly(&self, gpu: &mut Gpu, warm: &Warm, rows: &mut Rows) -> Result<(), Failure> {
        for (precision, library) in products::ways(gpu).filter(|(precision, _)| *precision != Precision::Fp32) {
            let who = self.who(&format!(" {}{}", products::name(precision), if library { " cuBLAS" } else { "" }));
            if self.options.is_out_of_time(&format!("{who} of {}", self.of())) {
                break;
            }
            gpu.use_blas(library.then_some(self.options.blas_from));
            let timed = self.uniform(gpu, precision, &who, warm, rows);
            gpu.use_blas(None);
            timed.map_err(|error| format!("{who} of {}: {error}", self.of()))?;
        }
        Ok(())
    }

    fn uniform(&self, gpu: &mut Gpu, precision: Precision, who: &str, warm: &Warm, rows: &mut Rows) -> Result<(), Failure> {
        for (what, period) in [("plain step", NEVER), ("amortised step", self.options.period)] {
            let own = Config { refresh_period: period, stagger: period != NEVER, ..self.config };
            let mut run = Run::new(gpu, self.data, own, Precisions::all(precision), Some(warm))?;
            let steps = if period == NEVER { 1 } else { period };
            run.warm_up(gpu, steps.max(WARM_UP))?;
            let all = |gpu: &mut Gpu| gpu.time(|queue| (0..steps).try_for_each(|_| run.step(queue)));
            let seconds = gpu.sampled(self.options.rounds, all)? / f64::from(steps);
            run.check(gpu)?;
            rows.add("steps", self.of(), who, what, seconds * 1e3, "ms")?;
        }
        Ok(())
    }
}
