//! Checkpoints as safetensors files: the same bytes both ways, and nothing altered goes unnoticed.

use std::path::Path;

use klshampoo::linalg::Portable;
use klshampoo::{Config, Format, Mode, TensorSpec};
use klshampoo_ffi::host::{from_safetensors, to_safetensors};
use klshampoo_ffi::*;
use klshampoo_tests::handle::Handle;
use klshampoo_tests::harness::{Core, Number};

fn checkpoint<T: Number>(core: &mut Core<T, Portable>) -> Vec<u8> {
    let view = core.view().0;
    let mut bytes = vec![0; view.save_len() as usize];
    view.save(&mut bytes.as_mut_slice()).unwrap();
    bytes
}

fn file(checkpoint: &[u8], name: impl Fn(usize) -> String) -> Result<Vec<u8>, kls_status> {
    let mut bytes = Vec::new();
    to_safetensors(checkpoint, name)?.write_to(&mut bytes).unwrap();
    Ok(bytes)
}

/// A table with every part of a state and a few steps behind it.
fn trained<T: Number>() -> Core<T, Portable> {
    let group = T::in_convention(T::presets()[5].1, klshampoo::Convention::ReferenceMeta);
    let groups = [
        Config { graft: klshampoo::Graft::Adam, measure: true, ..group },
        T::in_convention(T::presets()[2].1, klshampoo::Convention::Figure13),
    ];
    let spec = |dims: &[usize]| TensorSpec::new(dims).unwrap();
    let specs = [
        spec(&[6, 5]),
        spec(&[4, 3]).slices(3).slice_stride(20).group(1),
        spec(&[3]),
        spec(&[2, 3, 4]).mode(1, Mode::Diagonal),
        spec(&[6, 4]).split_rows(&[4, 2]).unwrap().group(1),
    ];
    let mut core = Core::table(&groups, &specs);
    let mut params: Vec<Vec<T>> = core.tensors.iter().map(|tensor| vec![T::from_f64(0.1); tensor.span()]).collect();
    let mut random = klshampoo_tests::cases::Xorshift::for_shape(&[5]);
    for _ in 0..12 {
        let grads: Vec<_> = params.iter().map(|p| Some(p.iter().map(|_| T::from_f64(random.normal())).collect())).collect();
        core.try_step(&mut params, &grads, T::from_f64(0.01)).unwrap();
    }
    core
}

fn converts<T: Number>() {
    let bytes = checkpoint(&mut trained::<T>());
    let file = file(&bytes, |i| i.to_string()).unwrap();
    let back = from_safetensors(&file).unwrap();
    assert!(back == bytes);
    assert!(self::file(&back, |i| i.to_string()).unwrap() == file);
}

#[test]
fn both_ways_are_without_loss() {
    converts::<f32>();
    converts::<f64>();
    // Nothing but an empty table, and numbers that JSON does not have.
    let empty = checkpoint(&mut Core::<f32, Portable>::table(&[], &[]));
    assert!(from_safetensors(&file(&empty, |i| i.to_string()).unwrap()).unwrap() == empty);
    let mut core = trained::<f32>();
    core.headers[0].update_rms = f32::from_bits(0xffc0_0001);
    core.headers[1].update_rms = f32::NEG_INFINITY;
    core.headers[2].update_cosine = -0.0;
    core.state[3] = f32::NAN;
    let bytes = checkpoint(&mut core);
    assert!(from_safetensors(&file(&bytes, |i| i.to_string()).unwrap()).unwrap() == bytes);
}

