//! Whether the device can be used at all.

use crate::Options;
use crate::device::{Failure, Gpu, concurrent_managed_access, description};
use klshampoo_cuda::batch::{Array, Items};
use klshampoo_cuda::driver::{Blas, Device, Error};
use klshampoo_cuda::io;
use std::time::Instant;

/// One kernel on the device, and what it wrote. Each line is of what was found so far: compiling the kernels may take minutes where they came as PTX.
pub fn run(options: &Options) -> Result<(), Failure> {
    const COUNT: usize = 1000;
    let device = Device::get(options.device)?;
    println!("{}", description(&device)?);
    println!("concurrent managed access: {}", concurrent_managed_access(&device)?);
    println!("cuBLAS: {}", if Blas::is_there() { "found" } else { "none" });
    let begun = Instant::now();
    let gpu = Gpu::open(options.device, options.seconds)?;
    println!("kernels loaded in {:.1} s", begun.elapsed().as_secs_f64());
    let memory = gpu.copy_of(&[0.5; COUNT])?;
    io::fill(&mut gpu.queue()?, Items::all(1), Array { base: memory.at(), stride: 0 }, COUNT, 2f32.to_bits()).map_err(Error::from)?;
    let bytes = gpu.read(&memory, 0, 4 * COUNT)?;
    if bytes.chunks_exact(4).any(|word| *word != 2f32.to_ne_bytes()) {
        return Err("a kernel ran, and not all of what it should have written is there".into());
    }
    println!("a kernel ran");
    Ok(())
}
