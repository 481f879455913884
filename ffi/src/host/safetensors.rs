//! Checkpoints as safetensors files, both ways and without loss.
//!
//! Each part of a piece's state is a tensor, `<tensor>.<slice>.<piece>.<part>`, with `.<mode>` behind it where it is of one: `0.0.0.basis.1`,
//! `0.0.0.momentum`. Factors are triangles, one row after another. Parts of 16 bits are `BF16` and `F16` ([`PartKind`] says what their
//! triangles are; one whose numbers are no binary16 alone is `U16`), without what rounds them up to whole elements. Everything else is JSON in the metadata's one entry, `klshampoo`: the
//! records of the checkpoint by name (`prelude`, `groups`, `tensors`, `pieces`) and its `checksum`.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::ops::Range;

use klshampoo::checkpoint::{
    CheckpointError, GroupRecord, PartKind, PartRecord, PieceRecord, Prelude, Reader, Sink, TensorRecord, VERSION, Writer,
};
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde_json::{Map, Value};

use super::json::{from_json, to_json};
use crate::status::*;

/// The metadata's entry. There is one, so that the order of a map of several cannot show in the file.
const ENTRY: &str = "klshampoo";

/// The longest header that readers of the format accept.
const MAX_HEADER: usize = 100_000_000;

/// The longest file of a checkpoint of so many bytes: of those, all numbers are in it, as long or shorter.
pub(super) fn longest(checkpoint_len: u64) -> u64 {
    checkpoint_len.saturating_add((size_of::<u64>() + MAX_HEADER) as u64)
}

/// Bytes that show whether a file may be one.
pub(super) const START: usize = size_of::<u64>() + 1;

/// Whether a file that starts so may be one: the header's length, and an object.
pub(super) fn starts_well(start: &[u8; START]) -> bool {
    let (len, object) = start.split_at(size_of::<u64>());
    len.try_into().is_ok_and(|len| u64::from_le_bytes(len) <= MAX_HEADER as u64) && object == b"{"
}

/// A safetensors file over the bytes of a checkpoint.
#[derive(Debug)]
pub struct Safetensors<'a> {
    header: Vec<u8>,
    data: Vec<&'a [u8]>,
}

impl Safetensors<'_> {
    /// Writes the file.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_to(&self, out: &mut dyn Write) -> std::io::Result<()> {
        out.write_all(&(self.header.len() as u64).to_le_bytes())?;
        out.write_all(&self.header)?;
        self.data.iter().try_for_each(|data| out.write_all(data))
    }
}

/// Type and bytes per number of an element type.
fn element(code: u32) -> Option<(Dtype, u64)> {
    match code {
        1 => Some((Dtype::F32, 4)),
        2 => Some((Dtype::F64, 8)),
        _ => None,
    }
}

/// Type and bytes per number of a part in a file, and its bytes there and, at least as many, in a checkpoint.
fn stored(part: &PartRecord, element: (Dtype, u64)) -> Option<(Dtype, u64, u64)> {
    let kind = PartKind::from_code(part.part)?;
    // Two numbers of 16 bits share an element, which is one of 32.
    if kind.has_16_bits() && element.1 != 4 {
        return None;
    }
    let (dtype, size) = match kind {
        PartKind::BasisBf16 | PartKind::FactorBf16 => (Dtype::BF16, 2),
        PartKind::BasisF16 => (Dtype::F16, 2),
        PartKind::FactorF16 => (Dtype::U16, 2),
        _ => element,
    };
    Some((dtype, part.len.checked_mul(size)?, kind.elements(part.len).checked_mul(element.1)?))
}

/// The shape of a part in a file.
fn shape(piece: &PieceRecord, part: &PartRecord) -> Option<Vec<usize>> {
    let length = |n: u64| usize::try_from(n).ok();
    let dims = piece.dims.get(..piece.order as usize)?;
    let shape = match PartKind::from_code(part.part)? {
        PartKind::Basis | PartKind::BasisBf16 | PartKind::BasisF16 => vec![length(*dims.get(part.mode as usize)?)?; 2],
        PartKind::Factor | PartKind::FactorBf16 | PartKind::FactorF16 | PartKind::Eigenvalues | PartKind::Pending => {
            vec![length(part.len)?]
        }
        PartKind::Momentum | PartKind::SecondMoment | PartKind::GraftMoment | PartKind::Master => {
            dims.iter().map(|&d| length(d)).collect::<Option<_>>()?
        }
    };
    let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    (elements as u64 == part.len).then_some(shape)
}

/// The name of a part in a file.
fn part_name(tensor: &str, slice: u64, piece: u64, part: &PartRecord) -> Option<String> {
    let kind = PartKind::from_code(part.part)?;
    let name = format!("{tensor}.{slice}.{piece}.{}", kind.name());
    Some(if kind.is_per_mode() { format!("{name}.{}", part.mode) } else { name })
}

