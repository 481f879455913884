//! Every call of the linear algebra goes wrong once, in every step of every method: afterwards every slice is byte for byte as it was or
//! wholly stepped (ALGORITHMS section 5), and the run goes on as if what failed had not been tried.
//!
//! A call *fails*, with any error and any rubbish in its outputs, or it *lies*: it says that all is well and gives NaN, infinities or numbers
//! that have nothing to do with the question. Of a failure everything is known afterwards, bit for bit; of a lie, that nothing but finite numbers
//! gets into state and parameters. The scratch is full of NaN before each step, so nothing that a step reads is left over from another.

use klshampoo::linalg::LinAlgError;
use klshampoo::{
    Config, Eigenvalues, Estimator, Format, Graft, LambdaInit, Mode, Momentum, Refresh, SliceBuffers, SliceError, StepError, StepErrorKind,
    StepReport, Target, TensorSpec, WeightDecay,
};
use klshampoo_tests::cases::Xorshift;
use klshampoo_tests::failing::{Failing, Fault, Rubbish};
use klshampoo_tests::harness::{Core, methods};
use klshampoo_tests::table::{Piece, Snapshot, random, some};

type Subject = Core<f32, Failing>;

const LR: f32 = 0.01;

const ERRORS: [LinAlgError; 4] = [LinAlgError::NotFinite, LinAlgError::NotPositive, LinAlgError::NoConvergence, LinAlgError::Backend];

const LIES: [Fault; 10] = [
    Fault::Lies(Rubbish::Nothing),
    Fault::Lies(Rubbish::Nan),
    Fault::Lies(Rubbish::Infinity),
    Fault::Lies(Rubbish::Huge),
    Fault::Lies(Rubbish::Largest),
    Fault::Lies(Rubbish::Plausible),
    Fault::LiesOnce(Rubbish::Nan),
    Fault::LiesOnce(Rubbish::Infinity),
    Fault::LiesOnce(Rubbish::Huge),
    Fault::LiesOnce(Rubbish::Largest),
];

/// A plain failure.
const FAILS: Fault = Fault::Fails(LinAlgError::Backend, Rubbish::Nan);

/// What was tried, and what became of it.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    failures: usize,
    lies: usize,
    /// Steps of a slice that were not made.
    lost_steps: usize,
    /// Refreshes of a mode that were not made in steps that were.
    lost_refreshes: usize,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.failures += other.failures;
        self.lies += other.lies;
        self.lost_steps += other.lost_steps;
        self.lost_refreshes += other.lost_refreshes;
    }

    fn print(&self, what: &str) {
        let Self { failures, lies, lost_steps, lost_refreshes } = self;
        println!("{what}: {failures} failures and {lies} lies injected; {lost_steps} steps and {lost_refreshes} refreshes lost");
    }
}

/// A table under test with its parameters.
#[derive(Clone)]
struct Run {
    name: String,
    core: Subject,
    params: Vec<Vec<f32>>,
}

impl Run {
    fn new(name: &str, groups: &[Config<f32>], specs: &[TensorSpec]) -> Self {
        let core = Subject::table(groups, specs);
        let params = random(&core.tensors, 1);
        Self { name: name.to_owned(), core, params }
    }

    /// A table of one tensor.
    fn single(name: &str, config: Config<f32>, spec: TensorSpec) -> Self {
        Self::new(name, &[config], &[spec])
    }

    fn step(&mut self, grads: &[Option<Vec<f32>>], faults: &[(usize, Fault)]) -> Result<StepReport, StepError> {
        self.core.linalg = Failing { faults: faults.to_vec(), ..Failing::default() };
        self.core.scratch.fill(f32::NAN);
        self.core.try_step(&mut self.params, grads, LR)
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.core, &self.params)
    }

    fn pieces(&self) -> Vec<Piece> {
        self.snapshot().pieces(&self.core.tensors)
    }

    fn is_finite(&self) -> bool {
        self.pieces().iter().all(|piece| piece.is_finite(&self.core.tensors))
    }
}

