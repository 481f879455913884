//! What becomes of a table: batches, and the memory that they need.

use klshampoo::{Config, Format, StepOrder, Tensor};

use super::batch::{Batch, batches, copied, reserve};
use super::later::Room;
use super::memory::{Carver, Kept, Memory, Slot, Workspace};
use super::mirror::Mirror;
use crate::io::{GeometryError, Norm};
use crate::linalg::Precision;
use crate::queue::DevicePtr;

/// Enough for the layers of GPT-2 124M, of which each shape is then stepped in one batch.
pub const DEFAULT_WORKSPACE_LIMIT: u64 = 4 << 30;

/// What can be chosen about a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of workspace that equal tensors may take together. Beyond it they are stepped in several batches, one after another; a single
    /// tensor may need more.
    pub workspace_limit: usize,
    /// How exactly products are made.
    pub precision: Precisions,
    /// Which products are to be left to a library that the queue may have.
    pub library: Library,
    /// Whether refreshes are left to a queue of their own, [`DeviceOptimizer::refresh`](super::DeviceOptimizer::refresh). All groups are then stepped in
    /// [`StepOrder::ApplyFirst`]: what a refresh after a step makes is used from the next one on. Such refreshes have a workspace of their own, for which
    /// the limit holds too.
    pub refreshes_later: bool,
}

impl Default for Options {
    /// 4 GiB ([`DEFAULT_WORKSPACE_LIMIT`]), the precisions' default, no library, refreshes in the step.
    fn default() -> Self {
        let workspace_limit = usize::try_from(DEFAULT_WORKSPACE_LIMIT).unwrap_or(usize::MAX);
        Self { workspace_limit, precision: Precisions::default(), library: Library::NEVER, refreshes_later: false }
    }
}

/// How exactly the products of a step are made, by what they are for. The first step of a slice, which sets its bases, is made at
/// [`Precision::Fp32`], and so is all that is no product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precisions {
    /// Of the gradient's way into the eigenbasis, the direction's way back, and what moves along when a basis turns: four of five parts of a plain
    /// step's work. What is rounded here is off in the update by as much, once.
    pub project: Precision,
    /// Of what the Kronecker factors see of a gradient: symmetric products, which are averaged. Eigenvalues are sums of squares of rounded
    /// numbers, whose errors cancel out; those below the rounding of the largest one are lost.
    pub factor: Precision,
    /// Of what a refresh turns the factors with. The products on which orthogonality rests are at least [`Precision::Tf32x3`]: see
    /// [`crate::linalg::Refresh::orthogonal`].
    pub refresh: Precision,
}

impl Precisions {
    /// See the table of errors in the crate's README.
    pub const DEFAULT: Self = Self::all(Precision::Fp32);

    /// The same for all.
    #[must_use]
    pub const fn all(precision: Precision) -> Self {
        Self { project: precision, factor: precision, refresh: precision }
    }
}

impl Default for Precisions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Which products of a step are left to a library, on a queue that has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Library {
    /// Those of at least so many multiplications for each item: rows x columns x depth.
    pub from: u64,
    /// Bytes of device memory that the library works in; they are part of the program's where a product is large enough.
    pub workspace: usize,
    /// Whether that memory is to be there in any case.
    pub required: bool,
}

impl Library {
    /// None.
    pub const NEVER: Self = Self { from: u64::MAX, workspace: 0, required: false };

    /// From when on a library is expected to be worth while: products of 256 x 256 x 256. A launch of smaller ones is over before it fills a device, and
    /// is bounded by its latency, which is the same for both; besides, items that take no part cost nothing in this crate's kernels.
    /// `examples/gpu_times` measures both sides.
    pub const WORTH_WHILE: u64 = 1 << 24;

    /// Whether a step of the batch has such a product: in a mode that a library can see as a matrix, or in a refresh that is part of it.
    fn is_used_by(&self, batch: &Batch, refreshes_later: bool) -> bool {
        let shape = batch.layout.shape();
        let large =
            |[rows, columns, depth]: [usize; 3]| (rows as u64).saturating_mul(columns as u64).saturating_mul(depth as u64) >= self.from;
        batch.full_modes().any(|k| {
            let (d, (left, right)) = (shape.dim(k), shape.around(k));
            // A queue of refreshes has no library.
            !refreshes_later && large([d; 3]) || (left == 1 || right == 1) && large([d, d, left * right])
        })
    }
}