/// Slice and piece of each piece of a tensor, in their order.
fn pieces(tensor: &TensorRecord) -> impl Iterator<Item = (u64, u64)> + use<> {
    let pieces = tensor.pieces;
    // More of them than can be counted are more than a file has.
    (0..tensor.slices.saturating_mul(pieces)).map(move |index| (index / pieces, index % pieces))
}

fn object(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Map<String, Value> {
    fields.into_iter().map(|(name, value)| (name.into(), value)).collect()
}

/// The safetensors file of a checkpoint. `name` names its tensors.
///
/// # Errors
/// The statuses of a checkpoint that cannot be read; KLS_ERROR_SAFETENSORS when two tensors have one name, or there are so many pieces that
/// no reader would take the file.
pub fn to_safetensors(checkpoint: &[u8], name: impl Fn(usize) -> String) -> Result<Safetensors<'_>, kls_status> {
    let mut source = checkpoint;
    let mut reader = Reader::new(&mut source);
    let prelude = reader.open(None).map_err(from_checkpoint)?;
    let element = element(prelude.element).ok_or(KLS_ERROR_CHECKPOINT_MALFORMED)?;
    let mut groups = Vec::new();
    for _ in 0..prelude.groups {
        groups.push(Value::Object(to_json(reader.record::<GroupRecord>().map_err(from_checkpoint)?)));
    }
    let mut tensors = Vec::new();
    for index in 0..prelude.tensors {
        tensors.push((name(index as usize), reader.record::<TensorRecord>().map_err(from_checkpoint)?));
    }
    let (mut piece_objects, mut infos, mut data, mut end) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for (tensor_name, tensor) in &tensors {
        for (slice, index) in pieces(tensor) {
            let piece: PieceRecord = reader.record().map_err(from_checkpoint)?;
            let mut parts = Vec::new();
            for _ in 0..piece.parts {
                parts.push(reader.record::<PartRecord>().map_err(from_checkpoint)?);
            }
            for part in &parts {
                let shape = shape(&piece, part).ok_or(KLS_ERROR_CHECKPOINT_MALFORMED)?;
                let (dtype, len, whole) = stored(part, element).ok_or(KLS_ERROR_CHECKPOINT_MALFORMED)?;
                let start = reader.position() as usize;
                reader.skip(whole).map_err(from_checkpoint)?;
                let (bytes, rest) = checkpoint[start..start + whole as usize].split_at(len as usize);
                if rest.iter().any(|&byte| byte != 0) {
                    return Err(KLS_ERROR_CHECKPOINT_MALFORMED);
                }
                let name = part_name(tensor_name, slice, index, part).ok_or(KLS_ERROR_CHECKPOINT_MALFORMED)?;
                infos.push((name, TensorInfo { dtype, shape, data_offsets: (end, end + bytes.len()) }));
                end += bytes.len();
                data.push(bytes);
            }
            let mut object = to_json(piece);
            object.insert("stored".into(), parts.into_iter().map(|part| Value::Object(to_json(part))).collect());
            piece_objects.push(Value::Object(object));
        }
    }
    if reader.rest() > 0 {
        return Err(KLS_ERROR_CHECKPOINT_MALFORMED);
    }
    let checksum = reader.close().map_err(from_checkpoint)?;
    let mut names = HashSet::new();
    if !infos.iter().all(|(name, _)| names.insert(name.as_str())) {
        return Err(KLS_ERROR_SAFETENSORS);
    }
    let tensors = tensors.into_iter().map(|(name, record)| {
        let mut object = to_json(record);
        object.insert("name".into(), name.into());
        Value::Object(object)
    });
    let entry = object([
        ("checksum", format!("{checksum:016x}").into()),
        ("prelude", Value::Object(to_json(prelude))),
        ("groups", groups.into()),
        ("tensors", tensors.collect()),
        ("pieces", piece_objects.into()),
    ]);
    let metadata = HashMap::from([(ENTRY.to_owned(), Value::Object(entry).to_string())]);
    let header = Metadata::new(Some(metadata), infos).map_err(|_| KLS_ERROR_SAFETENSORS)?;
    let mut header = serde_json::to_vec(&header).map_err(|_| KLS_ERROR_SAFETENSORS)?;
    // The data start at a multiple of 8.
    header.resize(header.len().next_multiple_of(8), b' ');
    if header.len() > MAX_HEADER {
        return Err(KLS_ERROR_SAFETENSORS);
    }
    Ok(Safetensors { header, data })
}

/// What the `safetensors` crate finds wrong with a file.
fn from_crate(error: &SafeTensorError) -> kls_status {
    match error {
        SafeTensorError::HeaderTooSmall | SafeTensorError::InvalidHeaderLength | SafeTensorError::MetadataIncompleteBuffer => {
            KLS_ERROR_CHECKPOINT_TRUNCATED
        }
        _ => KLS_ERROR_SAFETENSORS,
    }
}

/// Takes as many bytes as there is room for from the start: a file may name the same numbers again and again.
struct Room(Vec<u8>);

