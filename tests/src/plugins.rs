//! Functions that a caller may give to an optimizer on a host.

use std::ffi::c_void;

use klshampoo_ffi::kls_task;

/// A pool that runs the tasks on the calling thread, the last one first.
///
/// # Safety
/// As `kls_parallel_for` says.
pub unsafe extern "C" fn backwards(_: *mut c_void, count: usize, task: kls_task, context: *mut c_void) {
    // SAFETY: the task's own context.
    (0..count).rev().for_each(|i| unsafe { task(context, i) });
}

/// A pool with a new thread for each task, all at once.
///
/// # Safety
/// As `kls_parallel_for` says.
pub unsafe extern "C" fn at_once(_: *mut c_void, count: usize, task: kls_task, context: *mut c_void) {
    let context = context.expose_provenance();
    std::thread::scope(|scope| {
        for i in 0..count {
            // SAFETY: the task's own context.
            scope.spawn(move || unsafe { task(std::ptr::with_exposed_provenance_mut(context), i) });
        }
    });
}

/// A matrix product by its definition; `user` is not looked at.
///
/// # Safety
/// As `kls_sgemm` says.
#[allow(clippy::too_many_arguments)]
pub unsafe extern "C" fn sgemm(
    _: *mut c_void,
    transpose_a: i32,
    transpose_b: i32,
    m: usize,
    n: usize,
    k: usize,
    alpha: f32,
    a: *const f32,
    lda: usize,
    b: *const f32,
    ldb: usize,
    beta: f32,
    c: *mut f32,
    ldc: usize,
) {
    // SAFETY: a row of B or of its transpose.
    let row_of = |b: *const f32, start: usize, len: usize| unsafe { std::slice::from_raw_parts(b.add(start), len) };
    for i in 0..m {
        // SAFETY: elements (i, p) of op(A), and row i of C.
        let (a, row) = unsafe {
            let a = |p: usize| alpha * *a.add(if transpose_a == 0 { i * lda + p } else { p * lda + i });
            (a, std::slice::from_raw_parts_mut(c.add(i * ldc), n))
        };
        if beta == 0.0 {
            row.fill(0.0);
        }
        if transpose_b == 0 {
            for p in 0..k {
                let (x, b) = (a(p), row_of(b, p * ldb, n));
                row.iter_mut().zip(b).for_each(|(c, &b)| *c += x * b);
            }
        } else {
            for (j, c) in row.iter_mut().enumerate() {
                // Sums of their own, so that it vectorises.
                let (b, mut lanes) = (row_of(b, j * ldb, k), [0.0; 16]);
                for (chunk, b) in b.chunks(lanes.len()).enumerate() {
                    lanes.iter_mut().zip(b).enumerate().for_each(|(lane, (sum, &b))| *sum += a(16 * chunk + lane) * b);
                }
                *c += lanes.iter().sum::<f32>();
            }
        }
    }
}