/// Why a table is not stepped on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It names a group that does not exist.
    Group,
    /// Factors and bases in 16 bits.
    FactorFormat,
    /// Refreshes in portions.
    Portions,
    /// A piece of 2^31 elements or more, or a mode with a factor that is longer than 2^15.
    TooLarge,
    /// With it the table has more than [`MOST_ITEMS`] slices and pieces of slices.
    TooMany,
    /// The tensor's place in its buffers cannot be addressed.
    Geometry(GeometryError),
    /// The state or the workspace does not fit the address space.
    Overflow,
    /// The host has no memory for the program.
    OutOfMemory,
}

/// See [`Reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Index of the tensor.
    pub tensor: usize,
    /// What cannot be done with it.
    pub reason: Reason,
}

impl core::fmt::Display for Refused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "tensor {}: ", self.tensor)?;
        f.write_str(match self.reason {
            Reason::Group => "names a group that does not exist",
            Reason::FactorFormat => "the GPU keeps factors and eigenbases in 32 bits only",
            Reason::Portions => "the GPU makes no refreshes in portions",
            Reason::TooLarge => "a piece has 2^31 elements or more, or a factor of more than 2^15 rows",
            Reason::TooMany => "with it the table has more than 2^24 slices and pieces of slices",
            Reason::Geometry(error) => return error.fmt(f),
            Reason::Overflow => "state and workspace do not fit the address space",
            Reason::OutOfMemory => "the host has no memory for the program",
        })
    }
}

impl core::error::Error for Refused {}

/// Most slices, or pieces of slices, of a table: the host keeps about 150 bytes of each.
pub const MOST_ITEMS: usize = 1 << 24;

/// Longest mode with a factor: its square has an index of 32 bits.
const LONGEST_FULL: usize = 1 << 15;

fn check(tensor: &Tensor) -> Result<(), Reason> {
    let parts = tensor.layout().parts();
    if parts.factor_format != Format::Native {
        return Err(Reason::FactorFormat);
    }
    if parts.portions {
        return Err(Reason::Portions);
    }
    if tensor.largest_full_dim() > LONGEST_FULL {
        return Err(Reason::TooLarge);
    }
    for piece in 0..tensor.pieces() {
        let layout = tensor.piece_layout(piece);
        let shape = layout.shape();
        if shape.elements() >= 1 << 31 {
            return Err(Reason::TooLarge);
        }
    }
    Ok(())
}

/// One batch and its places in the block.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub batch: Batch,
    pub kept: Kept,
    pub workspace: Workspace,
    /// Of refreshes with a queue of their own.
    pub later: Room,
}

/// The program of a table's step, planned on the host.
#[derive(Clone, Debug)]
pub struct Program {
    pub(super) batches: Vec<Placed>,
    /// Pointers to the table's parameters and gradients.
    pub(super) params: Slot,
    pub(super) grads: Slot,
    /// Of all gradients together.
    pub(super) norm: Slot,
    /// Of the library of products, where one is used.
    library: Option<Slot>,
    /// Of each batch, before the first step.
    pub(super) mirrors: Vec<Mirror>,
    pub(super) tensors: usize,
    pub(super) headers: usize,
    pub(super) options: Options,
    memory: Memory,
}