impl Sink for Room {
    fn write(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        if bytes.len() > self.0.capacity() - self.0.len() {
            return Err(CheckpointError::Malformed);
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// A list of the metadata's entry.
fn list<'a>(entry: &'a Value, name: &str) -> Result<&'a [Value], kls_status> {
    entry[name].as_array().map(Vec::as_slice).ok_or(KLS_ERROR_SAFETENSORS)
}

/// Where a part's bytes lie among the file's data, if it is there in the form in which it was written.
fn range(metadata: &Metadata, dtype: Dtype, name: &str, piece: &PieceRecord, part: &PartRecord) -> Option<Range<usize>> {
    let info = metadata.info(name)?;
    let matches = info.dtype == dtype && Some(&info.shape) == shape(piece, part).as_ref();
    matches.then_some(info.data_offsets.0..info.data_offsets.1)
}

/// The checkpoint of a safetensors file that [`to_safetensors`] made, the same bytes.
///
/// # Errors
/// KLS_ERROR_SAFETENSORS, KLS_ERROR_CHECKPOINT_VERSION, KLS_ERROR_CHECKPOINT_TRUNCATED, KLS_ERROR_CHECKPOINT_CHECKSUM,
/// KLS_ERROR_CHECKPOINT_MALFORMED, KLS_ERROR_OUT_OF_MEMORY.
pub fn from_safetensors(file: &[u8]) -> Result<Vec<u8>, kls_status> {
    let (header_len, metadata) = SafeTensors::read_metadata(file).map_err(|error| from_crate(&error))?;
    let data = &file[header_len + size_of::<u64>()..];
    let text = metadata.metadata().as_ref().and_then(|entries| entries.get(ENTRY)).ok_or(KLS_ERROR_SAFETENSORS)?;
    let entry: Value = serde_json::from_str(text).map_err(|_| KLS_ERROR_SAFETENSORS)?;
    let prelude: Prelude = from_json(&entry["prelude"])?;
    if prelude.version > VERSION {
        return Err(KLS_ERROR_CHECKPOINT_VERSION);
    }
    let element = element(prelude.element).ok_or(KLS_ERROR_SAFETENSORS)?;

    // Every record is shorter than its text, that of a part by more than what rounds its numbers up.
    let len = usize::try_from(prelude.length).ok().filter(|&len| len <= file.len()).ok_or(KLS_ERROR_CHECKPOINT_MALFORMED)?;
    let mut checkpoint = Room(Vec::new());
    checkpoint.0.try_reserve_exact(len).map_err(|_| KLS_ERROR_OUT_OF_MEMORY)?;
    let mut writer = Writer::new(&mut checkpoint);
    writer.record(prelude).and_then(|()| writer.seal()).map_err(from_checkpoint)?;
    for group in list(&entry, "groups")? {
        writer.record(from_json::<GroupRecord>(group)?).map_err(from_checkpoint)?;
    }
    let mut tensors = Vec::new();
    for tensor in list(&entry, "tensors")? {
        let record: TensorRecord = from_json(tensor)?;
        writer.record(record).map_err(from_checkpoint)?;
        tensors.push((tensor["name"].as_str().ok_or(KLS_ERROR_SAFETENSORS)?, record));
    }
    let (mut objects, mut parts_used) = (list(&entry, "pieces")?.iter(), 0);
    for (tensor_name, tensor) in tensors {
        for (slice, index) in pieces(&tensor) {
            let object = objects.next().ok_or(KLS_ERROR_SAFETENSORS)?;
            let piece: PieceRecord = from_json(object)?;
            writer.record(piece).map_err(from_checkpoint)?;
            let parts = list(object, "stored")?.iter().map(from_json::<PartRecord>).collect::<Result<Vec<_>, _>>()?;
            parts.iter().try_for_each(|&part| writer.record(part)).map_err(from_checkpoint)?;
            for part in &parts {
                let name = part_name(tensor_name, slice, index, part).ok_or(KLS_ERROR_SAFETENSORS)?;
                let (dtype, len, whole) = stored(part, element).ok_or(KLS_ERROR_SAFETENSORS)?;
                let range = range(&metadata, dtype, &name, &piece, part).ok_or(KLS_ERROR_SAFETENSORS)?;
                writer.bytes(&data[range]).map_err(from_checkpoint)?;
                writer.bytes(&[0; 2][..(whole - len) as usize]).map_err(from_checkpoint)?;
                parts_used += 1;
            }
        }
    }
    writer.seal().map_err(from_checkpoint)?;
    if objects.next().is_some() || parts_used != metadata.offset_keys().len() {
        return Err(KLS_ERROR_SAFETENSORS);
    }
    let checkpoint = checkpoint.0;
    let checksum = checkpoint.last_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let written = entry["checksum"].as_str().and_then(|digits| u64::from_str_radix(digits, 16).ok());
    if written.ok_or(KLS_ERROR_SAFETENSORS)? != checksum {
        return Err(KLS_ERROR_CHECKPOINT_CHECKSUM);
    }
    Ok(checkpoint)
}
