//! Tables, buffers and numbers for the tests.

use klshampoo::{Config, Format, Optimizer, Rounding, SliceHeader, Storage, Tensor, TensorSpec, Totals};
use klshampoo_cuda::io::{Geometry, Pieces, Place, set_places};
use klshampoo_cuda::queue::{DeviceError, DevicePtr, Kernel, Queue};

use crate::common::{EmulatorQueue, device};

/// Sizes around those of blocks and chunks.
pub const SIZES: [usize; 9] = [1, 3, 255, 256, 257, 4095, 4096, 4097, 100_000];

/// Numbers that a step may meet.
pub const SPECIAL: [f32; 16] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    f32::MIN_POSITIVE,
    -1e-40,
    1e-45,
    3.4e38,
    f32::MAX,
    f32::MIN,
    65519.9,
    65504.0,
    1.003_906_2,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
];

/// A number generator (xorshift).
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }

    /// Between -1 and 1.
    pub fn number(&mut self) -> f32 {
        self.bits() as i32 as f32 / 2f32.powi(31)
    }

    /// Finite, of very different sizes, with zeros of both signs and denormals.
    pub fn finite(&mut self) -> f32 {
        match self.bits() % 16 {
            0 => 0.0,
            1 => -0.0,
            2 => f32::from_bits(self.bits() & 0x807f_ffff),
            3 => self.number() * 1e12,
            4 => self.number() * 1e-20,
            _ => self.number(),
        }
    }
}

/// Runs every kernel over another grid than it is launched with.
pub struct Regrid(pub [u32; 3]);

impl Queue for Regrid {
    fn launch<K: Kernel>(&mut self, _: [u32; 3], kernel: K) -> Result<(), DeviceError> {
        EmulatorQueue::default().launch(self.0, kernel)
    }
}

/// A tensor's numbers as their owner keeps them.
#[derive(Clone, Debug)]
pub enum Buffer {
    Native(Vec<f32>),
    Halves(Format, Vec<u16>),
}

impl Buffer {
    pub fn new(format: Format, len: usize, mut number: impl FnMut() -> f32) -> Self {
        match format {
            Format::Native => Self::Native((0..len).map(|_| number()).collect()),
            // Truncated: any number of 16 bits is as good.
            Format::Bf16 => Self::Halves(format, (0..len).map(|_| (number().to_bits() >> 16) as u16).collect()),
            Format::F16 => Self::Halves(format, (0..len).map(|_| to_f16(number())).collect()),
        }
    }

    pub fn device(&mut self) -> DevicePtr {
        match self {
            Self::Native(x) => device(x),
            Self::Halves(_, x) => device(x),
        }
    }

    /// The bits of its numbers.
    pub fn bits(&self) -> Vec<u32> {
        match self {
            Self::Native(x) => bits(x),
            Self::Halves(_, x) => x.iter().map(|&x| u32::from(x)).collect(),
        }
    }
}

/// A binary16 near a number, also a denormal one.
fn to_f16(x: f32) -> u16 {
    let (sign, scaled) = ((x.to_bits() >> 16 & 0x8000) as u16, x.abs().min(60_000.0));
    let magnitude = if scaled < 6.104e-5 { (scaled * 2f32.powi(24)) as u16 } else { ((scaled.to_bits() >> 13) - (112 << 10)) as u16 };
    sign | magnitude
}

pub fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// The bits, but one NaN for all.
pub fn canonical(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() }).collect()
}

/// A table and the state that the core keeps for it.
pub struct Core {
    pub groups: Vec<Config<f32>>,
    pub table: Vec<Tensor>,
    pub headers: Vec<SliceHeader>,
    pub state: Vec<f32>,
    pub scratch: Vec<f32>,
}

impl Core {
    pub fn new(groups: &[Config<f32>], specs: &[TensorSpec]) -> Self {
        let mut totals = Totals::default();
        let table = specs.iter().map(|spec| Tensor::resolve(spec, groups, &mut totals).unwrap()).collect();
        Self {
            groups: groups.to_vec(),
            table,
            headers: vec![SliceHeader::NEW; totals.slices],
            state: vec![0.0; totals.state_len],
            scratch: vec![0.0; totals.scratch_len],
        }
    }