/// Parts of 16 bits keep their type; a number of them that is odd leaves no trace.
#[test]
fn numbers_of_16_bits_stay_what_they_are() {
    for (factor_format, basis_type, factor_type) in [
        (Format::Bf16, safetensors::Dtype::BF16, safetensors::Dtype::BF16),
        (Format::F16, safetensors::Dtype::F16, safetensors::Dtype::U16),
    ] {
        let config = Config { factor_format, ..f32::kl_shampoo() };
        let specs = [TensorSpec::new(&[5, 2]).unwrap(), TensorSpec::new(&[3, 3]).unwrap().slices(2)];
        let mut core = Core::<f32, Portable>::table(&[config], &specs);
        let mut random = klshampoo_tests::cases::Xorshift::for_shape(&[5]);
        let mut params = [vec![0.0; 10], vec![0.0; 18]];
        for _ in 0..12 {
            let grads: Vec<_> = params.iter().map(|p| Some(p.iter().map(|_| random.normal() as f32).collect())).collect();
            core.try_step(&mut params, &grads, 0.01).unwrap();
        }
        let bytes = checkpoint(&mut core);
        let file = file(&bytes, |i| i.to_string()).unwrap();
        assert!(from_safetensors(&file).unwrap() == bytes);
        let parsed = safetensors::SafeTensors::deserialize(&file).unwrap();
        let basis = parsed.tensor("0.0.0.basis.0").unwrap();
        assert_eq!((basis.dtype(), basis.shape()), (basis_type, &[5, 5][..]));
        let factor = parsed.tensor("1.1.0.factor.1").unwrap();
        assert_eq!((factor.dtype(), factor.shape()), (factor_type, &[6][..]));
        let q = core.read_slice(0, 0, klshampoo::StatePart::Basis(0));
        let numbers = basis.data().chunks_exact(2).map(|bytes| u16::from_le_bytes(bytes.try_into().unwrap()));
        let widen = |bits| match factor_format {
            Format::Bf16 => half::bf16::from_bits(bits).to_f32(),
            _ => half::f16::from_bits(bits).to_f32(),
        };
        assert_eq!(numbers.map(widen).collect::<Vec<f32>>(), q);
        // What rounds an odd number up is zero, or the file would lose it.
        let mut spoilt = core.clone();
        let end = 5 * 5 / 2;
        assert_eq!(spoilt.state[end].to_bits() >> 16, 0);
        spoilt.state[end] = f32::from_bits(spoilt.state[end].to_bits() | 1 << 20);
        let spoilt = checkpoint(&mut spoilt);
        assert_eq!(to_safetensors(&spoilt, |i| i.to_string()).unwrap_err(), KLS_ERROR_CHECKPOINT_MALFORMED);
    }
}

#[test]
fn names_are_readable_and_the_callers() {
    let bytes = checkpoint(&mut trained::<f32>());
    let named = file(&bytes, |i| format!("layers.{i}.weight")).unwrap();
    assert!(from_safetensors(&named).unwrap() == bytes);
    let parsed = safetensors::SafeTensors::deserialize(&named).unwrap();
    let momentum = parsed.tensor("layers.1.weight.2.0.momentum").unwrap();
    assert_eq!((momentum.dtype(), momentum.shape()), (safetensors::Dtype::F32, &[4, 3][..]));
    assert_eq!(parsed.tensor("layers.0.weight.0.0.basis.1").unwrap().shape(), [5, 5]);
    assert_eq!(parsed.tensor("layers.0.weight.0.0.factor.0").unwrap().shape(), [21]);
    assert_eq!(parsed.tensor("layers.3.weight.0.0.eigenvalues.1").unwrap().shape(), [3]);
    assert_eq!(parsed.tensor("layers.4.weight.0.1.second_moment").unwrap().shape(), [2, 4]);
    assert_eq!(parsed.tensor("layers.0.weight.0.0.graft_moment").unwrap().shape(), [6, 5]);
    let core = trained::<f32>();
    let numbers: Vec<u8> = core.state.iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(parsed.tensor("layers.0.weight.0.0.basis.0").unwrap().data(), &numbers[..4 * 36]);
    // Two tensors of one name.
    assert_eq!(file(&bytes, |_| "w".into()).unwrap_err(), KLS_ERROR_SAFETENSORS);
}

