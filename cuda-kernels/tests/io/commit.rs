//! Decay, master weights and rounding, by their definitions.

use klshampoo::{Rounder, Rounding, SliceHeader, WeightDecay};
use klshampoo_cuda::batch::{Array, Items};
use klshampoo_cuda::io::{Decay, Geometry, Pieces, Place, Scalar, Theta, Update, commit_param, write_direction};
use klshampoo_cuda::queue::DevicePtr;

use crate::common::{EmulatorQueue, array, device};
use crate::support::{Random, Regrid, SIZES, SPECIAL, bits, canonical, stochastic};

const NO_DECAY: Decay = Decay { lr: Scalar::of(0.1), weight_decay: 0.0, kind: WeightDecay::Before };

fn header(step: u64) -> SliceHeader {
    SliceHeader { step, started: 1, skipped: 9, ..SliceHeader::NEW }
}

/// Any bits of master weights, rounded: every element at its own number, for all the numbers that a choice depends on.
#[test]
fn rounding_makes_the_cores_choices() {
    let mut random = Random(9);
    for len in SIZES {
        let any = |i: usize| if i.is_multiple_of(3) { SPECIAL[i / 3 % SPECIAL.len()] } else { f32::from_bits(random.bits()) };
        let x: Vec<f32> = (0..2 * len).map(any).collect();
        for (rounding, shift) in [(Rounding::Nearest, 0), (stochastic(0), 0), (stochastic(u64::MAX / 3), 1), (stochastic(7), 2)] {
            let (mut master, mut flags) = (x.clone(), Vec::from([1u32, 1]));
            let places = [Place { tensor: 3, slice: 70_000, offset: 0 }, Place { tensor: 1 << 20, slice: 0, offset: 1 }];
            let steps = [5, 1 << 40];
            // The second header lies two further on.
            let mut headers = Vec::from([header(steps[0]), header(77), header(steps[1])]);
            let mut buffers = [vec![0x1234u16; len + 3], vec![0x1234u16; len + 4]];
            let mut pointers = vec![DevicePtr::NULL; (1 << 20) + 1];
            pointers[3] = device(&mut buffers[0][shift..]);
            pointers[1 << 20] = device(&mut buffers[1][shift..]);
            let mut room = Vec::from(places);
            let pieces = Pieces { geometry: Geometry::dense(len), places: device(&mut room) };
            let theta = Theta::bf16(device(&mut pointers), array(&mut headers, 2)).with_master(array(&mut master, len));
            let update = Update { rests: 1, ..Update::by(Array::NULL) };
            let items = Items { flags: device(&mut flags), ..Items::all(2) };
            commit_param(&mut EmulatorQueue::default(), items, &pieces, theta, &update, &NO_DECAY, rounding).unwrap();
            assert_eq!(bits(&master), bits(&x));
            for (i, (place, step)) in places.iter().zip(steps).enumerate() {
                let rounder = Rounder::new(rounding, place.tensor as usize, place.slice as usize, step + 1);
                let own = &x[i * len..][..len];
                let (before, rest) = buffers[i].split_at(shift + i);
                for (j, (&x, &rounded)) in own.iter().zip(rest).enumerate() {
                    assert_eq!(rounded, rounder.bf16(x, j), "{rounding:?} {i} {j} {x:e}");
                }
                assert!(before.iter().chain(&rest[len..]).all(|&x| x == 0x1234));
            }
        }
    }
}

