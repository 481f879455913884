//! The records that a checkpoint is made of.

use super::codes;
use super::fields::{Fields, Record};
use super::parts::parts;
use crate::plan::Piece;
use crate::shape::MAX_ORDER;
use crate::{Config, Estimator, Scalar, SliceHeader, Tensor};

/// The version of the format that this library writes, and the latest that it reads.
pub const VERSION: u32 = 1;

/// What a checkpoint starts with. The first byte is no text, and transfers that change line ends or stop at a control character break it.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"\x89KLS\r\n\x1a\n");

macro_rules! record {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $t:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $t,)*
        }

        impl Record for $name {
            fn visit<F: Fields>(&mut self, fields: &mut F) -> Result<(), F::Error> {
                $(fields.$t(stringify!($field), &mut self.$field)?;)*
                Ok(())
            }
        }
    };
}

record! {
    /// The start of a checkpoint.
    Prelude {
        /// The same in every checkpoint of every version.
        magic: u64,
        /// Version of the format.
        version: u32,
        /// Element type: 1 for `f32`, 2 for `f64`.
        element: u32,
        /// Bytes of the whole checkpoint.
        length: u64,
        /// Number of groups.
        groups: u64,
        /// Number of tensors.
        tensors: u64,
        /// Number of pieces of all slices of all tensors.
        pieces: u64,
        /// Number of state elements.
        elements: u64,
    }
}

record! {
    /// The choices that give a tensor's state its meaning, in the numbers of the header's `KLS_*` constants. Those about factors are 0
    /// where there are none.
    Method {
        /// What the factors estimate.
        estimator: u32,
        /// In which order modes see each other's eigenvalues.
        estimate_order: u32,
        /// What the eigenvalues are.
        eigenvalues: u32,
        /// What the numerator is divided by, but for the power.
        direction: u32,
        /// What the graft's moment averages.
        graft: u32,
        /// Whether the moments are one step younger than the counter.
        first_step: u32,
        /// What the bases are before the first refresh.
        first_basis: u32,
        /// What the factors started from.
        factor_init: u32,
        /// Whether the gradients are averaged.
        momentum: u32,
        /// Whether each factor's own scale is free.
        gauge: u32,
    }
}

record! {
    /// A group's configuration, for information: nothing in it is compared. A choice is the number of its `KLS_*` constant, a switch 0 or
    /// 1, and what is not set 0.
    GroupRecord {
        /// See [`Config::estimator`]; likewise below.
        estimator: u32,
        /// See [`Config::estimate_order`].
        estimate_order: u32,
        /// See [`Config::eigenvalues`].
        eigenvalues: u32,
        /// See [`Config::refresh`].
        refresh: u32,
        /// See [`Config::sort`].
        sort: u32,
        /// See [`Config::refresh_period`].
        refresh_period: u32,
        /// See [`Config::refresh_offset`].
        refresh_offset: u32,
        /// See [`Config::stagger`].
        stagger: u32,
        /// See [`Config::refresh_growth`].
        refresh_growth: u32,
        /// See [`Config::direction`].
        direction: u32,
        /// See [`Config::graft`].
        graft: u32,
        /// See [`Config::step_order`].
        step_order: u32,
        /// See [`Config::first_step`].
        first_step: u32,
        /// See [`Config::first_basis`].
        first_basis: u32,
        /// See [`Config::factor_init`].
        factor_init: u32,
        /// See [`Config::lambda_init`].
        lambda_init: u32,
        /// See [`Config::momentum`].
        momentum: u32,
        /// See [`Config::bias_correction`].
        bias_correction: u32,
        /// See [`Config::damping`].
        damping: u32,
        /// See [`Config::weight_decay_kind`].
        weight_decay_kind: u32,
        /// See [`Config::gauge`].
        gauge: u32,
        /// See [`Config::bad_gradient`].
        bad_gradient: u32,
        /// See [`Config::measure`].
        measure: u32,
        /// See [`Config::refresh_portion`].
        refresh_portion: u32,
        /// See [`Config::staleness`].
        staleness: f64,
        /// The power of [`crate::Direction::KroneckerPower`].
        power: f64,
        /// See [`Config::rms_cap`].
        rms_cap: f64,
        /// The value of [`crate::LambdaInit::Constant`].
        lambda_0: f64,
        /// See [`Config::beta1`].
        beta1: f64,
        /// See [`Config::beta2`].
        beta2: f64,
        /// See [`Config::eps`].
        eps: f64,
        /// See [`Config::weight_decay`].
        weight_decay: f64,
        /// See [`Config::clamp_limit`].
        clamp_limit: f64,
        /// See [`Config::lr_scale`].
        lr_scale: f64,
        /// See [`Config::max_dim`].
        max_dim: u64,
        /// See [`Config::block_size`].
        block_size: u64,
        /// See [`Config::merge_dims`].
        merge_dims: u64,
    }
}

