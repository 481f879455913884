//! Saving and loading in the core: nothing is lost, a resumed run gives the same bits, and what does not fit changes nothing.

use klshampoo::checkpoint::{
    CheckpointError, GroupRecord, PartKind, PartRecord, PieceRecord, Prelude, Reader, Record, Sink, Source, TensorRecord, VERSION, Writer,
};
use klshampoo::linalg::{LinAlg, Portable};
use klshampoo::{Config, FixedOptimizer, Format, Graft, Mode, Momentum, Optimizer, Refresh, Rounding, SliceHeader, Storage, TensorSpec};
use klshampoo_ffi::host::Faer;
use klshampoo_tests::c_abi::config_to_c;
use klshampoo_tests::cases::Xorshift;
use klshampoo_tests::harness::{Core, Make, Number, methods};
use proptest::prelude::*;

fn spec(dims: &[usize]) -> TensorSpec {
    TensorSpec::new(dims).unwrap()
}

/// Groups and tensors with everything that a table can have: orders 1 to 4, blocks, parts of rows, stacked slices with a gap, each mode.
fn table<T: Number>(config: Config<T>) -> (Vec<Config<T>>, Vec<TensorSpec>) {
    let group = Config { refresh_period: 3, measure: true, ..config };
    let specs = vec![
        spec(&[7]),
        spec(&[6, 5]),
        spec(&[4, 3]).slices(3).slice_stride(13),
        spec(&[9, 6]).group(1),
        spec(&[9, 4]).split_rows(&[4, 3, 2]).unwrap(),
        spec(&[5, 8]).mode(1, Mode::Diagonal),
        spec(&[5, 3]).mode(0, Mode::Identity),
        spec(&[3, 2, 4]),
        spec(&[2, 3, 2, 3]),
        spec(&[5]).mode(0, Mode::Full),
    ];
    (vec![group, Config { block_size: 4, ..group }], specs)
}

/// Parameters of a table, all from one generator.
struct Run<T> {
    params: Vec<Vec<T>>,
    random: Xorshift,
}

impl<T: Number> Run<T> {
    fn new<L: LinAlg<T>>(core: &Core<T, L>) -> Self {
        let mut random = Xorshift::for_shape(&[7, 1]);
        let params = core.tensors.iter().map(|tensor| numbers(&mut random, tensor.span())).collect();
        Run { params, random }
    }

    /// Steps with fresh gradients; one tensor is frozen now and then.
    fn steps<L: LinAlg<T>>(&mut self, core: &mut Core<T, L>, count: usize) {
        for step in 0..count {
            let frozen = step % 4 % core.tensors.len();
            let lens: Vec<usize> = core.tensors.iter().map(|tensor| tensor.span()).collect();
            let grads: Vec<_> =
                lens.iter().enumerate().map(|(i, &len)| Some(numbers(&mut self.random, len)).filter(|_| i != frozen)).collect();
            core.try_step(&mut self.params, &grads, T::from_f64(0.01)).unwrap();
        }
    }
}

fn numbers<T: Number>(random: &mut Xorshift, len: usize) -> Vec<T> {
    (0..len).map(|_| T::from_f64(random.normal())).collect()
}

fn save<T: Number>(optimizer: &Optimizer<'_, T>) -> Vec<u8> {
    let mut bytes = vec![0; optimizer.save_len() as usize];
    let mut rest = bytes.as_mut_slice();
    optimizer.save(&mut rest).unwrap();
    assert!(rest.is_empty(), "the length that was promised");
    bytes
}

fn save_core<T: Number, L: LinAlg<T>>(core: &mut Core<T, L>) -> Vec<u8> {
    save(&core.view().0)
}

fn load_core<T: Number, L: LinAlg<T>>(core: &mut Core<T, L>, mut bytes: &[u8]) -> Result<(), CheckpointError> {
    core.view().0.load(&mut bytes)
}

fn bits<T: Number>(numbers: &[T]) -> Vec<u64> {
    numbers.iter().map(|x| x.to_f64().to_bits()).collect()
}

fn assert_same<T: Number, L: LinAlg<T>>(a: &Core<T, L>, b: &Core<T, L>, what: &str) {
    assert_eq!(a.headers, b.headers, "{what}");
    assert_eq!(bits(&a.state), bits(&b.state), "{what}");
}

/// The same checkpoint with other bytes and the seals that belong to them.
fn resealed(mut bytes: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut bytes);
    let mut out = vec![0; bytes.len()];
    let mut sink = out.as_mut_slice();
    let mut writer = Writer::new(&mut sink);
    writer.bytes(&bytes[..56]).unwrap();
    writer.seal().unwrap();
    writer.bytes(&bytes[64..bytes.len() - 8]).unwrap();
    writer.seal().unwrap();
    out
}

/// Trains, saves halfway, loads into a new optimizer and trains on: the same bits as without the save.
fn resumes<T: Number, L: LinAlg<T> + Make>(config: Config<T>, half: usize, what: &str) {
    let (groups, specs) = table(config);
    let mut whole = Core::<T, L>::table(&groups, &specs);
    let mut run = Run::new(&whole);
    run.steps(&mut whole, half);
    let bytes = save_core(&mut whole);
    let mut resumed = Core::<T, L>::table(&groups, &specs);
    load_core(&mut resumed, &bytes).unwrap();
    assert_same(&whole, &resumed, what);
    assert!(save_core(&mut resumed) == bytes, "{what}");

    let mut rest = Run { params: run.params.clone(), random: run.random.clone() };
    run.steps(&mut whole, half);
    rest.steps(&mut resumed, half);
    assert_same(&whole, &resumed, what);
    for (a, b) in run.params.iter().zip(&rest.params) {
        assert_eq!(bits(a), bits(b), "{what}");
    }
}

