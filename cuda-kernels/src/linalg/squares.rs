//! Elementwise passes over squares.

use super::kernel::{dimension, elements, kernel, over};
use crate::batch::{Array, Items, PER_ITEM};
use crate::queue::{DeviceError, Queue};

kernel! {
    /// See `kernels/linalg/squares.cuh`, as for the others here.
    GatherSquare = c"kls_gather_square", 256 threads {
        from: Array,
        to: Array,
        order: Array,
        scale: Array,
        items: Items,
        d: u32,
        permutes_rows: u32,
    }
}

kernel! {
    PlaceRotation = c"kls_place_rotation", 256 threads {
        columns: Array,
        rotation: Array,
        order: Array,
        items: Items,
        d: u32,
        unused: u32,
    }
}

kernel! {
    TransposeLower = c"kls_transpose_lower", 256 threads {
        from: Array,
        to: Array,
        items: Items,
        d: u32,
        unused: u32,
    }
}

kernel! {
    NewtonSchulz = c"kls_newton_schulz", 256 threads {
        square: Array,
        items: Items,
        d: u32,
        unused: u32,
    }
}

kernel! {
    Angles = c"kls_angles", 256 threads {
        t: Array,
        items: Items,
        d: u32,
        unused: u32,
    }
}

kernel! {
    UnitDiagonal = c"kls_unit_diagonal", 256 threads {
        square: Array,
        items: Items,
        d: u32,
        unused: u32,
    }
}

kernel! {
    RestoreLower = c"kls_restore_lower", 256 threads {
        square: Array,
        diagonal: Array,
        items: Items,
        d: u32,
        unused: u32,
    }
}

kernel! {
    CheckSquare = c"kls_check_square", 256 threads {
        square: Array,
        items: Items,
        d: u32,
        lower: u32,
        failed: u32,
        unused: u32,
    }
}

/// The order in which rows and columns of a square are taken.
#[derive(Clone, Copy)]
pub(super) struct Order {
    /// Their places, or [`Array::NULL`] for their own.
    pub(super) places: Array,
    /// Whether rows are taken in it too.
    pub(super) rows: bool,
}

impl Order {
    /// As they are.
    pub(super) const OWN: Self = Self { places: Array::NULL, rows: false };
}

/// A copy in another order, times a factor of each item's (or [`Array::NULL`]).
pub(super) fn gather<Q: Queue>(
    q: &mut Q,
    items: Items,
    d: usize,
    from: Array,
    to: Array,
    order: Order,
    scale: Array,
) -> Result<(), DeviceError> {
    let d = dimension(d)?;
    let kernel = GatherSquare { from, to, order: order.places, scale, items, d, permutes_rows: order.rows.into() };
    q.launch(elements(items, d), kernel)
}

/// The matrix whose columns are contiguous, by rows, each at its place.
pub(super) fn place_rotation<Q: Queue>(
    q: &mut Q,
    items: Items,
    d: usize,
    columns: Array,
    rotation: Array,
    order: Array,
) -> Result<(), DeviceError> {
    let d = dimension(d)?;
    let tiles = d.div_ceil(32) * d.div_ceil(32);
    q.launch([tiles.min(PER_ITEM as u32), over(items), 1], PlaceRotation { columns, rotation, order, items, d, unused: 0 })
}

/// The lower triangle, rows contiguous, to where its columns are.
pub(super) fn transpose_lower<Q: Queue>(q: &mut Q, items: Items, d: usize, from: Array, to: Array) -> Result<(), DeviceError> {
    let d = dimension(d)?;
    q.launch(elements(items, d), TransposeLower { from, to, items, d, unused: 0 })
}

/// `(3 I - A) / 2` in the place of `A`, which comes in as its lower triangle.
pub(super) fn newton_schulz<Q: Queue>(q: &mut Q, items: Items, d: usize, square: Array) -> Result<(), DeviceError> {
    let d = dimension(d)?;
    q.launch(elements(items, d), NewtonSchulz { square, items, d, unused: 0 })
}

/// `I` plus the angles by which a nearly diagonal matrix, given as its lower triangle, is to be turned.
pub(super) fn infinitesimal_rotation<Q: Queue>(q: &mut Q, items: Items, d: usize, t: Array) -> Result<(), DeviceError> {
    let d = dimension(d)?;
    q.launch(elements(items, d), Angles { t, items, d, unused: 0 })?;
    q.launch([d.div_ceil(256), over(items), 1], UnitDiagonal { square: t, items, d, unused: 0 })
}

/// The lower triangle of a symmetric matrix again, from its upper one and its diagonal.
pub(super) fn restore_lower<Q: Queue>(q: &mut Q, items: Items, d: usize, square: Array, diagonal: Array) -> Result<(), DeviceError> {
    let d = dimension(d)?;
    q.launch(elements(items, d), RestoreLower { square, diagonal, items, d, unused: 0 })
}

