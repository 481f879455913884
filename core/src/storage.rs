//! How a tensor lies in its owner's buffers, and what the optimizer keeps because of it.

use crate::format::{Format, Rounding};
use crate::shape::MAX_ORDER;

/// Formats and places of a tensor's numbers. The default: dense, row-major, of the arithmetic's own type, gradients taken as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Storage {
    /// Format of the gradient.
    pub grad: Format,
    /// Format of the parameter: native or bf16.
    pub param: Format,
    /// Whether the state holds a native copy of a bf16 parameter, which is what steps move: the parameter is that copy, rounded. It is
    /// taken from the parameter in the first step; what the owner writes to the parameter later is not seen.
    pub master_weights: bool,
    /// How a bf16 parameter is rounded.
    pub rounding: Rounding,
    /// Whether steps may scale the gradient. Tensors with factors then need scratch for one copy more.
    pub grad_scaling: bool,
    /// Elements from one index of a dim to the next, in parameter and gradient; `None`: dense, row-major. Dims of such a tensor are not
    /// merged.
    pub strides: Option<[usize; MAX_ORDER]>,
}

impl Storage {
    /// The default, in constants.
    pub const DENSE: Self = Self {
        grad: Format::Native,
        param: Format::Native,
        master_weights: false,
        rounding: Rounding::Nearest,
        grad_scaling: false,
        strides: None,
    };

    /// The same without strides where they are those of dense rows.
    pub(crate) const fn without_needless_strides(mut self, dims: &[usize]) -> Self {
        let Some(strides) = self.strides else { return self };
        let (mut k, mut dense) = (dims.len(), 1usize);
        while k > 0 {
            k -= 1;
            if dims[k] != 1 && strides[k] != dense {
                return self;
            }
            dense = dense.saturating_mul(dims[k]);
        }
        self.strides = None;
        self
    }

    /// Whether the formats go together.
    pub(crate) const fn is_consistent(&self) -> bool {
        match self.param {
            Format::Native => !self.master_weights && matches!(self.rounding, Rounding::Nearest),
            Format::Bf16 => true,
            Format::F16 => false,
        }
    }

    /// Elements from a slice's first to one past its last; `None` if that overflows, or two indices share an element.
    pub(crate) const fn span(&self, dims: &[usize]) -> Option<usize> {
        let Some(strides) = &self.strides else {
            let (mut k, mut span) = (0, 1usize);
            while k < dims.len() {
                let Some(product) = span.checked_mul(dims[k]) else { return None };
                span = product;
                k += 1;
            }
            return Some(span);
        };
        // From the shortest stride on, each must reach beyond all that came before. A dim of one index has no next one.
        let (mut span, mut placed, mut seen) = (1usize, 0, [false; MAX_ORDER]);
        while placed < dims.len() {
            let (mut k, mut shortest) = (0, MAX_ORDER);
            while k < dims.len() {
                if !seen[k] && (shortest == MAX_ORDER || dims[k] == 1 || (dims[shortest] != 1 && strides[k] < strides[shortest])) {
                    shortest = k;
                }
                k += 1;
            }
            seen[shortest] = true;
            placed += 1;
            if dims[shortest] <= 1 {
                continue;
            }
            if strides[shortest] < span {
                return None;
            }
            let Some(reach) = strides[shortest].checked_mul(dims[shortest] - 1) else { return None };
            let Some(sum) = span.checked_add(reach) else { return None };
            span = sum;
        }
        Some(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_overlaps() {
        let span = |dims: &[usize], strides: &[usize]| {
            let strides = Some(core::array::from_fn(|k| strides.get(k).copied().unwrap_or(0)));
            Storage { strides, ..Storage::DENSE }.span(dims)
        };
        assert_eq!(Storage::DENSE.span(&[3, 4, 5]), Some(60));
        assert_eq!(span(&[3, 4], &[4, 1]), Some(12));
        assert_eq!(span(&[3, 4], &[1, 3]), Some(12));
        assert_eq!(span(&[3, 4], &[10, 2]), Some(27));
        assert_eq!(span(&[3, 4], &[3, 1]), None);
        assert_eq!(span(&[3, 4], &[0, 1]), None);
        assert_eq!(span(&[1, 4], &[0, 1]), Some(4));
        assert_eq!(span(&[2, 1, 3], &[1, 0, 2]), Some(6));
        assert_eq!(span(&[2, 2], &[usize::MAX, 1]), None);
        assert_eq!(span(&[2, 3, 2], &[1, 4, 2]), Some(12));
    }
}