fn every_preset_resumes<T: Number, L: LinAlg<T> + Make>() {
    for (name, config) in T::presets() {
        resumes::<T, L>(config, 100, name);
    }
}

#[test]
fn resuming_gives_the_same_bits_f32_portable() {
    every_preset_resumes::<f32, Portable>();
}

#[test]
fn resuming_gives_the_same_bits_f64_portable() {
    every_preset_resumes::<f64, Portable>();
}

#[test]
fn resuming_gives_the_same_bits_f32_faer() {
    every_preset_resumes::<f32, Faer>();
}

#[test]
fn resuming_gives_the_same_bits_f64_faer() {
    every_preset_resumes::<f64, Faer>();
}

#[test]
fn resuming_gives_the_same_bits_in_every_convention() {
    for (name, config) in methods::<f32>() {
        resumes::<f32, Portable>(config, 11, &name);
    }
}

/// Factors and bases in 16 bits come back as they were, and their rounding goes on where it was.
#[test]
fn resuming_gives_the_same_bits_in_16_bits() {
    for factor_format in [Format::Bf16, Format::F16] {
        for (name, config) in f32::presets() {
            resumes::<f32, Portable>(Config { factor_format, ..config }, 25, name);
        }
        resumes::<f32, Faer>(Config { factor_format, ..f32::kl_shampoo() }, 25, "faer");
    }
}

/// Refreshes that wait for their turn go on waiting.
#[test]
fn postponed_refreshes_are_part_of_the_state() {
    let (groups, specs) = table(f32::kl_shampoo());
    let mut whole = Core::<f32, Portable>::table(&groups, &specs);
    let mut run = Run::new(&whole);
    let step = |core: &mut Core<f32, Portable>, run: &mut Run<f32>| {
        let grads: Vec<Vec<f32>> = core.tensors.iter().map(|tensor| numbers(&mut run.random, tensor.span())).collect();
        let grads: Vec<Option<&[f32]>> = grads.iter().map(|grad| Some(grad.as_slice())).collect();
        let mut params: Vec<&mut [f32]> = run.params.iter_mut().map(Vec::as_mut_slice).collect();
        let (view, scratch, linalg) = core.view();
        view.with_refresh_budget(1).step(&mut params, &grads, 0.01, scratch, linalg).unwrap();
    };
    for _ in 0..20 {
        step(&mut whole, &mut run);
    }
    assert!(whole.headers.iter().any(|header| header.postponed > 1));
    let mut resumed = Core::<f32, Portable>::table(&groups, &specs);
    load_core(&mut resumed, &save_core(&mut whole)).unwrap();
    let mut rest = Run { params: run.params.clone(), random: run.random.clone() };
    for _ in 0..20 {
        step(&mut whole, &mut run);
        step(&mut resumed, &mut rest);
    }
    assert_same(&whole, &resumed, "on a budget");
    assert_eq!(run.params, rest.params);
}

/// Master weights are what their owner made them.
#[test]
fn numbers_that_are_none_come_back_as_they_were() {
    let storage = Storage { param: Format::Bf16, master_weights: true, ..Storage::DENSE };
    let make = || Core::<f32, Portable>::table(&[f32::adamw()], &[spec(&[4]).storage(storage)]);
    let mut core = make();
    core.state[8..].copy_from_slice(&[0x7fc0_1234, 0xff80_0000, 0x7f80_0000, 0x7fff_ffff].map(f32::from_bits));
    core.headers[0].update_rms = f32::from_bits(0x7fc0_0001);
    let bytes = save_core(&mut core);
    let mut other = make();
    load_core(&mut other, &bytes).unwrap();
    assert!(core.state.iter().zip(&other.state).all(|(a, b)| a.to_bits() == b.to_bits()));
    assert_eq!(other.headers[0].update_rms.to_bits(), 0x7fc0_0001);
}

/// A state that no step leaves is not taken: wherever a number is not finite, in each format.
#[test]
fn numbers_that_are_none_are_refused_where_no_step_leaves_them() {
    let portions = Config { refresh_period: 1, refresh_portion: 100, ..f32::kl_shampoo() };
    let grafted = Config { graft: Graft::RmsProp, ..Config::<f32>::shampoo() };
    for group in [portions, grafted, Config::<f32>::kl_soap()] {
        for factor_format in [Format::Native, Format::Bf16, Format::F16] {
            let make = || Core::<f32, Portable>::table(&[Config { factor_format, ..group }], &[spec(&[4, 3])]);
            let mut core = make();
            Run::new(&core).steps(&mut core, 5);
            let mut other = make();
            let whole = save_core(&mut core);
            load_core(&mut other, &whole).unwrap();
            // 16 + 9 numbers of bases and 10 + 6 of factors.
            let in_16_bits = if factor_format == Format::Native { 0 } else { 8 + 5 + 5 + 3 };
            for at in 0..core.state.len() {
                let kept = core.state[at];
                let lower = (at < in_16_bits).then_some(kept.to_bits() | 0xffff);
                for bits in [Some(kept.to_bits() | 0xffff_0000), lower].into_iter().flatten() {
                    core.state[at] = f32::from_bits(bits);
                    assert_eq!(refused(&mut other, &save_core(&mut core)), CheckpointError::Malformed, "{factor_format:?}, {at}");
                }
                core.state[at] = kept;
            }
            let last = core.state.len() - 1;
            for (number, possible) in [(f32::INFINITY, false), (-1.0, !group.parts().second_moment && !group.parts().graft_moment)] {
                core.state[last] = number;
                let loaded = load_core(&mut other, &save_core(&mut core));
                assert_eq!(loaded, if possible { Ok(()) } else { Err(CheckpointError::Malformed) });
            }
        }
    }
}

