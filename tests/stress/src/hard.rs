//! Gradients that are hard in one way each: ill-conditioned, jumping, vanishing, of rank one, tiny; and odd shapes and refresh periods.

use klshampoo::Eigenvalues;
use klshampoo_tests::cases::Xorshift;

use crate::Plan;
use crate::caller::Flushed;
use crate::findings::Findings;
use crate::gradients::{Change, Source};
use crate::methods::{Method, Options, PRESETS, all, method};
use crate::report::{Row, worse};
use crate::subject::Subject;

const DIMS: [usize; 2] = [8, 6];

pub(crate) fn run(plan: &Plan, add: &mut impl FnMut(Row)) {
    for flushed in [false, true] {
        let Some(_flushed) = Flushed::set(flushed) else {
            println!("NOT RUN: flushed denormals, which this processor is not known to have");
            continue;
        };
        let suffix = if flushed { ", denormals flushed" } else { "" };
        for decades in [4, 6, 8, 10, 12] {
            conditioned(plan, decades, suffix, add);
        }
        add(tiny(plan, suffix));
        for method in &all() {
            add(jumps(method, suffix));
            plan.zeros.iter().for_each(|&zeros| add(vanishing(method, zeros, suffix)));
        }
        add(rank_one(plan, suffix));
    }
    for dims in [&[1, 40][..], &[40, 1], &[1, 1], &[1, 1, 1], &[1, 7, 1]] {
        add(shape(plan, dims));
    }
    add(period(plan.hard / 5, 1));
    add(period(plan.period, 10_000));
}

/// Whether a method's eigenvalues are those of its factors at a refresh, and not averages of their own. They stay as they are until the next one, and
/// in single precision those below 1e-7 of the largest are raised to that.
fn reads_factors(method: &Method) -> bool {
    method.single.eigenvalues == Eigenvalues::AtRefresh
}

/// Condition numbers of the gradients' covariance, on one side or on both.
fn conditioned(plan: &Plan, decades: u32, suffix: &str, add: &mut impl FnMut(Row)) {
    let total = f64::from(decades);
    for (place, sides) in [("of the rows", [total, 0.0]), ("of both sides together", [total / 2.0, total / 2.0])] {
        for reading in [false, true] {
            let (mut findings, mut count) = (Findings::default(), 0);
            for method in all().iter().filter(|method| reads_factors(method) == reading) {
                let mut source = Source::new(DIMS, sides, Change { turn: 1e-4, ..Change::default() });
                findings.drive(&mut Subject::new(method, &DIMS), plan.hard / 5, |_, grad| source.next(1.0, grad));
                count += 1;
            }
            let kind = if reading { "eigenvalues of factors" } else { "averaged eigenvalues" };
            let row = findings.row(format!("condition 1e{decades} {place}{suffix}: {count} methods with {kind}"));
            // Single precision raises what double precision does not.
            let alike = !reading || sides[0] <= 6.0;
            let (what, distance) = ("1 - cos(f64)", findings.distance);
            add(if alike { row.at_most(what, distance, 1e-5) } else { row.told(what, distance) });
        }
    }
}

/// Gradients too small for their squares, and then for normal numbers.
fn tiny(plan: &Plan, suffix: &str) -> Row {
    let mut findings = Findings::default();
    for method in all() {
        let (mut source, mut subject) = (Source::new(DIMS, [2.0, 2.0], Change::default()), Subject::new(&method, &DIMS));
        for scale in [1e-20, 1e-30, 1e-38, 1e-42, 1e-10] {
            findings.drive(&mut subject, plan.hard / 50, |_, grad| source.next(scale, grad));
        }
    }
    findings.row(format!("gradients of 1e-20 to 1e-42{suffix}, {} methods", PRESETS.len())).told("longest update", findings.longest)
}

/// The updates' root mean square of steps without a disturbance, and how many steps after one it takes until it is that again for good.
fn calm(subject: &mut Subject, findings: &mut Findings, steps: u64, source: &mut Source) -> f64 {
    let mut sum = 0.0;
    let mut grad = vec![0.0; subject.elements()];
    for _ in 0..steps {
        source.next(1.0, &mut grad);
        let _ = subject.step(&grad);
        sum += subject.update_rms();
    }
    findings.steps += steps;
    findings.look(subject);
    sum / steps as f64
}

/// Steps after a disturbance in which an update is more than twice as long as `usual` or less than half as long.
fn recovery(subject: &mut Subject, findings: &mut Findings, usual: f64, source: &mut Source) -> f64 {
    const LONG: u64 = 4_000;
    let (mut last, mut grad) = (0, vec![0.0; subject.elements()]);
    for step in 1..=LONG {
        source.next(1.0, &mut grad);
        let _ = subject.step(&grad);
        let now = subject.update_rms();
        findings.longest = worse(findings.longest, now);
        if !(usual / 2.0..usual * 2.0).contains(&now) {
            last = step;
        }
        if step.is_multiple_of(7) {
            findings.look(subject);
        }
    }
    findings.steps += LONG;
    last as f64
}