/// Compares the pieces after a step in which something went wrong with those before it and with those that it makes undisturbed.
///
/// Returns which pieces lost the step.
fn judge(what: &str, [before, whole, found]: [&[Piece]; 3], result: &Result<StepReport, StepError>, tally: &mut Tally) -> Vec<usize> {
    let (mut lost, mut failed_refreshes) = (Vec::new(), 0);
    for (i, piece) in found.iter().enumerate() {
        if *piece == before[i] {
            if before[i] != whole[i] {
                lost.push(i);
            }
            continue;
        }
        let (old, header, planned) = (&before[i].header, &piece.header, &whole[i].header);
        assert_eq!(header.step, old.step + 1, "{what}: piece {i} is neither as it was nor stepped");
        assert_eq!((header.started, header.last_refresh), (planned.started, planned.last_refresh), "{what}: piece {i}");
        failed_refreshes += (header.refresh_failures - old.refresh_failures) as usize;
        tally.lost_refreshes += header.refresh_failures.saturating_sub(planned.refresh_failures) as usize;
    }
    tally.lost_steps += lost.len();
    match result {
        Ok(report) => {
            let stepped = whole.iter().zip(before).filter(|(whole, before)| whole != before).count();
            assert_eq!((lost.len(), report.stepped), (0, stepped), "{what}");
            assert_eq!(report.refresh_failures, failed_refreshes, "{what}");
        }
        Err(error) => {
            let first = lost.first().unwrap_or_else(|| panic!("{what}: {error:?}, but every piece was stepped"));
            assert_eq!((error.tensor, error.slice), (found[*first].tensor, found[*first].slice), "{what}");
            let of_step = matches!(
                error.kind,
                StepErrorKind::Slice(SliceError::LinAlg(_) | SliceError::EstimateNotFinite | SliceError::UpdateNotFinite)
            );
            assert!(of_step, "{what}: {error:?}");
        }
    }
    lost
}

/// Every call of each of a run's first steps goes wrong once in every way.
fn every_call(mut run: Run, steps: usize) -> Tally {
    let mut tally = Tally::default();
    for step in 0..steps {
        let grads = some(&random(&run.core.tensors, 2 + step));
        let before = run.snapshot();
        let mut whole = run.clone();
        whole.step(&grads, &[]).unwrap();
        assert!(whole.is_finite(), "{}", run.name);
        let (old, new, after) = (run.pieces(), whole.pieces(), whole.snapshot());
        for call in 0..whole.core.linalg.calls {
            for error in ERRORS {
                let mut outcome = None;
                for rubbish in Rubbish::ALL {
                    let what = format!("{}, step {step}, call {call}, {error:?}, {rubbish:?}", run.name);
                    let mut tried = run.clone();
                    let result = tried.step(&grads, &[(call, Fault::Fails(error, rubbish))]);
                    tally.failures += 1;
                    let found = tried.pieces();
                    let lost = judge(&what, [&old, &new, &found], &result, &mut tally);
                    if let Err(found) = result {
                        assert_eq!(found.kind, StepErrorKind::Slice(SliceError::LinAlg(error)), "{what}");
                    }
                    // One call is of one piece: the others are what they are without the failure.
                    let disturbed = found.iter().zip(&new).filter(|(found, new)| found != new).count();
                    assert!(disturbed <= 1 && lost.len() <= 1, "{what}");
                    assert!(tried.is_finite(), "{what}");
                    // Whatever the call left behind is not looked at.
                    let outcome = outcome.get_or_insert_with(|| (result, tried.snapshot()));
                    assert_eq!(*outcome, (result, tried.snapshot()), "{what}");
                    if found.len() == 1 && result.is_err() {
                        assert_eq!(tried.snapshot(), before, "{what}");
                        tried.step(&grads, &[]).unwrap();
                        assert_eq!(tried.snapshot(), after, "{what}");
                    }
                }
            }
            for lie in LIES {
                let what = format!("{}, step {step}, call {call}, {lie:?}", run.name);
                let mut tried = run.clone();
                let result = tried.step(&grads, &[(call, lie)]);
                tally.lies += 1;
                judge(&what, [&old, &new, &tried.pieces()], &result, &mut tally);
                assert!(tried.is_finite(), "{what}: {result:?}");
                for later in 1..3 {
                    // What is finite may still be too large for the next step, which then says so.
                    let _ = tried.step(&some(&random(&run.core.tensors, 100 + later)), &[]);
                    assert!(tried.is_finite(), "{what}, {later} steps later");
                }
            }
        }
        run = whole;
    }
    tally
}

