//! The sets of tensors that are timed: those of `tests/peers`.

/// Steps between refreshes of the amortised benchmarks.
pub const PERIOD: u32 = 10;

/// Some shapes, several times over.
#[derive(Clone, Copy, Debug)]
pub struct Set {
    /// A letter, for filters.
    pub name: &'static str,
    /// What it is.
    pub title: &'static str,
    /// Dims of its tensors.
    pub shapes: &'static [&'static [usize]],
    /// How many times each of them is in the set.
    pub count: usize,
}

impl Set {
    /// The dims of all its tensors.
    pub fn tensors(&self) -> Vec<&'static [usize]> {
        self.shapes.repeat(self.count)
    }

    /// Elements of all its tensors.
    pub fn elements(&self) -> usize {
        self.tensors().iter().map(|dims| dims.iter().product::<usize>()).sum()
    }
}

/// One square matrix.
pub const ONE_768: Set = Set { name: "a", title: "one 768x768", shapes: &[&[768, 768]], count: 1 };

/// One layer of GPT-2 124M.
pub const LARGE: Set = Set {
    name: "b",
    title: "2304x768, 768x768, 3072x768, 768x3072",
    shapes: &[&[2304, 768], &[768, 768], &[3072, 768], &[768, 3072]],
    count: 1,
};

/// Small matrices.
pub const MATRICES_64X64: Set = Set { name: "c", title: "64 of 64x64", shapes: &[&[64, 64]], count: 64 };

/// Smaller ones.
pub const MATRICES_16X32: Set = Set { name: "d", title: "200 of 16x32", shapes: &[&[16, 32]], count: 200 };

/// The hidden matrices of `bindings-c/examples/gpt`, its default job.
pub const EXAMPLE: Set = Set {
    name: "e",
    title: "4 of [384x128, 128x128, 512x128, 128x512]",
    shapes: &[&[384, 128], &[128, 128], &[512, 128], &[128, 512]],
    count: 4,
};

/// Tensors of three dims.
pub const TENSORS_8X64X64: Set = Set { name: "f", title: "16 of 8x64x64", shapes: &[&[8, 64, 64]], count: 16 };

/// All of them.
pub const SETS: [Set; 6] = [ONE_768, LARGE, MATRICES_64X64, MATRICES_16X32, EXAMPLE, TENSORS_8X64X64];
