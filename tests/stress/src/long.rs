//! A million steps of each method on a second moment that turns, is scaled and replaced.

use crate::Plan;
use crate::findings::Findings;
use crate::gradients::{Change, Source};
use crate::methods::{Method, all_refreshes};
use crate::report::Row;
use crate::subject::Subject;

/// The shape; small, so that a million steps take seconds.
const DIMS: [usize; 2] = [7, 5];

/// A tenth of a radian in thirty steps, two decades up and down, and another second moment now and then.
const CHANGE: Change = Change { turn: 0.003, swing: 2.0, replace: 7_919 };

/// What 1 less the cosine with a step in double precision may be.
const DISTANCE: f64 = 1e-5;

pub(crate) fn run(plan: &Plan, add: &mut impl FnMut(Row)) {
    all_refreshes().iter().for_each(|method| add(one(method, plan.long)));
}

fn one(method: &Method, looks: &[u64]) -> Row {
    let mut subject = Subject::new(method, &DIMS);
    let mut source = Source::new(DIMS, [2.0, 2.0], CHANGE);
    let mut findings = Findings::default();
    // The distance is taken of the last steps before each look.
    for &look in looks {
        findings.drive(&mut subject, look - findings.steps, |_, grad| source.next(1.0, grad));
    }
    let refreshes = f64::from(subject.header().refreshes);
    let row = findings.row(format!("changing statistics: {}", method.name));
    row.at_most("1 - cos(f64)", findings.distance, DISTANCE)
        .at_most("refreshes failed", findings.refresh_failures as f64, 0.0)
        .told("made", refreshes)
}
