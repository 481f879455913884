//! The golden trajectories, on the device: both manifests, within the tolerances of the core's own runs in `f32`; and what lower precisions make of
//! them.

mod common;

use std::cell::Cell;

use common::block::Block;
use common::{EmulatorQueue, device};
use klshampoo::linalg::Portable;
use klshampoo::{Config, Mode, StatePart};
use klshampoo_cuda::io::Scalar;
use klshampoo_cuda::linalg::Precision;
use klshampoo_cuda::step::{DeviceOptimizer, Options, Precisions, Program};
use klshampoo_tests::acceptance::{Worst, errors};
use klshampoo_tests::golden::Collection;
use klshampoo_tests::harness::{Core, Driver};

thread_local! {
    /// Of the optimizers that this thread makes.
    static PRECISION: Cell<Precisions> = const { Cell::new(Precisions::DEFAULT) };
}

/// An optimizer on the device, and the core's over a copy of its state, which reads and sets it.
struct OnDevice {
    optimizer: DeviceOptimizer,
    block: Block,
    core: Core<f32, Portable>,
}

impl OnDevice {
    fn download(&mut self) {
        self.block.download(&self.optimizer, &mut self.core.state, &mut self.core.headers);
    }
}

impl Driver<f32> for OnDevice {
    fn new(config: &Config<f32>, dims: &[usize], modes: &[Option<Mode>]) -> Self {
        let core = <Core<f32, Portable> as Driver<f32>>::new(config, dims, modes);
        let program = Program::new(&core.groups, &core.tensors, &Options { precision: PRECISION.get(), ..Options::default() }).unwrap();
        let mut block = Block::new(&program);
        let mut optimizer = DeviceOptimizer::new(program, block.base());
        optimizer.prepare(&mut EmulatorQueue::default()).unwrap();
        Self { optimizer, block, core }
    }

    fn step(&mut self, param: &mut [f32], grad: &[f32], lr: f32) {
        let (mut on_device, mut grad) = (param.to_vec(), grad.to_vec());
        let queue = &mut EmulatorQueue::default();
        self.optimizer.step(queue, &[device(&mut on_device)], &[device(&mut grad)], Scalar::of(lr), Scalar::ONE).unwrap();
        param.copy_from_slice(&on_device);
    }

    fn set_basis(&mut self, k: usize, basis: &[f32]) {
        self.download();
        self.core.set_basis(k, basis);
        self.block.upload(&mut self.optimizer, &self.core.state, &self.core.headers);
    }

    fn read(&mut self, part: StatePart) -> Vec<f32> {
        self.download();
        self.core.read(part)
    }
}

klshampoo_tests::golden_tests!(f32, OnDevice);

fn errors_at(precision: Precisions, wanted: Option<(Collection, &str)>) -> Worst {
    PRECISION.set(precision);
    errors::<f32, OnDevice>(wanted)
}

/// One group at every lower precision: as far from double precision as its inputs are rounded, and no farther.
#[test]
fn precisions_are_what_they_say() {
    for (precision, least, most) in [(Precision::Tf32x3, 0.0, 5e-5), (Precision::Tf32, 1e-4, 1e-2), (Precision::Bf16, 1e-3, 1e-1)] {
        let worst = errors_at(Precisions::all(precision), Some((Collection::Published, "soap")));
        worst.report(&format!("{precision:?}"));
        assert!(worst.runs > 0 && worst.parameter >= least && worst.parameter <= most, "{precision:?}: {worst:?}");
    }
}

/// Tables of the README: `cargo test -p klshampoo-cuda --test golden -- --ignored --nocapture`. All cases at each precision; of one group each class of
/// products alone.
#[test]
#[ignore = "minutes: tables for the README"]
fn tables_of_precisions() {
    const F32: Precisions = Precisions::all(Precision::Fp32);
    let row = |precision, class, wanted, precisions| {
        let Worst { runs, parameter, share, .. } = errors_at(precisions, wanted);
        println!("| {precision:?} | {class} | {runs} | {parameter:.1e} | {share:.2} |");
    };
    println!("| precision | of | runs | largest error | over what f32 is allowed |\n|---|---|---:|---:|---:|");
    let group = Some((Collection::Family, "klshampoo"));
    for precision in Precision::ALL {
        row(precision, "all", group, Precisions::all(precision));
        if precision != Precision::Fp32 {
            row(precision, "project", group, Precisions { project: precision, ..F32 });
            row(precision, "factor", group, Precisions { factor: precision, ..F32 });
            row(precision, "refresh", group, Precisions { refresh: precision, ..F32 });
        }
    }
    for precision in Precision::ALL {
        row(precision, "all", None, Precisions::all(precision));
    }
}