record! {
    /// A part of a piece's state.
    PartRecord {
        /// What it is: [`super::PartKind::code`].
        part: u32,
        /// Of which mode, where it is of one; else 0.
        mode: u32,
        /// How many numbers; see [`super::PartKind::elements`].
        len: u64,
    }
}

/// A tensor: what is compared before anything is loaded, but for its group.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TensorRecord {
    /// Index of its group.
    pub group: u32,
    /// Number of dims after merging.
    pub order: u32,
    /// Those dims; 0 beyond the order.
    pub dims: [u64; MAX_ORDER],
    /// Number of slices.
    pub slices: u64,
    /// Pieces of each slice.
    pub pieces: u64,
    /// State elements of each slice.
    pub state_len: u64,
    /// What it is stepped by.
    pub method: Method,
    /// How its parameter is rounded: 0, to the nearest.
    pub rounding: u32,
    /// The seed of the rounding; 0 where it needs none.
    pub rounding_seed: u64,
}

/// A piece of a slice: where it lies in it, how it is preconditioned, its counters, and how many parts its state has.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PieceRecord {
    /// Number of dims.
    pub order: u32,
    /// Its first index in each dim of the slice; 0 beyond the order.
    pub start: [u64; MAX_ORDER],
    /// Its dims; 0 beyond the order.
    pub dims: [u64; MAX_ORDER],
    /// Each dim's mode: 1 full, 2 diagonal, 3 identity; 0 beyond the order.
    pub modes: [u32; MAX_ORDER],
    /// Counters and flags.
    pub header: SliceHeader,
    /// Number of [`PartRecord`]s that follow, before the parts themselves.
    pub parts: u32,
}

/// The fields of an array that are in use; an order that is none shows when it is compared or checked.
fn in_use<T>(values: &mut [T; MAX_ORDER], order: u32) -> &mut [T] {
    &mut values[..(order as usize).min(MAX_ORDER)]
}

impl Record for TensorRecord {
    fn visit<F: Fields>(&mut self, fields: &mut F) -> Result<(), F::Error> {
        fields.u32("group", &mut self.group)?;
        fields.u32("order", &mut self.order)?;
        fields.u64s("dims", in_use(&mut self.dims, self.order))?;
        fields.u64("slices", &mut self.slices)?;
        fields.u64("pieces", &mut self.pieces)?;
        fields.u64("state_len", &mut self.state_len)?;
        self.method.visit(fields)?;
        fields.u32("rounding", &mut self.rounding)?;
        fields.u64("rounding_seed", &mut self.rounding_seed)
    }
}

impl Record for PieceRecord {
    fn visit<F: Fields>(&mut self, fields: &mut F) -> Result<(), F::Error> {
        fields.u32("order", &mut self.order)?;
        fields.u64s("start", in_use(&mut self.start, self.order))?;
        fields.u64s("dims", in_use(&mut self.dims, self.order))?;
        fields.u32s("modes", in_use(&mut self.modes, self.order))?;
        self.header.visit(fields)?;
        fields.u32("parts", &mut self.parts)
    }
}

impl Record for SliceHeader {
    fn visit<F: Fields>(&mut self, fields: &mut F) -> Result<(), F::Error> {
        let Self {
            step,
            last_refresh,
            started,
            refreshes,
            refresh_failures,
            refreshes_skipped,
            skipped,
            floored,
            clamped,
            rebalanced,
            capped,
            update_rms,
            update_cosine,
            postponed,
        } = self;
        fields.u64("step", step)?;
        fields.u64("last_refresh", last_refresh)?;
        fields.u32("started", started)?;
        fields.u32("refreshes", refreshes)?;
        fields.u32("refresh_failures", refresh_failures)?;
        fields.u32("refreshes_skipped", refreshes_skipped)?;
        fields.u32("skipped", skipped)?;
        fields.u32("floored", floored)?;
        fields.u32("clamped", clamped)?;
        fields.u32("rebalanced", rebalanced)?;
        fields.u32("capped", capped)?;
        fields.f32("update_rms", update_rms)?;
        fields.f32("update_cosine", update_cosine)?;
        fields.u32("postponed", postponed)
    }
}

