//! The golden trajectories, on the device: both manifests, within the tolerances of the core's own runs in `f32`.

mod common;

use common::block::Block;
use common::{EmulatorQueue, device};
use klshampoo::linalg::Portable;
use klshampoo::{Config, Mode, StatePart};
use klshampoo_cuda::io::Scalar;
use klshampoo_cuda::step::{DeviceOptimizer, Options, Program};
use klshampoo_tests::harness::{Core, Driver};

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
        let program = Program::new(&core.groups, &core.tensors, &Options::default()).unwrap();
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