#[test]
fn an_empty_table_is_a_table() {
    let mut core = Core::<f64, Portable>::table(&[], &[]);
    let bytes = save_core(&mut core);
    assert_eq!(bytes.len(), 72);
    load_core(&mut core, &bytes).unwrap();
    let mut other = Core::<f64, Portable>::table(&[f64::adamw()], &[spec(&[2])]);
    assert_eq!(load_core(&mut other, &bytes), Err(CheckpointError::Shapes));
}

#[test]
fn a_fixed_optimizer_saves_and_loads() {
    type Fixed = FixedOptimizer<f32, Portable, 1, 2, 3, 200, 400>;
    let make = || {
        let mut fixed = Box::new(Fixed::new(Portable));
        fixed.add_group(f32::kl_shampoo()).unwrap();
        fixed.add_tensor(&spec(&[4, 3]).slices(2)).unwrap();
        fixed.add_tensor(&spec(&[5])).unwrap();
        fixed
    };
    let (mut random, mut fixed) = (Xorshift::for_shape(&[3]), make());
    let (mut a, mut b) = (vec![0.1; 24], vec![0.1; 5]);
    let step = |fixed: &mut Fixed, params: [&mut Vec<f32>; 2], random: &mut Xorshift| {
        let (g, h) = (numbers::<f32>(random, 24), numbers::<f32>(random, 5));
        let [a, b] = params;
        fixed.step(&mut [a, b], &[Some(&g), Some(&h)], 0.01).unwrap();
    };
    for _ in 0..15 {
        step(&mut fixed, [&mut a, &mut b], &mut random);
    }
    let mut bytes = vec![0; fixed.save_len() as usize + 3];
    fixed.save(&mut bytes.as_mut_slice()).unwrap();
    let mut short = &mut bytes.clone()[..fixed.save_len() as usize - 1];
    assert_eq!(fixed.save(&mut short), Err(CheckpointError::BufferTooShort));

    let mut resumed = make();
    resumed.load(&mut bytes.as_slice()).unwrap();
    let (mut c, mut d, mut again) = (a.clone(), b.clone(), random.clone());
    for _ in 0..15 {
        step(&mut fixed, [&mut a, &mut b], &mut random);
        step(&mut resumed, [&mut c, &mut d], &mut again);
    }
    assert_eq!((a, b), (c, d));
    assert_eq!(fixed.header(0, 1), resumed.header(0, 1));
    assert_eq!(resumed.load(&mut &bytes[..40]), Err(CheckpointError::Truncated));

    // The view over the same table reads it too.
    let mut core = Core::<f32, Portable>::table(&[f32::kl_shampoo()], &[spec(&[4, 3]).slices(2), spec(&[5])]);
    load_core(&mut core, &bytes).unwrap();
    assert_eq!(core.headers[0].step, 15);
}

/// A small optimizer that has made some steps.
fn small() -> Core<f32, Portable> {
    let mut core = Core::table(&[f32::kl_shampoo()], &[spec(&[3, 2]), spec(&[2])]);
    let mut run = Run::new(&core);
    run.steps(&mut core, 12);
    core
}

/// Loads bytes that must be refused, and looks that nothing has changed.
fn refused(core: &mut Core<f32, Portable>, bytes: &[u8]) -> CheckpointError {
    let before = (core.headers.clone(), bits(&core.state));
    let error = load_core(core, bytes).unwrap_err();
    assert!(before == (core.headers.clone(), bits(&core.state)), "{error:?} changed the optimizer");
    error
}

/// Optimizers with every kind of a part between them: numbers of 16 bits, refreshes in portions that are under way, master weights.
fn every_kind() -> Vec<(&'static str, Core<f32, Portable>)> {
    let trained = |config: Config<f32>| {
        let mut core = Core::table(&[config], &[spec(&[3, 2]), spec(&[2])]);
        let mut run = Run::new(&core);
        run.steps(&mut core, 12);
        core
    };
    let in_portions = |factor_format| {
        let mut core = trained(Config { refresh_portion: 40, refresh_period: 3, factor_format, ..f32::kl_shampoo() });
        let mut run = Run::new(&core);
        // What a refresh keeps is the last part of the matrix' state; its first number is the stage.
        let len = 2 * 9 + 3 * 3 + 5 + if factor_format == Format::Native { 0 } else { 9 };
        let stage = core.tensors[0].state_range(0).end - len;
        while core.state[stage] == 0.0 {
            run.steps(&mut core, 1);
        }
        core
    };
    let format = |factor_format| trained(Config { factor_format, ..f32::kl_shampoo() });
    vec![
        ("plain", small()),
        ("bf16", format(Format::Bf16)),
        ("binary16", format(Format::F16)),
        ("in portions", in_portions(Format::Native)),
        ("in portions, bf16", in_portions(Format::Bf16)),
        ("in portions, binary16", in_portions(Format::F16)),
        ("master weights", made_up()),
    ]
}

#[test]
fn every_altered_bit_is_found_and_changes_nothing() {
    for (kind, mut core) in every_kind() {
        let bytes = save_core(&mut core);
        let mut other = core.clone();
        other.state.iter_mut().for_each(|x| *x += 1.0);
        for at in 0..bytes.len() {
            for mask in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
                let mut altered = bytes.clone();
                altered[at] ^= mask;
                let expected = match at {
                    0..8 => CheckpointError::NotACheckpoint,
                    8 if mask == 1 => CheckpointError::NotACheckpoint,
                    8..12 => CheckpointError::Version,
                    12..16 => CheckpointError::Element,
                    _ => CheckpointError::Checksum,
                };
                assert_eq!(refused(&mut other, &altered), expected, "{kind}: byte {at}, mask {mask}");
            }
        }
        load_core(&mut other, &bytes).unwrap();
        assert_same(&core, &other, kind);
    }
}

