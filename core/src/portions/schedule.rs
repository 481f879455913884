//! What a refresh in portions takes, counted before and while it is made: every stage is a row of units, one per column or row, and a
//! portion is as many of them as its operations are enough for.

use super::progress::Stage;
use crate::{Config, Layout, Scalar};

impl Stage {
    /// Into how many units the work on a `d x d` factor is divided.
    pub(super) const fn units(self, d: usize) -> usize {
        match self {
            Self::Idle | Self::Snapshot | Self::Ready => 0,
            Self::Reflect | Self::Form | Self::Basis | Self::Rotate | Self::Add | Self::Gram | Self::Polish => d,
            Self::RoundGram | Self::Round | Self::Relate | Self::RelateGram | Self::RelatePolish => d,
        }
    }

    /// Floating-point operations of a unit, elementwise ones not counted, as in [`Layout::cost`].
    const fn flops(self, d: usize, unit: usize) -> u64 {
        let (d, unit) = (d as u64, unit as u64);
        match self {
            Self::Idle | Self::Snapshot | Self::Ready => 0,
            // A reflection of the columns that are left, the reflected one counted as one of them.
            Self::Reflect => 4 * (d - unit) * (d - unit),
            Self::Form => 4 * (unit + 1) * (unit + 1),
            Self::Basis | Self::Rotate | Self::Polish | Self::Round | Self::Relate | Self::RelatePolish => 2 * d * d,
            // A row of a triangle.
            Self::Add | Self::Gram | Self::RoundGram | Self::RelateGram => 2 * d * (unit + 1),
        }
    }
}

/// What a step has left of its portion.
pub(super) struct Budget {
    portion: u64,
    spent: u64,
    /// Whether a unit is made that does not fit: a portion gets on.
    forced: bool,
}

impl Budget {
    pub(super) const fn new(portion: u32) -> Self {
        Self { portion: portion as u64, spent: 0, forced: true }
    }

    /// Takes operations that have been made.
    pub(super) const fn spend(&mut self, flops: u64) {
        self.spent = self.spent.saturating_add(flops);
        self.forced = false;
    }

    /// Takes as many units of a stage, from `first` on, as there is room for.
    pub(super) const fn take(&mut self, stage: Stage, d: usize, first: usize) -> usize {
        let mut unit = first;
        while unit < stage.units(d) {
            let flops = stage.flops(d, unit);
            if self.spent.saturating_add(flops) > self.portion && !self.forced {
                break;
            }
            self.spend(flops);
            unit += 1;
        }
        unit - first
    }

    pub(super) const fn spent(&self) -> u64 {
        self.spent
    }
}

/// Lengths whose cubes, several times, 64 bits hold.
const MAX_LENGTH: u64 = 1 << 20;

/// Floating-point operations of a mode's stages up to the turned factor; without the moments.
pub(crate) const fn flops(d: u64) -> u64 {
    if d > MAX_LENGTH {
        return u64::MAX;
    }
    // Sums of squares, twice, and two products and a symmetric one.
    4 * d * (d + 1) * (2 * d + 1) / 3 + 4 * d * d * d + d * d * (d + 1)
}

/// Of the stages that there are only with bases in 16 bits.
pub(crate) const fn rounding_flops(d: u64) -> u64 {
    if d > MAX_LENGTH { u64::MAX } else { 6 * d * d * d + 2 * d * d * (d + 1) }
}

/// Of the polish of a basis.
pub(crate) const fn polish_flops(d: u64) -> u64 {
    if d > MAX_LENGTH { u64::MAX } else { 2 * d * d * d + d * d * (d + 1) }
}

/// Of the largest unit, which a portion makes in any case.
pub(crate) const fn largest_unit(d: u64) -> u64 {
    if d > MAX_LENGTH { u64::MAX } else { 4 * d * d }
}

/// A refresh as it will go, without the numbers.
struct Course {
    budget: Budget,
    steps: u64,
}

