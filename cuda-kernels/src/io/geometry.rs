//! Where pieces of tensors lie in the caller's buffers.

use klshampoo::{MAX_ORDER, Tensor};

use super::magnitude::chunks;
use crate::queue::DevicePtr;

/// `KLS_MAX_ORDER` in `kernels/io/geometry.cuh`.
const ORDER: usize = 6;
const _: () = assert!(MAX_ORDER <= ORDER);

/// Longest dim, but for the outermost one and those that lie together with it: what the kernels' division is exact for.
const LONGEST: usize = 1 << 30;

/// Why a tensor's pieces cannot be addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeometryError {
    /// A dim that the piece does not have all of, or a strided one, is longer than 2^30.
    Dim,
    /// More tensors, or pieces of a tensor's slices, than 2^32.
    Count,
}

impl core::fmt::Display for GeometryError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Dim => "a dim of a cut or strided tensor is longer than 2^30",
            Self::Count => "more tensors or pieces than 2^32",
        })
    }
}

impl core::error::Error for GeometryError {}

/// How the elements of a piece lie in its tensor's buffers, counted from its first. All items of a batch have one geometry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Geometry {
    len: u64,
    /// From here on the innermost dim comes first; dims that lie together are one.
    strides: [u64; ORDER],
    dims: [u32; ORDER],
    multipliers: [u32; ORDER],
    shifts: [u32; ORDER],
    order: u32,
    quads: u32,
}

impl Geometry {
    /// Of a piece, which [`Tensor::pieces`] counts.
    ///
    /// # Errors
    /// [`GeometryError::Dim`].
    pub fn of(tensor: &Tensor, piece: usize) -> Result<Self, GeometryError> {
        let (layout, strides) = (tensor.piece_layout(piece), strides(tensor));
        let shape = layout.shape();
        Self::new((0..shape.order()).rev().map(|k| (shape.dim(k), strides[k])))
    }

    /// Of elements that lie together.
    #[must_use]
    pub const fn dense(len: usize) -> Self {
        Self { len: len as u64, strides: [1; ORDER], dims: [1; ORDER], multipliers: [1; ORDER], shifts: [0; ORDER], order: 1, quads: 1 }
    }

    /// Of dims and strides, the innermost ones first.
    fn new(dims: impl IntoIterator<Item = (usize, usize)>) -> Result<Self, GeometryError> {
        let (mut boxes, mut order, mut len) = ([(1, 1); ORDER], 0usize, 1u64);
        for (dim, stride) in dims.into_iter().filter(|&(dim, _)| dim != 1) {
            len *= dim as u64;
            match order.checked_sub(1).map(|inner| &mut boxes[inner]) {
                Some((inner, inner_stride)) if *inner * *inner_stride == stride => *inner *= dim,
                _ => {
                    boxes[order] = (dim, stride);
                    order += 1;
                }
            }
        }
        let order = order.max(1);
        let quads = boxes[0].1 == 1 && (order == 1 || (boxes[0].0 % 4 == 0 && boxes[1..order].iter().all(|(_, stride)| stride % 4 == 0)));
        let strides = boxes.map(|(_, stride)| stride as u64);
        let mut geometry = Self { strides, order: order as u32, quads: u32::from(quads), ..Self::dense(len as usize) };
        for (k, &(dim, _)) in boxes[..order - 1].iter().enumerate() {
            if dim > LONGEST {
                return Err(GeometryError::Dim);
            }
            geometry.dims[k] = dim as u32;
            (geometry.multipliers[k], geometry.shifts[k]) = divisor(dim as u32);
        }
        Ok(geometry)
    }

    /// N, the elements of a piece.
    #[must_use]
    pub const fn elements(&self) -> usize {
        self.len as usize
    }

    /// Into how many chunks an item is cut: [`chunks`] of its elements.
    #[must_use]
    pub const fn chunks(&self) -> usize {
        chunks(self.len as usize)
    }
}

/// Multiplier and shift of a division by `d`: `(high word of n multiplier + n) >> shift` is `n / d` for all `n` below 2^31 (Granlund and
/// Montgomery, "Division by invariant integers using multiplication", 1994).
const fn divisor(d: u32) -> (u32, u32) {
    let shift = d.next_power_of_two().trailing_zeros();
    let multiplier = (((1u64 << shift) - d as u64) << 32) / d as u64 + 1;
    (multiplier as u32, shift)
}