impl Program {
    /// Plans the step of a table that was resolved against `groups`.
    ///
    /// # Errors
    /// [`Refused`]: what a device cannot do is not computed in another way.
    pub fn new(groups: &[Config<f32>], table: &[Tensor], options: &Options) -> Result<Self, Refused> {
        let mut items = 0usize;
        for (index, tensor) in table.iter().enumerate() {
            let refused = |reason| Refused { tensor: index, reason };
            let own = tensor.pieces().checked_mul(tensor.slices());
            items = own.and_then(|own| items.checked_add(own)).filter(|&sum| sum <= MOST_ITEMS).ok_or(refused(Reason::TooMany))?;
            if tensor.group() >= groups.len() {
                return Err(refused(Reason::Group));
            }
            check(tensor).map_err(refused)?;
        }
        let order = options.refreshes_later.then_some(StepOrder::ApplyFirst);
        let whole = batches(groups, table, order).map_err(|(tensor, reason)| Refused { tensor, reason })?;
        let out_of_memory = |reason| Refused { tensor: 0, reason };
        let mut parts = Vec::new();
        for batch in whole {
            let refused = || Refused { tensor: batch.items.first().map_or(0, |item| item.tensor), reason: Reason::Overflow };
            let each = largest_count(&batch, options).ok_or_else(refused)?;
            let chunks = batch.items.chunks(each);
            reserve(&mut parts, chunks.len()).map_err(out_of_memory)?;
            for items in chunks {
                parts.push(batch.part(copied(items).map_err(out_of_memory)?));
            }
        }
        let mut mirrors = Vec::new();
        reserve(&mut mirrors, parts.len()).map_err(out_of_memory)?;
        for batch in &parts {
            mirrors.push(Mirror::new(batch).map_err(out_of_memory)?);
        }

        // State, headers and tables of all batches, each kind together; then the workspace, in which every batch begins anew.
        let mut carvers = [Carver::default(); 3];
        let (mut kept, mut placed) = (Vec::new(), Vec::new());
        reserve(&mut kept, parts.len()).map_err(out_of_memory)?;
        reserve(&mut placed, parts.len()).map_err(out_of_memory)?;
        kept.extend(parts.iter().map(|batch| Kept::new(batch, &mut carvers, options.refreshes_later)));
        let pointers = |carver: &mut Carver| carver.take(table.len(), size_of::<DevicePtr>());
        let tables_of_all = [pointers(&mut carvers[2]), pointers(&mut carvers[2]), carvers[2].take(1, size_of::<Norm>())];
        let overflow = Refused { tensor: 0, reason: Reason::Overflow };
        let mut lens = [0; 3];
        for (len, carver) in lens.iter_mut().zip(&carvers) {
            *len = carver.end().ok_or(overflow)?;
        }
        let [state, headers, tables] = lens;
        let before_tables = state.checked_add(headers).ok_or(overflow)?;
        let [params, grads, norm] = tables_of_all.map(|slot| Slot { at: slot.at + before_tables, ..slot });
        let fixed = before_tables.checked_add(tables).ok_or(overflow)?;
        let mut total = fixed;
        for (batch, kept) in parts.into_iter().zip(kept) {
            let mut carver = Carver { at: fixed, ..Carver::default() };
            let workspace = Workspace::new(&batch, batch.items.len(), &mut carver);
            total = total.max(carver.end().ok_or(overflow)?);
            placed.push(Placed { batch, kept: kept.moved(state, before_tables), workspace, later: Room::default() });
        }
        if options.refreshes_later {
            let after_workspace = total;
            for placed in &mut placed {
                let mut carver = Carver { at: after_workspace, ..Carver::default() };
                placed.later = Room::new(&placed.batch, placed.batch.items.len(), &mut carver);
                total = total.max(carver.end().ok_or(overflow)?);
            }
        }
        let used = |placed: &Placed| options.library.is_used_by(&placed.batch, options.refreshes_later);
        let library = if options.library.required || placed.iter().any(used) {
            let mut carver = Carver { at: total, ..Carver::default() };
            let slot = carver.take(1, options.library.workspace);
            total = carver.end().ok_or(overflow)?;
            Some(slot)
        } else {
            None
        };
        let memory = Memory { state, headers, tables, workspace: total - fixed, total };
        let slices = placed.iter().map(|placed| placed.batch.items.len()).sum();
        let tensors = table.len();
        Ok(Self { batches: placed, mirrors, params, grads, norm, library, tensors, headers: slices, options: *options, memory })
    }

    /// What a library of products works in: the first byte's place in the block, and how many; `None` where no product is left to one.
    #[must_use]
    pub fn library_workspace(&self) -> Option<(usize, usize)> {
        self.library.map(|slot| (slot.at, self.options.library.workspace))
    }

    /// How much device memory it takes: one block.
    #[must_use]
    pub const fn bytes(&self) -> Memory {
        self.memory
    }

    /// Into how many batches the table has fallen.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.batches.len()
    }
}

/// How many items of a batch may be stepped together.
fn largest_count(batch: &Batch, options: &Options) -> Option<usize> {
    // The blocks of one launch are counted in 31 bits.
    let (shape, full) = (batch.layout.shape(), batch.layout.largest_full_dim());
    let sums = (0..shape.order()).map(|k| shape.dim(k) * batch.axes.splits[k] as usize).max().unwrap_or(1);
    let blocks = shape.elements().div_ceil(256).max(full * full / 256).max(full).max(sums);
    let mut count = batch.items.len().min(((1usize << 31) - 1) / blocks).max(1);
    let needed = |count: usize| {
        let mut carver = Carver::default();
        if options.refreshes_later {
            Room::new(batch, count, &mut carver);
        }
        Some(Workspace::bytes(batch, count)?.max(carver.end()?))
    };
    while count > 1 && needed(count)? > options.workspace_limit {
        count = count.div_ceil(2);
    }
    // In parts of about one size.
    Some(batch.items.len().div_ceil(batch.items.len().div_ceil(count)))
}
