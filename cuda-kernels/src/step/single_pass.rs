//! The step of a batch that nothing preconditions: gradient, moments and parameter in one pass. See core/src/elementwise.rs.
//!
//! An item with a bad gradient or an update out of range stays as it is, so the gradient is looked at before anything is written: it is read twice,
//! everything else once. That the update stays in range is proven, without looking at the moments, from the largest element of the gradient and
//! a bound on the momentum that each item keeps from step to step. Only where the proof fails, as at absurd learning rates, or nothing is
//! known of the moments, as after a load, are gradient and moments read once more for it.

use std::ffi::CStr;

use super::params::{Admit, Finish, Params, flag};
use super::pass::Pass;
use crate::batch::Array;
use crate::io::{self, Commit, Gather, Update};
use crate::queue::{DeviceError, DevicePtr, Kernel, Queue, Traffic};

/// `kls_single_pass_params`
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct SinglePass {
    step: Params,
    gather: Gather,
    commit: Commit,
}

// SAFETY: `kls_single_pass_params`, field by field; each is a multiple of eight bytes long, and there are none between them.
unsafe impl Kernel for SinglePass {
    const NAME: &'static CStr = c"kls_step_single_pass";
    const THREADS: u32 = 256;

    fn traffic(&self, _: [u32; 3]) -> Traffic {
        let moments = [self.step.momentum, self.step.second_moment].iter().filter(|&&array| array != Array::NULL).count() as u64;
        let elements = u64::from(self.step.axes.elements);
        let gradient = self.gather.gradient_traffic();
        gradient + self.commit.theta_traffic() + Traffic::of(self.commit.items(), elements, 4, [moments, moments])
    }
}

/// The look at updates whose range is not proven: hardly ever does an item take part.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct CheckUpdate(SinglePass);

// SAFETY: as above.
unsafe impl Kernel for CheckUpdate {
    const NAME: &'static CStr = c"kls_step_check_update";
    const THREADS: u32 = 256;
}

/// Most blocks that look at one item: what mostly has nothing to do shall have done it soon.
const MOST_BLOCKS: usize = 1 << 10;

impl<Q: Queue> Pass<'_, Q> {
    /// The whole step.
    pub(super) fn single_pass(&mut self) -> Result<(), DeviceError> {
        let present = self.begin()?;
        let transform = self.transform();
        if self.given.clip == DevicePtr::NULL || self.batch.is_penalised() {
            self.gather(present, &transform, Array::NULL, self.p.gradient_measure)?;
        } else {
            // The norm's pass has looked at the gradients, but for the factor that came out of it.
            (self.p.gradient_measure, self.p.clip) = (self.measured, self.given.clip);
        }
        self.each_item::<Admit>(present, 0, 0)?;

        let update = Update::by(Array::NULL);
        let (pieces, count) = (self.pieces, self.batch.items.len() as u32);
        let unproven = self.all().with(flag::ACTIVE).with(flag::UNPROVEN);
        let stepped = self.all().with(flag::ACTIVE).without(flag::FAILED);
        let kernel = |items| SinglePass {
            step: self.p,
            gather: Gather::new(items, &self.source(), &transform, Array::NULL),
            commit: Commit::moving(items, &pieces, self.theta, &update, &self.decay(), self.batch.rounding),
        };
        let (check, pass) = (CheckUpdate(kernel(unproven.items)), kernel(stepped.items));
        let chunks = pieces.geometry.chunks();
        self.queue.launch(io::grid(chunks.min(MOST_BLOCKS), count), check)?;
        self.queue.launch(io::grid(chunks, count), pass)?;
        self.each_item::<Finish>(self.all().with(flag::ACTIVE), 0, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use klshampoo_cuda_emulator as emulator;

    #[test]
    fn parameters_are_those_of_the_kernels() {
        for name in [SinglePass::NAME, CheckUpdate::NAME] {
            assert_eq!(emulator::params_size(name), Some(size_of::<SinglePass>()), "{name:?}");
            assert_eq!(emulator::threads(name), Some(SinglePass::THREADS), "{name:?}");
        }
        // What every kernel may take, and no padding.
        assert!(size_of::<SinglePass>() <= 4096);
        assert_eq!(size_of::<SinglePass>(), size_of::<Params>() + size_of::<Gather>() + size_of::<Commit>());
    }
}
