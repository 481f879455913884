//! One step of one batch, under way.

use klshampoo::{Format, StatePart};

use super::batch::Batch;
use super::gradient::InPlace;
use super::mirror::Run;
use super::params::{Admit, Begin, CommitFactor, CommitMoments, Finish, Launch, MODES, Params, StepKernel, Undo, flag};
use super::program::{Placed, Precisions};
use crate::batch::{Array, Items, PER_ITEM};
use crate::io::{self, Decay, Penalty, Pieces, Scalar, Source, Theta, Transform, Update};
use crate::linalg::{Precision, Product, View};
use crate::queue::{DeviceError, DevicePtr, Queue};

/// Numbers and tables that a step is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    pub params: DevicePtr,
    pub grads: DevicePtr,
    pub lr: Scalar,
    pub grad_scale: Scalar,
    /// A further factor on the gradients, on the device, or [`DevicePtr::NULL`].
    pub clip: DevicePtr,
    pub precision: Precisions,
}

/// How a chain of products is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    pub precision: Precision,
    /// Whether the arrays of the chain are scratch in items that take no part.
    pub scratch: bool,
}

/// Arrays that the linear algebra works in; the step's kernels do not see them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rooms {
    pub rotation: Array,
    pub square: Array,
    pub work: Array,
    pub chunks: DevicePtr,
}

/// Some items, one after another, and which of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub first: u32,
    pub items: Items,
}

impl Part {
    pub fn with(self, bit: u32) -> Self {
        Self { items: self.items.with(bit), ..self }
    }

    pub fn without(self, bit: u32) -> Self {
        Self { items: self.items.without(bit), ..self }
    }

    /// An array that begins with the first of the items.
    pub fn of(&self, array: Array) -> Array {
        if array == Array::NULL { array } else { array.offset::<f32>((u64::from(self.first) * array.stride) as usize) }
    }

    fn measures(&self, measures: DevicePtr) -> DevicePtr {
        measures.offset::<io::Measure>(self.first as usize)
    }
}

/// One step of one batch.
pub(super) struct Pass<'a, Q> {
    pub queue: &'a mut Q,
    pub batch: &'a Batch,
    pub p: Params,
    pub rooms: Rooms,
    /// Whether an item may have to set its basis.
    pub may_start: bool,
    pub runs: &'a [Run],
    pub given: Given,
    pub pieces: Pieces,
    pub theta: Theta,
    /// What the pass of the norm has measured, if there is a bound on it.
    pub measured: DevicePtr,
    /// Where the gradients are read, if that is where they lie.
    in_place: Option<InPlace>,
    /// Whether refreshes are left to a queue of their own.
    pub refreshes_later: bool,
}

