//! What a matrix costs in memory, against Table 1 of the paper.

use klshampoo::{Config, SliceHeader, TensorSpec};
use klshampoo_tests::harness::Number;

/// Table 1 of the paper: elements per m x n matrix, both triangles of a factor counted. Ours keep one triangle, and no more beside it.
#[test]
fn the_state_is_at_most_that_of_the_papers_table() {
    let factors = |m, n| m * m + n * n;
    type Elements = fn(usize, usize) -> usize;
    let table: [(&str, Elements); 4] = [
        ("shampoo_reference", |m, n| 2 * (m * m + n * n) + (m + n) + m * n + m * n),
        ("soap", |m, n| 2 * (m * m + n * n) + m * n + m * n),
        ("kl_shampoo", |m, n| 2 * (m * m + n * n) + (m + n) + m * n),
        ("kl_soap", |m, n| 2 * (m * m + n * n) + (m + n) + m * n + m * n),
    ];
    for (name, papers) in table {
        let config: Config<f32> = f32::presets().into_iter().find(|&(preset, _)| preset == name).unwrap().1;
        for m in 1..=70 {
            for n in 1..=70 {
                let ours = TensorSpec::new(&[m, n]).unwrap().layout(&config).unwrap().state_len();
                // What a packed triangle saves of a square.
                let saved = (factors(m, n) - m - n) / 2;
                assert_eq!(ours + saved, papers(m, n), "{name}, {m} x {n}");
                assert!(ours <= papers(m, n));
            }
        }
    }
    assert_eq!(size_of::<SliceHeader>(), 64, "what a slice has besides");
}