/// Every kind of decay, on all numbers that there are: items that move with and without a factor, that only decay, that rest, that are masked.
#[test]
fn parameters_move_as_they_should() {
    let (lr, lr_scale, wd) = (0.013f32, 3.0f32, 0.21f32);
    let rate = lr * lr_scale;
    let kinds = [
        (WeightDecay::Before, 1.0 - rate * wd, 0.0),
        (WeightDecay::After, 1.0, rate * wd),
        (WeightDecay::L2, 1.0, 0.0),
        (WeightDecay::Independent, 1.0 - wd, 0.0),
    ];
    let mut random = Random(12);
    let (len, count) = (SPECIAL.len() * SPECIAL.len() + 1000, 4);
    let pair = |i: usize| (SPECIAL[i % SPECIAL.len()], SPECIAL[i / SPECIAL.len() % SPECIAL.len()]);
    let mut theta_and_update =
        || -> (Vec<f32>, Vec<f32>) { (0..len).map(|i| if i < len - 1000 { pair(i) } else { (random.finite(), random.finite()) }).unzip() };
    for (kind, before, after) in kinds {
        for (with_factors, lr_on_device) in [(false, true), (true, false)] {
            let (theta, direction): (Vec<_>, Vec<_>) = (0..count).map(|_| theta_and_update()).unzip();
            let (mut buffers, mut direction) = (theta.clone(), direction.concat());
            let mut pointers: Vec<_> = buffers.iter_mut().map(|buffer| device(buffer)).collect();
            let mut places = Vec::from([0, 1, 2, 3].map(|tensor| Place { tensor, slice: 0, offset: 0 }));
            let pieces = Pieces { geometry: Geometry::dense(len), places: device(&mut places) };
            // Moves, decays, rests (what rests does not decay), does not take part.
            let mut flags = Vec::from([0b0001u32, 0b0011, 0b0111, 0b0000]);
            let items = Items { flags: device(&mut flags), ..Items::all(count as u32) }.with(1);
            let (mut factors, mut lr_room) = (Vec::from([0.75f32, 0.5, 0.25, 2.0]), Vec::from([lr]));
            let update = Update {
                direction: array(&mut direction, len),
                factors: if with_factors { device(&mut factors) } else { DevicePtr::NULL },
                decays: 2,
                rests: 4,
            };
            let lr = if lr_on_device { Scalar::at(device(&mut lr_room)) } else { Scalar::of(lr) };
            let decay = Decay { lr: lr.with_factor(lr_scale), weight_decay: wd, kind };
            let native = Theta::native(device(&mut pointers));
            commit_param(&mut EmulatorQueue::default(), items, &pieces, native, &update, &decay, Rounding::Nearest).unwrap();
            let factor = if with_factors { factors[0] } else { 1.0 };
            let moved: Vec<f32> = theta[0]
                .iter()
                .zip(&direction)
                .map(|(theta, d)| theta * before - rate * factor * d)
                .map(|updated| updated - after * updated)
                .collect();
            let decayed: Vec<f32> = theta[1].iter().map(|theta| theta * before).map(|updated| updated - after * updated).collect();
            let expected = [&moved, &decayed, &theta[2], &theta[3]];
            for (i, (found, expected)) in buffers.iter().zip(expected).enumerate() {
                assert_eq!(canonical(found), canonical(expected), "{kind:?} {i}");
            }

            // The direction alone, and the same over another grid.
            for grid in [[1, 1, 1], [3, 2, 1]] {
                buffers.iter_mut().for_each(|buffer| buffer.fill(-3.0));
                write_direction(&mut Regrid(grid), items, &pieces, device(&mut pointers), &update).unwrap();
                let scaled: Vec<f32> = direction[..len].iter().map(|d| factor * d).collect();
                assert_eq!(canonical(&buffers[0]), canonical(&scaled));
                assert_eq!(bits(&buffers[1]), vec![0; len]);
                assert_eq!(bits(&buffers[2]), vec![0; len]);
                assert!(buffers[3].iter().all(|&x| x == -3.0));
            }
        }
    }
}

/// The first step takes master weights from the parameter; later ones do not see it. What has no buffer stays as it was.
#[test]
fn master_weights_are_taken_once() {
    let len = 777;
    let mut random = Random(6);
    let numbers: Vec<u16> = (0..3 * len).map(|_| (random.number().to_bits() >> 16) as u16).collect();
    let mut param = numbers.clone();
    // Begins at an odd address, and its items have a gap between them.
    let before: Vec<f32> = (0..3 * (len + 2)).map(|_| random.number()).collect();
    let mut master = before.clone();
    let mut direction: Vec<f32> = (0..3 * len).map(|_| random.number()).collect();
    let mut headers = Vec::from([header(0), header(4), header(0)]);
    let mut pointers = Vec::from([DevicePtr::NULL, device(&mut param)]);
    let mut places = Vec::from([0, len, 2 * len].map(|offset| Place { tensor: 1, slice: 0, offset: offset as u64 }));
    places[2].tensor = 0;
    let pieces = Pieces { geometry: Geometry::dense(len), places: device(&mut places) };
    let headers = array(&mut headers, 1);
    let weights = Array { base: device(&mut master), stride: len as u64 + 2 }.offset::<f32>(1);
    let theta = Theta::bf16(device(&mut pointers), headers).with_master(weights);
    let update = Update::by(array(&mut direction, len));
    commit_param(&mut EmulatorQueue::default(), Items::all(3), &pieces, theta, &update, &NO_DECAY, Rounding::Nearest).unwrap();
    for i in 0..3 {
        for j in 0..len {
            let at = i * (len + 2) + 1 + j;
            let theta = if i == 0 { f32::from_bits(u32::from(numbers[j]) << 16) } else { before[at] };
            let moved = theta - 0.1 * direction[i * len + j];
            let rounder = Rounder::new(Rounding::Nearest, 0, 0, 1);
            let expected = if i == 2 { (before[at], numbers[i * len + j]) } else { (moved, rounder.bf16(moved, j)) };
            assert_eq!((master[at], param[i * len + j]), expected, "{i} {j}");
        }
        assert_eq!([master[i * (len + 2)], master[(i + 1) * (len + 2) - 1]], [before[i * (len + 2)], before[(i + 1) * (len + 2) - 1]]);
    }
}