/// Every test prints what it has tried, and has lost both steps and refreshes.
fn all(what: &str, runs: impl IntoIterator<Item = (Run, usize)>) {
    let (mut tally, mut count) = (Tally::default(), 0);
    for (run, steps) in runs {
        tally.add(every_call(run, steps));
        count += 1;
    }
    tally.print(&format!("{what}, {count} runs"));
    assert!(count > 0 && tally.lost_steps > 0 && tally.lost_refreshes > 0, "{what}: {tally:?}");
}

fn spec(dims: &[usize]) -> TensorSpec {
    TensorSpec::new(dims).unwrap()
}

/// With everything on that has a counter or a place of its own.
fn busy(config: Config<f32>) -> Config<f32> {
    Config { refresh_period: 2, weight_decay: 0.1, measure: true, ..config }
}

/// Every method in every convention: the starting step, plain ones and refreshes.
#[test]
fn every_method() {
    let all_methods = methods::<f32>();
    assert!(all_methods.len() > 50);
    let (mut tally, mut elementwise) = (Tally::default(), 0);
    for (name, config) in all_methods {
        let run = Run::single(&name, busy(config), spec(&[4, 3]));
        let of_run = every_call(run, 5);
        // Nothing of these is linear algebra.
        if config.estimator == Estimator::None || config.max_dim == 0 {
            assert_eq!(of_run.failures + of_run.lies, 0, "{name}");
            elementwise += 1;
        } else {
            assert!(of_run.lost_steps > 0 && of_run.lost_refreshes > 0, "{name}: {of_run:?}");
        }
        tally.add(of_run);
    }
    assert!(elementwise > 3);
    tally.print("every method in every convention");
}

/// One of each kind of estimate, order and direction.
fn some_methods() -> Vec<(&'static str, Config<f32>)> {
    vec![
        ("kl_shampoo", Config::<f32>::kl_shampoo()),
        ("kl_shampoo_reference", Config::<f32>::kl_shampoo_reference()),
        ("kl_soap", Config::<f32>::kl_soap()),
        ("soap_reference", Config::<f32>::soap_reference()),
        ("shampoo_reference", Config::<f32>::shampoo_reference()),
        ("vn_shampoo_1", Config::<f32>::vn_shampoo_1()),
        ("f_shampoo_1", Config::<f32>::f_shampoo_1()),
        ("idealized_kl", Config::<f32>::idealized_kl()),
        ("one_sided", Config::<f32>::one_sided()),
    ]
}

