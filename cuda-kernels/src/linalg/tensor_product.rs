//! Products at any [`Precision`]: which kernel makes them, in tiles of which size.

use super::kernel::{INVALID, dimension, kernels, over};
use super::precision::Precision;
use super::product::{Product, ProductKernel};
use crate::batch::Items;
use crate::queue::{DeviceError, Queue};

const LOWER: u32 = 1;
const ACCUMULATE: u32 = 2;
const UPPER_A: u32 = 4;

/// Rows and columns of a block of the kernel in `f32` and of the small ones on tensor cores.
const SMALL: u32 = 64;
/// Of the large ones.
const LARGE: u32 = 128;
/// Blocks that a device is busy with: about the number of its multiprocessors.
const BUSY: u64 = 128;

// Kernels of `kernels/linalg/tensor_product.cuh`, which take what that of `product.cuh` does.
kernels! { ProductKernel:
    Tf32Large = c"kls_product_tf32_large", 256 threads;
    Tf32Small = c"kls_product_tf32_small", 128 threads;
    Tf32x3Large = c"kls_product_tf32x3_large", 256 threads;
    Tf32x3Small = c"kls_product_tf32x3_small", 128 threads;
    Bf16Large = c"kls_product_bf16_large", 256 threads;
    Bf16Small = c"kls_product_bf16_small", 128 threads;
}

/// Launches a product.
///
/// # Errors
/// The driver's; "invalid value" of matrices that are too large.
pub(super) fn launch<Q: Queue>(product: &Product, q: &mut Q, items: Items) -> Result<(), DeviceError> {
    let (precision, parameters) = (product.precision, parameters(product, items)?);
    let (small, large) = (tiles(&parameters, SMALL), tiles(&parameters, LARGE));
    let is_large = precision != Precision::Fp32 && takes_large(small, large, items.count);
    let blocks = u32::try_from(if is_large { large } else { small }).ok().filter(|&blocks| blocks < 1 << 31).ok_or(INVALID)?;
    let grid = [blocks, over(items), 1];
    match (precision, is_large) {
        (Precision::Fp32, _) => q.launch(grid, parameters),
        (Precision::Tf32, false) => q.launch(grid, Tf32Small(parameters)),
        (Precision::Tf32, true) => q.launch(grid, Tf32Large(parameters)),
        (Precision::Tf32x3, false) => q.launch(grid, Tf32x3Small(parameters)),
        (Precision::Tf32x3, true) => q.launch(grid, Tf32x3Large(parameters)),
        (Precision::Bf16, false) => q.launch(grid, Bf16Small(parameters)),
        (Precision::Bf16, true) => q.launch(grid, Bf16Large(parameters)),
    }
}

/// Tiles of a product.
fn tiles(parameters: &ProductKernel, tile: u32) -> u64 {
    let (down, across) = (u64::from(parameters.rows.div_ceil(tile)), u64::from(parameters.columns.div_ceil(tile)));
    if parameters.options & LOWER == 0 { down * across } else { down * (down + 1) / 2 }
}

/// Whether large tiles, each of which fetches half as much for every product of two numbers as four small ones do, leave no part of the device idle and
/// reach little farther beyond the matrix.
const fn takes_large(small: u64, large: u64, items: u32) -> bool {
    large.saturating_mul(items as u64) >= BUSY && large * 16 <= small * 5
}

fn parameters(product: &Product, items: Items) -> Result<ProductKernel, DeviceError> {
    // An empty sum is zero, which the kernels make; an index of no steps has none to be divided into.
    let inner = |count: usize| dimension(count.max(1));
    let option = |set: bool, bit: u32| if set { bit } else { 0 };
    Ok(ProductKernel {
        a: product.a,
        b: product.b,
        c: product.c,
        scale: product.scale,
        items,
        a_row: product.a_row,
        a_outer: product.a_depth.outer,
        a_inner: product.a_depth.inner,
        b_outer: product.b_depth.outer,
        b_inner: product.b_depth.inner,
        b_column_outer: product.b_column.outer,
        b_column_inner: product.b_column.inner,
        c_row: product.c_row,
        c_column_outer: product.c_column.outer,
        c_column_inner: product.c_column.inner,
        rows: dimension(product.rows)?,
        columns: dimension(product.columns)?,
        depth: dimension(product.depth)?,
        inner_columns: inner(product.inner_columns)?,
        inner_depth: inner(product.inner_depth)?,
        options: option(product.lower, LOWER) | option(product.accumulate, ACCUMULATE) | option(product.upper_a, UPPER_A),
        alpha: product.alpha,
        unused: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_tiles_are_for_large_matrices_or_many() {
        let takes = |rows: u64, columns: u64, items| {
            takes_large(rows.div_ceil(64) * columns.div_ceil(64), rows.div_ceil(128) * columns.div_ceil(128), items)
        };
        assert!(takes(3072, 768, 1));
        assert!(takes(768, 768, 4));
        assert!(takes(128, 128, 128));
        assert!(!takes(768, 768, 1), "36 blocks would be few");
        assert!(!takes(64, 64, 100_000), "three quarters would be beyond the matrix");
        assert!(!takes(130, 130, 1000), "so would more than half be here");
    }
}
