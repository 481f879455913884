//! The host's count of each item's steps, and the refreshes that follow from it.

use std::ops::Range;

use klshampoo::{Config, SliceHeader};

use super::batch::{Batch, Item, reserve};
use super::params::flag;
use super::program::Reason;

/// Most steps that are counted: no sum of counts and periods overflows.
pub(super) const MOST_STEPS: u64 = 1 << 40;

/// Most steps that are gone through one by one at once.
const MOST_IN_TURN: u64 = 1 << 20;

/// What the host believes of an item: that every step with a gradient has been made. A step that the device leaves out, because of a bad
/// gradient, counts here and not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    step: u64,
    last_refresh: u64,
    /// It has had a gradient since the last [`Mirror::set`].
    stepped: bool,
    /// Its header is known to say that it has set its basis.
    started: bool,
}

impl Counts {
    /// Whether the refresh period of the next step is the one of all later ones.
    fn has_grown(&self, config: &Config<f32>) -> bool {
        self.last_refresh >= u64::from(config.refresh_offset) + u64::from(config.refresh_growth)
    }

    /// After so many more steps.
    fn advanced(mut self, config: &Config<f32>, phase: u64, steps: u64) -> Self {
        let end = self.step + steps;
        if config.refresh_growth > 0 {
            while self.step < end && !self.has_grown(config) {
                self.step += 1;
                if config.refresh_due(self.step, self.last_refresh, phase) {
                    self.last_refresh = self.step;
                }
            }
            if self.has_grown(config) && end > self.last_refresh {
                // A refresh that is overdue comes in the next step, the others a period after one another.
                let period = u64::from(config.refresh_period);
                let next = self.last_refresh.saturating_add(period).max(self.step + 1);
                if next <= end {
                    self.last_refresh = end - (end - next) % period;
                }
            }
        }
        // Else the last refresh has no part in when the next one is due.
        self.step = end;
        self
    }
}

/// Of a batch.
#[derive(Clone, Debug)]
pub(super) struct Mirror {
    items: Vec<Counts>,
    /// Whether all items that have had a gradient are known to have set their basis.
    begun: bool,
    /// Items in table order with the same flags in this step.
    runs: Vec<Run>,
}

/// Neighbours of which the host says the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub items: Range<u32>,
    pub flags: u32,
}

impl Run {
    /// Whether one of them may refresh.
    pub fn refreshes(&self) -> bool {
        self.flags != 0
    }
}

impl Mirror {
    pub fn new(batch: &Batch) -> Result<Self, Reason> {
        let (mut items, mut runs) = (Vec::new(), Vec::new());
        reserve(&mut items, batch.items.len())?;
        reserve(&mut runs, batch.items.len())?;
        items.resize(batch.items.len(), Counts::default());
        Ok(Self { items, begun: true, runs })
    }

    /// As it was made.
    pub fn reset(&mut self) {
        self.items.fill(Counts::default());
        self.begun = true;
    }

    /// Whether an item that has had a gradient may still have to set its basis.
    pub fn may_start(&self) -> bool {
        !self.begun
    }

    /// What is due in the next step of the items that have a gradient; the others have no flags.
    pub fn plan(&mut self, batch: &Batch, has_gradient: impl Fn(&Item) -> bool) {
        let starts = batch.starts();
        for (_, counts) in batch.items.iter().zip(&mut self.items).filter(|(item, counts)| !counts.stepped && has_gradient(item)) {
            counts.stepped = true;
            self.begun &= counts.started || !starts;
        }
        let (config, may_start) = (&batch.config, !self.begun);
        self.runs.clear();
        for (i, (item, counts)) in batch.items.iter().zip(&self.items).enumerate() {
            let mut flags = 0;
            if has_gradient(item) {
                let due = |phase| config.refresh_due(counts.step + 1, counts.last_refresh, phase);
                flags |= if due(item.phase) { flag::DUE } else { 0 };
                // A basis that has just been set and is ahead of its time waits for the next refresh.
                flags |= if may_start && due(0) { flag::DUE_AT_START } else { 0 };
            }
            let i = i as u32;
            match self.runs.last_mut() {
                Some(run) if run.flags == flags => run.items.end = i + 1,
                _ => self.runs.push(Run { items: i..i + 1, flags }),
            }
        }
    }

    /// Of the last plan.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Whether so many steps more are few enough to be counted.
    pub fn can_advance(&self, batch: &Batch, steps: u64, has_gradient: impl Fn(&Item) -> bool) -> bool {
        batch.items.iter().zip(&self.items).filter(|(item, _)| has_gradient(item)).all(|(_, counts)| {
            let in_turn = batch.config.refresh_growth > 0 && !counts.has_grown(&batch.config);
            steps == 0 || counts.step.saturating_add(steps) <= MOST_STEPS && (!in_turn || steps <= MOST_IN_TURN)
        })
    }

    /// So many steps have been made.
    pub fn advance(&mut self, batch: &Batch, steps: u64, has_gradient: impl Fn(&Item) -> bool) {
        // Neighbours that are alike stay alike.
        let mut last = None;
        for (item, counts) in batch.items.iter().zip(&mut self.items).filter(|(item, _)| has_gradient(item)) {
            let from = (*counts, item.phase);
            let (_, to) =
                last.filter(|&(before, _)| before == from).unwrap_or_else(|| (from, counts.advanced(&batch.config, item.phase, steps)));
            last = Some((from, to));
            *counts = to;
        }
    }

    /// What the items' headers say, which are those of now.
    pub fn set(&mut self, batch: &Batch, headers: &[SliceHeader]) {
        for (item, counts) in batch.items.iter().zip(&mut self.items) {
            if let Some(header) = headers.get(item.header) {
                *counts = Counts { step: header.step, last_refresh: header.last_refresh, ..Counts::default() };
            }
        }
        self.observe(batch, headers);
    }

    /// What the items' headers said at some time.
    pub fn observe(&mut self, batch: &Batch, headers: &[SliceHeader]) {
        let starts = batch.starts();
        self.begun = true;
        for (item, counts) in batch.items.iter().zip(&mut self.items) {
            counts.started |= headers.get(item.header).is_some_and(|header| header.started != 0);
            self.begun &= !starts || counts.started || !counts.stepped;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Many steps at once are the steps one by one.
    #[test]
    fn replayed_counts_are_the_counts_of_the_steps() {
        for (refresh_period, refresh_growth, refresh_offset) in
            [(1, 0, 0), (7, 0, 3), (1, 5, 2), (10, 40, 0), (10, 4, 5), (6, 100, 1), (40, 9, 30)]
        {
            let config = Config { refresh_period, refresh_growth, refresh_offset, ..Config::<f32>::kl_shampoo() };
            for before in [0, 1, 13, 60, 137] {
                let start = (0..before).fold(Counts::default(), |counts, _| counts.advanced(&config, 0, 1));
                let mut counts = start;
                for steps in 0..400 {
                    assert_eq!(
                        start.advanced(&config, 0, steps),
                        counts,
                        "{refresh_period} {refresh_growth} {refresh_offset}: {before} {steps}"
                    );
                    counts.step += 1;
                    if refresh_growth > 0 && config.refresh_due(counts.step, counts.last_refresh, 0) {
                        counts.last_refresh = counts.step;
                    }
                }
            }
            // Of any number, and at once.
            let grown = (0..200).fold(Counts::default(), |counts, _| counts.advanced(&config, 0, 1));
            assert_eq!(grown.advanced(&config, 0, MOST_STEPS - 200).step, MOST_STEPS);
        }
    }
}
