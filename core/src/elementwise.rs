//! The step of a tensor that no basis turns: block by block, without a buffer of the tensor's size.

use core::ops::Range;

use crate::config::built;
use crate::config::{Direction, Graft, Momentum};
use crate::direction::{Correction, Decay, Root};
use crate::layout::State;
use crate::linalg::LinAlg;
use crate::magnitude::{Magnitude, Norm};
use crate::measure::Measure;
use crate::rows::{Tables, for_each_row};
use crate::step::{SliceStep, tables};
use crate::stream::{BLOCK, GradStream, ParamStream};
use crate::{Config, Elements, ElementsMut, Scalar, Shape, SliceHeader, graft};

/// What one block of elements becomes.
struct Block<T> {
    momentum: [T; BLOCK],
    second_moment: [T; BLOCK],
    graft_moment: [T; BLOCK],
    direction: [T; BLOCK],
    graft: [T; BLOCK],
}

/// Everything that the blocks are formed from.
struct Blocks<'a, T, G: ?Sized> {
    shape: &'a Shape,
    config: &'a Config<T>,
    correction: Correction<T>,
    roots: Tables<'a, T>,
    eps: T,
    /// Whether there is something to precondition with yet.
    preconditions: bool,
    grad: &'a GradStream<'a, T, G>,
}

impl<'a, T: Scalar, L: LinAlg<T>> SliceStep<'_, 'a, T, L> {
    /// The blocks, and what they are written to.
    fn blocks<'s, G: ?Sized>(
        &'s mut self,
        grad: &'s GradStream<'s, T, G>,
    ) -> (Blocks<'s, T, G>, &'s L, &'s mut State<'a, T>, &'s mut SliceHeader) {
        let eps = self.root_eigenvalues();
        let (shape, config, preconditions) = (self.layout.shape(), self.config, self.preconditions());
        let correction = Correction::new(config, &self.header);
        let roots = tables(shape, &self.scratch.weight);
        (Blocks { shape, config, correction, roots, eps, preconditions, grad }, &*self.linalg, &mut self.state, &mut self.header)
    }

    /// Whether the update at learning rate `lr` stays in range. Directions do at any rate that is not absurd, so only such a rate is worth
    /// the pass.
    pub(crate) fn elementwise_stays_finite<G: Elements<T> + ?Sized>(&mut self, grad: &GradStream<'_, T, G>, lr: T) -> bool {
        const ABSURD_LOG2: i32 = 20;
        if lr.exponent() < ABSURD_LOG2 {
            return true;
        }
        let (blocks, linalg, state, _) = self.blocks(grad);
        let mut finite = true;
        blocks.for_each(linalg, state, |range, block, _, _| {
            for part in [&block.direction[..range.len()], &block.graft[..range.len()]] {
                finite &= Magnitude::of(part).is_ok_and(|part| part.stays_finite(lr));
            }
        });
        finite
    }

    /// Moments, direction and parameter. Where the direction's length depends on all of it, a first pass measures it.
    pub(crate) fn commit_elementwise<P: ElementsMut<T> + ?Sized, G: Elements<T> + ?Sized>(
        &mut self,
        param: &mut ParamStream<'_, P>,
        grad: &GradStream<'_, T, G>,
        decay: &Decay<T>,
    ) {
        let (shape, config) = (self.layout.shape(), self.config);
        let (blocks, linalg, state, header) = self.blocks(grad);
        let mut factor = T::ONE;
        if built::GRAFTING && (config.graft != Graft::None || config.rms_cap.is_some()) {
            let (mut natural, mut grafted) = (Norm::ZERO, Norm::ZERO);
            blocks.for_each(linalg, state, |range, block, _, _| {
                natural.add(&block.direction[..range.len()]);
                grafted.add(&block.graft[..range.len()]);
            });
            let grafted = (config.graft.built() != Graft::None).then_some(grafted);
            factor = graft::length_factor(config, shape.elements(), natural, grafted, header);
        }
        let mut measure = (built::MEASURE && config.measure).then(Measure::new);
        blocks.for_each(linalg, state, |range, block, grad, state| {
            let n = range.len();
            if let Some(measure) = &mut measure {
                measure.add(&block.direction[..n], grad);
            }
            store(state.momentum, &range, &block.momentum);
            store(state.second_moment, &range, &block.second_moment);
            store(state.graft_moment, &range, &block.graft_moment);
            let direction = &block.direction[..n];
            if state.master.is_empty() {
                param.change(range, |theta| decay.update(theta, direction, factor));
            } else {
                let theta = &mut state.master[range.clone()];
                decay.update(theta, direction, factor);
                param.store(&range, theta);
            }
        });
        if let Some(measure) = measure {
            measure.write(factor, header);
        }
    }
}

