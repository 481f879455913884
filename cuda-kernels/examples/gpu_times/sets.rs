//! What is stepped.

use klshampoo_bench::{EXAMPLE, LARGE, MATRICES_16X32, MATRICES_64X64, ONE_768, Set, TENSORS_8X64X64};

/// All sets.
pub const ALL: [Set; 9] = [
    Set { name: "gpt2", title: "GPT-2 124M: 12 of [2304x768, 768x768, 3072x768, 768x3072]", count: 12, ..LARGE },
    Set { name: "c1000", title: "1000 of 64x64", count: 1000, ..MATRICES_64X64 },
    ONE_768,
    LARGE,
    MATRICES_64X64,
    MATRICES_16X32,
    EXAMPLE,
    TENSORS_8X64X64,
    Set { name: "trial", title: "2 of [6x4, 4x4], to try the program", shapes: &[&[6, 4], &[4, 4]], count: 2 },
];

/// The dims of all its tensors, equal ones as neighbours: those that are refreshed in one step are then refreshed together.
pub fn tensors(set: &Set) -> Vec<&'static [usize]> {
    set.shapes.iter().flat_map(|dims| std::iter::repeat_n(*dims, set.count)).collect()
}

/// The set of this name.
pub fn named(name: &str) -> Result<&'static Set, String> {
    ALL.iter().find(|set| set.name == name).ok_or_else(|| {
        let names: Vec<_> = ALL.iter().map(|set| set.name).collect();
        format!("there is no set {name:?}; there are {}", names.join(", "))
    })
}
