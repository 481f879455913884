//! Boxes, strides and slices, as the core cuts them.

use klshampoo::linalg::Portable;
use klshampoo::{Bf16Mut, Config, Format, SliceBuffers, StatePart, StepReport, Storage, Target, TensorSpec};
use klshampoo_cuda::batch::Items;
use klshampoo_cuda::io::{Source, Transform, gather};

use crate::common::{EmulatorQueue, array, device};
use crate::support::{Core, batches, shapes, storage};

fn table() -> (Vec<Config<f32>>, Vec<TensorSpec>) {
    let whole = Config::<f32>::kl_shampoo();
    let groups =
        vec![whole, Config { block_size: 3, ..whole }, Config { block_size: 4, max_dim: 3, ..whole }, Config { merge_dims: 40, ..whole }];
    let storage = Storage { master_weights: true, ..storage(Format::Native, Format::Bf16) };
    let specs = (0..groups.len()).flat_map(|group| shapes(storage).into_iter().map(move |spec| spec.group(group)));
    let specs = specs.collect();
    (groups, specs)
}

/// The core keeps master weights piece by piece, as it gathers them in its first step: here one whose gradient is zero.
#[test]
fn pieces_are_the_cores() {
    let (groups, specs) = table();
    let mut core = Core::new(&groups, &specs);
    let table = core.table.clone();
    let (mut boxes, mut cut) = (0, 0);
    for (index, tensor) in table.iter().enumerate() {
        // Positive numbers, all different.
        let mut param: Vec<u16> = (0..tensor.span()).map(|i| 0x2000 + i as u16).collect();
        let before = param.clone();
        let grad = vec![0f32; tensor.span()];
        let mut scratch = core.scratch.clone();
        let mut optimizer = core.optimizer();
        let refreshes = optimizer.refreshes(index..index + 1, |_| true);
        for job in optimizer.jobs(index..index + 1, 0.1, refreshes) {
            let range = job.range();
            let mut target = Bf16Mut(&mut param[range.clone()]);
            let buffers = SliceBuffers { target: Target::Parameter(&mut target), grad: &grad[range], grad_scale: 1.0 };
            job.run(buffers, &mut scratch, &mut Portable, &mut StepReport::default()).unwrap();
        }
        assert_eq!(param, before);
        let mut room = Vec::new();
        let mut pointers = vec![device(&mut param); table.len()];
        for batch in batches(&table).iter().filter(|batch| batch.tensor == index) {
            let source = Source { pieces: batch.pieces(&mut room), pointers: device(&mut pointers), format: Format::Bf16 };
            let (n, count) = (batch.elements(), batch.places.len());
            let mut out = vec![0f32; n * count];
            gather(&mut EmulatorQueue::default(), Items::all(batch.count()), &source, &Transform::NONE, array(&mut out, n)).unwrap();
            for (out, place) in out.chunks(n).zip(&batch.places) {
                let mut expected = vec![0f32; n];
                let optimizer = core.optimizer();
                optimizer.read(index, place.slice as usize, StatePart::Master, &mut expected, &mut scratch, &mut Portable).unwrap();
                assert_eq!(out, expected, "{:?} {place:?}", specs[index]);
                boxes += 1;
            }
        }
        cut += usize::from(tensor.pieces() > 1);
    }
    // The table is what it is meant to be.
    assert!(cut > 20 && boxes > 2000, "{cut} {boxes}");
}