impl<'a, Q: Queue> Pass<'a, Q> {
    pub fn new(queue: &'a mut Q, placed: &'a Placed, base: DevicePtr, given: Given, may_start: bool, runs: &'a [Run]) -> Self {
        let Placed { batch, kept, workspace: w, .. } = placed;
        let part = |part| kept.part(batch, base, part);
        let each = |slots: [super::memory::Slot; MODES]| slots.map(|slot| slot.array(base));
        let turned = batch.is_turned();
        let grad = w.grad.array(base);
        let headers = kept.headers.pointer(base);
        let pieces = Pieces { geometry: batch.geometry, places: kept.places.pointer(base) };
        let theta = match batch.param {
            Format::Native => Theta::native(given.params),
            Format::Bf16 | Format::F16 => Theta::bf16(given.params, Array { base: headers, stride: 1 }),
        };
        let master = part(StatePart::Master);
        let theta = if master == Array::NULL { theta } else { theta.with_master(master) };
        let p = Params {
            flags: kept.flags.pointer(base),
            headers,
            next: w.next.pointer(base),
            scalars: if kept.scalars.exists { kept.scalars } else { w.scalars }.pointer(base),
            lengths: w.lengths.pointer(base),
            gradient_measure: w.measures[0].pointer(base),
            update_measure: w.measures[1].pointer(base),
            other_measure: w.measures[2].pointer(base),
            partials: w.chunks.pointer(base),
            bounds: if kept.bounds.exists { kept.bounds.pointer(base) } else { DevicePtr::NULL },
            clip: DevicePtr::NULL,
            places: pieces.places,
            grads: given.grads,
            lr: given.lr.with_factor(given.lr.factor * batch.config.lr_scale),
            basis: core::array::from_fn(|k| part(StatePart::Basis(k))),
            factor: core::array::from_fn(|k| part(StatePart::Factor(k))),
            lambda: core::array::from_fn(|k| part(StatePart::Eigenvalues(k))),
            momentum: part(StatePart::Momentum),
            second_moment: part(StatePart::SecondMoment),
            graft_moment: part(StatePart::GraftMoment),
            state: kept.state.array(base),
            grad,
            gradient: if turned { w.gradient.array(base) } else { grad },
            new_momentum: w.new_momentum.array(base),
            new_second_moment: w.new_second_moment.array(base),
            product: w.product.array(base),
            update: w.update.array(base),
            aside: w.aside.array(base),
            delta: each(w.delta),
            new_basis: each(w.new_basis),
            new_lambda: each(w.new_lambda),
            weight: each(w.weight),
            diagonal: each(w.diagonal),
            values: w.values.array(base),
            averages_len: batch.layout.range(StatePart::Master).start as u64,
            axes: batch.axes,
            launch: Launch::default(),
        };
        let rooms = Rooms {
            rotation: w.rotation.array(base),
            square: w.square.array(base),
            work: w.work.array(base),
            chunks: w.chunks.pointer(base),
        };
        let (measured, refreshes_later) = (kept.measures.pointer(base), kept.scalars.exists);
        Self { queue, batch, p, rooms, may_start, runs, given, pieces, theta, measured, in_place: None, refreshes_later }
    }

    /// With gradients that are used where they lie, if there is such an array: no copy of them is made.
    pub fn with_gradients(mut self, gradients: Option<InPlace>) -> Self {
        if let Some(InPlace { array, .. }) = gradients {
            self.p.grad = array;
            if !self.batch.is_turned() {
                self.p.gradient = array;
            }
        }
        Self { in_place: gradients, ..self }
    }

    /// The whole step.
    pub fn run(&mut self) -> Result<(), DeviceError> {
        if self.batch.is_single_pass() {
            return self.single_pass();
        }
        let turned = self.batch.is_turned();
        self.admit()?;
        if self.may_start && self.batch.starts() {
            self.start()?;
        }
        if turned {
            self.project()?;
        }
        if self.batch.starts() {
            self.estimate()?;
        }
        if self.applies_first() {
            self.direct()?;
        }
        if turned && !self.refreshes_later {
            self.refresh()?;
        }
        if !self.applies_first() {
            self.direct()?;
        }
        self.commit()
    }

    /// How exactly products are made.
    pub fn precision(&self) -> Precisions {
        self.given.precision
    }

    pub fn applies_first(&self) -> bool {
        self.p.axes.apply_first != 0
    }

    pub fn n(&self) -> usize {
        self.batch.layout.shape().elements()
    }

    pub fn dim(&self, k: usize) -> usize {
        self.batch.layout.shape().dim(k)
    }

    pub fn view(&self, k: usize) -> View {
        let shape = self.batch.layout.shape();
        let (left, right) = shape.around(k);
        View { left, d: shape.dim(k), right }
    }

    /// All items.
    pub fn all(&self) -> Part {
        let items = Items { flags: self.p.flags, ..Items::all(self.batch.items.len() as u32) };
        Part { first: 0, items }
    }

    /// Those that make the step proper, and in which nothing has gone wrong yet.
    pub fn running(&self) -> Part {
        self.all().with(flag::RUNS).without(flag::FAILED)
    }