/// Elements from one index of a dim of the plan to the next.
fn strides(tensor: &Tensor) -> [usize; MAX_ORDER] {
    let plan = tensor.plan();
    tensor.storage().strides.unwrap_or_else(|| {
        let mut strides = [1; MAX_ORDER];
        for k in (1..plan.order()).rev() {
            strides[k - 1] = strides[k] * plan.dim(k);
        }
        strides
    })
}

/// One item: a piece of a slice of a tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Place {
    /// Index of its tensor, in the table and among the pointers.
    pub tensor: u32,
    /// Its number among the pieces of all slices of the tensor: what rounding depends on.
    pub slice: u32,
    /// Elements from the start of the tensor's buffers to the piece's first.
    pub offset: u64,
}

impl Place {
    /// A piece of a slice of the tensor that is entry `index` of its table.
    ///
    /// # Errors
    /// [`GeometryError::Count`].
    pub fn of(tensor: &Tensor, index: usize, slice: usize, piece: usize) -> Result<Self, GeometryError> {
        let (start, strides) = (tensor.piece_start(piece), strides(tensor));
        let inside: usize = (0..tensor.plan().order()).map(|k| start[k] * strides[k]).sum();
        let number = |n: usize| u32::try_from(n).map_err(|_| GeometryError::Count);
        Ok(Self {
            tensor: number(index)?,
            slice: number(slice * tensor.pieces() + piece)?,
            offset: (tensor.slice_range(slice).start + inside) as u64,
        })
    }
}

/// The pieces of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pieces {
    /// How each one lies.
    pub geometry: Geometry,
    /// On the device: a [`Place`] for each item, see [`super::set_places`].
    pub places: DevicePtr,
}

impl Pieces {
    /// Those from item `first` on.
    #[must_use]
    pub const fn from(self, first: usize) -> Self {
        Self { geometry: self.geometry, places: self.places.offset::<Place>(first) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dims_that_lie_together_are_one() {
        let of = |dims: &[(usize, usize)]| Geometry::new(dims.iter().copied()).unwrap();
        for dims in [&[(5, 1), (4, 5), (3, 20)][..], &[(60, 1)], &[(60, 1), (1, 7)], &[(1, 9), (60, 1)], &[(20, 1), (1, 0), (3, 20)]] {
            assert_eq!(of(dims), Geometry::dense(60), "{dims:?}");
        }
        let cut = of(&[(4, 1), (3, 8), (2, 24)]);
        assert_eq!((cut.order, &cut.dims[..2], &cut.strides[..2], cut.len), (2, &[4, 1][..], &[1, 8][..], 24));
        assert_eq!((of(&[(7, 3), (2, 21)]).order, of(&[(1, 1)]).order), (1, 1));
    }

    #[test]
    fn quads_lie_together() {
        let quads = |dims: &[(usize, usize)]| Geometry::new(dims.iter().copied()).unwrap().quads == 1;
        assert!(quads(&[(5, 1)]) && quads(&[(1, 1)]) && quads(&[(4, 1), (3, 8)]) && quads(&[(8, 1), (3, 12), (2, 100)]));
        assert!(!quads(&[(5, 2)]) && !quads(&[(4, 1), (3, 7)]) && !quads(&[(5, 1), (3, 8)]) && !quads(&[(4, 1), (3, 8), (2, 101)]));
        assert!(!quads(&[(4, 3), (3, 1)]));
    }

    #[test]
    fn divisors_divide() {
        let divide = |n: u32, d: u32| {
            let (multiplier, shift) = divisor(d);
            (((u64::from(n) * u64::from(multiplier)) >> 32) as u32 + n) >> shift
        };
        let powers = (0..=30).map(|k| 1u32 << k);
        let divisors = powers.clone().chain(powers.clone().map(|p| p.saturating_sub(1).max(1))).chain(powers.map(|p| (p + 1).min(1 << 30)));
        for d in divisors.chain([3, 5, 6, 7, 11, 641, 768, 2304, 50257, 1_000_003]) {
            let most = (1u32 << 31) - 1;
            let multiples = [1, 2, 3, most / d / 2, most / d].map(|q| q.min(most / d) * d);
            for n in multiples.into_iter().flat_map(|n| [n.saturating_sub(1), n, (n + 1).min(most)]).chain([0, 1, most]) {
                assert_eq!(divide(n, d), n / d, "{n} / {d}");
            }
        }
    }

    #[test]
    fn too_long_dims_are_refused() {
        assert_eq!(Geometry::new([(LONGEST + 1, 2), (3, 1)]), Err(GeometryError::Dim));
        assert!(Geometry::new([(3, 1), (LONGEST + 1, 4)]).is_ok());
        assert_eq!(Geometry::dense(1 << 40).elements(), 1 << 40);
    }
}
