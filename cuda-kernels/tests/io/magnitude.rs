//! Largest element and sum of squares.

use klshampoo::Format;
use klshampoo_cuda::batch::Items;
use klshampoo_cuda::io::{Geometry, Measure, Pieces, Place, Scalar, Source, Transform, chunks, gather_measured, magnitude};
use klshampoo_cuda::queue::Queue;

use crate::common::{EmulatorQueue, array, device};
use crate::support::{Random, Regrid, SIZES, SPECIAL};

fn measure<Q: Queue>(queue: &mut Q, items: Items, x: &mut [f32], stride: usize, len: usize) -> Vec<Measure> {
    const UNTOUCHED: Measure = Measure { sum: -1.0, largest: 77, unused: 0 };
    let mut work = vec![UNTOUCHED; if chunks(len) > 1 { chunks(len) * items.count as usize } else { 0 }];
    let mut out = vec![UNTOUCHED; items.count as usize];
    magnitude(queue, items, array(x, stride), len, device(&mut work), device(&mut out)).unwrap();
    out
}

/// Right, and with the same bits over any grid and from any address.
#[test]
fn every_size_is_measured() {
    let mut random = Random(2);
    for len in SIZES {
        let (count, stride) = (3, len + 1);
        let mut x: Vec<f32> = (0..count * stride).map(|_| random.finite()).collect();
        let found = measure(&mut EmulatorQueue::default(), Items::all(count as u32), &mut x, stride, len);
        for (found, x) in found.iter().zip(x.chunks(stride)) {
            let x = &x[..len];
            let sum: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            assert!((found.sum - sum).abs() <= sum * 1e-12, "{len}: {} {sum}", found.sum);
            assert_eq!(found.largest, x.iter().map(|x| x.abs().to_bits()).max().unwrap(), "{len}");
        }
        for grid in [[1, 1, 1], [2, 2, 1], [40, 3, 1]] {
            assert_eq!(measure(&mut Regrid(grid), Items::all(count as u32), &mut x, stride, len), found, "{len} {grid:?}");
        }
        let first = x[..len].to_vec();
        for shift in 1..4 {
            let mut elsewhere = vec![f32::NAN; shift + len];
            elsewhere[shift..].copy_from_slice(&first);
            assert_eq!(measure(&mut EmulatorQueue::default(), Items::all(1), &mut elsewhere[shift..], len, len)[0], found[0]);
        }
    }
}

/// Each alone, at every kind of place among ordinary numbers.
#[test]
fn what_is_not_finite_wins() {
    for special in SPECIAL {
        for (len, at) in [(1, 0), (300, 299), (9000, 0), (9000, 8999), (9001, 9000)] {
            let mut x = vec![0.5f32; len];
            x[at] = special;
            let found = measure(&mut EmulatorQueue::default(), Items::all(1), &mut x, len, len)[0];
            let others = if len > 1 { 0.5f32.to_bits() } else { 0 };
            assert_eq!(found.largest, (special.to_bits() & 0x7fff_ffff).max(others), "{special} {len} {at}");
            assert_eq!(found.largest >= 0x7f80_0000, !special.is_finite());
            assert_eq!(found.sum.is_finite(), special.is_finite(), "{special}");
        }
    }
    // The largest squares do not overflow; the smallest do not vanish.
    let found = measure(&mut EmulatorQueue::default(), Items::all(1), &mut Vec::from([f32::MAX; 5000]), 5000, 5000)[0];
    assert!(found.sum.is_finite() && found.sum > 5e80);
    let found = measure(&mut EmulatorQueue::default(), Items::all(1), &mut Vec::from([f32::from_bits(1); 2]), 2, 2)[0];
    assert_eq!((found.largest, found.sum > 0.0), (1, true));
}

#[test]
fn items_that_do_not_take_part_are_not_measured() {
    let mut flags = Vec::from([1u32, 0, 1]);
    let items = Items { flags: device(&mut flags), count: 3, mask: 1, wanted: 1, unused: 0 };
    for len in [10, 5000] {
        let mut x = vec![2f32; 3 * len];
        let found = measure(&mut EmulatorQueue::default(), items, &mut x, len, len);
        let sum = 4.0 * len as f64;
        assert_eq!(found.iter().map(|m| (m.sum, m.largest)).collect::<Vec<_>>(), [(sum, 0x4000_0000), (-1.0, 77), (sum, 0x4000_0000)]);
    }
}

/// What is measured beside gathering are the bits of measuring what was gathered, for all alignments and in all formats.
#[test]
fn gathering_measures_the_same() {
    let mut random = Random(8);
    for len in SIZES {
        for (format, shift) in [(Format::Native, 0), (Format::Native, 1), (Format::Bf16, 0), (Format::Bf16, 3), (Format::F16, 2)] {
            let mut memory: Vec<u32> = (0..2 * (len + 4)).map(|_| random.bits() & 0x3bff_3bff).collect();
            let base = device(&mut memory);
            let at = |elements: usize| if format == Format::Native { base.offset::<f32>(elements) } else { base.offset::<u16>(elements) };
            let mut pointers = Vec::from([at(shift), at(len + 4)]);
            let mut places = Vec::from([Place::default(), Place { tensor: 1, slice: 0, offset: 0 }]);
            let pieces = Pieces { geometry: Geometry::dense(len), places: device(&mut places) };
            let source = Source { pieces, pointers: device(&mut pointers), format };
            let mut out = vec![0f32; 2 * len];
            let (mut work, mut found) = (vec![Measure::default(); 2 * chunks(len)], Vec::from([Measure::default(); 2]));
            let (work, measures) = (device(&mut work), device(&mut found));
            let transform = Transform::scaled(Scalar::of(0.37));
            gather_measured(&mut EmulatorQueue::default(), Items::all(2), &source, &transform, array(&mut out, len), work, measures)
                .unwrap();
            assert!(found[0].sum > 0.0);
            assert_eq!(measure(&mut EmulatorQueue::default(), Items::all(2), &mut out, len, len), found, "{len} {format:?} {shift}");
        }
    }
}
