//! Products alone: the kernels' beside cuBLAS's, and how fast the device makes them at best.

use crate::Options;
use crate::device::{Failure, Gpu};
use crate::rows::Rows;
use klshampoo_bench::{Set, noise};
use klshampoo_cuda::batch::{Array, Items};
use klshampoo_cuda::driver::{Blas, Error, Factor, Gemm, Input, Memory, Precision};
use klshampoo_cuda::linalg::{Product, View, unfolded_product};

/// What cuBLAS is asked for: its name in rows, the inputs, the precision that it is asked to make of them, and the one that it is.
const LIBRARY: [(&str, Input, Precision, Precision); 4] = [
    ("cuBLAS f32", Input::F32, Precision::Fp32, Precision::Fp32),
    ("cuBLAS TF32", Input::F32, Precision::Tf32, Precision::Tf32),
    ("cuBLAS f32 as bf16", Input::F32, Precision::Bf16, Precision::Bf16),
    ("cuBLAS bf16", Input::Bf16, Precision::Fp32, Precision::Bf16),
];

/// Some square products of one size.
struct Squares {
    d: usize,
    count: usize,
    /// Factors of f32 and, in half of the memory, of bf16; results.
    a: [Memory; 2],
    b: [Memory; 2],
    c: Memory,
}

impl Squares {
    /// Enough of them to fill the device, but with no more elements than that or so.
    fn new(gpu: &Gpu, d: usize, elements: u32) -> Result<Self, Failure> {
        let count = (1usize << 24).div_ceil(d * d).clamp(1, 64).min(elements as usize / (d * d) + 1);
        let len = count * d * d;
        // Two numbers in a word, both the upper half of one.
        let pair = |x: f32| f32::from_bits(x.to_bits() & 0xffff_0000 | x.to_bits() >> 16);
        let halves = |seed: u64| gpu.copy_of(&noise(seed, len.div_ceil(2), 1.0).into_iter().map(pair).collect::<Vec<_>>());
        let (a, b) = ([gpu.copy_of(&noise(3, len, 1.0))?, halves(5)?], [gpu.copy_of(&noise(4, len, 1.0))?, halves(6)?]);
        Ok(Self { d, count, a, b, c: gpu.floats(len)? })
    }

    fn flops(&self) -> f64 {
        2.0 * (self.count * self.d * self.d * self.d) as f64
    }

    fn array(&self, memory: &Memory) -> Array {
        Array { base: memory.at(), stride: (self.d * self.d) as u64 }
    }

    fn view(&self) -> View {
        View { left: 1, d: self.d, right: self.d }
    }

    fn items(&self) -> Items {
        Items::all(self.count as u32)
    }

    /// Floating-point operations per second of the kernels.
    fn kernels(&self, gpu: &mut Gpu, precision: Precision, rounds: u32) -> Result<f64, Failure> {
        let [left, right, out] = [&self.a[0], &self.b[0], &self.c].map(|memory| self.array(memory));
        let product: Product = self.view().mode_product(left, false, right, out).at(precision).into_scratch();
        let items = self.items();
        let seconds = gpu.median(rounds, 3, |q| Ok(product.launch(q, items).map_err(Error::from)?))?;
        Ok(self.flops() / seconds)
    }

    /// The same of their symmetric products, of which a triangle is made: half of the work.
    fn symmetric(&self, gpu: &mut Gpu, rounds: u32) -> Result<f64, Failure> {
        let ([x, out], view, items) = ([&self.a[0], &self.c].map(|memory| self.array(memory)), self.view(), self.items());
        let seconds = gpu.median(rounds, 3, |q| Ok(unfolded_product(q, items, view, x, x, out).map_err(Error::from)?))?;
        Ok(self.flops() / 2.0 / seconds)
    }