#[test]
fn every_truncation_is_found_and_changes_nothing() {
    let bytes = save_core(&mut small());
    let mut other = small();
    Run::new(&other).steps(&mut other, 3);
    for len in 0..bytes.len() {
        assert_eq!(refused(&mut other, &bytes[..len]), CheckpointError::Truncated, "{len}");
    }
    assert_eq!(refused(&mut other, b"this is a text and no checkpoint at all"), CheckpointError::NotACheckpoint);
    // What lies behind a checkpoint is not its.
    load_core(&mut other, &[&bytes[..], &[1, 2, 3]].concat()).unwrap();
}

#[test]
fn what_is_well_sealed_but_wrong_is_refused() {
    let bytes = save_core(&mut small());
    let mut core = small();
    let put = |at: usize, value: &'static [u8]| resealed(bytes.clone(), |bytes| bytes[at..at + value.len()].copy_from_slice(value));
    assert!(put(0, b"") == bytes);
    assert_eq!(refused(&mut core, &put(8, &[VERSION as u8 + 1])), CheckpointError::Version);
    assert_eq!(refused(&mut core, &put(12, &[2])), CheckpointError::Element);
    // Lengths that leave no room for anything, or for a seal.
    assert_eq!(refused(&mut core, &put(16, &[0; 8])), CheckpointError::Malformed);
    assert_eq!(refused(&mut core, &put(16, &[71, 0, 0, 0, 0, 0, 0, 0])), CheckpointError::Malformed);
    // A length beyond the end, and one before it.
    assert_eq!(refused(&mut core, &put(16, &[0xff; 8])), CheckpointError::Truncated);
    let longer = resealed([&bytes[..bytes.len() - 8], &[0; 12]].concat(), |bytes| {
        let len = bytes.len() as u64;
        bytes[16..24].copy_from_slice(&len.to_le_bytes());
    });
    assert_eq!(refused(&mut core, &longer), CheckpointError::Malformed);
    // More groups and tensors than there are.
    assert_eq!(refused(&mut core, &put(24, &[0xff; 8])), CheckpointError::Malformed);
    assert_eq!(refused(&mut core, &put(32, &[3])), CheckpointError::Shapes);
}

/// Reads past records.
fn skip<R: Record>(reader: &mut Reader<'_, &[u8]>, count: u64) {
    for _ in 0..count {
        reader.record::<R>().unwrap();
    }
}

/// Offsets of the first piece's records.
fn first_piece(bytes: &[u8]) -> (usize, usize) {
    let mut source = bytes;
    let mut reader = Reader::new(&mut source);
    let prelude = reader.open(None).unwrap();
    skip::<GroupRecord>(&mut reader, prelude.groups);
    skip::<TensorRecord>(&mut reader, prelude.tensors);
    let start = reader.position() as usize;
    reader.record::<PieceRecord>().unwrap();
    (start, reader.position() as usize)
}

#[test]
fn counters_that_no_optimizer_has_are_refused() {
    let bytes = save_core(&mut small());
    let mut core = small();
    let (piece, parts) = first_piece(&bytes);
    // Order, starts, dims and modes of a matrix lie before the counters.
    let header = piece + 4 + 2 * 8 + 2 * 8 + 2 * 4;
    let put = |at: usize, value: &[u8]| resealed(bytes.clone(), |bytes| bytes[at..at + value.len()].copy_from_slice(value));
    assert_eq!(bytes[header..header + 8], 6u64.to_le_bytes(), "the counter of steps");
    assert_eq!(refused(&mut core, &put(header, &[0xff; 8])), CheckpointError::Malformed);
    assert_eq!(refused(&mut core, &put(header, &[0; 8])), CheckpointError::Malformed);
    assert_eq!(refused(&mut core, &put(header + 8, &[10])), CheckpointError::Malformed);
    assert_eq!(refused(&mut core, &put(header + 16, &[2])), CheckpointError::Malformed);
    // The piece's dims, the number of its parts, and a part of another kind.
    assert_eq!(refused(&mut core, &put(piece, &[7])), CheckpointError::Shapes);
    assert_eq!(refused(&mut core, &put(piece + 20, &[4])), CheckpointError::Shapes);
    assert_eq!(refused(&mut core, &put(parts - 4, &[1])), CheckpointError::Shapes);
    assert_eq!(refused(&mut core, &put(parts, &[9])), CheckpointError::Shapes);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the bytes are, nothing panics; and what is loaded can be stepped.
    #[test]
    fn no_bytes_make_it_panic(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
        seal in any::<bool>(),
    ) {
        let mut core = small();
        let mut bytes = save_core(&mut core);
        if let Some(cut) = cut {
            bytes.truncate(72 + cut.index(bytes.len() - 72));
        }
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if seal {
            bytes = resealed(bytes, |_| ());
        }
        if load_core(&mut core, &bytes).is_ok() {
            let mut params = vec![vec![0.5; 6], vec![0.5; 2]];
            // A state of any numbers may refuse a step; it does not panic.
            let _ = core.try_step(&mut params, &[Some(vec![0.1; 6]), Some(vec![0.2; 2])], 0.01);
        }
    }
}

/// Gives the bytes of a checkpoint, with a fault at one of its reads.
struct Faulty<'a> {
    bytes: &'a [u8],
    reads: usize,
    fails_at: usize,
    /// Changes a byte instead.
    lies: bool,
}

