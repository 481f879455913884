//! The step of sets of tensors through the C interface, backend faer:
//!
//! ```text
//! cargo bench -p klshampoo-ffi --bench step
//! cargo bench -p klshampoo-ffi --bench step -- 'step/c/1 .*KL-Shampoo'
//! ```
//!
//! "plain" is a step without a refresh; the others are a tenth of ten steps, T = 10. The elements of the throughput are predicted
//! floating-point operations, so that Gelem/s are GFLOP/s. AdamW has no products: its throughput is that of the memory that it has to touch.

mod common;

use common::{Spec, Stepper};
use criterion::Throughput;
use klshampoo_bench::{Group, PERIOD, SETS, Set, criterion};
use klshampoo_ffi::*;

/// A method as it is timed.
struct Method {
    name: &'static str,
    number: i32,
    /// Steps of an iteration, a whole period; without one a step.
    period: Option<u32>,
}

const METHODS: [Method; 5] = [
    Method { name: "KL-Shampoo plain", number: KLS_METHOD_KL_SHAMPOO, period: None },
    Method { name: "KL-Shampoo", number: KLS_METHOD_KL_SHAMPOO, period: Some(PERIOD) },
    Method { name: "KL-SOAP", number: KLS_METHOD_KL_SOAP, period: Some(PERIOD) },
    Method { name: "SOAP", number: KLS_METHOD_SOAP, period: Some(PERIOD) },
    Method { name: "AdamW", number: KLS_METHOD_ADAMW, period: None },
];

/// Bytes per parameter that an AdamW step moves: parameter and two moments read and written, gradient read.
const ADAMW_BYTES: usize = 7 * size_of::<f32>();

impl Method {
    fn bench(&self, group: &mut Group<'_>, set: &Set, threads: usize) {
        let spec = Spec::new(set.tensors(), threads, self.number, self.period);
        let period = self.period.unwrap_or(1);
        let steps = u64::from(period);
        // What comes first is another step than the rest, and refreshes have come round once before the clock starts.
        let warm_up = steps.max(2);
        let work = match spec.flops(warm_up + 1..=warm_up + steps) / steps {
            0 => Throughput::BytesDecimal((ADAMW_BYTES * set.elements()) as u64),
            flops => Throughput::Elements(flops),
        };
        let run = |stepper: &mut Stepper, iterations| stepper.time(iterations * steps) / period;
        if let Some(stepper) = group.bench(self.name, work, || Stepper::new(&spec, warm_up), run) {
            stepper.finish();
        }
    }
}

fn main() {
    let mut criterion = criterion();
    for set in &SETS {
        for threads in [1, 2] {
            let name = format!("step/{}/{threads} thread{}", set.name, if threads == 1 { "" } else { "s" });
            let mut group = Group::new(&mut criterion, name, threads);
            for method in &METHODS {
                method.bench(&mut group, set, threads);
            }
            group.finish(set.title);
        }
    }
    criterion.final_summary();
}