    /// The same of cuBLAS.
    fn library(&self, gpu: &mut Gpu, blas: &mut Blas, input: Input, precision: Precision, rounds: u32) -> Result<f64, Failure> {
        let (d, stride) = (self.d, self.d * self.d);
        let which = usize::from(input == Input::Bf16);
        let factor = |memory: &Memory| Factor { at: memory.at(), leading: d, stride, transposed: false };
        let gemm = Gemm {
            m: d,
            n: d,
            k: d,
            count: self.count,
            alpha: 1.0,
            a: factor(&self.a[which]),
            b: factor(&self.b[which]),
            input,
            beta: 0.0,
            c: self.c.at(),
            c_leading: d,
            c_stride: stride,
            precision,
        };
        // SAFETY: three blocks of so many matrices.
        let seconds = gpu.median(rounds, 3, |q| Ok(unsafe { blas.gemm_strided_batched(q, &gemm) }?))?;
        Ok(self.flops() / seconds)
    }
}

/// cuBLAS with a workspace of its own, if there is one.
fn library(gpu: &Gpu) -> Result<Option<Blas>, Failure> {
    Ok(Blas::open(gpu.context(), Memory::allocate(gpu.context(), Blas::WORKSPACE)?)?)
}

/// Floating-point operations per second of square products.
pub fn products(gpu: &mut Gpu, options: &Options, rows: &mut Rows) -> Result<(), Failure> {
    let mut blas = library(gpu)?;
    if blas.is_none() {
        println!("NO cuBLAS: its products are not timed");
    }
    for &d in &options.sizes {
        let squares = Squares::new(gpu, d, options.elements)?;
        let of = format!("{} of {d}x{d}x{d}", squares.count);
        let mut add = |who: &str, rate: f64| rows.add("products", &of, who, "rate", rate * 1e-9, "GFLOP/s");
        for precision in Precision::ALL {
            add(&format!("klshampoo {}", name(precision)), squares.kernels(gpu, precision, options.rounds)?)?;
        }
        add("klshampoo f32 of a symmetric product", squares.symmetric(gpu, options.rounds)?)?;
        let Some(blas) = &mut blas else { continue };
        for (who, input, precision, _) in LIBRARY {
            add(who, squares.library(gpu, blas, input, precision, options.rounds)?)?;
        }
    }
    Ok(())
}

/// The best product rate that the device has shown at a precision, in floating-point operations per second.
#[derive(Clone, Copy, Debug)]
pub struct Rates([f64; Precision::ALL.len()]);

impl Rates {
    /// The best of the kernels and of cuBLAS, whatever its inputs, over square products of all sizes.
    pub fn measure(gpu: &mut Gpu, of: &str, options: &Options, rows: &mut Rows) -> Result<Self, Failure> {
        let mut rates = Self([0.0; Precision::ALL.len()]);
        let mut blas = library(gpu)?;
        for &d in &options.sizes {
            let squares = Squares::new(gpu, d, options.elements)?;
            for precision in Precision::ALL {
                let rate = squares.kernels(gpu, precision, options.rounds)?;
                rates.see(precision, rate);
            }
            let Some(blas) = &mut blas else { continue };
            for (_, input, asked, precision) in LIBRARY {
                let rate = squares.library(gpu, blas, input, asked, options.rounds)?;
                rates.see(precision, rate);
            }
        }
        for precision in Precision::ALL {
            rows.add("rates", of, &format!("products {}", name(precision)), RATE, rates.of(precision) * 1e-9, "GFLOP/s")?;
        }
        Ok(rates)
    }

    fn place(precision: Precision) -> usize {
        Precision::ALL.iter().position(|one| *one == precision).unwrap_or_default()
    }

    fn see(&mut self, precision: Precision, rate: f64) {
        let best = &mut self.0[Self::place(precision)];
        *best = best.max(rate);
    }

    /// At this precision.
    pub fn of(&self, precision: Precision) -> f64 {
        self.0[Self::place(precision)]
    }
}

/// What rows call it.
pub const RATE: &str = "best product rate at this precision";

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
        if options.is_out_of_time(&format!("products of {dims:?}")) {
            break;
        }
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