/// An option that is changed, and what it is called.
type Change = (&'static str, fn(&mut Config<f32>));

/// These methods with one option changed, where that makes sense.
fn varied(changes: &[Change]) -> Vec<(String, Config<f32>)> {
    let mut all = Vec::new();
    for (change_name, change) in changes {
        let before = all.len();
        for (name, config) in some_methods() {
            let mut config = busy(config);
            change(&mut config);
            if config.validate().is_ok() {
                all.push((format!("{name}, {change_name}"), config));
            }
        }
        assert!(all.len() > before, "{change_name} goes with no method");
    }
    all
}

#[test]
fn every_kind_of_refresh() {
    let changes: [Change; 8] = [
        ("by reflections", |c| c.refresh = Refresh::HouseholderQr),
        ("by eigendecomposition", |c| c.refresh = Refresh::Eigendecomposition),
        ("by QR", |c| c.refresh = Refresh::Qr),
        ("sorted", |c| (c.refresh, c.sort) = (Refresh::Qr, true)),
        ("only when stale", |c| c.staleness = 0.1),
        ("in every step", |c| c.refresh_period = 1),
        ("in growing periods", |c| (c.refresh_period, c.refresh_growth) = (4, 6)),
        ("eigenvalues of the new basis", |c| c.eigenvalues = Eigenvalues::InstantaneousAfterRefresh),
    ];
    all("kinds of refresh", varied(&changes).iter().map(|(name, config)| (Run::single(name, *config, spec(&[3, 4])), 5)));
}

#[test]
fn factors_of_16_bits() {
    let changes: [Change; 2] = [("bf16", |c| c.factor_format = Format::Bf16), ("binary16", |c| c.factor_format = Format::F16)];
    all("factors of 16 bits", varied(&changes).iter().map(|(name, config)| (Run::single(name, *config, spec(&[4, 3])), 5)));
}

/// Portions are in flight in most of these steps; they use no backend, but what they turn does.
#[test]
fn refreshes_in_portions() {
    let changes: [Change; 4] = [
        ("in small portions", |c| c.refresh_portion = 60),
        ("in large portions", |c| c.refresh_portion = 400),
        ("in portions, bf16", |c| (c.refresh_portion, c.factor_format) = (150, Format::Bf16)),
        ("in portions, sorted", |c| (c.refresh_portion, c.sort) = (150, true)),
    ];
    all("refreshes in portions", varied(&changes).iter().map(|(name, config)| (Run::single(name, *config, spec(&[4, 3])), 24)));
}

#[test]
fn every_other_axis() {
    let changes: [Change; 9] = [
        ("Adam's length", |c| c.graft = Graft::Adam),
        ("SGD's length", |c| c.graft = Graft::Sgd),
        ("RMSProp's length", |c| c.graft = Graft::RmsProp),
        ("AdaGrad's length", |c| c.graft = Graft::AdaGrad),
        ("a cap", |c| c.rms_cap = Some(0.5)),
        ("Nesterov", |c| c.momentum = Momentum::Nesterov),
        ("no momentum", |c| c.momentum = Momentum::None),
        ("L2", |c| c.weight_decay_kind = WeightDecay::L2),
        ("a constant first eigenvalue", |c| c.lambda_init = LambdaInit::Constant(0.1)),
    ];
    all("other axes", varied(&changes).iter().map(|(name, config)| (Run::single(name, *config, spec(&[3, 4])), 4)));
}

/// Orders 1 to 4, and modes that are not full.
#[test]
fn every_order_and_kind_of_mode() {
    let mut runs = Vec::new();
    for (name, config) in some_methods() {
        let mut add = |shape: &str, spec: TensorSpec| {
            // A one-sided method has one preconditioned mode.
            let known = TensorSpec::layout(&spec, &busy(config)).is_ok();
            if known {
                runs.push((Run::single(&format!("{name}, {shape}"), busy(config), spec), 3));
            }
        };
        add("1x4", spec(&[1, 4]));
        add("3x1", spec(&[3, 1]));
        add("1x1", spec(&[1, 1]));
        add("2x3x2", spec(&[2, 3, 2]));
        add("2x2x3x2", spec(&[2, 2, 3, 2]));
        add("diagonal x full", spec(&[4, 3]).mode(0, Mode::Diagonal));
        add("full x diagonal", spec(&[4, 3]).mode(1, Mode::Diagonal));
        add("full x identity", spec(&[4, 3]).mode(1, Mode::Identity));
        add("full x diagonal x full", spec(&[2, 3, 2]).mode(1, Mode::Diagonal));
    }
    all("orders and modes", runs);
    // A vector has no linear algebra: the step is made whatever the backend does.
    let vector = every_call(Run::single("vector", busy(Config::<f32>::kl_shampoo()), spec(&[5])), 3);
    assert_eq!(vector.failures + vector.lies, 0);
}

/// Long enough for a polish, which is allowed to fail without a trace.
#[test]
fn polished_bases() {
    let every_step = |config| Config { refresh_period: 1, ..busy(config) };
    let mut run = Run::single("polish", every_step(Config::<f32>::kl_shampoo()), spec(&[3, 2]));
    for step in 0..30 {
        run.step(&some(&random(&run.core.tensors, 200 + step)), &[]).unwrap();
    }
    all("a polish", [(run, 3)]);
}

/// A matrix, stacked ones, one that is cut, a vector, and others of other methods.
fn table() -> Run {
    let groups = [
        Config { block_size: 3, ..busy(Config::<f32>::kl_shampoo()) },
        busy(Config::<f32>::soap_reference()),
        Config { refresh_portion: 150, ..busy(Config::<f32>::kl_shampoo_reference()) },
        Config { factor_format: Format::F16, ..busy(Config::<f32>::f_shampoo_1()) },
    ];
    let specs = [
        spec(&[3, 2]),
        spec(&[2, 3]).slices(3).slice_stride(8).group(1),
        spec(&[6, 3]),
        spec(&[5]),
        spec(&[3, 4]).group(2),
        spec(&[2, 3, 2]).group(3),
    ];
    Run::new("table", &groups, &specs)
}

/// What fails lies in one tensor: those before and behind it are stepped, and it goes on as one whose gradient was missing.
#[test]
fn tensors_of_a_table() {
    let mut run = table();
    // Gaps between slices may hold anything.
    let mut tally = Tally::default();
    let mut by_tensor = vec![0; run.core.tensors.len()];
    for step in 0..8 {
        let grads = some(&random(&run.core.tensors, 2 + step));
        let next_grads = some(&random(&run.core.tensors, 3 + step));
        let mut whole = run.clone();
        whole.step(&grads, &[]).unwrap();
        let (old, new) = (run.pieces(), whole.pieces());
        for call in 0..whole.core.linalg.calls {
            for fault in
                [FAILS, Fault::Fails(LinAlgError::NotFinite, Rubbish::Huge), Fault::Lies(Rubbish::Nan), Fault::LiesOnce(Rubbish::Nan)]
            {
                let what = format!("table, step {step}, call {call}, {fault:?}");
                let mut tried = run.clone();
                let result = tried.step(&grads, &[(call, fault)]);
                *if matches!(fault, Fault::Fails(..)) { &mut tally.failures } else { &mut tally.lies } += 1;
                let found = tried.pieces();
                let lost = judge(&what, [&old, &new, &found], &result, &mut tally);
                assert!(found.iter().zip(&new).filter(|(found, new)| found != new).count() <= 1, "{what}");
                assert!(tried.is_finite(), "{what}");
                let [lost] = lost[..] else { continue };
                let tensor = found[lost].tensor;
                by_tensor[tensor] += 1;
                if run.core.tensors[tensor].slices() * run.core.tensors[tensor].pieces() > 1 {
                    continue;
                }
                // Not tried at all: the same bits now and later.
                let mut twin = run.clone();
                let mut without = grads.clone();
                without[tensor] = None;
                twin.step(&without, &[]).unwrap();
                for later in 0..3 {
                    assert_eq!(tried.snapshot(), twin.snapshot(), "{what}, {later} steps later");
                    let (a, b) = (tried.step(&next_grads, &[]), twin.step(&next_grads, &[]));
                    assert_eq!(a, b, "{what}");
                    a.unwrap();
                }
            }
        }
        run = whole;
    }
    tally.print("a table");
    // The vector has nothing that could fail.
    assert!(by_tensor.iter().enumerate().all(|(tensor, &count)| (count > 10) == (tensor != 3)), "{by_tensor:?}");
}

/// A step goes wrong twice: in a refresh and in the direction after it, in two modes, in two slices, or in a call that only comes because of
/// the first failure.
#[test]
fn two_failures_in_one_step() {
    let mut tally = Tally::default();
    let mut runs: Vec<Run> = some_methods()
        .into_iter()
        .map(|(name, config)| Run::single(name, Config { refresh_period: 3, ..busy(config) }, spec(&[3, 2])))
        .collect();
    runs.push(Run::new("two slices", &[busy(Config::<f32>::kl_shampoo())], &[spec(&[3, 2]).slices(2)]));
    let (mut pairs, mut both) = (0, 0);
    for mut run in runs {
        for step in 0..4 {
            let grads = some(&random(&run.core.tensors, 2 + step));
            let mut whole = run.clone();
            whole.step(&grads, &[]).unwrap();
            let (old, new) = (run.pieces(), whole.pieces());
            // A refresh that falls back to reflections has more calls.
            let calls = whole.core.linalg.calls + 6;
            for first in 0..calls {
                for second in first + 1..calls {
                    for error in [LinAlgError::Backend, LinAlgError::NotPositive] {
                        let what = format!("{}, step {step}, calls {first} and {second}, {error:?}", run.name);
                        let mut tried = run.clone();
                        let faults = [(first, Fault::Fails(error, Rubbish::Nan)), (second, Fault::Fails(error, Rubbish::Huge))];
                        let result = tried.step(&grads, &faults);
                        if tried.core.linalg.calls <= second {
                            continue;
                        }
                        (pairs, tally.failures) = (pairs + 1, tally.failures + 2);
                        let (lost_before, refreshes_before) = (tally.lost_steps, tally.lost_refreshes);
                        judge(&what, [&old, &new, &tried.pieces()], &result, &mut tally);
                        both += usize::from(tally.lost_steps + tally.lost_refreshes >= lost_before + refreshes_before + 2);
                        assert!(tried.is_finite(), "{what}");
                        if tried.pieces() == old {
                            tried.step(&grads, &[]).unwrap();
                            assert_eq!(tried.pieces(), new, "{what}");
                        }
                    }
                }
            }
            run = whole;
        }
    }
    tally.print(&format!("two failures in one step, {pairs} pairs"));
    assert!(pairs > 1000 && both > 100, "{pairs} {both}");
}

/// Runs of 30 steps, in nearly each of which something goes wrong somewhere.
#[test]
fn failures_throughout_a_run() {
    let mut random_number = Xorshift::for_shape(&[30]);
    let mut below = |n: usize| ((random_number.uniform() + 1.0) / 2.0 * n as f64) as usize % n.max(1);
    let mut tally = Tally::default();
    let mut runs: Vec<Run> =
        methods::<f32>().into_iter().map(|(name, config)| Run::single(&name, busy(config), spec(&[3, 4]).slices(2))).collect();
    runs.extend((0..40).map(|_| table()));
    for (index, mut run) in runs.into_iter().enumerate() {
        let lies = index % 3 == 2;
        for step in 0..30 {
            let grads = some(&random(&run.core.tensors, 1000 * index + step));
            let mut whole = run.clone();
            let undisturbed = whole.step(&grads, &[]);
            let (old, new, calls) = (run.pieces(), whole.pieces(), whole.core.linalg.calls);
            let faults: Vec<(usize, Fault)> = (0..below(4))
                .map(|_| {
                    let fault = if lies {
                        LIES[below(LIES.len())]
                    } else {
                        Fault::Fails(ERRORS[below(4)], Rubbish::ALL[below(Rubbish::ALL.len())])
                    };
                    (below(calls), fault)
                })
                .collect();
            let what = format!("{}, step {step}, {faults:?}", run.name);
            let result = run.step(&grads, &faults);
            *if lies { &mut tally.lies } else { &mut tally.failures } += faults.len();
            // After a lie a step may fail by itself.
            if undisturbed.is_ok() {
                judge(&what, [&old, &new, &run.pieces()], &result, &mut tally);
            } else {
                assert!(lies, "{what}: {undisturbed:?}");
            }
            assert!(run.is_finite(), "{what}");
        }
    }
    tally.print("runs of 30 steps");
    assert!(tally.failures > 1000 && tally.lies > 1000 && tally.lost_steps > 500 && tally.lost_refreshes > 100, "{tally:?}");
}

/// The direction alone of a slice that failed is not written.
#[test]
fn directions_alone() {
    const SENTINEL: f32 = 1234.5;
    let mut tally = Tally::default();
    for (name, config) in some_methods() {
        let mut run = Run::single(name, busy(config), spec(&[4, 3]));
        for step in 0..5 {
            let grad = random(&run.core.tensors, 2 + step).remove(0);
            let direct = |run: &mut Run, fault: Option<(usize, Fault)>| {
                run.core.linalg = Failing { faults: fault.into_iter().collect(), ..Failing::default() };
                let mut out = vec![SENTINEL; 12];
                let param = run.params[0].clone();
                let mut report = StepReport::default();
                let (mut optimizer, scratch, linalg) = run.core.view();
                scratch.fill(f32::NAN);
                let refreshes = optimizer.refreshes(0..1, |_| true);
                let job = optimizer.jobs(0..1, 1.0, refreshes).next().unwrap();
                let target = Target::Direction { out: out.as_mut_slice(), param: Some(param.as_slice()) };
                let result = job.run(SliceBuffers { target, grad: grad.as_slice(), grad_scale: 1.0 }, scratch, linalg, &mut report);
                (result, out)
            };
            let before = run.snapshot();
            let mut whole = run.clone();
            direct(&mut whole, None).0.unwrap();
            for call in 0..whole.core.linalg.calls {
                let mut tried = run.clone();
                let (result, out) = direct(&mut tried, Some((call, FAILS)));
                tally.failures += 1;
                match result {
                    Err(_) => {
                        tally.lost_steps += 1;
                        assert!(out.iter().all(|&x| x == SENTINEL), "{name}, step {step}, call {call}");
                        assert_eq!(tried.snapshot(), before, "{name}, step {step}, call {call}");
                    }
                    Ok(()) => assert!(out.iter().all(|&x| x != SENTINEL && x.is_finite()), "{name}, step {step}, call {call}"),
                }
            }
            run = whole;
        }
    }
    tally.print("directions alone");
    assert!(tally.lost_steps > 100);
}

/// A basis that is set with a backend that lies: it is set in full, or not at all, and nothing that is no number is kept.
#[test]
fn a_basis_that_is_set() {
    let mut tally = Tally::default();
    for factor_format in [Format::Native, Format::Bf16, Format::F16] {
        let mut run = Run::single("set", Config { factor_format, ..busy(Config::<f32>::kl_shampoo()) }, spec(&[4, 3]));
        for step in 0..3 {
            run.step(&some(&random(&run.core.tensors, 2 + step)), &[]).unwrap();
        }
        let identity: Vec<f32> = (0..16).map(|at| if at % 5 == 0 { 1.0 } else { 0.0 }).collect();
        let set = |run: &mut Run, faults: Vec<(usize, Fault)>| {
            run.core.linalg = Failing { faults, ..Failing::default() };
            let (mut optimizer, scratch, linalg) = run.core.view();
            scratch.fill(f32::NAN);
            optimizer.set_basis(0, 0, 0, &identity, scratch, linalg)
        };
        let mut whole = run.clone();
        set(&mut whole, vec![]).unwrap();
        for call in 0..whole.core.linalg.calls {
            for fault in LIES.into_iter().chain(ERRORS.map(|error| Fault::Fails(error, Rubbish::Plausible))) {
                let mut tried = run.clone();
                let result = set(&mut tried, vec![(call, fault)]);
                *if matches!(fault, Fault::Fails(..)) { &mut tally.failures } else { &mut tally.lies } += 1;
                assert!(tried.is_finite(), "{factor_format:?}, call {call}, {fault:?}");
                assert!(result.is_ok() || tried.snapshot() == run.snapshot(), "{factor_format:?}, call {call}, {fault:?}");
                tally.lost_steps += usize::from(result.is_err());
            }
        }
    }
    tally.print("a basis that is set");
    assert!(tally.lost_steps > 50);
}