impl Course {
    /// Goes on to the next step.
    const fn step(&mut self, portion: u32) {
        self.budget = Budget::new(portion);
        self.steps += 1;
    }

    /// All of a stage, in as many steps as it takes.
    const fn run(&mut self, portion: u32, stage: Stage, d: usize) {
        let mut unit = 0;
        loop {
            unit += self.budget.take(stage, d, unit);
            if unit == stage.units(d) {
                return;
            }
            self.step(portion);
        }
    }
}

impl Layout {
    /// How many steps after the one in which a refresh becomes due the last basis is turned, where it is made in portions, has a turn in
    /// every step and polishes none; else 0.
    pub const fn refresh_steps<T: Scalar>(&self, config: &Config<T>) -> u64 {
        let (shape, portion) = (self.shape(), config.refresh_portion);
        let mut course = Course { budget: Budget::new(portion), steps: 0 };
        if !self.is_portioned() {
            return 0;
        }
        let (mut k, mut left) = (0, shape.full_modes());
        while left > 0 {
            if shape.is_full(k) {
                let d = shape.dim(k);
                course.run(portion, Stage::Reflect, d);
                course.run(portion, Stage::Form, d);
                course.run(portion, Stage::Basis, d);
                if self.widens() {
                    course.run(portion, Stage::RoundGram, d);
                    course.run(portion, Stage::Round, d);
                    course.run(portion, Stage::Relate, d);
                    course.run(portion, Stage::RelateGram, d);
                    course.run(portion, Stage::RelatePolish, d);
                }
                course.step(portion);
                course.budget.spend(self.moving_flops(config, k));
                left -= 1;
                if left > 0 {
                    course.run(portion, Stage::Rotate, d);
                    course.run(portion, Stage::Add, d);
                }
            }
            k += 1;
        }
        course.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_units_are_what_is_predicted() {
        for d in [1, 2, 3, 4, 7, 16, 33, 64] {
            let sum = |stage: Stage| (0..stage.units(d)).map(|unit| stage.flops(d, unit)).sum::<u64>();
            let refresh = [Stage::Reflect, Stage::Form, Stage::Basis, Stage::Rotate, Stage::Add];
            assert_eq!(refresh.map(sum).iter().sum::<u64>(), flops(d as u64));
            assert_eq!(sum(Stage::Gram) + sum(Stage::Polish), polish_flops(d as u64));
            let rounding = [Stage::RoundGram, Stage::Round, Stage::Relate, Stage::RelateGram, Stage::RelatePolish];
            assert_eq!(rounding.map(sum).iter().sum::<u64>(), rounding_flops(d as u64));
            let largest = refresh
                .into_iter()
                .chain(rounding)
                .chain([Stage::Gram, Stage::Polish])
                .flat_map(|stage| (0..d).map(move |unit| stage.flops(d, unit)));
            assert_eq!(largest.max(), Some(largest_unit(d as u64)));
        }
        assert!(flops(MAX_LENGTH) / 7 > MAX_LENGTH.pow(3), "no overflow");
        assert_eq!(flops(MAX_LENGTH + 1), u64::MAX);
    }

    #[test]
    fn a_portion_gets_on_and_no_further() {
        let mut budget = Budget::new(1);
        assert_eq!((budget.take(Stage::Reflect, 8, 0), budget.spent()), (1, 4 * 64));
        assert_eq!(budget.take(Stage::Reflect, 8, 1), 0);
        let mut budget = Budget::new(300);
        budget.spend(100);
        assert_eq!((budget.take(Stage::Basis, 8, 0), budget.spent()), (1, 228));
        let mut budget = Budget::new(u32::MAX);
        assert_eq!((budget.take(Stage::Form, 8, 0), budget.take(Stage::Add, 8, 3)), (8, 5));
        // What is made at once in any case leaves no claim to more.
        let mut budget = Budget::new(0);
        budget.spend(1);
        assert_eq!(budget.take(Stage::Add, 8, 0), 0);
    }
}