/// Sets the bit `failed` where an element of a square, or of its lower triangle, is not finite.
pub(super) fn check<Q: Queue>(q: &mut Q, items: Items, d: usize, square: Array, lower: bool, failed: u32) -> Result<(), DeviceError> {
    let d = dimension(d)?;
    q.launch(elements(items, d), CheckSquare { square, items, d, lower: lower.into(), failed, unused: 0 })
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use klshampoo_cuda_emulator as emulator;

    use super::*;
    use crate::queue::{DevicePtr, Kernel};

    /// Runs kernels at once, on memory of the test.
    struct Emulator;

    impl Queue for Emulator {
        fn launch<K: Kernel>(&mut self, grid: [u32; 3], kernel: K) -> Result<(), DeviceError> {
            assert!(grid[0] as usize <= PER_ITEM, "{:?}: {grid:?}", K::NAME);
            // SAFETY: no padding (`Kernel`'s contract), so all bytes are initialised.
            let params = unsafe { std::slice::from_raw_parts((&raw const kernel).cast::<u8>(), size_of::<K>()) };
            // SAFETY: the kernel's own parameters; the test points to memory of its own.
            unsafe { emulator::launch(K::NAME, grid, K::THREADS, params) };
            Ok(())
        }
    }

    /// More elements, and tiles, than blocks are launched for.
    const D: usize = 1450;

    fn array<T>(memory: &mut [T], stride: usize) -> Array {
        Array { base: DevicePtr(memory.as_mut_ptr().expose_provenance() as u64), stride: stride as u64 }
    }

    /// Two squares.
    fn numbers() -> Vec<f32> {
        (0..2 * (D * D) as u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 8) as f32 / 16_777_216.0 - 0.5).collect()
    }

    /// Runs a pass on two squares, of which the second takes part, and looks what becomes of its elements.
    fn run(pass: impl FnOnce(&mut Emulator, Items, Array), before: &[f32], wanted: impl Fn(usize, usize) -> f32) {
        let (mut flags, mut squares) = ([0, 1], before.to_vec());
        let items = Items { flags: array(&mut flags, 1).base, count: 2, mask: 1, wanted: 1, unused: 0 };
        pass(&mut Emulator, items, array(&mut squares, D * D));
        assert!(squares[..D * D] == before[..D * D], "the first takes no part");
        for (at, x) in squares[D * D..].iter().enumerate() {
            assert_eq!(x.to_bits(), wanted(at / D, at % D).to_bits(), "{} {}", at / D, at % D);
        }
    }

    #[test]
    fn threads_go_from_element_to_element() {
        let (mut from, mut places, mut scale) =
            (numbers(), (0..2 * D as u32).map(|i| (2 * D as u32 - 1 - i) % D as u32).collect::<Vec<_>>(), [3.0f32, 2.0]);
        let x = from[D * D..].to_vec();
        let (from, places, scale) = (array(&mut from, D * D), array(&mut places, D), array(&mut scale, 1));
        let old = vec![7.0; 2 * D * D];
        let turned = Order { places, rows: true };
        run(|q, items, to| gather(q, items, D, from, to, turned, scale).unwrap(), &old, |i, j| 2.0 * x[(D - 1 - i) * D + D - 1 - j]);
        run(|q, items, to| place_rotation(q, items, D, from, to, places).unwrap(), &old, |i, j| x[j * D + D - 1 - i]);
        run(|q, items, to| transpose_lower(q, items, D, from, to).unwrap(), &old, |i, j| if i <= j { x[j * D + i] } else { 7.0 });
    }

    #[test]
    fn threads_go_from_element_to_element_in_place() {
        let before = numbers();
        let x = |i: usize, j: usize| before[D * D + i * D + j];
        run(
            |q, items, a| newton_schulz(q, items, D, a).unwrap(),
            &before,
            |i, j| {
                let half = -0.5 * x(i.max(j), i.min(j));
                if i == j { half + 1.5 } else { half }
            },
        );
        let mut diagonal: Vec<f32> = (0..2 * D).map(|i| i as f32).collect();
        let kept = array(&mut diagonal, D);
        run(
            |q, items, a| restore_lower(q, items, D, a, kept).unwrap(),
            &before,
            |i, j| if i == j { (D + i) as f32 } else { x(i.min(j), i.max(j)) },
        );

        // Far enough apart for an angle, or not.
        let mut nearly = before.clone();
        (0..D * D).filter(|at| at / D != at % D).for_each(|at| nearly[D * D + at] *= 1e-4);
        let t = |i: usize, j: usize| nearly[D * D + i * D + j];
        let angle = |i: usize, j: usize| {
            let (gap, x) = (t(j, j) - t(i, i), t(i, j));
            if x.abs() <= gap / 1024.0 && gap > 0.0 { x / gap } else { 0.0 }
        };
        assert!(angle(D - 1, 0) != 0.0 || angle(D - 1, 1) != 0.0 || angle(D - 1, 2) != 0.0);
        run(
            |q, items, a| infinitesimal_rotation(q, items, D, a).unwrap(),
            &nearly,
            |i, j| match i.cmp(&j) {
                Ordering::Greater => angle(i, j),
                Ordering::Equal => 1.0,
                Ordering::Less => -angle(j, i),
            },
        );
    }

    #[test]
    fn every_element_is_checked() {
        for (at, lower, found) in [(D * D - 1, false, 2), (D * D - 1, true, 2), (D - 1, false, 2), (D - 1, true, 0), (D * (D - 1), true, 2)]
        {
            let mut squares = numbers();
            squares[at] = f32::NAN;
            squares[D * D + at] = f32::INFINITY;
            let (mut flags, square) = ([0, 1], array(&mut squares, D * D));
            let items = Items { flags: array(&mut flags, 1).base, count: 2, mask: 1, wanted: 1, unused: 0 };
            check(&mut Emulator, items, D, square, lower, 2).unwrap();
            assert_eq!(flags, [0, 1 | found], "{at} {lower}");
        }
    }
}
