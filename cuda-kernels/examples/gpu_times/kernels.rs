//! Kernels alone: those that move memory beside the driver's copy, products beside cuBLAS.

use crate::Options;
use crate::device::{Failure, Gpu, driver_copy};
use crate::rows::Rows;
use klshampoo::{Format, Rounding, WeightDecay};
use klshampoo_bench::{Set, noise};
use klshampoo_cuda::batch::{Array, Items};
use klshampoo_cuda::driver::{Blas, Error, Factor, Gemm, Input, Memory, Precision};
use klshampoo_cuda::io::{self, Decay, Geometry, Pieces, Place, Scalar, Source, Theta, Transform, Update};
use klshampoo_cuda::linalg::{FAILED, Product, View, eigh, mode_product, qr, unfolded_product, work_len};

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

/// Floating-point operations per second of products.
pub fn products(gpu: &mut Gpu, options: &Options, rows: &mut Rows) -> Result<(), Failure> {
    let workspace = Memory::allocate(gpu.context(), Blas::WORKSPACE)?;
    let mut blas = Blas::open(gpu.context(), workspace)?;
    if blas.is_none() {
        println!("NO cuBLAS: its products are not timed");
    }
    for &d in &options.sizes {
        // Enough of them to fill the device.
        let count = (1usize << 24).div_ceil(d * d).clamp(1, 64).min(options.elements as usize / (d * d) + 1);
        let of = format!("{count} of {d}x{d}x{d}");
        let (a, b, c) =
            (gpu.copy_of(&noise(3, count * d * d, 1.0))?, gpu.copy_of(&noise(4, count * d * d, 1.0))?, gpu.floats(count * d * d)?);
        let array = |memory: &Memory| Array { base: memory.at(), stride: (d * d) as u64 };
        let (left, right, out) = (array(&a), array(&b), array(&c));
        let items = Items::all(count as u32);
        let view = View { left: 1, d, right: d };
        let flops = 2.0 * (count * d * d * d) as f64;
        let mut add = |who: &str, flops: f64, seconds: f64| rows.add("products", &of, who, "rate", flops / seconds * 1e-9, "GFLOP/s");
        let seconds = gpu.median(options.rounds, 3, |q| Ok(mode_product(q, items, view, left, false, right, out).map_err(Error::from)?))?;
        add("klshampoo f32", flops, seconds)?;
        let seconds = gpu.median(options.rounds, 3, |q| Ok(unfolded_product(q, items, view, left, left, out).map_err(Error::from)?))?;
        // A triangle is half of it.
        add("klshampoo f32 of a symmetric product", flops / 2.0, seconds)?;
        let Some(blas) = &mut blas else { continue };
        // Two numbers in a word, both the upper half of one.
        let halves = |seed: u64| {
            let pair = |x: f32| f32::from_bits(x.to_bits() & 0xffff_0000 | x.to_bits() >> 16);
            gpu.copy_of(&noise(seed, (count * d * d).div_ceil(2), 1.0).into_iter().map(pair).collect::<Vec<_>>())
        };
        let (a_halves, b_halves) = (halves(5)?, halves(6)?);
        for (name, input, precision) in [
            ("cuBLAS f32", Input::F32, Precision::Fp32),
            ("cuBLAS TF32", Input::F32, Precision::Tf32),
            ("cuBLAS f32 as bf16", Input::F32, Precision::Bf16),
            ("cuBLAS bf16", Input::Bf16, Precision::Fp32),
        ] {
            let factor = |memory: &Memory| Factor { at: memory.at(), leading: d, stride: d * d, transposed: false };
            let (a, b) = if input == Input::Bf16 { (&a_halves, &b_halves) } else { (&a, &b) };
            let gemm = Gemm {
                m: d,
                n: d,
                k: d,
                count,
                alpha: 1.0,
                a: factor(a),
                b: factor(b),
                input,
                beta: 0.0,
                c: c.at(),
                c_leading: d,
                c_stride: d * d,
                precision,
            };
            // SAFETY: three blocks of so many matrices.
            let seconds = gpu.median(options.rounds, 3, |q| Ok(unsafe { blas.gemm_strided_batched(q, &gemm) }?))?;
            add(name, flops, seconds)?;
        }
    }
    Ok(())
}

/// A precision as rows name it.
pub const fn name(precision: Precision) -> &'static str {
    match precision {
        Precision::Fp32 => "f32",
        Precision::Tf32x3 => "3xTF32",
        Precision::Tf32 => "TF32",
        Precision::Bf16 => "bf16",
    }
}

/// Every precision, by the kernels and where there is one by cuBLAS.
pub fn ways(gpu: &Gpu) -> impl Iterator<Item = (Precision, bool)> + use<> {
    let both = if gpu.has_blas() { 2 } else { 1 };
    let all = Precision::ALL.into_iter().flat_map(move |precision| [(precision, false), (precision, true)].into_iter().take(both));
    all.filter(|way| *way != (Precision::Tf32x3, true))
}

/// Rates of the products that a step of a set makes: of each shape and mode into the eigenbasis, and with itself.
pub fn shapes(gpu: &mut Gpu, set: &Set, options: &Options, rows: &mut Rows) -> Result<(), Failure> {
    let tensors = set.tensors();
    let mut shapes = tensors.clone();
    shapes.sort_unstable();
    shapes.dedup();
    for dims in shapes {
        let (n, items) = (dims.iter().product::<usize>(), tensors.iter().filter(|other| **other == dims).count());
        let (x, out) = (gpu.copy_of(&noise(7, items * n, 1.0))?, gpu.floats(items * n)?);
        for (k, &d) in dims.iter().enumerate().filter(|(_, d)| **d > 1 && dims.len() > 1) {
            let (a, delta) = (gpu.copy_of(&noise(8, items * d * d, 1.0))?, gpu.floats(items * d * d)?);
            let array = |memory: &Memory, stride: usize| Array { base: memory.at(), stride: stride as u64 };
            let view = View { left: dims[..k].iter().product(), d, right: dims[k + 1..].iter().product() };
            let shape: Vec<_> = dims.iter().map(usize::to_string).collect();
            let of = format!("{items} of {} mode {k}", shape.join("x"));
            let (x, flops) = (array(&x, n), 2.0 * (items * n * d) as f64);
            for (precision, library) in ways(gpu) {
                let who = format!("{} {}", if library { "cuBLAS" } else { "klshampoo" }, name(precision));
                gpu.use_blas(library.then_some(0));
                let turned = view.mode_product(array(&a, d * d), true, x, array(&out, n));
                let squared = view.unfolded_product(x, x, array(&delta, d * d));
                for (what, product, flops) in [("turned", turned, flops), ("times itself", squared, flops / 2.0)] {
                    if library && view.left > 1 && view.right > 1 {
                        continue; // no library's
                    }
                    let product: Product = product.at(precision).into_scratch();
                    let all = Items::all(items as u32);
                    let seconds = gpu.median(options.rounds, 3, |q| Ok(product.launch(q, all).map_err(Error::from)?))?;
                    rows.add("shapes", &of, &who, what, flops / seconds * 1e-9, "GFLOP/s")?;
                }
            }
            gpu.use_blas(None);
        }
    }
    Ok(())
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
