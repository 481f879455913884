//! The shape of one tensor and what is done to each of its modes.

use crate::config::built;

/// Largest order (number of dims) of a tensor: 6, and 2 without the feature `high-order`.
pub const MAX_ORDER: usize = if built::HIGH_ORDER { 6 } else { 2 };

/// What a mode (dimension) of a tensor is preconditioned with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A full Kronecker factor with its eigenbasis.
    Full,
    /// The diagonal of a factor: eigenvalues only, the basis is the identity.
    Diagonal,
    /// Not preconditioned.
    Identity,
}

/// Dims (row-major, the last one contiguous) and modes of one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    order: usize,
    dims: [usize; MAX_ORDER],
    modes: [Mode; MAX_ORDER],
    elements: usize,
}

/// Why a shape is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShapeError {
    /// No dims, or more than [`MAX_ORDER`].
    Order,
    /// A dim is zero.
    ZeroDim,
    /// The number of elements, of state or of scratch elements does not fit the address space.
    Overflow,
    /// Parts of the rows that are empty, too many, or do not add up to the first dim.
    RowParts,
    /// More than 65,536 pieces of a slice: the blocks are too small.
    Pieces,
    /// Strides that let two indices share an element, or slices overlap.
    Strides,
}

impl core::fmt::Display for ShapeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Order => "a tensor has 1 to 6 dims",
            Self::ZeroDim => "a dim is zero",
            Self::RowParts => "the parts of the rows must be 1 to 8, none empty, and add up to the first dim",
            Self::Pieces => "a slice would be cut into more than 65536 pieces",
            Self::Strides => "the strides let two indices share an element",
            Self::Overflow => "the tensor or its state does not fit the address space",
        })
    }
}

impl core::error::Error for ShapeError {}

impl Shape {
    /// A shape from dims and modes of equal length.
    ///
    /// # Errors
    /// [`ShapeError`]; a differing number of modes is [`ShapeError::Order`].
    pub const fn new(dims: &[usize], modes: &[Mode]) -> Result<Self, ShapeError> {
        if dims.is_empty() || dims.len() > MAX_ORDER || dims.len() != modes.len() {
            return Err(ShapeError::Order);
        }
        let mut shape = Self { order: dims.len(), dims: [1; MAX_ORDER], modes: [Mode::Identity; MAX_ORDER], elements: 1 };
        let mut k = 0;
        while k < dims.len() {
            if dims[k] == 0 {
                return Err(ShapeError::ZeroDim);
            }
            shape.dims[k] = dims[k];
            shape.modes[k] = modes[k];
            shape.elements = match shape.elements.checked_mul(dims[k]) {
                Some(n) if n <= isize::MAX as usize / 8 => n,
                _ => return Err(ShapeError::Overflow),
            };
            k += 1;
        }
        Ok(shape)
    }

    /// Number of dims.
    pub const fn order(&self) -> usize {
        self.order
    }

    /// N, the number of elements.
    pub const fn elements(&self) -> usize {
        self.elements
    }

    /// Length of mode `k`; 1 beyond the order.
    pub const fn dim(&self, k: usize) -> usize {
        self.dims[k]
    }

    /// Treatment of mode `k`; `Identity` beyond the order.
    pub const fn mode(&self, k: usize) -> Mode {
        if !built::FACTORS {
            Mode::Identity
        } else if built::PARTIAL || k >= self.order {
            self.modes[k]
        } else {
            Mode::Full
        }
    }

    /// Whether this build can step such a tensor.
    pub(crate) fn is_built(&self) -> bool {
        (built::PARTIAL || self.modes[..self.order].iter().all(|&mode| mode == Mode::Full)) && (built::ELEMENTWISE || self.full_modes() > 0)
    }

    /// Whether mode `k` has a factor and a basis.
    pub const fn is_full(&self, k: usize) -> bool {
        matches!(self.mode(k), Mode::Full)
    }

    /// Length of mode `k` if it has a factor and a basis, else 0.
    pub(crate) const fn full_dim(&self, k: usize) -> usize {
        if self.is_full(k) { self.dims[k] } else { 0 }
    }

    /// Whether mode `k` is full or diagonal.
    pub const fn is_preconditioned(&self, k: usize) -> bool {
        !matches!(self.mode(k), Mode::Identity)
    }

    /// Number of modes with a full factor.
    pub const fn full_modes(&self) -> usize {
        self.count(true)
    }

    /// Whether a basis turns the tensor: it has a full mode.
    pub(crate) const fn is_turned(&self) -> bool {
        built::FACTORS && (!built::ELEMENTWISE || self.full_modes() > 0)
    }

    /// K', the number of full and diagonal modes.
    pub const fn preconditioned_modes(&self) -> usize {
        self.count(false)
    }

    const fn count(&self, full_only: bool) -> usize {
        let (mut k, mut n) = (0, 0);
        while k < self.order {
            if self.is_full(k) || (!full_only && self.is_preconditioned(k)) {
                n += 1;
            }
            k += 1;
        }
        n
    }

    /// The tensor seen along mode `k`: products of the dims before it and after it.
    pub const fn around(&self, k: usize) -> (usize, usize) {
        let (mut left, mut right, mut j) = (1, 1, 0);
        while j < self.order {
            if j < k {
                left *= self.dims[j];
            } else if j > k {
                right *= self.dims[j];
            }
            j += 1;
        }
        (left, right)
    }
}
