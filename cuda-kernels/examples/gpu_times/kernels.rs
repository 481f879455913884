//! Kernels alone: those that move memory beside the driver's copy, and decompositions.

use crate::Options;
use crate::device::{Failure, Gpu, driver_copy};
use crate::rows::Rows;
use klshampoo::{Format, Rounding, WeightDecay};
use klshampoo_bench::noise;
use klshampoo_cuda::batch::{Array, Items};
use klshampoo_cuda::driver::{Error, Memory};
use klshampoo_cuda::io::{self, Decay, Geometry, Pieces, Place, Scalar, Source, Theta, Transform, Update};
use klshampoo_cuda::linalg::{FAILED, View, eigh, qr, unfolded_product, work_len};

const LAUNCHES: u32 = 10;

/// Bytes per second of what each kernel must move; returns those of the driver's own copy.
pub fn elementwise(gpu: &mut Gpu, options: &Options, rows: &mut Rows) -> Result<f64, Failure> {
    let len = options.elements as usize;
    let (a, b) = (gpu.copy_of(&noise(1, len, 1.0))?, gpu.copy_of(&noise(2, len, 1.0))?);
    let of = format!("{len} floats");
    let mut add = |who: &str, bytes_of_each: usize, seconds: f64| {
        rows.add("elementwise", &of, who, "bandwidth", (bytes_of_each * len) as f64 / seconds * 1e-9, "GB/s")
    };

    let (from, to) = (a.at(), b.at());
    let seconds = gpu.median(options.rounds, LAUNCHES, |q| driver_copy(q, from, to, 4 * len))?;
    add("the driver's copy", 8, seconds)?;
    let copied = (8 * len) as f64 / seconds;

    let items = Items::all(1);
    let (from, dense) = (Array { base: a.at(), stride: len as u64 }, Array { base: b.at(), stride: len as u64 });
    let seconds = gpu.median(options.rounds, LAUNCHES, |q| Ok(io::copy(q, items, from, dense, len).map_err(Error::from)?))?;
    add("copy", 8, seconds)?;
    let seconds = gpu.median(options.rounds, LAUNCHES, |q| Ok(io::fill(q, items, dense, len, 0).map_err(Error::from)?))?;
    add("fill", 4, seconds)?;

    // One tensor, and the tables that a step has of it.
    let tables = Memory::allocate(gpu.context(), 1024)?;
    let (places, pointers) = (tables.at(), tables.at().offset::<u8>(512));
    {
        let mut queue = gpu.queue()?;
        io::set_places(&mut queue, places, 0, &[Place::default()]).map_err(Error::from)?;
        io::set_pointers(&mut queue, pointers, 0, &[a.at()]).map_err(Error::from)?;
    }
    let pieces = Pieces { geometry: Geometry::dense(len), places };
    let source = Source { pieces, pointers, format: Format::Native };
    let scale = Transform::scaled(Scalar::of(0.5));
    let seconds = gpu.median(options.rounds, LAUNCHES, |q| Ok(io::gather(q, items, &source, &scale, dense).map_err(Error::from)?))?;
    add("gradient gathered", 8, seconds)?;
    let decay = Decay { lr: Scalar::of(1e-6), weight_decay: 0.01, kind: WeightDecay::Before };
    let (theta, update) = (Theta::native(pointers), Update::by(dense));
    let seconds = gpu.median(options.rounds, LAUNCHES, |q| {
        Ok(io::commit_param(q, items, &pieces, theta, &update, &decay, Rounding::Nearest).map_err(Error::from)?)
    })?;
    add("parameter moved", 12, seconds)?;
    Ok(copied)
}

/// Milliseconds of one matrix' decompositions: what a first step and a fallback take.
pub fn decompositions(gpu: &mut Gpu, options: &Options, rows: &mut Rows) -> Result<(), Failure> {
    for &d in &options.sizes {
        let of = format!("{d}x{d}");
        let stride = (d * d) as u64;
        let (numbers, gram, a) = (gpu.copy_of(&noise(7, d * d, 1.0))?, gpu.floats(d * d)?, gpu.floats(d * d)?);
        let (out, values, work, flags) = (gpu.floats(d * d)?, gpu.floats(d)?, gpu.floats(work_len(d))?, gpu.copy_of(&[0.0])?);
        let array = |memory: &Memory| Array { base: memory.at(), stride };
        let items = Items { flags: flags.at(), ..Items::all(1) };
        let view = View { left: 1, d, right: d };
        let [numbers, gram, a, out, values, work] = [&numbers, &gram, &a, &out, &values, &work].map(array);
        unfolded_product(&mut gpu.queue()?, items, view, numbers, numbers, gram).map_err(Error::from)?;
        let mut add = |who: &str, seconds: f64| rows.add("decompositions", &of, who, "time", seconds * 1e3, "ms");
        let seconds = gpu.median(options.rounds, 1, |q| {
            io::copy(q, items, gram, a, d * d).map_err(Error::from)?;
            Ok(eigh(q, items, d, a, out, values, work, FAILED).map_err(Error::from)?)
        })?;
        add("eigenvectors", seconds)?;
        let seconds = gpu.median(options.rounds, 1, |q| {
            io::copy(q, items, numbers, a, d * d).map_err(Error::from)?;
            Ok(qr(q, items, d, a, out, work, FAILED).map_err(Error::from)?)
        })?;
        add("reflections", seconds)?;
        if gpu.read(&flags, 0, 4)? != [0; 4] {
            return Err(format!("a decomposition of {d}x{d} has failed").into());
        }
    }
    Ok(())
}