    /// Some of a batch's items.
    pub fn part(&self, of: Part, run: &Run) -> Part {
        let items =
            Items { flags: of.items.flags.offset::<u32>(run.items.start as usize), count: run.items.end - run.items.start, ..of.items };
        Part { first: run.items.start, items }
    }

    /// Launches a kernel in which blocks share the items, or in which a thread has one.
    fn launch<K: StepKernel>(&mut self, part: Part, grid: u32, blocks: u32, mode: u32, option: u32) -> Result<(), DeviceError> {
        let Items { mask, wanted, .. } = part.items;
        let launch = Launch { first: part.first, mask, wanted, blocks, mode, option, unused: 0 };
        self.queue.launch([grid, 1, 1], K::with(Params { launch, ..self.p }))
    }

    /// One block for each item.
    pub fn each_item<K: StepKernel>(&mut self, part: Part, mode: usize, option: u32) -> Result<(), DeviceError> {
        self.launch::<K>(part, part.items.count, 1, mode as u32, option)
    }

    /// So many blocks for each item.
    pub fn each_block<K: StepKernel>(&mut self, part: Part, blocks: usize, mode: usize, option: u32) -> Result<(), DeviceError> {
        let blocks = blocks.max(1) as u32;
        self.launch::<K>(part, part.items.count * blocks, blocks, mode as u32, option)
    }

    /// Blocks enough for `len` elements of each item, four to a thread, or the most that there may be: their threads take more.
    pub fn each_element<K: StepKernel>(&mut self, part: Part, len: usize, mode: usize, option: u32) -> Result<(), DeviceError> {
        self.each_block::<K>(part, len.div_ceil(4 * K::THREADS as usize).min(PER_ITEM), mode, option)
    }

    /// A thread for each item.
    pub fn each_thread<K: StepKernel>(&mut self, part: Part, option: u32) -> Result<(), DeviceError> {
        self.launch::<K>(part, part.items.count.div_ceil(K::THREADS), 1, part.items.count, option)
    }

    /// The size of an array of each item.
    pub fn measure(&mut self, part: Part, x: Array, len: usize, measures: DevicePtr) -> Result<(), DeviceError> {
        io::magnitude(self.queue, part.items, part.of(x), len, self.rooms.chunks, part.measures(measures))
    }

    pub fn copy(&mut self, part: Part, from: Array, to: Array, len: usize) -> Result<(), DeviceError> {
        io::copy(self.queue, part.items, part.of(from), part.of(to), len)
    }

    /// Who has a gradient, and for whom a refresh is due.
    pub fn begin(&mut self) -> Result<Part, DeviceError> {
        let runs = self.runs;
        for run in runs {
            let part = self.part(self.all(), run);
            self.each_thread::<Begin>(part, run.flags)?;
        }
        Ok(self.all().with(flag::PRESENT))
    }

    pub fn source(&self) -> Source {
        Source { pieces: self.pieces, pointers: self.given.grads, format: self.batch.grad }
    }

    /// What becomes of the gradients when they are read.
    pub fn transform(&self) -> Transform {
        let decay = self.batch.config.weight_decay;
        let penalty = self.batch.is_penalised().then_some(Penalty { decay, theta: self.theta });
        Transform { scale: self.given.grad_scale, clip: self.given.clip, penalty }
    }

    pub fn decay(&self) -> Decay {
        let config = &self.batch.config;
        Decay { lr: self.p.lr, weight_decay: config.weight_decay, kind: config.weight_decay_kind }
    }

    /// Measures the gradients, and unless `out` is [`Array::NULL`] copies them there.
    pub fn gather(&mut self, present: Part, transform: &Transform, out: Array, measures: DevicePtr) -> Result<(), DeviceError> {
        let source = self.source();
        io::gather_measured(self.queue, present.items, &source, transform, out, self.rooms.chunks, measures)
    }

    /// Measures the gradients alone; they are read again for the step. Returns who has one.
    pub fn measure_gradients(&mut self, measures: DevicePtr) -> Result<Items, DeviceError> {
        let present = self.begin()?;
        self.gather(present, &Transform::scaled(self.given.grad_scale), Array::NULL, measures)?;
        Ok(present.items)
    }

