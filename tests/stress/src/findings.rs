//! What is found of an optimizer while it runs.

use crate::report::{Row, worse};
use crate::subject::Subject;

/// How far steps lie apart at which the whole state is looked at; prime to the refresh periods.
const EVERY: u64 = 97;

/// The worst of one run, or of several.
#[derive(Clone, Copy, Debug, Default)]
pub struct Findings {
    /// Steps that were tried.
    pub steps: u64,
    /// See [`Subject::orthogonality_error`].
    pub orthogonality: f64,
    /// See [`Subject::distance_from_double`].
    pub distance: f64,
    /// Looks at which an eigenvalue was not above zero.
    pub not_positive: u64,
    /// Looks at which a number was not finite.
    pub not_finite: u64,
    /// Steps that were refused.
    pub refused: u64,
    /// Refreshes that failed.
    pub refresh_failures: u64,
    /// Root mean square of the longest update.
    pub longest: f64,
}

impl Findings {
    /// Makes `steps` steps, with the gradients that `next` gives, and looks at the state now and then, and at the distance from double
    /// precision in the last ten.
    pub fn drive(&mut self, subject: &mut Subject, steps: u64, mut next: impl FnMut(u64, &mut [f32])) {
        let mut grad = vec![0.0; subject.elements()];
        let (refused, failures) = (subject.refused, subject.header().refresh_failures);
        for step in 1..=steps {
            next(step, &mut grad);
            if step + 10 > steps {
                self.distance = worse(self.distance, subject.distance_from_double(&grad).unwrap_or(f64::NAN));
            }
            let _ = subject.step(&grad);
            self.longest = worse(self.longest, subject.update_rms());
            if step.is_multiple_of(EVERY) || step == steps {
                self.look(subject);
            }
        }
        self.steps += steps;
        self.refused += subject.refused - refused;
        self.refresh_failures += u64::from(subject.header().refresh_failures - failures);
    }

    /// Looks at the state.
    pub fn look(&mut self, subject: &mut Subject) {
        self.orthogonality = worse(self.orthogonality, subject.orthogonality_error());
        self.not_positive += u64::from(subject.smallest_eigenvalue() <= 0.0);
        self.not_finite += u64::from(!subject.is_finite());
    }

    /// The worst of both.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        Self {
            steps: self.steps + other.steps,
            orthogonality: worse(self.orthogonality, other.orthogonality),
            distance: worse(self.distance, other.distance),
            not_positive: self.not_positive + other.not_positive,
            not_finite: self.not_finite + other.not_finite,
            refused: self.refused + other.refused,
            refresh_failures: self.refresh_failures + other.refresh_failures,
            longest: worse(self.longest, other.longest),
        }
    }

    /// What must hold of every run.
    #[must_use]
    pub fn row(&self, what: impl Into<String>) -> Row {
        Row::new(what, self.steps)
            .at_most("|QᵀQ - I|", self.orthogonality, ORTHOGONALITY)
            .at_most("looks with an eigenvalue not above 0", self.not_positive as f64, 0.0)
            .at_most("with a number not finite", self.not_finite as f64, 0.0)
            .at_most("steps refused", self.refused as f64, 0.0)
    }
}

/// How far from orthogonal a basis may be.
const ORTHOGONALITY: f64 = 1e-5;