/// Steps that it may take until updates are as long as before.
const RECOVERY: f64 = 1_000.0;

/// How long an update may be after a disturbance, over the usual length. Where eigenvalues are those of the last refresh, the first gradients
/// that are not zero are divided by what ten thousand zeros have left of them.
fn longest(method: &Method) -> f64 {
    if reads_factors(method) { 1e9 } else { 10.0 }
}

/// A hundred steps of gradients that are 1e8 times as large, or as small, in between.
fn jumps(method: &Method, suffix: &str) -> Row {
    let (mut findings, mut steps) = (Findings::default(), 0.0);
    for scale in [1e8, 1e-8] {
        let (mut source, mut subject) = (Source::new(DIMS, [2.0, 2.0], Change::default()), Subject::new(method, &DIMS));
        let usual = calm(&mut subject, &mut findings, 500, &mut source);
        findings.longest = 0.0;
        let mut after = Findings::default();
        after.drive(&mut subject, 100, |_, grad| source.next(scale, grad));
        steps = worse(steps, recovery(&mut subject, &mut after, usual, &mut source));
        after.longest /= usual;
        findings = findings.merged(after);
    }
    findings
        .row(format!("gradients times 1e8 and 1e-8 for 100 steps{suffix}: {}", method.name))
        .at_most("steps to recover", steps, RECOVERY)
        .at_most("longest update over the usual", findings.longest, longest(method))
}

/// Gradients that are zero for a while.
fn vanishing(method: &Method, zeros: u64, suffix: &str) -> Row {
    let (mut source, mut subject) = (Source::new(DIMS, [2.0, 2.0], Change::default()), Subject::new(method, &DIMS));
    let mut findings = Findings::default();
    let usual = calm(&mut subject, &mut findings, 500, &mut source);
    findings.drive(&mut subject, zeros, |_, grad| grad.fill(0.0));
    let steps = recovery(&mut subject, &mut findings, usual, &mut source);
    findings.row(format!("{zeros} gradients of zero{suffix}: {}", method.name)).at_most("steps to recover", steps, RECOVERY).at_most(
        "longest update over the usual",
        findings.longest / usual,
        longest(method),
    )
}

/// The same direction for ever: all factors stay singular.
fn rank_one(plan: &Plan, suffix: &str) -> Row {
    let mut findings = Findings::default();
    for method in all() {
        let mut random = Xorshift::for_shape(&DIMS);
        let vectors = DIMS.map(|d| (0..d).map(|_| random.normal()).collect::<Vec<f64>>());
        let fixed: Vec<f32> = vectors[0].iter().flat_map(|a| vectors[1].iter().map(move |b| (a * b) as f32)).collect();
        findings.drive(&mut Subject::new(&method, &DIMS), plan.hard / 5, |step, grad| {
            let scale = if step.is_multiple_of(3) { -0.5 } else { 1.0 };
            grad.iter_mut().zip(&fixed).for_each(|(g, x)| *g = scale * x);
        });
    }
    findings.row(format!("one gradient for ever, of rank one{suffix}, {} methods", PRESETS.len())).told("longest update", findings.longest)
}

/// Dims of one element, and one long one.
fn shape(plan: &Plan, dims: &[usize]) -> Row {
    let mut findings = Findings::default();
    for method in all() {
        let mut random = Xorshift::for_shape(dims);
        findings.drive(&mut Subject::new(&method, dims), plan.hard / 25, |_, grad| {
            grad.iter_mut().for_each(|g| *g = random.normal() as f32);
        });
    }
    let name = dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ");
    findings.row(format!("shape {name}, {} methods", PRESETS.len())).at_most("1 - cos(f64)", findings.distance, 1e-5)
}

/// Refreshes in every step, and hardly ever.
fn period(steps: u64, period: u32) -> Row {
    let mut findings = Findings::default();
    for preset in PRESETS {
        let method = method(preset, Options { period: Some(period), ..Options::default() }).expect("any period is allowed");
        let mut source = Source::new(DIMS, [2.0, 2.0], Change { turn: 1e-3, ..Change::default() });
        findings.drive(&mut Subject::new(&method, &DIMS), steps, |_, grad| source.next(1.0, grad));
    }
    findings.row(format!("T = {period}, {} methods", PRESETS.len())).at_most("1 - cos(f64)", findings.distance, 1e-5)
}
