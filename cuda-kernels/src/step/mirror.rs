//! The host's count of each item's steps, and the refreshes that follow from it.

use std::ops::Range;

use klshampoo::SliceHeader;

use super::batch::{Batch, Item};
use super::params::flag;

/// What the host believes of an item: that every step with a gradient has been made. A step that the device leaves out, because of a bad
/// gradient, counts here and not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    step: u64,
    last_refresh: u64,
}

/// Of a batch.
#[derive(Clone, Debug)]
pub(super) struct Mirror {
    items: Vec<Counts>,
    /// Whether all items are known to have set their basis, and to have taken their master weights.
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
    pub fn new(batch: &Batch) -> Self {
        Self { items: vec![Counts::default(); batch.items.len()], begun: false, runs: Vec::with_capacity(batch.items.len()) }
    }

    /// Whether an item may still have to set its basis.
    pub fn may_start(&self) -> bool {
        !self.begun
    }

    /// What is due in the next step of the items that have a gradient; the others have no flags.
    pub fn plan(&mut self, batch: &Batch, has_gradient: impl Fn(&Item) -> bool) {
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

    /// So many steps have been made.
    pub fn advance(&mut self, batch: &Batch, steps: u64, has_gradient: impl Fn(&Item) -> bool) {
        for (item, counts) in batch.items.iter().zip(&mut self.items).filter(|(item, _)| has_gradient(item)) {
            if batch.config.refresh_growth == 0 {
                // The last refresh has no part in when the next one is due.
                counts.step += steps;
                continue;
            }
            for _ in 0..steps {
                counts.step += 1;
                if batch.config.refresh_due(counts.step, counts.last_refresh, item.phase) {
                    counts.last_refresh = counts.step;
                }
            }
        }
    }

    /// What the items' headers say, which are those of now.
    pub fn set(&mut self, batch: &Batch, headers: &[SliceHeader]) {
        for (item, counts) in batch.items.iter().zip(&mut self.items) {
            if let Some(header) = headers.get(item.header) {
                *counts = Counts { step: header.step, last_refresh: header.last_refresh };
            }
        }
        self.begun = false;
        self.observe(batch, headers);
    }

    /// What the items' headers said at some time.
    pub fn observe(&mut self, batch: &Batch, headers: &[SliceHeader]) {
        let starts = batch.layout.shape().preconditioned_modes() > 0;
        self.begun |= batch.items.iter().all(|item| headers.get(item.header).is_some_and(|header| !starts || header.started != 0));
    }
}