impl Method {
    pub(super) fn of<T: Scalar>(config: &Config<T>) -> Self {
        // What says something of factors says nothing where there are none.
        let of_factors = |code| if config.estimator == Estimator::None { 0 } else { code };
        Self {
            estimator: codes::estimator(config.estimator),
            estimate_order: of_factors(codes::estimate_order(config.estimate_order)),
            eigenvalues: of_factors(codes::eigenvalues(config.eigenvalues)),
            direction: codes::direction(config.direction).0,
            graft: codes::graft(config.graft),
            first_step: of_factors(codes::first_step(config.first_step)),
            first_basis: of_factors(codes::first_basis(config.first_basis)),
            factor_init: of_factors(codes::factor_init(config.factor_init)),
            momentum: codes::momentum(config.momentum),
            gauge: of_factors(u32::from(config.gauge)),
        }
    }
}

impl GroupRecord {
    pub(super) fn of<T: Scalar>(config: &Config<T>) -> Self {
        // Every field by name: a new one has to be put into the record, and perhaps into the method.
        let Config {
            estimator,
            estimate_order,
            eigenvalues,
            refresh,
            sort,
            refresh_period,
            refresh_offset,
            stagger,
            refresh_growth,
            staleness,
            refresh_portion,
            direction,
            graft,
            rms_cap,
            step_order,
            first_step,
            first_basis,
            factor_init,
            lambda_init,
            momentum,
            beta1,
            beta2,
            bias_correction,
            eps,
            damping,
            weight_decay,
            weight_decay_kind,
            clamp_limit,
            gauge,
            bad_gradient,
            measure,
            lr_scale,
            max_dim,
            block_size,
            merge_dims,
            // The parts say it.
            factor_format: _,
        } = *config;
        let (direction, power) = codes::direction(direction);
        let (lambda_init, lambda_0) = codes::lambda_init(lambda_init);
        let bound = |bound: Option<T>| bound.map_or(0.0, T::as_f64);
        Self {
            estimator: codes::estimator(estimator),
            estimate_order: codes::estimate_order(estimate_order),
            eigenvalues: codes::eigenvalues(eigenvalues),
            refresh: codes::refresh(refresh),
            sort: u32::from(sort),
            refresh_period,
            refresh_offset,
            stagger: u32::from(stagger),
            refresh_growth,
            direction,
            graft: codes::graft(graft),
            step_order: codes::step_order(step_order),
            first_step: codes::first_step(first_step),
            first_basis: codes::first_basis(first_basis),
            factor_init: codes::factor_init(factor_init),
            lambda_init,
            momentum: codes::momentum(momentum),
            bias_correction: codes::bias_correction(bias_correction),
            damping: codes::damping(damping),
            weight_decay_kind: codes::weight_decay_kind(weight_decay_kind),
            gauge: u32::from(gauge),
            bad_gradient: codes::bad_gradient(bad_gradient),
            measure: u32::from(measure),
            refresh_portion,
            staleness: staleness.as_f64(),
            power,
            rms_cap: bound(rms_cap),
            lambda_0,
            beta1: beta1.as_f64(),
            beta2: beta2.as_f64(),
            eps: eps.as_f64(),
            weight_decay: weight_decay.as_f64(),
            clamp_limit: bound(clamp_limit),
            lr_scale: lr_scale.as_f64(),
            max_dim: max_dim as u64,
            block_size: block_size as u64,
            merge_dims: merge_dims as u64,
        }
    }
}

/// Lengths as they are stored, up to the order.
fn lengths(order: usize, length: impl Fn(usize) -> usize) -> [u64; MAX_ORDER] {
    core::array::from_fn(|k| if k < order { length(k) as u64 } else { 0 })
}

impl TensorRecord {
    pub(super) fn of<T: Scalar>(tensor: &Tensor, groups: &[Config<T>]) -> Self {
        let plan = tensor.plan();
        let (rounding, rounding_seed) = codes::rounding(tensor.storage().rounding);
        Self {
            group: tensor.group() as u32,
            order: plan.order() as u32,
            dims: lengths(plan.order(), |k| plan.dim(k)),
            slices: tensor.slices() as u64,
            pieces: tensor.pieces() as u64,
            state_len: tensor.state_range(0).len() as u64,
            method: Method::of(&tensor.config(groups)),
            rounding,
            rounding_seed,
        }
    }
}

impl PieceRecord {
    pub(super) fn of(piece: &Piece, header: SliceHeader) -> Self {
        let shape = piece.layout.shape();
        let order = shape.order();
        Self {
            order: order as u32,
            start: lengths(order, |k| piece.start[k]),
            dims: lengths(order, |k| shape.dim(k)),
            modes: core::array::from_fn(|k| if k < order { codes::mode(shape.mode(k)) } else { 0 }),
            header,
            parts: parts(&piece.layout).count() as u32,
        }
    }
}