impl Source for Faulty<'_> {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), CheckpointError> {
        self.bytes.read(offset, bytes)?;
        self.reads += 1;
        if self.reads - 1 != self.fails_at {
            return Ok(());
        }
        bytes[0] ^= 1;
        if self.lies { Ok(()) } else { Err(CheckpointError::Stream) }
    }
}

#[test]
fn a_source_that_fails_or_lies_at_any_read_is_noticed() {
    let mut core = small();
    let bytes = save_core(&mut core);
    let mut source = Faulty { bytes: &bytes, reads: 0, fails_at: usize::MAX, lies: false };
    core.view().0.load(&mut source).unwrap();
    let reads = source.reads;
    assert!(reads.is_multiple_of(2) && reads >= 8, "{reads}");
    for (fails_at, lies) in (0..reads).flat_map(|at| [(at, false), (at, true)]) {
        let mut other = small();
        Run::new(&other).steps(&mut other, 3);
        let before = (other.headers.clone(), other.state.clone());
        let error = other.view().0.load(&mut Faulty { bytes: &bytes, reads: 0, fails_at, lies }).unwrap_err();
        if fails_at < reads / 2 {
            assert_eq!(error == CheckpointError::Stream, !lies, "{error:?}");
            assert!(before == (other.headers, other.state));
        } else {
            assert_eq!(error, CheckpointError::Changed);
            assert!(other.headers.iter().all(|header| *header == SliceHeader::NEW) && other.state.iter().all(|x| x.to_bits() == 0));
            // As a new one, it can be used.
            let mut new = Core::<f32, Portable>::table(&[f32::kl_shampoo()], &[spec(&[3, 2]), spec(&[2])]);
            let mut reset = Core::<f32, Portable>::table(&[f32::kl_shampoo()], &[spec(&[3, 2]), spec(&[2])]);
            reset.view().0.load(&mut Faulty { bytes: &bytes, reads: 0, fails_at, lies }).unwrap_err();
            Run::new(&new).steps(&mut new, 5);
            Run::new(&reset).steps(&mut reset, 5);
            assert_same(&new, &reset, "after a reset");
        }
    }
}

/// Takes so many writes.
struct Full(usize);

impl Sink for Full {
    fn write(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        assert!(!bytes.is_empty() && bytes.len() <= 512);
        self.0 = self.0.checked_sub(1).ok_or(CheckpointError::Stream)?;
        Ok(())
    }
}

#[test]
fn a_sink_that_fails_at_any_write_is_noticed() {
    let mut core = small();
    let writes = (0..).find(|&writes| core.view().0.save(&mut Full(writes)).is_ok()).unwrap();
    assert!(writes > 3);
    for writes in 0..writes {
        assert_eq!(core.view().0.save(&mut Full(writes)), Err(CheckpointError::Stream));
    }
    assert_same(&core, &small(), "saving changes nothing");
}

#[test]
fn other_tensors_are_refused() {
    let tensors = [spec(&[6, 4]), spec(&[3, 2]).slices(2)];
    let group = f32::kl_shampoo();
    let mut core = Core::<f32, Portable>::table(&[group], &tensors);
    Run::new(&core).steps(&mut core, 5);
    let bytes = save_core(&mut core);
    let others: [(&[Config<f32>], &[TensorSpec]); 10] = [
        (&[group], &[spec(&[4, 6]), tensors[1]]),
        (&[group], &[spec(&[24]), tensors[1]]),
        (&[group], &[spec(&[6, 2, 2]), tensors[1]]),
        (&[group], &[tensors[1], tensors[0]]),
        (&[group], &tensors[..1]),
        (&[group], &[tensors[0], tensors[1], tensors[1]]),
        (&[group], &[tensors[0], spec(&[3, 2]).slices(3)]),
        (&[group], &[tensors[0].split_rows(&[2, 4]).unwrap(), tensors[1]]),
        (&[group], &[tensors[0].mode(1, Mode::Diagonal), tensors[1]]),
        (&[Config { block_size: 3, ..group }], &tensors),
    ];
    for (groups, specs) in others {
        let mut other = Core::<f32, Portable>::table(groups, specs);
        assert_eq!(refused(&mut other, &bytes), CheckpointError::Shapes, "{specs:?}");
    }
    // Another stride and another order of groups is the same state.
    let specs = [tensors[0].group(1), spec(&[3, 2]).slices(2).slice_stride(50).group(1)];
    load_core(&mut Core::<f32, Portable>::table(&[f32::adamw(), group], &specs), &bytes).unwrap();
    // So is a tensor whose dims merge to the same.
    let merged = spec(&[6, 2, 2]);
    load_core(&mut Core::<f32, Portable>::table(&[Config { merge_dims: 4, ..group }], &[merged, tensors[1]]), &bytes).unwrap();
    // Pieces of the same sizes that lie elsewhere are not.
    let cut = |parts: &[usize]| Core::<f32, Portable>::table(&[group], &[spec(&[5, 3]).split_rows(parts).unwrap()]);
    assert_eq!(refused(&mut cut(&[3, 2]), &save_core(&mut cut(&[2, 3]))), CheckpointError::Shapes);
}

#[test]
fn the_other_element_type_is_refused() {
    let specs = [spec(&[3, 2]), spec(&[2])];
    let bytes = save_core(&mut Core::<f64, Portable>::table(&[f64::kl_shampoo()], &specs));
    assert_eq!(refused(&mut small(), &bytes), CheckpointError::Element);
}

