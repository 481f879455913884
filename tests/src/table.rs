//! Whole tables of tensors: numbers for them, and every bit that a step may change.

use klshampoo::{Format, SliceHeader, Tensor};

use crate::cases::Xorshift;
use crate::harness::Core;

/// Random parameters or gradients for a table, spans included.
pub fn random(tensors: &[Tensor], seed: usize) -> Vec<Vec<f32>> {
    let mut random = Xorshift::for_shape(&[seed]);
    tensors.iter().map(|tensor| (0..tensor.span()).map(|_| random.normal() as f32).collect()).collect()
}

/// Gradients, all of them there.
pub fn some(grads: &[Vec<f32>]) -> Vec<Option<Vec<f32>>> {
    grads.iter().cloned().map(Some).collect()
}

/// The bits of numbers.
pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// Everything that a refused call must leave alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Bits of the parameters.
    pub params: Vec<Vec<u32>>,
    /// Bits of the state.
    pub state: Vec<u32>,
    /// The headers.
    pub headers: Vec<SliceHeader>,
}

impl Snapshot {
    /// Of a table and its parameters.
    pub fn of<L>(core: &Core<f32, L>, params: &[Vec<f32>]) -> Self {
        Self { params: params.iter().map(|p| bits(p)).collect(), state: bits(&core.state), headers: core.headers.clone() }
    }

    /// The same, piece by piece in the order of the headers. A tensor that is cut is cut by rows, in pieces of one length.
    pub fn pieces(&self, tensors: &[Tensor]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for (index, tensor) in tensors.iter().enumerate() {
            for slice in 0..tensor.slices() {
                let mut state = &self.state[tensor.state_range(slice)];
                let param = &self.params[index][tensor.slice_range(slice)];
                for (piece, header) in self.headers[tensor.header_range(slice)].iter().enumerate() {
                    let (own, rest) = state.split_at(tensor.piece_layout(piece).state_len());
                    state = rest;
                    let elements = param.len() / tensor.pieces();
                    pieces.push(Piece {
                        tensor: index,
                        slice: slice * tensor.pieces() + piece,
                        header: *header,
                        state: own.to_vec(),
                        param: param[piece * elements..][..elements].to_vec(),
                    });
                }
            }
        }
        pieces
    }
}

/// All bits of one piece of a slice.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Its tensor.
    pub tensor: usize,
    /// Its place in it, as errors count.
    pub slice: usize,
    /// Its counters.
    pub header: SliceHeader,
    /// Bits of its state.
    pub state: Vec<u32>,
    /// Bits of its parameter.
    pub param: Vec<u32>,
}

impl Piece {
    /// Whether every number of it is finite: what is kept in 16 bits, two to a word, as what it is.
    pub fn is_finite(&self, tensors: &[Tensor]) -> bool {
        let layout = tensors[self.tensor].piece_layout(self.slice % tensors[self.tensor].pieces());
        let (shape, format) = (layout.shape(), layout.parts().factor_format);
        let full = || (0..shape.order()).filter(|&k| shape.is_full(k)).map(|k| shape.dim(k));
        let mut rest = self.state.as_slice();
        let whole = |words: &[u32]| words.iter().all(|&word| f32::from_bits(word).is_finite());
        let mut finite = whole(&self.param) && self.header.update_rms.is_finite() && self.header.update_cosine.is_finite();
        if format != Format::Native {
            let bf16 = |number: u32| number & 0x7f80 != 0x7f80;
            let f16 = |number: u32| number & 0x7c00 != 0x7c00;
            // The diagonal of a factor in binary16 is a number without a sign, of 8 bits of exponent and 8 of mantissa.
            let positive = |number: u32| number < 0xff00;
            let mut take = |count: usize, is_finite: &dyn Fn(usize, u32) -> bool| {
                let (words, others) = rest.split_at(count.div_ceil(2));
                rest = others;
                (0..count).all(|i| is_finite(i, words[i / 2] >> (16 * (i % 2)) & 0xffff))
            };
            for d in full() {
                finite &= take(d * d, &|_, number| if format == Format::Bf16 { bf16(number) } else { f16(number) });
            }
            for d in full() {
                finite &= take(d * (d + 1) / 2, &|i, number| match (format, i < d) {
                    (Format::Bf16, _) => bf16(number),
                    (_, true) => positive(number),
                    (_, false) => f16(number),
                });
            }
        }
        finite && whole(rest)
    }
}
