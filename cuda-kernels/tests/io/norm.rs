//! The norm of all gradients, and clipping by it.

use klshampoo::Format;
use klshampoo_cuda::batch::Items;
use klshampoo_cuda::io::{
    Geometry, Measure, Norm, Pieces, Place, Scalar, Source, Transform, chunks, gather, gather_measured, global_norm, reclip,
};
use klshampoo_cuda::queue::DevicePtr;

use crate::common::{EmulatorQueue, array, device};
use crate::support::Random;

fn measures(sums: &[f64]) -> Vec<Measure> {
    sums.iter().map(|&sum| Measure { sum, largest: if sum.is_finite() { 1 } else { 0x7f80_0000 }, unused: 0 }).collect()
}

#[test]
fn norms_of_all_batches_add_up() {
    let mut queue = EmulatorQueue::default();
    let mut first = measures(&[9.0, 1e9, 7.0, f64::NAN]);
    // More than there are threads.
    let mut second = measures(&(0..1000).map(f64::from).collect::<Vec<_>>());
    let mut flags = Vec::from([1u32, 0, 1, 1]);
    let some = Items { flags: device(&mut flags), count: 4, mask: 1, wanted: 1, unused: 0 };
    let mut norm = Vec::from([Norm { sum: f64::NAN, norm: f32::NAN, factor: f32::NAN }]);
    let batches = [(some, device(&mut first)), (Items::all(1000), device(&mut second))];
    let sum = 16.0 + 999.0 * 500.0;
    global_norm(&mut queue, &batches, Scalar::of(10.0), device(&mut norm)).unwrap();
    assert_eq!(norm[0], Norm { sum, norm: sum.sqrt() as f32, factor: (10.0 / sum.sqrt()) as f32 });
    global_norm(&mut queue, &batches[..1], Scalar::of(10.0), device(&mut norm)).unwrap();
    assert_eq!(norm[0], Norm { sum: 16.0, norm: 4.0, factor: 1.0 });
    let mut limit = Vec::from([2f32]);
    global_norm(&mut queue, &batches[..1], Scalar::at(device(&mut limit)).with_factor(0.5), device(&mut norm)).unwrap();
    assert_eq!(norm[0], Norm { sum: 16.0, norm: 4.0, factor: 0.25 });
    // After a sum with other devices'.
    norm[0].sum = 64.0;
    reclip(&mut queue, Scalar::of(6.0), device(&mut norm)).unwrap();
    assert_eq!(norm[0], Norm { sum: 64.0, norm: 8.0, factor: 0.75 });
    for nothing in [&[][..], &[(Items::all(0), DevicePtr::NULL)]] {
        norm[0].sum = f64::NAN;
        global_norm(&mut queue, nothing, Scalar::of(6.0), device(&mut norm)).unwrap();
        assert_eq!(norm[0], Norm { sum: 0.0, norm: 0.0, factor: 1.0 });
    }
}

/// Gathered, measured, clipped and gathered again: the norm is the limit.
#[test]
fn gathering_clips() {
    let mut queue = EmulatorQueue::default();
    let (len, mut random) = (5000, Random(4));
    let mut buffers: Vec<Vec<f32>> = (0..2).map(|_| (0..len).map(|_| random.number()).collect()).collect();
    let mut pointers: Vec<DevicePtr> = buffers.iter_mut().map(|buffer| device(buffer)).collect();
    let mut places = Vec::from([0, 1].map(|tensor| Place { tensor, slice: 0, offset: 0 }));
    let pieces = Pieces { geometry: Geometry::dense(len), places: device(&mut places) };
    let source = Source { pieces, pointers: device(&mut pointers), format: Format::Native };
    let (mut work, mut found) = (vec![Measure::default(); 2 * chunks(len)], Vec::from([Measure::default(); 2]));
    let (mut out, mut norm) = (vec![0f32; 2 * len], Vec::from([Norm::default()]));
    let scaled = Transform::scaled(Scalar::of(1.5));
    let (work, measures) = (device(&mut work), device(&mut found));
    gather_measured(&mut queue, Items::all(2), &source, &scaled, array(&mut out, len), work, measures).unwrap();
    global_norm(&mut queue, &[(Items::all(2), measures)], Scalar::of(3.0), device(&mut norm)).unwrap();
    let sum: f64 = buffers.iter().flatten().map(|&x| f64::from(x * 1.5).powi(2)).sum();
    assert!((norm[0].sum - sum).abs() < 1e-10 * sum);
    let factor = (3.0 / norm[0].sum.sqrt()) as f32;
    assert_eq!(norm[0].factor, factor);
    let clipped = scaled.clipped(Norm::factor_of(device(&mut norm)));
    gather(&mut queue, Items::all(2), &source, &clipped, array(&mut out, len)).unwrap();
    let expected: Vec<f32> = buffers.iter().flatten().map(|x| x * (1.5 * factor)).collect();
    assert_eq!(out, expected);
    let norm: f64 = out.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    assert!((norm - 3.0).abs() < 1e-5, "{norm}");
}