    pub fn optimizer(&mut self) -> Optimizer<'_, f32> {
        Optimizer::new(&self.groups, &self.table, &mut self.headers, &mut self.state).unwrap()
    }
}

/// Pieces of equal geometry of one tensor.
pub struct Batch {
    pub tensor: usize,
    pub geometry: Geometry,
    pub places: Vec<Place>,
    /// The items' headers in the core's table.
    pub headers: Vec<usize>,
}

impl Batch {
    pub fn count(&self) -> u32 {
        self.places.len() as u32
    }

    pub fn elements(&self) -> usize {
        self.geometry.elements()
    }

    /// Writes the places to the device, which is `room`.
    pub fn pieces(&self, room: &mut Vec<Place>) -> Pieces {
        *room = vec![Place::default(); self.places.len()];
        set_places(&mut EmulatorQueue::default(), device(room), 0, &self.places).unwrap();
        assert_eq!(*room, self.places);
        Pieces { geometry: self.geometry, places: device(room) }
    }
}

/// The pieces of each tensor, by geometry.
pub fn batches(table: &[Tensor]) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for (index, tensor) in table.iter().enumerate() {
        for slice in 0..tensor.slices() {
            for piece in 0..tensor.pieces() {
                let geometry = Geometry::of(tensor, piece).unwrap();
                let place = Place::of(tensor, index, slice, piece).unwrap();
                let header = tensor.header_range(slice).start + piece;
                match batches.iter_mut().find(|batch| (batch.tensor, batch.geometry) == (index, geometry)) {
                    Some(batch) => (batch.places.push(place), batch.headers.push(header)).0,
                    None => batches.push(Batch { tensor: index, geometry, places: vec![place], headers: vec![header] }),
                }
            }
        }
    }
    batches
}

pub fn storage(grad: Format, param: Format) -> Storage {
    Storage { grad, param, grad_scaling: true, ..Storage::DENSE }
}

pub fn stochastic(seed: u64) -> Rounding {
    Rounding::Stochastic { seed }
}

/// Strides of a storage, padded.
pub fn strided(storage: Storage, strides: &[usize]) -> Storage {
    Storage { strides: Some(core::array::from_fn(|k| strides.get(k).copied().unwrap_or(1))), ..storage }
}

/// Tensors whose pieces are boxes at odd offsets, have strides, lie in slices with gaps, or are simply dense.
pub fn shapes(storage: Storage) -> Vec<TensorSpec> {
    let of = |dims: &[usize]| TensorSpec::new(dims).unwrap().storage(storage);
    let with = |dims: &[usize], strides: &[usize]| TensorSpec::new(dims).unwrap().storage(strided(storage, strides));
    vec![
        of(&[1]),
        of(&[257]),
        of(&[7, 5]),
        of(&[16, 24]).slices(3),
        of(&[9, 11]).slices(2).slice_stride(103),
        of(&[10, 8]).split_rows(&[3, 1, 6]).unwrap().slices(2),
        of(&[3, 4, 10]),
        of(&[2, 3, 4, 5]),
        // Transposed; every second column; padded rows of a multiple of four; a dim of one; in pieces too.
        with(&[7, 5], &[1, 7]).slices(2).slice_stride(40),
        with(&[6, 9], &[20, 2]),
        with(&[8, 12], &[16, 1]),
        with(&[5, 1, 6], &[7, 100, 1]).slices(2),
        with(&[4, 3, 8], &[8, 40, 1]).slices(3).slice_stride(129),
        of(&[70, 65]),
        of(&[65, 68]),
        // Longer than a chunk, and never together.
        with(&[70, 65], &[67, 1]),
        with(&[40, 128], &[132, 1]).slices(2),
        with(&[20, 30, 9], &[1, 200, 21]),
        with(&[3, 1500], &[1, 3]),
    ]
}