/// Nothing is converted between the formats of factors and bases; where there are none the format says nothing.
#[test]
fn another_format_of_factors_is_refused() {
    let specs = [spec(&[4, 3]), spec(&[6, 2]).mode(1, Mode::Diagonal)];
    let group = |factor_format| Config { factor_format, ..f32::kl_shampoo() };
    let formats = [Format::Native, Format::Bf16, Format::F16];
    for saved in formats {
        let mut core = Core::<f32, Portable>::table(&[group(saved)], &specs);
        Run::new(&core).steps(&mut core, 12);
        let bytes = save_core(&mut core);
        for own in formats {
            let mut other = Core::<f32, Portable>::table(&[group(own)], &specs);
            Run::new(&other).steps(&mut other, 5);
            if own == saved {
                load_core(&mut other, &bytes).unwrap();
                assert_same(&core, &other, "the same format");
            } else {
                assert_eq!(refused(&mut other, &bytes), CheckpointError::Element, "{saved:?} in {own:?}");
            }
            let mut other = Core::<f32, Portable>::table(&[group(own)], &[spec(&[4, 4]), specs[1]]);
            assert_eq!(refused(&mut other, &bytes), CheckpointError::Shapes);
        }
        let vectors = [spec(&[7]), spec(&[3, 5]).mode(0, Mode::Diagonal).mode(1, Mode::Diagonal)];
        let bytes = save_core(&mut Core::<f32, Portable>::table(&[group(saved)], &vectors));
        for own in formats {
            load_core(&mut Core::<f32, Portable>::table(&[group(own)], &vectors), &bytes).unwrap();
        }
    }
}

/// Parts of 16 bits are found without an optimizer, and are what reading the state shows.
#[test]
fn a_checkpoint_describes_numbers_of_16_bits() {
    for (factor_format, names) in
        [(Format::Bf16, [PartKind::BasisBf16, PartKind::FactorBf16]), (Format::F16, [PartKind::BasisF16, PartKind::FactorF16])]
    {
        // Odd numbers of numbers.
        let mut core = Core::<f32, Portable>::table(&[Config { factor_format, ..f32::kl_shampoo() }], &[spec(&[5, 2]), spec(&[2])]);
        Run::new(&core).steps(&mut core, 15);
        let bytes = save_core(&mut core);
        let mut source = bytes.as_slice();
        let mut reader = Reader::new(&mut source);
        let prelude = reader.open(Some(1)).unwrap();
        assert_eq!(prelude.version, VERSION);
        skip::<GroupRecord>(&mut reader, 1);
        skip::<TensorRecord>(&mut reader, 2);
        let piece: PieceRecord = reader.record().unwrap();
        let parts: Vec<PartRecord> = (0..piece.parts).map(|_| reader.record().unwrap()).collect();
        let of = |part: &PartRecord| (PartKind::from_code(part.part).unwrap(), part.mode, part.len);
        let [basis, factor] = names;
        assert_eq!(
            parts.iter().map(of).collect::<Vec<_>>(),
            [
                (basis, 0, 25),
                (basis, 1, 4),
                (factor, 0, 15),
                (factor, 1, 3),
                (PartKind::Eigenvalues, 0, 5),
                (PartKind::Eigenvalues, 1, 2),
                (PartKind::Momentum, 0, 10)
            ]
        );
        let mut halves = Vec::new();
        for part in &parts[..4] {
            let elements = PartKind::from_code(part.part).unwrap().elements(part.len);
            assert_eq!(elements, part.len.div_ceil(2));
            let mut words = vec![0f32; elements as usize];
            reader.numbers(&mut words).unwrap();
            let mut numbers: Vec<u16> = words.iter().flat_map(|word| [word.to_bits() as u16, (word.to_bits() >> 16) as u16]).collect();
            assert!(numbers.split_off(part.len as usize).iter().all(|&rest| rest == 0));
            halves.push(numbers);
        }
        let widen = |bits: u16| match factor_format {
            Format::Bf16 => half::bf16::from_bits(bits).to_f32(),
            _ => half::f16::from_bits(bits).to_f32(),
        };
        let q: Vec<f32> = halves[0].iter().map(|&bits| widen(bits)).collect();
        assert_eq!(q, core.read_slice(0, 0, klshampoo::StatePart::Basis(0)));
        // The factor in the eigenbasis, as its documentation says, back in the parameter's coordinates.
        let (diagonal, below) = halves[2].split_at(5);
        let element = |i: usize, j: usize| -> f64 {
            let (i, j) = (i.max(j), i.min(j));
            f64::from(match (factor_format, i == j) {
                (Format::Bf16, true) => widen(diagonal[i]),
                (Format::Bf16, false) => widen(below[i * (i - 1) / 2 + j]),
                (_, true) => f32::from_bits(u32::from(diagonal[i]) << 15),
                (_, false) => {
                    let a = |i: usize| i32::from(diagonal[i] >> 9) - 63;
                    widen(below[i * (i - 1) / 2 + j]) * 2f32.powi(a(i) + a(j))
                }
            })
        };
        let read = core.read_slice(0, 0, klshampoo::StatePart::Factor(0));
        let largest = read.iter().fold(0f32, |largest, x| largest.max(x.abs()));
        assert!(largest > 0.1);
        for i in 0..5 {
            for j in 0..5 {
                let terms = (0..25).map(|at| f64::from(q[i * 5 + at / 5]) * element(at / 5, at % 5) * f64::from(q[j * 5 + at % 5]));
                let (expected, found) = (terms.sum::<f64>(), f64::from(read[i * 5 + j]));
                assert!((expected - found).abs() < 1e-5 * f64::from(largest), "{factor_format:?} ({i}, {j}): {expected} {found}");
            }
        }
    }
}

/// What a checkpoint says of its first tensor.
fn first_tensor(bytes: &[u8]) -> TensorRecord {
    let mut source = bytes;
    let mut reader = Reader::new(&mut source);
    let prelude = reader.open(None).unwrap();
    skip::<GroupRecord>(&mut reader, prelude.groups);
    reader.record().unwrap()
}

