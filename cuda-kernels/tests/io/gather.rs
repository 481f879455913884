//! Conversion and scaling.

use klshampoo::{Elements, Format, Halves};
use klshampoo_cuda::batch::Items;
use klshampoo_cuda::io::{Geometry, Pieces, Place, Scalar, Source, Transform, fill, flag_missing, gather};
use klshampoo_cuda::queue::DevicePtr;

use crate::common::{EmulatorQueue, array, device};
use crate::support::{Random, Regrid, SIZES, SPECIAL, bits, canonical};

/// Gathers one dense item; what is beyond `out` is looked at too.
fn dense(buffer: DevicePtr, format: Format, len: usize, transform: Transform, out: &mut [f32]) {
    let (mut places, mut pointers) = (Vec::from([Place::default()]), Vec::from([buffer]));
    let pieces = Pieces { geometry: Geometry::dense(len), places: device(&mut places) };
    let source = Source { pieces, pointers: device(&mut pointers), format };
    gather(&mut EmulatorQueue::default(), Items::all(1), &source, &transform, array(out, len)).unwrap();
}

#[test]
fn every_half_is_read_as_the_core_does() {
    for format in [Format::Bf16, Format::F16] {
        let mut halves: Vec<u16> = (0..=u16::MAX).collect();
        let mut expected = vec![0f32; halves.len()];
        Halves::new(format, &halves).read(0, 1, &mut expected);
        let mut out = vec![0f32; halves.len()];
        dense(device(&mut halves), format, out.len(), Transform::NONE, &mut out);
        assert_eq!(bits(&out), bits(&expected), "{format:?}");
    }
}

#[test]
fn every_size_from_every_address() {
    let mut random = Random(11);
    for len in SIZES {
        for shift in 0..4 {
            let mut numbers: Vec<f32> = (0..len + 8).map(|_| f32::from_bits(random.bits())).collect();
            let mut out = vec![-7f32; len + 8];
            dense(device(&mut numbers[shift..]), Format::Native, len, Transform::NONE, &mut out[shift % 3..]);
            assert_eq!(bits(&out[shift % 3..][..len]), bits(&numbers[shift..][..len]), "{len} {shift}");
            assert!(out[..shift % 3].iter().chain(&out[shift % 3 + len..]).all(|&x| x == -7.0));

            let mut halves: Vec<u16> = (0..len + 8).map(|_| random.bits() as u16).collect();
            let mut expected = vec![0f32; len];
            Halves::f16(&halves[shift..]).read(0, 1, &mut expected);
            out.fill(-7.0);
            dense(device(&mut halves[shift..]), Format::F16, len, Transform::NONE, &mut out);
            assert_eq!(bits(&out[..len]), bits(&expected), "{len} {shift}");
            assert!(out[len..].iter().all(|&x| x == -7.0));
        }
    }
}

/// Values, pointers and both factors; the factors are multiplied first.
#[test]
fn scales_are_multiplied_once() {
    let mut numbers = Vec::from(SPECIAL);
    let mut random = Random(3);
    let mut more: Vec<f32> = numbers.iter().copied().chain((0..500).map(|_| random.finite())).collect();
    let (mut on_device, mut clip) = (Vec::from([0.7f32]), Vec::from([0.3f32]));
    let pointer = device(&mut on_device);
    let cases = [
        (Transform::scaled(Scalar::of(0.7)), 0.7),
        (Transform::scaled(Scalar::at(pointer)), 0.7),
        (Transform::scaled(Scalar::at(pointer).with_factor(1.1)), 0.7f32 * 1.1),
        (Transform::scaled(Scalar::of(0.7)).clipped(device(&mut clip)), 0.7f32 * 0.3),
        (Transform::scaled(Scalar::at(pointer).with_factor(1.1)).clipped(device(&mut clip)), 0.7f32 * 1.1 * 0.3),
        (Transform::scaled(Scalar::of(1e-38)), 1e-38),
    ];
    for (scale, factor) in cases {
        for numbers in [&mut numbers[..], &mut more] {
            let expected: Vec<f32> = numbers.iter().map(|x| x * factor).collect();
            let mut out = vec![0f32; numbers.len()];
            dense(device(numbers), Format::Native, out.len(), scale, &mut out);
            assert_eq!(canonical(&out), canonical(&expected), "{scale:?}");
        }
    }
}

