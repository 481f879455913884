//! Memory written by kernels.

use klshampoo_cuda::batch::Items;
use klshampoo_cuda::io::{Place, copy, fill, set_places, set_pointers, write};
use klshampoo_cuda::queue::DevicePtr;

use crate::common::{EmulatorQueue, array, device};
use crate::support::{Random, Regrid, SIZES};

/// A pointer that is only carried.
fn nowhere(address: u64) -> DevicePtr {
    // SAFETY: nothing is launched on it.
    unsafe { DevicePtr::new(address) }
}

#[test]
fn words_travel_in_parameters() {
    for (count, launches) in [(0, 0), (1, 1), (479, 1), (480, 1), (481, 2), (1000, 3)] {
        let mut queue = EmulatorQueue::default();
        let mut memory = vec![7u64; count + 2];
        write(&mut queue, device(&mut memory).offset::<u64>(1), (0..count as u64).map(|i| i << 33 | i)).unwrap();
        assert_eq!(queue.launches, launches, "{count}");
        assert_eq!((memory[0], memory[count + 1]), (7, 7));
        assert!((0..count).all(|i| memory[i + 1] == (i as u64) << 33 | i as u64), "{count}");
    }
}

#[test]
fn pointers_and_places_become_tables() {
    let mut queue = EmulatorQueue::default();
    let pointers: Vec<_> = (0..700u64).map(|i| nowhere(i * 0x1_0000_0001)).collect();
    let mut table = vec![nowhere(1); 710];
    set_pointers(&mut queue, device(&mut table), 5, &pointers).unwrap();
    assert_eq!(table[5..705], pointers);
    assert!(table[..5].iter().chain(&table[705..]).all(|&x| x == nowhere(1)));

    let places: Vec<_> = (0..600).map(|i| Place { tensor: i, slice: !i, offset: u64::from(i) << 31 }).collect();
    let mut table = vec![Place::default(); 603];
    set_places(&mut queue, device(&mut table), 2, &places).unwrap();
    assert_eq!(table[2..602], places);
    assert_eq!((table[1], table[602]), (Place::default(), Place::default()));
}

/// Of some items, from any address, over any grid, and nothing else.
#[test]
fn fills_and_copies_touch_what_they_should() {
    let flags = Vec::from([3u32, 1, 3]);
    let mut queue = EmulatorQueue::default();
    for len in SIZES.into_iter().chain([0]) {
        for shift in 0..2 {
            let (stride, mut random) = (len + 3, Random(5));
            let mut from: Vec<u32> = (0..3 * stride + 1).map(|_| random.bits()).collect();
            let (mut filled, mut copied) = (vec![9u32; from.len()], vec![9u32; from.len()]);
            let mut flags = flags.clone();
            let items = Items { flags: device(&mut flags), count: 3, mask: 2, wanted: 2, unused: 0 };
            fill(&mut queue, items, array(&mut filled[shift..], stride), len, 0xabcd_ef01).unwrap();
            copy(&mut queue, items, array(&mut from, stride), array(&mut copied[shift..], stride), len).unwrap();
            let inside = |i: usize| i >= shift && (i - shift) % stride < len && [0, 2].contains(&((i - shift) / stride));
            for i in 0..from.len() {
                let (fill, copy) = if inside(i) { (0xabcd_ef01, from[i - shift]) } else { (9, 9) };
                assert_eq!((filled[i], copied[i]), (fill, copy), "{len} {shift} {i}");
            }
            for grid in [[1, 1, 1], [3, 2, 1], [50, 3, 1]] {
                let mut again = vec![9u32; from.len()];
                copy(&mut Regrid(grid), items, array(&mut from, stride), array(&mut again[shift..], stride), len).unwrap();
                assert_eq!(again, copied);
                let mut again = vec![9u32; from.len()];
                fill(&mut Regrid(grid), items, array(&mut again[shift..], stride), len, 0xabcd_ef01).unwrap();
                assert_eq!(again, filled);
            }
        }
    }
}