    /// Gradients, and who is stepped.
    fn admit(&mut self) -> Result<(), DeviceError> {
        let present = self.begin()?;
        let out = if self.in_place.is_some() { Array::NULL } else { self.p.grad };
        self.gather(present, &self.transform(), out, self.p.gradient_measure)?;
        self.each_item::<Admit>(present, 0, 0)
    }

    /// The chain of mode products of all full modes with their bases: from `from` (or where such a chain starts) into `end`.
    pub fn rotate(
        &mut self,
        part: Part,
        (bases, into): ([Array; MODES], bool),
        from: Option<Array>,
        [end, other]: [Array; 2],
        Chain { precision, scratch }: Chain,
    ) -> Result<(), DeviceError> {
        let batch = self.batch;
        let count = bases.iter().filter(|&&basis| basis != Array::NULL).count();
        let (mut source, mut target) = if count % 2 == 1 { (other, end) } else { (end, other) };
        source = from.unwrap_or(source);
        for k in (0..batch.layout.shape().order()).filter(|&k| bases[k] != Array::NULL) {
            let product = self.view(k).mode_product(part.of(bases[k]), into, part.of(source), part.of(target)).at(precision);
            Product { scratch, ..product }.launch(self.queue, part.items)?;
            source = target;
            target = if target == end { other } else { end };
        }
        Ok(())
    }

    /// `G~ = G x_k Q_k^T`
    fn project(&mut self) -> Result<(), DeviceError> {
        let Params { basis, grad, gradient, product, .. } = self.p;
        // A library reads what all items have: of those without a gradient only what is in the workspace is there at all.
        let scratch = self.in_place.is_none_or(|gradients| gradients.of_all);
        let chain = Chain { precision: self.precision().project, scratch };
        self.rotate(self.running(), (basis, true), Some(grad), [gradient, product], chain)
    }

    /// A mode's factor of after this step becomes the state's. `formed`: the flag of items in whose refresh it was formed.
    pub fn commit_factor(&mut self, part: Part, k: usize, formed: u32) -> Result<(), DeviceError> {
        let d = self.dim(k);
        self.each_element::<CommitFactor>(part, d.div_ceil(2) * (d + 1), k, formed)
    }

    /// So does its basis, where there was a refresh.
    pub fn commit_basis(&mut self, part: Part, k: usize) -> Result<(), DeviceError> {
        let d = self.dim(k);
        self.copy(part, self.p.new_basis[k], self.p.basis[k], d * d)
    }

    /// Everything that the step computed becomes what is.
    fn commit(&mut self) -> Result<(), DeviceError> {
        let stepped = self.all().with(flag::ACTIVE).without(flag::FAILED);
        let update = Update { direction: self.p.update, factors: self.p.lengths, decays: flag::DECAYS, rests: flag::RESTS };
        let decay = self.decay();
        io::commit_param(self.queue, stepped.items, &self.pieces, self.theta, &update, &decay, self.batch.rounding)?;

        let refreshed = self.batch.is_turned() && !self.refreshes_later;
        let moved = if refreshed { flag::DUE } else { 0 };
        let running = self.running();
        self.each_element::<CommitMoments>(running, self.n(), 0, moved)?;
        for k in self.batch.full_modes() {
            self.commit_factor(running, k, moved)?;
            let runs = self.runs;
            for run in runs.iter().filter(|run| refreshed && run.refreshes()) {
                let part = self.part(running.with(flag::DUE), run);
                self.commit_basis(part, k)?;
            }
        }
        if self.may_start && self.batch.starts() {
            let failed = self.all().with(flag::STARTING).with(flag::FAILED);
            self.each_element::<Undo>(failed, self.p.averages_len as usize, 0, 0)?;
        }
        self.each_item::<Finish>(self.all().with(flag::ACTIVE), 0, 0)
    }
}