#[test]
fn bytes_that_are_no_checkpoint_make_no_file() {
    let bytes = checkpoint(&mut Core::<f32, Portable>::table(&[f32::kl_shampoo()], &[TensorSpec::new(&[2, 2]).unwrap()]));
    assert_eq!(file(&[], |i| i.to_string()).unwrap_err(), KLS_ERROR_CHECKPOINT_TRUNCATED);
    assert_eq!(file(&bytes[..100], |i| i.to_string()).unwrap_err(), KLS_ERROR_CHECKPOINT_TRUNCATED);
    let mut altered = bytes.clone();
    altered[0] = 0;
    assert_eq!(file(&altered, |i| i.to_string()).unwrap_err(), KLS_ERROR_CHECKPOINT_FORMAT);
    for at in 64..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 0x11;
        file(&altered, |i| i.to_string()).unwrap_err();
    }
}

/// The smallest checkpoints: plain, with numbers of 16 bits, and with refreshes in portions.
fn smallest() -> Vec<Vec<u8>> {
    let kl = f32::kl_shampoo();
    let kinds = [kl, Config { factor_format: Format::F16, ..kl }, Config { factor_format: Format::Bf16, refresh_portion: 20, ..kl }];
    let made = kinds.map(|config| {
        let mut core = Core::<f32, Portable>::table(&[config], &[TensorSpec::new(&[2, 2]).unwrap()]);
        core.try_step(&mut [vec![0.0; 4]], &[Some(vec![0.1, 0.2, 0.3, -0.5])], 0.01).unwrap();
        checkpoint(&mut core)
    });
    made.into()
}

/// Each bit of a file altered.
#[test]
fn an_altered_file_is_refused_or_is_the_same_checkpoint() {
    for bytes in smallest() {
        let file = file(&bytes, |i| i.to_string()).unwrap();
        let header = u64::from_le_bytes(*file.first_chunk().unwrap()) as usize + 8;
        for at in 0..file.len() {
            for mask in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
                let mut altered = file.clone();
                altered[at] ^= mask;
                match from_safetensors(&altered) {
                    // White space in the header, or a digit that no number needs.
                    Ok(checkpoint) => assert!(at < header && checkpoint == bytes, "byte {at}, mask {mask}"),
                    Err(status) => assert!(at < header || status == KLS_ERROR_CHECKPOINT_CHECKSUM, "byte {at}, mask {mask}: {status}"),
                }
            }
        }
    }
}

#[test]
fn what_is_no_whole_file_is_refused() {
    let bytes = smallest().swap_remove(0);
    let file = file(&bytes, |i| i.to_string()).unwrap();
    let header = u64::from_le_bytes(*file.first_chunk().unwrap()) as usize + 8;
    for len in 0..file.len() {
        assert_eq!(from_safetensors(&file[..len]).unwrap_err(), KLS_ERROR_CHECKPOINT_TRUNCATED, "{len}");
    }
    assert_eq!(from_safetensors(&[&file[..], b"more"].concat()).unwrap_err(), KLS_ERROR_CHECKPOINT_TRUNCATED);
    assert_eq!(from_safetensors(&bytes).unwrap_err(), KLS_ERROR_SAFETENSORS);
    assert_eq!(from_safetensors(b"\x02\0\0\0\0\0\0\0{}").unwrap_err(), KLS_ERROR_SAFETENSORS);
    let text = String::from_utf8_lossy(&file[8..header]).replace("\\\"version\\\":1", "\\\"version\\\":2");
    let newer = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &file[header..]].concat();
    assert_eq!(from_safetensors(&newer).unwrap_err(), KLS_ERROR_CHECKPOINT_VERSION);
}

