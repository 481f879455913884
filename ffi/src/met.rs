//! What a step meets on its way through the table, besides work.

use klshampoo::{StepError, StepReport};

use crate::error::{Failure, Outcome};

/// What a step, or one thread's part of it, has met.
#[derive(Clone, Copy, Default)]
pub(crate) struct Met {
    /// The error of the first slice in table order, whoever met it first.
    error: Option<StepError>,
    /// Slices left alone because of their gradient.
    pub skipped: Count,
    pub failed_refreshes: Count,
}

/// How often something was met, and the first tensor where it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub count: usize,
    pub first: usize,
}

impl Count {
    fn add(&mut self, other: Self) {
        if other.count > 0 {
            self.first = if self.count == 0 { other.first } else { self.first.min(other.first) };
            self.count += other.count;
        }
    }
}

impl Met {
    /// What a job of a tensor reports.
    pub(crate) fn add(&mut self, tensor: usize, report: StepReport, result: Result<(), StepError>) {
        let count = |count| Count { count, first: tensor };
        self.merge(&Self { error: result.err(), skipped: count(report.skipped), failed_refreshes: count(report.refresh_failures) });
    }

    /// What another thread has met.
    pub(crate) fn merge(&mut self, other: &Self) {
        if let Some(error) = other.error
            && self.error.is_none_or(|old| (error.tensor, error.slice) < (old.tensor, old.slice))
        {
            self.error = Some(error);
        }
        self.skipped.add(other.skipped);
        self.failed_refreshes.add(other.failed_refreshes);
    }

    /// What the step comes to.
    pub(crate) fn outcome(&self) -> Outcome {
        self.error.map_or(Ok(()), |error| Err(Failure::from(error)))
    }
}

#[cfg(test)]
mod tests {
    use klshampoo::StepErrorKind;

    use super::*;

    #[test]
    fn the_first_tensor_counts_whoever_comes_first() {
        let error = |tensor, slice| StepError { tensor, slice, kind: StepErrorKind::NotStarted };
        let report = |skipped, refresh_failures| StepReport { skipped, refresh_failures, ..StepReport::default() };
        let (mut one, mut other) = (Met::default(), Met::default());
        assert_eq!(one.outcome(), Ok(()));
        one.add(5, report(2, 0), Err(error(5, 1)));
        one.add(6, report(0, 0), Ok(()));
        other.add(3, report(1, 4), Err(error(5, 0)));
        one.merge(&other);
        assert_eq!((one.skipped, one.failed_refreshes), (Count { count: 3, first: 3 }, Count { count: 4, first: 3 }));
        assert_eq!(one.outcome(), Err(Failure::from(error(5, 0))));
    }
}