/// Every pair of methods: what means the same can be loaded, everything else is another method.
#[test]
fn other_methods_are_refused() {
    let made: Vec<_> = methods::<f32>()
        .into_iter()
        .map(|(name, config)| {
            let mut core = Core::<f32, Portable>::table(&[config], &[spec(&[4, 3])]);
            Run::new(&core).steps(&mut core, 3);
            let bytes = save_core(&mut core);
            (name, config, first_tensor(&bytes).method, bytes)
        })
        .collect();
    let mut same = 0;
    for (a, config, method, _) in &made {
        for (b, theirs, other, bytes) in &made {
            let mut core = Core::<f32, Portable>::table(&[*config], &[spec(&[4, 3])]);
            if method == other && config.max_dim != theirs.max_dim {
                // Adafactor is VN-Shampoo with diagonal factors.
                assert_eq!(refused(&mut core, bytes), CheckpointError::Shapes, "{b} in {a}");
            } else if method == other {
                same += 1;
                load_core(&mut core, bytes).unwrap_or_else(|error| panic!("{b} in {a}: {error}"));
            } else {
                assert_eq!(refused(&mut core, bytes), CheckpointError::Method, "{b} in {a}");
            }
        }
    }
    assert!(same >= made.len() && same < 4 * made.len(), "{same}");
    // In a group with factors a vector is stepped by AdamW, whatever the group's method is.
    let vector = [spec(&[4])];
    for config in [Config::<f32>::soap(), Config::<f32>::idealized_kl(), Config::<f32>::kl_shampoo_reference(), f32::adamw()] {
        let bytes = save_core(&mut Core::<f32, Portable>::table(&[config], &vector));
        load_core(&mut Core::<f32, Portable>::table(&[f32::kl_shampoo()], &vector), &bytes).unwrap();
    }
    let momentum = save_core(&mut Core::<f32, Portable>::table(&[Config::<f32>::sgd()], &vector));
    let mut adam = Core::<f32, Portable>::table(&[f32::kl_shampoo()], &vector);
    assert_eq!(refused(&mut adam, &momentum), CheckpointError::Method);
    // Each choice by itself.
    let mut core =
        Core::<f32, Portable>::table(&[Config { momentum: Momentum::Nesterov, ..f32::kl_shampoo() }], &[spec(&[3, 2]), spec(&[2])]);
    assert_eq!(refused(&mut core, &save_core(&mut small())), CheckpointError::Method);
}

#[test]
fn hyper_parameters_may_differ() {
    let bytes = save_core(&mut small());
    let config = Config {
        refresh: Refresh::Eigendecomposition,
        refresh_period: 5,
        refresh_offset: 1,
        stagger: false,
        staleness: 0.1,
        rms_cap: Some(1.0),
        direction: klshampoo::Direction::KroneckerPower(0.4),
        beta1: 0.5,
        beta2: 0.6,
        eps: 1e-3,
        weight_decay: 0.2,
        lr_scale: 3.0,
        measure: true,
        max_dim: 100,
        ..f32::kl_shampoo()
    };
    let mut other = Core::<f32, Portable>::table(&[config], &[spec(&[3, 2]), spec(&[2])]);
    load_core(&mut other, &bytes).unwrap();
    assert_same(&other, &small(), "the state");
    Run::new(&other).steps(&mut other, 10);
}

/// The groups of a checkpoint are the configuration, in the header's numbers.
#[test]
fn choices_are_the_numbers_of_the_header() {
    for (name, config) in methods::<f32>() {
        let config = Config { weight_decay: 0.25, rms_cap: Some(2.0), block_size: 5, merge_dims: 6, ..config };
        let portioned = Config { refresh_portion: 7, ..config };
        let config = if portioned.validate().is_ok() { portioned } else { config };
        let bytes = save_core(&mut Core::<f32, Portable>::table(&[config], &[]));
        let mut source = bytes.as_slice();
        let mut reader = Reader::new(&mut source);
        reader.open(None).unwrap();
        let group: GroupRecord = reader.record().unwrap();
        let c = config_to_c(&config);
        let choices = |numbers: &[i32]| numbers.iter().map(|&n| n as u32).collect::<Vec<_>>();
        let header = choices(&[
            c.estimator,
            c.estimate_order,
            c.eigenvalues,
            c.refresh,
            c.sort,
            c.stagger,
            c.direction,
            c.graft,
            c.step_order,
            c.first_step,
            c.first_basis,
            c.factor_init,
            c.lambda_init,
            c.momentum,
            c.bias_correction,
            c.damping,
            c.weight_decay_kind,
            c.gauge,
            c.bad_gradient,
            c.measure,
        ]);
        let g = &group;
        let saved = [
            g.estimator,
            g.estimate_order,
            g.eigenvalues,
            g.refresh,
            g.sort,
            g.stagger,
            g.direction,
            g.graft,
            g.step_order,
            g.first_step,
            g.first_basis,
            g.factor_init,
            g.lambda_init,
            g.momentum,
            g.bias_correction,
            g.damping,
            g.weight_decay_kind,
            g.gauge,
            g.bad_gradient,
            g.measure,
        ];
        assert_eq!(header, saved, "{name}");
        let numbers = [g.staleness, g.rms_cap, g.beta1, g.beta2, g.eps, g.weight_decay, g.clamp_limit, g.lr_scale];
        assert_eq!(numbers.map(|x| x as f32), [c.staleness, c.rms_cap, c.beta1, c.beta2, c.eps, c.weight_decay, c.clamp_limit, c.lr_scale]);
        assert_eq!([g.max_dim, g.block_size, g.merge_dims], [c.max_dim, c.block_size, c.merge_dims]);
        assert_eq!([g.refresh_period, g.refresh_offset, g.refresh_growth], [c.refresh_period, c.refresh_offset, c.refresh_growth]);
        assert_eq!(g.refresh_portion, c.refresh_portion);
        // The header keeps defaults where a choice has no number of its own.
        assert!(g.power as f32 == c.power || g.direction != 0);
        assert!(g.lambda_0 as f32 == c.lambda_0 || g.lambda_init != 0);
    }
}