/// Writes a block where the method keeps such a part.
fn store<T: Scalar>(part: &mut [T], range: &Range<usize>, block: &[T; BLOCK]) {
    if !part.is_empty() {
        part[range.clone()].copy_from_slice(&block[..range.len()]);
    }
}

impl<T: Scalar, G: Elements<T> + ?Sized> Blocks<'_, T, G> {
    /// Forms each block from the state of before the step and hands it to `f` with its gradient and that state.
    fn for_each<L: LinAlg<T>>(
        &self,
        linalg: &L,
        state: &mut State<'_, T>,
        mut f: impl FnMut(Range<usize>, &Block<T>, &[T], &mut State<'_, T>),
    ) {
        let zeros = [T::ZERO; BLOCK];
        let mut block = Block { momentum: zeros, second_moment: zeros, graft_moment: zeros, direction: zeros, graft: zeros };
        linalg.vectorise(|linalg| {
            for_each_row(self.shape, &self.roots, |row, _, prefix| {
                for start in row.clone().step_by(BLOCK) {
                    let range = start..row.end.min(start + BLOCK);
                    let last = self.roots[self.shape.order() - 1].map(|roots| &roots[start - row.start..range.end - row.start]);
                    let mut read = zeros;
                    let grad = self.grad.block(&range, &mut read);
                    self.form(linalg, &range, grad, Root { prefix, last }, state, &mut block);
                    f(range, &block, grad, state);
                }
            });
        });
    }

    #[inline(always)]
    fn form(
        &self,
        linalg: &impl LinAlg<T>,
        range: &Range<usize>,
        grad: &[T],
        root: Root<'_, T>,
        state: &State<'_, T>,
        block: &mut Block<T>,
    ) {
        let (config, n) = (self.config, range.len());
        let mut look_ahead = [T::ZERO; BLOCK];
        let (kept, fresh) = (config.beta1, T::ONE - config.beta1);
        if config.momentum != Momentum::None {
            for ((new, &m), &g) in block.momentum.iter_mut().zip(&state.momentum[range.clone()]).zip(grad) {
                *new = kept * m + fresh * g;
            }
        }
        let numerator = match config.momentum {
            Momentum::None => grad,
            Momentum::Average => &block.momentum[..n],
            Momentum::Nesterov => {
                for ((ahead, &m), &g) in look_ahead.iter_mut().zip(&block.momentum).zip(grad) {
                    *ahead = kept * m + fresh * g;
                }
                &look_ahead[..n]
            }
        };
        let out = &mut block.direction[..n];
        match config.direction.built() {
            Direction::SecondMoment => {
                let (kept, fresh) = (config.beta2, T::ONE - config.beta2);
                for ((new, &d), &g) in block.second_moment.iter_mut().zip(&state.second_moment[range.clone()]).zip(grad) {
                    *new = kept * d + fresh * (g * g);
                }
                self.correction.normaliser(self.eps).divide(linalg, numerator, &block.second_moment[..n], out);
            }
            _ if !self.preconditions || config.direction.built() == Direction::Momentum => {
                for (out, &m) in out.iter_mut().zip(numerator) {
                    *out = m * self.correction.numerator;
                }
            }
            Direction::KroneckerPower(_) | Direction::ShampooRoot | Direction::TraceScaled | Direction::Momentum => {
                root.precondition(self.eps, self.correction.numerator, numerator, out);
            }
        }
        if !state.graft_moment.is_empty() {
            for ((new, &v), &g) in block.graft_moment.iter_mut().zip(&state.graft_moment[range.clone()]).zip(grad) {
                *new = graft::moment(config, v, g);
            }
        }
        graft::direction(linalg, config, &self.correction, (numerator, grad, &block.graft_moment[..n]), &mut block.graft[..n]);
        if !self.preconditions && config.graft.built() != Graft::None {
            block.direction = block.graft;
        }
    }
}
