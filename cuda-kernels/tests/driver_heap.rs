//! What a step does through the driver takes nothing from the host's heap.

use klshampoo_cuda::batch::{Array, Items};
use klshampoo_cuda::driver::{Blas, Context, Device, Factor, Gemm, Input, Kernels, Memory, Precision, Readback, Stream};
use klshampoo_cuda::io;
use klshampoo_cuda_mock as mock;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: the system's allocator, and a count. The mock is another library, with an allocator of its own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's word.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's word.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn nothing_is_allocated_on_the_way() {
    mock::install();
    let context = Context::new(Device::get(0).unwrap()).unwrap();
    let kernels = Kernels::load(&context).unwrap();
    let memory = Memory::allocate(&context, 4096).unwrap();
    let mut readback = Readback::new(&context, 64).unwrap();
    let mut blas = Blas::open(&context, Memory::allocate(&context, 4096).unwrap()).unwrap().unwrap();
    let at = |word| Array { base: memory.at().offset::<f32>(word), stride: 0 };
    let factor = |word, transposed| Factor { at: at(word).base, leading: 8, stride: 0, transposed };
    let product = Gemm {
        m: 8,
        n: 8,
        k: 8,
        count: 1,
        alpha: 1.0,
        a: factor(0, false),
        b: factor(64, true),
        input: Input::F32,
        beta: 0.0,
        c: at(128).base,
        c_leading: 8,
        c_stride: 64,
        precision: Precision::Fp32,
    };
    mock::reset_counters();
    let before = ALLOCATIONS.get();
    assert!(before > 0);
    let mut taken = 0.0;
    for i in 0..100_u8 {
        for stream in [Stream::LEGACY, Stream::PER_THREAD] {
            let mut queue = kernels.on(stream).unwrap();
            io::fill(&mut queue, Items::all(1), at(0), 64, f32::from(i).to_bits()).unwrap();
            io::copy(&mut queue, Items::all(1), at(0), at(64), 64).unwrap();
            // SAFETY: within the block.
            unsafe { blas.gemm_strided_batched(&queue, &product) }.unwrap();
            // SAFETY: within the block.
            unsafe { readback.begin(&queue, at(128).base, 4) }.unwrap();
            let bytes = readback.take(&queue).unwrap().unwrap();
            taken += f32::from_ne_bytes(bytes.try_into().unwrap());
        }
    }
    assert_eq!(ALLOCATIONS.get(), before);
    let counted = mock::counters();
    assert_eq!((counted.launches, counted.copies), (600, 200));
    assert_eq!((counted.allocations, counted.frees, counted.synchronisations, counted.lookups, counted.hidden), (0, 0, 0, 0, 0));
    // 2 * 8 * (0^2 + ... + 99^2)
    assert_eq!(taken, 5_253_600.0);
}