/// Everything can be found in a checkpoint without an optimizer.
#[test]
fn a_checkpoint_describes_itself() {
    let (groups, specs) = table(Config { graft: klshampoo::Graft::Adam, ..Config::<f64>::shampoo() });
    let mut core = Core::<f64, Portable>::table(&groups, &specs);
    Run::new(&core).steps(&mut core, 7);
    let bytes = save_core(&mut core);
    let mut source = bytes.as_slice();
    let mut reader = Reader::new(&mut source);
    let prelude: Prelude = reader.open(None).unwrap();
    assert_eq!((prelude.version, prelude.element, prelude.length), (1, 2, bytes.len() as u64));
    assert_eq!((prelude.groups, prelude.tensors), (2, specs.len() as u64));
    assert_eq!((prelude.pieces, prelude.elements), (core.headers.len() as u64, core.state.len() as u64));
    skip::<GroupRecord>(&mut reader, prelude.groups);
    let tensors: Vec<TensorRecord> = (0..prelude.tensors).map(|_| reader.record().unwrap()).collect();
    let (mut headers, mut state, mut kinds) = (Vec::new(), Vec::new(), std::collections::HashSet::new());
    for tensor in &tensors {
        for _ in 0..tensor.slices * tensor.pieces {
            let piece: PieceRecord = reader.record().unwrap();
            headers.push(piece.header);
            let parts: Vec<PartRecord> = (0..piece.parts).map(|_| reader.record().unwrap()).collect();
            for part in parts {
                kinds.insert(PartKind::from_code(part.part).unwrap().name());
                let mut numbers = vec![0f64; part.len as usize];
                reader.numbers(&mut numbers).unwrap();
                state.extend(numbers);
            }
        }
    }
    assert_eq!(reader.rest(), 0);
    assert_eq!(reader.close().unwrap().to_le_bytes(), *bytes.last_chunk::<8>().unwrap());
    assert_eq!(headers, core.headers);
    assert_eq!(bits(&state), bits(&core.state));
    // Master weights belong to parameters of 16 bits; refreshes in portions are none of eigendecompositions.
    let named: std::collections::HashSet<_> = PartKind::ALL.iter().map(|part| part.name()).collect();
    assert_eq!(kinds.len(), named.len() - 2, "{kinds:?}");
    assert!(PartKind::ALL.iter().all(|part| PartKind::from_code(part.code()) == Some(*part)) && PartKind::from_code(0).is_none());
}

fn made_up_specs() -> [TensorSpec; 4] {
    let rounding = Rounding::Stochastic { seed: 0x0123_4567_89ab_cdef };
    let storage = Storage { param: Format::Bf16, master_weights: true, rounding, ..Storage::DENSE };
    [spec(&[3, 2]).slices(2), spec(&[4]).group(1), spec(&[2, 2]).storage(storage), spec(&[1, 2]).group(2)]
}

/// A table whose counters and state are made up, so that no change of an algorithm changes them.
fn made_up<T: Number>() -> Core<T, Portable> {
    let groups = [Config { refresh_period: 7, ..T::kl_shampoo() }, T::adamw(), Config { refresh_portion: 9, ..T::kl_shampoo() }];
    let mut core = Core::table(&groups, &made_up_specs());
    for (i, header) in (1..).zip(&mut core.headers) {
        *header = SliceHeader {
            step: 1000 * i + 0x1_0000_0000,
            last_refresh: 990 * i,
            started: 1,
            refreshes: 2 * i as u32,
            refresh_failures: 3 * i as u32,
            refreshes_skipped: 4 * i as u32,
            skipped: 5 * i as u32,
            floored: 6 * i as u32,
            clamped: 7 * i as u32,
            rebalanced: 8 * i as u32,
            capped: 9 * i as u32,
            update_rms: 0.5 * i as f32,
            update_cosine: -0.25 * i as f32,
            postponed: 10 * i as u32,
        };
    }
    for (i, x) in core.state.iter_mut().enumerate() {
        *x = T::from_f64(0.125 * i as f64 - 3.0);
    }
    core
}

fn golden(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

/// The committed checkpoints of version 1 load on every machine, for ever, and are written again as they are. `KLS_WRITE_CHECKPOINTS=1` writes
/// them anew, before the first release of their version.
#[test]
fn committed_checkpoints_load() {
    fn loads<T: Number>(name: &str) {
        if std::env::var_os("KLS_WRITE_CHECKPOINTS").is_some() {
            std::fs::write(golden(name), save_core(&mut made_up::<T>())).unwrap();
        }
        let bytes = std::fs::read(golden(name)).unwrap();
        let expected = made_up::<T>();
        let mut core = Core::<T, Portable>::table(&expected.groups, &made_up_specs());
        load_core(&mut core, &bytes).unwrap();
        assert_same(&core, &expected, name);
        assert!(save_core(&mut core) == bytes, "{name}: another format needs another version");
    }
    loads::<f32>("checkpoint_v1_f32.bin");
    loads::<f64>("checkpoint_v1_f64.bin");
    let bytes = std::fs::read(golden("checkpoint_v1_f32.bin")).unwrap();
    assert_eq!(bytes[..16], *b"\x89KLS\r\n\x1a\n\x01\0\0\0\x01\0\0\0");
    assert_eq!(bytes[16..24], (bytes.len() as u64).to_le_bytes());
}