#[test]
fn files_are_written_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let make = |dims: &[usize]| Handle::new(&f32::kl_shampoo(), dims, 1);
    let (mut optimizer, other) = (make(&[3, 2]), make(&[3, 2]));
    optimizer.step();
    assert_eq!(optimizer.save(&path), KLS_OK);
    assert_eq!(other.load(&path), KLS_OK);
    assert!(other.state() == optimizer.state());
    let first = std::fs::read(&path).unwrap();
    // Over an existing file, which somebody may be reading.
    optimizer.step();
    assert_eq!(optimizer.save(&path), KLS_OK);
    assert_ne!(std::fs::read(&path).unwrap(), first);
    assert_eq!(other.load(&path), KLS_OK);
    assert!(other.state() == optimizer.state());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        assert_eq!(mode(&path), mode(&plain), "the permissions of any new file");
        std::fs::remove_file(plain).unwrap();
    }

    // Paths that lead nowhere. What is there stays, and nothing is left behind.
    let before = (optimizer.state(), std::fs::read(&path).unwrap());
    assert_eq!(optimizer.save(&folder.path().join("missing/state")), KLS_ERROR_FILE_NOT_FOUND);
    assert_eq!(optimizer.save(folder.path()), KLS_ERROR_IO);
    assert_eq!(optimizer.save(&path.join("below a file")), KLS_ERROR_IO);
    assert_eq!(optimizer.save(Path::new("")), KLS_ERROR_FILE_NOT_FOUND);
    assert_eq!(optimizer.save(Path::new("..")), KLS_ERROR_IO);
    assert_eq!(optimizer.load(&folder.path().join("missing/state")), KLS_ERROR_FILE_NOT_FOUND);
    assert_eq!(optimizer.load(folder.path()), KLS_ERROR_IO);
    assert_eq!(optimizer.load(Path::new("")), KLS_ERROR_FILE_NOT_FOUND);
    for (contents, status) in [(&b""[..], KLS_ERROR_CHECKPOINT_TRUNCATED), (b"a text, and quite a long one", KLS_ERROR_SAFETENSORS)] {
        let wrong = folder.path().join("wrong");
        std::fs::write(&wrong, contents).unwrap();
        assert_eq!(optimizer.load(&wrong), status);
        std::fs::remove_file(wrong).unwrap();
    }
    let wider = make(&[2, 3]);
    assert_eq!(wider.load(&path), KLS_ERROR_CHECKPOINT_SHAPES);
    assert!(before == (optimizer.state(), std::fs::read(&path).unwrap()));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file is left");
}

/// The file with another text in its metadata's entry.
fn forged(file: &[u8], forge: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let header = u64::from_le_bytes(*file.first_chunk().unwrap()) as usize + 8;
    let mut json: serde_json::Value = serde_json::from_slice(&file[8..header]).unwrap();
    let mut entry: serde_json::Value = serde_json::from_str(json["__metadata__"]["klshampoo"].as_str().unwrap()).unwrap();
    forge(&mut entry);
    json["__metadata__"]["klshampoo"] = entry.to_string().into();
    let mut text = json.to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes()[..], &text, &file[header..]].concat()
}

/// A file that says that it has more than it has takes neither memory nor time.
#[test]
fn forged_numbers_of_parts_and_slices_are_refused() {
    let bytes = smallest().swap_remove(0);
    let file = file(&bytes, |i| i.to_string()).unwrap();
    assert!(from_safetensors(&forged(&file, |_| ())).unwrap() == bytes);
    // The same numbers a hundred thousand times.
    let again = forged(&file, |entry| {
        let parts = entry["pieces"][0]["stored"].as_array_mut().unwrap();
        let part = parts[0].clone();
        parts.resize(100_000, part);
    });
    assert_eq!(from_safetensors(&again).unwrap_err(), KLS_ERROR_CHECKPOINT_MALFORMED);
    // A checkpoint that is longer than its file.
    let longer = forged(&file, |entry| entry["prelude"]["length"] = (1u64 << 60).into());
    assert_eq!(from_safetensors(&longer).unwrap_err(), KLS_ERROR_CHECKPOINT_MALFORMED);
    // More slices than can be counted, of no pieces or of many.
    for pieces in [0, 1, u64::MAX] {
        let slices = forged(&file, |entry| {
            entry["tensors"][0]["slices"] = u64::MAX.into();
            entry["tensors"][0]["pieces"] = pieces.into();
        });
        assert_eq!(from_safetensors(&slices).unwrap_err(), KLS_ERROR_SAFETENSORS, "{pieces}");
    }
}
