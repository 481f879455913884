//! How far a refresh in portions has come, and where it keeps what it has: a region of the slice's state.

use crate::shape::{MAX_ORDER, Shape};
use crate::{Format, Layout, Scalar};

/// What is done to a mode's factor and basis, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No refresh is under way.
    Idle,
    /// The factor is copied; the only stage that is no work.
    Snapshot,
    /// Its columns are reflected.
    Reflect,
    /// The reflections are multiplied.
    Form,
    /// The new basis is multiplied.
    Basis,
    /// The next step turns basis and moments.
    Ready,
    /// The old factor is multiplied by the rotation from the right.
    Rotate,
    /// And from the left, and added to the one that has been averaged since.
    Add,
    /// The products of the basis' columns.
    Gram,
    /// The basis, brought back to orthogonality.
    Polish,
    /// Where bases are kept in 16 bits: the products of the new basis' columns.
    RoundGram,
    /// It is brought to orthogonality and rounded.
    Round,
    /// The rotation that leads from the old basis to it.
    Relate,
    /// The products of the rotation's columns.
    RelateGram,
    /// And the rotation brought to orthogonality.
    RelatePolish,
}

impl Stage {
    const ALL: [Self; 15] = [
        Self::Idle,
        Self::Snapshot,
        Self::Reflect,
        Self::Form,
        Self::Basis,
        Self::Ready,
        Self::Rotate,
        Self::Add,
        Self::Gram,
        Self::Polish,
        Self::RoundGram,
        Self::Round,
        Self::Relate,
        Self::RelateGram,
        Self::RelatePolish,
    ];

    /// Whether the factor of the state lacks what was averaged before basis and moments were turned.
    pub(super) fn has_factor_aside(self) -> bool {
        matches!(self, Self::Rotate | Self::Add)
    }

    /// Whether there is such a stage only where bases are kept in 16 bits.
    fn rounds(self) -> bool {
        matches!(self, Self::RoundGram | Self::Round | Self::Relate | Self::RelateGram | Self::RelatePolish)
    }
}

/// Numbers that [`Progress`] is kept in.
const PROGRESS_LEN: usize = 5;

/// Elements of the region of a slice whose longest full mode is `d`; 0 for none. It has a square more where bases are kept in 16 bits.
pub(crate) const fn region_len(d: usize, format: Format) -> Option<usize> {
    if d == 0 {
        return Some(0);
    }
    let squares = if matches!(format.of_factors(), Format::Native) { 2 } else { 3 };
    match d.checked_mul(d) {
        Some(square) => match (square.checked_mul(squares), d.checked_mul(3)) {
            (Some(squares), Some(tables)) => match squares.checked_add(tables) {
                Some(len) => len.checked_add(PROGRESS_LEN),
                None => None,
            },
            _ => None,
        },
        None => None,
    }
}

/// What there is in the region behind the progress, for a mode of length `d`.
pub(super) struct Region<'a, T> {
    /// d: the diagonal of the snapshot, whose order sorts its columns; zeros if they are not sorted.
    pub diagonal: &'a mut [T],
    /// d: of the reflections.
    pub taus: &'a mut [T],
    /// d: of the diagonal of R.
    pub signs: &'a mut [T],
    /// d x d: the snapshot's columns, then the reflections; the new basis; the old factor and its product with the rotation; the products
    /// of the basis' columns.
    pub square: &'a mut [T],
    /// d x d: `Qhat^T`; the polished basis.
    pub rotation: &'a mut [T],
    /// d x d, or nothing where bases are kept as they are: the products of columns; the old factor in the new basis.
    pub spare: &'a mut [T],
}

impl<'a, T> Region<'a, T> {
    pub(super) fn split(layout: &Layout, region: &'a mut [T], d: usize) -> Self {
        let (diagonal, rest) = region[PROGRESS_LEN..].split_at_mut(d);
        let (taus, rest) = rest.split_at_mut(d);
        let (signs, rest) = rest.split_at_mut(d);
        let (square, rest) = rest.split_at_mut(d * d);
        let (rotation, rest) = rest.split_at_mut(d * d);
        Self { diagonal, taus, signs, square, rotation, spare: &mut rest[..if layout.widens() { d * d } else { 0 }] }
    }

