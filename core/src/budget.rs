//! A bound on the refreshes of one step: those that would go beyond it wait, and the longest overdue come first.

/// Which of the refreshes that are due in a step of some tensors are made: see [`Optimizer::refreshes`](crate::Optimizer::refreshes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refreshes(Rule);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Every slice's own period says.
    OnTime,
    /// Those overdue by more than `age` steps, and of those overdue by as much, the ones up to place `last` of the table.
    Within { age: u64, last: Option<usize> },
}

/// A refresh that is due.
#[derive(Clone, Copy)]
pub(crate) struct Due {
    /// The slice's place in the table.
    pub place: usize,
    /// By how many steps.
    pub overdue: u64,
    /// Floating-point operations.
    pub cost: u64,
}

impl Refreshes {
    /// Of a table without a budget.
    pub(crate) const ON_TIME: Self = Self(Rule::OnTime);

    /// Those that fit into `flops` operations of what `due` gives, in table order; one in any case, so that none waits for ever.
    pub(crate) fn within<I: Iterator<Item = Due>>(flops: u64, due: impl Fn() -> I) -> Self {
        let sum = |overdue: &dyn Fn(u64) -> bool| {
            due().filter(|refresh| overdue(refresh.overdue)).fold(0u64, |sum, refresh| sum.saturating_add(refresh.cost))
        };
        // The age at which the budget ends: the refreshes that are older fit, together with those of this age they do not.
        let (mut least, mut most) = (0, due().fold(0, |oldest, refresh| oldest.max(refresh.overdue)));
        while least < most {
            let middle = least + (most - least) / 2;
            if sum(&|overdue| overdue > middle) <= flops {
                most = middle;
            } else {
                least = middle + 1;
            }
        }
        let mut spent = sum(&|overdue| overdue > least);
        let mut last = None;
        for refresh in due().filter(|refresh| refresh.overdue == least) {
            let with = spent.saturating_add(refresh.cost);
            if with > flops && spent > 0 {
                break;
            }
            (spent, last) = (with, Some(refresh.place));
        }
        Self(Rule::Within { age: least, last })
    }

    /// Whether refreshes come on time, whatever they cost.
    pub(crate) fn are_on_time(&self) -> bool {
        self.0 == Rule::OnTime
    }

    /// Whether a refresh of the slice at `place`, overdue by so many steps, is made.
    pub(crate) fn include(&self, place: usize, overdue: u64) -> bool {
        match self.0 {
            Rule::OnTime => true,
            Rule::Within { age, last } => overdue > age || (overdue == age && last.is_some_and(|last| place <= last)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made<const N: usize>(flops: u64, due: [(u64, u64); N]) -> [bool; N] {
        let all = || due.into_iter().enumerate().map(|(place, (overdue, cost))| Due { place, overdue, cost });
        let refreshes = Refreshes::within(flops, all);
        core::array::from_fn(|place| refreshes.include(place, due[place].0))
    }

    #[test]
    fn the_longest_overdue_come_first_and_one_always_does() {
        assert_eq!(made(100, [(0, 50), (0, 50)]), [true, true]);
        assert_eq!(made(99, [(0, 50), (0, 50)]), [true, false]);
        assert_eq!(made(60, [(0, 50), (3, 50)]), [false, true]);
        assert_eq!(made(60, [(0, 10), (3, 50), (0, 50), (0, 10)]), [true, true, false, false]);
        assert_eq!(made(120, [(1, 50), (0, 50), (2, 50), (1, 50)]), [true, false, true, false]);
        assert_eq!(made(160, [(1, 50), (0, 50), (2, 50), (1, 50)]), [true, false, true, true]);
        assert_eq!(made(0, [(1, 50), (0, 50), (2, 50)]), [false, false, true]);
        assert_eq!(made(0, [(0, 50), (0, 50)]), [true, false]);
        assert_eq!(made(u64::MAX, [(7, u64::MAX), (0, u64::MAX)]), [true, true]);
        assert_eq!(made(5, []), [false; 0]);
    }
}
