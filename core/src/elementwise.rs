//! The step of a tensor that no basis turns: block by block, without a buffer of the tensor's size.

use core::ops::Range;

use crate::config::built;
use crate::config::{Direction, Graft, Momentum};
use crate::direction::{Correction, Decay, precondition};
use crate::layout::State;
use crate::linalg::{LinAlg, Pass};
use crate::magnitude::{Magnitude, Norm};
use crate::measure::Measure;
use crate::rows::{Row, Tables, Walk, map_row};
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
        let mut sink = StaysFinite { lr, finite: true };
        linalg.vectorise(EachBlock { blocks: &blocks, state, sink: &mut sink });
        sink.finite
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
            let mut lengths = Lengths { natural: Norm::ZERO, grafted: Norm::ZERO };
            linalg.vectorise(EachBlock { blocks: &blocks, state: &mut *state, sink: &mut lengths });
            let grafted = (config.graft.built() != Graft::None).then_some(lengths.grafted);
            factor = graft::length_factor(config, shape.elements(), lengths.natural, grafted, header);
        }
        let measure = (built::MEASURE && config.measure).then(Measure::new);
        let mut commit = Commit { decay: *decay, factor, param, measure };
        linalg.vectorise(EachBlock { blocks: &blocks, state, sink: &mut commit });
        if let Some(measure) = commit.measure {
            measure.write(factor, header);
        }
    }
}

/// What becomes of the blocks. An object and no closure, like a [`Pass`], of which it is a part.
trait Sink<T> {
    /// Takes one block, with its gradient and the state of before the step.
    fn take(&mut self, range: Range<usize>, block: &Block<T>, grad: &[T], state: &mut State<'_, T>);
}

/// Whether the updates stay in range.
struct StaysFinite<T> {
    lr: T,
    finite: bool,
}

impl<T: Scalar> Sink<T> for StaysFinite<T> {
    #[inline(always)]
    fn take(&mut self, range: Range<usize>, block: &Block<T>, _: &[T], _: &mut State<'_, T>) {
        for part in [&block.direction[..range.len()], &block.graft[..range.len()]] {
            self.finite &= Magnitude::of(part).is_ok_and(|part| part.stays_finite(self.lr));
        }
    }
}

/// How long the direction and the grafted one are.
struct Lengths<T> {
    natural: Norm<T>,
    grafted: Norm<T>,
}

impl<T: Scalar> Sink<T> for Lengths<T> {
    #[inline(always)]
    fn take(&mut self, range: Range<usize>, block: &Block<T>, _: &[T], _: &mut State<'_, T>) {
        self.natural.add(&block.direction[..range.len()]);
        self.grafted.add(&block.graft[..range.len()]);
    }
}

/// Writes moments and parameter.
struct Commit<'c, 'p, T, P: ?Sized> {
    decay: Decay<T>,
    /// On the direction.
    factor: T,
    param: &'c mut ParamStream<'p, P>,
    measure: Option<Measure<T>>,
}

impl<T: Scalar, P: ElementsMut<T> + ?Sized> Sink<T> for Commit<'_, '_, T, P> {
    #[inline(always)]
    fn take(&mut self, range: Range<usize>, block: &Block<T>, grad: &[T], state: &mut State<'_, T>) {
        let direction = &block.direction[..range.len()];
        if let Some(measure) = &mut self.measure {
            measure.add(direction, grad);
        }
        store(state.momentum, &range, &block.momentum);
        store(state.second_moment, &range, &block.second_moment);
        store(state.graft_moment, &range, &block.graft_moment);
        let (decay, factor) = (self.decay, self.factor);
        if state.master.is_empty() {
            self.param.change(range, |theta| decay.update_all(theta, direction, factor));
        } else {
            let theta = &mut state.master[range.clone()];
            decay.update_all(theta, direction, factor);
            self.param.store(&range, theta);
        }
    }
}

/// Writes a block where the method keeps such a part.
fn store<T: Scalar>(part: &mut [T], range: &Range<usize>, block: &[T; BLOCK]) {
    if !part.is_empty() {
        part[range.clone()].copy_from_slice(&block[..range.len()]);
    }
}

/// Forms each block from the state of before the step and hands it on with its gradient and that state.
struct EachBlock<'s, 'a, T, G: ?Sized, S> {
    blocks: &'s Blocks<'s, T, G>,
    state: &'s mut State<'a, T>,
    sink: &'s mut S,
}

impl<T: Scalar, L: LinAlg<T>, G: Elements<T> + ?Sized, S: Sink<T>> Pass<L> for EachBlock<'_, '_, T, G, S> {
    type Output = ();

    #[inline(always)]
    fn run(self, linalg: &L) {
        let Self { blocks, state, sink } = self;
        let zeros = [T::ZERO; BLOCK];
        let mut block = Block { momentum: zeros, second_moment: zeros, graft_moment: zeros, direction: zeros, graft: zeros };
        for Row { range: row, prefix, .. } in Walk::all(blocks.shape, &blocks.roots) {
            for start in row.clone().step_by(BLOCK) {
                let range = start..row.end.min(start + BLOCK);
                let last = blocks.roots[blocks.shape.order() - 1].map(|roots| &roots[start - row.start..range.end - row.start]);
                let mut read = zeros;
                let grad = blocks.grad.block(&range, &mut read);
                blocks.form(linalg, &range, grad, (prefix, last), state, &mut block);
                sink.take(range, &block, grad, state);
            }
        }
    }
}

impl<T: Scalar, G: Elements<T> + ?Sized> Blocks<'_, T, G> {
    #[inline(always)]
    fn form(
        &self,
        linalg: &impl LinAlg<T>,
        range: &Range<usize>,
        grad: &[T],
        (prefix, last): (T, Option<&[T]>),
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
                self.correction.normaliser(self.eps).divide_all(linalg, numerator, &block.second_moment[..n], out);
            }
            _ if !self.preconditions || config.direction.built() == Direction::Momentum => {
                for (out, &m) in out.iter_mut().zip(numerator) {
                    *out = m * self.correction.numerator;
                }
            }
            Direction::KroneckerPower(_) | Direction::ShampooRoot | Direction::TraceScaled | Direction::Momentum => {
                let (correction, eps) = (self.correction.numerator, self.eps);
                map_row(numerator, (prefix, last), out, &move |m, prefix, root| precondition(m * correction, prefix * root, eps));
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