    /// The two squares, to read.
    pub(super) fn squares(region: &'a [T], d: usize) -> (&'a [T], &'a [T]) {
        let (square, rest) = region[PROGRESS_LEN + 3 * d..].split_at(d * d);
        (square, &rest[..d * d])
    }
}

/// How far a refresh has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Progress<T> {
    pub stage: Stage,
    /// The mode that is being refreshed.
    pub mode: usize,
    /// The next of the stage's units.
    pub unit: usize,
    /// Whether a refresh has become due that has not begun.
    pub queued: bool,
    /// What the average has left of the factor that was taken aside.
    pub kept: T,
}

impl<T: Scalar> Progress<T> {
    const NONE: Self = Self { stage: Stage::Idle, mode: 0, unit: 0, queued: false, kept: T::ZERO };

    /// From the start of a region. What no step can have written counts as nothing.
    pub(super) fn read(region: &[T], layout: &Layout) -> Self {
        let shape = layout.shape();
        let Some(&[stage, mode, unit, queued, kept]) = region.first_chunk::<PROGRESS_LEN>() else { return Self::NONE };
        // Whole numbers, exact in either type.
        let whole = |x: T| Some(x.to_f32() as usize).filter(|&n| T::from_usize(n) == x);
        let parsed = (|| {
            let stage = *Stage::ALL.get(whole(stage)?).filter(|stage| layout.widens() || !stage.rounds())?;
            let mode = whole(mode).filter(|&k| k < MAX_ORDER && (stage == Stage::Idle || shape.is_full(k)))?;
            let unit = whole(unit).filter(|&unit| unit == 0 || unit < stage.units(shape.dim(mode)))?;
            let queued = whole(queued).filter(|&queued| queued <= 1)? == 1;
            Some(Self { stage, mode, unit, queued, kept }).filter(|_| kept >= T::ZERO && kept <= T::ONE)
        })();
        parsed.unwrap_or(Self::NONE)
    }

    /// To the start of a region.
    pub(super) fn write(&self, region: &mut [T]) {
        let numbers = [self.stage as usize, self.mode, self.unit, usize::from(self.queued)].map(T::from_usize);
        region[..PROGRESS_LEN - 1].copy_from_slice(&numbers);
        region[PROGRESS_LEN - 1] = self.kept;
    }

    /// Starts the refresh that is due.
    pub(super) fn begin(&mut self, shape: &Shape) {
        self.queued = false;
        self.go_to_mode((0..shape.order()).find(|&k| shape.is_full(k)));
    }

    /// Ends the refresh of a mode.
    pub(super) fn next_mode(&mut self, shape: &Shape) {
        self.go_to_mode((self.mode + 1..shape.order()).find(|&k| shape.is_full(k)));
    }

    fn go_to_mode(&mut self, mode: Option<usize>) {
        *self = match mode {
            Some(mode) => Self { stage: Stage::Snapshot, mode, queued: self.queued, ..Self::NONE },
            None => Self { queued: self.queued, ..Self::NONE },
        };
    }

    /// Starts another stage of the same mode.
    pub(super) fn advance_to(&mut self, stage: Stage) {
        (self.stage, self.unit) = (stage, 0);
    }
}

/// Whether a refresh is under way in a piece's state, or waits for that.
pub(crate) fn is_under_way<T: Scalar>(layout: &Layout, state: &[T]) -> bool {
    layout.is_portioned() && {
        let progress = Progress::read(&state[layout.regions().pending], layout);
        progress.stage != Stage::Idle || progress.queued
    }
}

/// Whether a factor has been taken out of the state in part.
pub(crate) fn has_factor_aside<T: Scalar>(layout: &Layout, pending: &[T]) -> bool {
    layout.is_portioned() && Progress::read(pending, layout).stage.has_factor_aside()
}