/// Those masked out or without a buffer stay as they were, and so does what lies between items; over any grid.
#[test]
fn only_items_that_take_part_are_written() {
    let (len, stride, count) = (300, 307, 5);
    let mut buffers: Vec<Vec<f32>> = (0..count).map(|i| (0..len + i).map(|j| (i * 1000 + j) as f32).collect()).collect();
    // Item 3 has no buffer; the items' order is not the tensors'.
    let mut pointers: Vec<DevicePtr> = buffers.iter_mut().map(|buffer| device(buffer)).collect();
    pointers[0] = DevicePtr::NULL;
    let tensors = [1, 2, 4, 0, 3];
    let mut places = Vec::from(tensors.map(|tensor| Place { tensor, slice: 0, offset: u64::from(tensor) }));
    let pieces = Pieces { geometry: Geometry::dense(len), places: device(&mut places) };
    let mut flags = Vec::from([0b101u32, 0b111, 0b101, 0b1101, 0b001]);
    let all = Items { flags: device(&mut flags), count: count as u32, mask: 0, wanted: 0, unused: 0 };
    let pointers = device(&mut pointers);
    flag_missing(&mut EmulatorQueue::default(), all.with(1), &pieces, pointers, 0b1000).unwrap();
    assert_eq!(flags, [0b101, 0b111, 0b101, 0b1101, 0b001]);
    flag_missing(&mut EmulatorQueue::default(), all.with(4), &pieces, pointers, 2).unwrap();
    assert_eq!(flags, [0b101, 0b101, 0b101, 0b1111, 0b001]);
    flags[1] |= 2;

    let source = Source { pieces, pointers, format: Format::Native };
    for items in [all.with(4).without(2), all.with(4)] {
        let mut expected = vec![-1f32; count * stride];
        for item in 0..count {
            let taken = flags[item] & items.mask == items.wanted && item != 3;
            if taken {
                let tensor = tensors[item] as usize;
                expected[item * stride..][..len].copy_from_slice(&buffers[tensor][tensor..][..len]);
            }
        }
        for grid in [[1, 1, 1], [1, 2, 1], [7, 5, 1]] {
            let mut out = vec![-1f32; count * stride];
            gather(&mut Regrid(grid), items, &source, &Transform::NONE, array(&mut out, stride)).unwrap();
            assert_eq!(out, expected);
        }
        // The last items alone.
        let source = Source { pieces: pieces.from(2), ..source };
        let items = Items { flags: items.flags.offset::<u32>(2), count: 3, ..items };
        let mut out = vec![-1f32; 3 * stride];
        gather(&mut EmulatorQueue::default(), items, &source, &Transform::NONE, array(&mut out, stride)).unwrap();
        assert_eq!(out, expected[2 * stride..]);
    }
}

/// More items than a grid has rows: the kernels come back for the others.
#[test]
fn many_small_items() {
    let count = 70_000;
    let mut numbers: Vec<f32> = (0..count).map(|i| i as f32).collect();
    let mut pointers = Vec::from([device(&mut numbers)]);
    let mut places: Vec<Place> = (0..count as u32).map(|i| Place { tensor: 0, slice: i, offset: u64::from(i) }).collect();
    let pieces = Pieces { geometry: Geometry::dense(1), places: device(&mut places) };
    let source = Source { pieces, pointers: device(&mut pointers), format: Format::Native };
    let (mut out, items) = (vec![0f32; count], Items::all(count as u32));
    gather(&mut EmulatorQueue::default(), items, &source, &Transform::scaled(Scalar::of(2.0)), array(&mut out, 1)).unwrap();
    assert!(out.iter().zip(0..).all(|(&x, i)| x == 2.0 * i as f32));
    fill(&mut EmulatorQueue::default(), items, array(&mut out, 1), 1, 7).unwrap();
    assert!(out.iter().all(|x| x.to_bits() == 7));
}
