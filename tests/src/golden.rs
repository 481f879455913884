//! The golden trajectories under `golden/`: loading, and the rule by which a run is accepted.
//!
//! `golden/README.md` and `golden/family/README.md` describe the files and where they come from.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// Any failure to find or to understand a file.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Which of the two collections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collection {
    /// Runs of published optimizers, in their own conventions.
    Published,
    /// Every method of the family in the `figure13` convention.
    Family,
}

impl Collection {
    /// The folder of the collection's files: in the one that the environment variable `KLS_GOLDEN` names, for programs that were carried to another
    /// machine, or else in this crate's.
    pub fn folder(self) -> PathBuf {
        let root = std::env::var_os("KLS_GOLDEN").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden"), PathBuf::from);
        match self {
            Collection::Published => root,
            Collection::Family => root.join("family"),
        }
    }

    /// Everything the collection's manifest lists, in its order.
    ///
    /// # Errors
    /// If the manifest cannot be read.
    pub fn entries(self) -> Result<Vec<Entry>> {
        let text = fs::read_to_string(self.folder().join("manifest.json"))?;
        let mut entries: Vec<Entry> = serde_json::from_str(&text)?;
        for entry in &mut entries {
            entry.collection = Some(self);
        }
        Ok(entries)
    }

    /// The manifest's cases for which `wanted` holds, loaded.
    ///
    /// # Panics
    /// If their number is not `count`, so that none is skipped in silence, or if a file is missing or malformed.
    pub fn cases(self, count: usize, wanted: impl Fn(&Entry) -> bool) -> Vec<Case> {
        let cases: Vec<Case> = self.entries().unwrap().iter().filter(|entry| wanted(entry)).map(|entry| entry.load().unwrap()).collect();
        assert_eq!(cases.len(), count);
        cases
    }

    /// Loads one case by name.
    ///
    /// # Errors
    /// If a file is missing or malformed.
    pub fn load(self, name: &str) -> Result<Case> {
        let json = read_json(&self.folder(), name)?;
        let header = Header::deserialize(&json)?;
        let arrays = read_arrays(&self.folder(), &json)?;
        // The family shares the gradients of the published runs.
        let source = Collection::Published.folder();
        let source = read_arrays(&source, &read_json(&source, &header.grads_file)?)?;
        let scale = header.hyper.grad_scale;
        let count: usize = header.shape.iter().product();
        let scaled = |g: &[f32]| g.iter().map(|&x| f64::from(x) * scale).collect();
        Ok(Case {
            name: name.into(),
            collection: self,
            algorithm: header.algorithm,
            shape: header.shape,
            hyper: header.hyper,
            snapshots: header.snapshots,
            must_seed_basis: header.must_seed_basis,
            f32_rel_update: f32_errors(&header.metrics)?,
            p0: f32_array(&arrays, "p0")?.to_vec(),
            grads: f32_array(&source, "G")?.chunks_exact(count).map(scaled).collect(),
            arrays,
        })
    }
}

/// One line of a manifest: enough to choose cases by.
#[derive(Clone, Debug, Deserialize)]
pub struct Entry {
    /// The case's name, which is also its files'.
    pub case: String,
    /// `klshampoo`, `adamw`, ...; in the family with its variant (`klshampoo-diag0`).
    pub algorithm: String,
    /// Dimensions of the parameter tensor.
    pub shape: Vec<usize>,
    /// Hyper-parameters.
    pub hyper: Hyper,
    /// Whether the run can only be matched from the published first eigenbases.
    #[serde(rename = "must_seed_Q_init")]
    pub must_seed_basis: bool,
    #[serde(skip)]
    collection: Option<Collection>,
}

impl Entry {
    /// Loads the case.
    ///
    /// # Errors
    /// If a file is missing or malformed.
    pub fn load(&self) -> Result<Case> {
        self.collection.ok_or("an entry that no manifest gave")?.load(&self.case)
    }
}

/// Hyper-parameters; what a method does not have is absent.
#[derive(Clone, Debug, Deserialize)]
pub struct Hyper {
    /// Learning rate.
    pub lr: f64,
    /// What the averages of momentum and second moment keep.
    pub betas: [f64; 2],
    /// Damping.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Already multiplied into [`Case::grads`].
    pub grad_scale: f64,
    /// Refresh period.
    #[serde(rename = "T")]
    pub period: Option<usize>,
    /// Published KL methods: first eigenvalue.
    pub init_factor: Option<f64>,
    /// Published KL methods: whether inverse roots of eigenvalues are clamped.
    pub clamp: Option<bool>,
    /// Published KL methods: upper end of the clamp.
    pub max_clamp_value: Option<f64>,
    /// Shampoo: exponent of the factors; absent where it is 1 / (2 order).
    pub exponent: Option<f64>,
    /// Shampoo: whether momentum, second moment and factors are corrected.
    pub use_bias_correction: Option<bool>,
    /// Shampoo: the first step that is preconditioned.
    pub start_preconditioning_step: Option<usize>,
    /// Family: `figure13`.
    pub convention: Option<String>,
    /// Family: `kl`, `one`, `onesided`, `vn2`, `f1` or `f2`.
    pub estimate: Option<String>,
    /// Family: `ema`, `eigh`, `inst` or `inst_after`.
    pub eigenvalues: Option<String>,
    /// Family: `lambda`, `vn1` or `soap`.
    pub apply: Option<String>,
    /// Family: exponent of the eigenvalues.
    pub p: Option<f64>,
    /// `adam` or nothing.
    pub graft: Option<String>,
    /// Family: first eigenvalue.
    pub lambda_0: Option<FirstEigenvalue>,
    /// Family: `Full`, `Diagonal` or `Identity`, for each mode.
    pub modes: Option<Vec<String>>,
}

/// How a family case chooses its first eigenvalue.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum FirstEigenvalue {
    /// A number.
    Value(f64),
    /// A rule: `scale-free`.
    Rule(String),
}

/// One array of a case.
#[derive(Clone, Debug)]
pub enum Array {
    /// Stored as float32.
    F32(Vec<f32>),
    /// Stored as float64.
    F64(Vec<f64>),
}

/// From where a float32 run started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Start {
    /// From the golden bases ([`Case::first_basis`]) after call 1, where the method has bases.
    Seeded,
    /// From bases of its own.
    Unseeded,
    /// From the golden parameter after call 1 (KL-SOAP in the `figure13` convention, whose first step is rounding noise).
    FirstParameter,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Case {
    /// Name of the case and of its files.
    pub name: String,
    /// Where it belongs.
    pub collection: Collection,
    /// As in [`Entry::algorithm`].
    pub algorithm: String,
    /// Dimensions of the parameter tensor, row-major.
    pub shape: Vec<usize>,
    /// Hyper-parameters.
    pub hyper: Hyper,
    /// The calls after which the parameter is recorded, ascending.
    pub snapshots: Vec<usize>,
    /// As in [`Entry::must_seed_basis`].
    pub must_seed_basis: bool,
    /// Parameter before the first call.
    pub p0: Vec<f32>,
    /// The gradient of every call, already multiplied by `grad_scale` (a power of two: exact).
    pub grads: Vec<Vec<f64>>,
    f32_rel_update: BTreeMap<Start, BTreeMap<usize, f64>>,
    arrays: BTreeMap<String, Array>,
}

impl Case {
    /// The largest [`Case::rel_update`] a float64 run may have.
    pub const F64_TOLERANCE: f64 = 1e-11;

    /// Whether the run begins at `p_1`: the family's KL-SOAP takes a first step that is rounding noise and that the library leaves out.
    pub fn takes_first_parameter(&self) -> bool {
        self.collection == Collection::Family && self.algorithm.starts_with("klsoap")
    }

    /// Number of elements of the parameter.
    pub fn len(&self) -> usize {
        self.p0.len()
    }

    /// Whether the parameter has no element; no case is like that.
    pub fn is_empty(&self) -> bool {
        self.p0.is_empty()
    }

    /// Parameter before the first call, widened.
    pub fn p0_f64(&self) -> Vec<f64> {
        self.p0.iter().map(|&x| f64::from(x)).collect()
    }

    /// A float64 array by its full name (`f64/S_0`), if the case has it.
    pub fn f64(&self, name: &str) -> Option<&[f64]> {
        match self.arrays.get(name) {
            Some(Array::F64(values)) => Some(values),
            _ => None,
        }
    }

    /// A float32 array by its full name (`f32/p_40`), if the case has it.
    pub fn f32(&self, name: &str) -> Option<&[f32]> {
        match self.arrays.get(name) {
            Some(Array::F32(values)) => Some(values),
            _ => None,
        }
    }

    /// Every array by its full name.
    pub fn arrays(&self) -> impl Iterator<Item = (&str, &Array)> {
        self.arrays.iter().map(|(name, array)| (name.as_str(), array))
    }

    /// The eigenbasis of `mode` at the end of call 1: d x d, row-major, columns are eigenvectors.
    pub fn first_basis(&self, mode: usize) -> Option<&[f64]> {
        self.f64(&format!("f64/Q_init_{mode}"))
    }

    /// The float64 parameter after `snapshot` calls.
    ///
    /// # Panics
    /// If `snapshot` is not one of [`Case::snapshots`].
    pub fn parameter(&self, snapshot: usize) -> &[f64] {
        self.f64(&format!("f64/p_{snapshot}")).unwrap_or_else(|| panic!("{}: no snapshot {snapshot}", self.name))
    }

    /// Distance of `p` from the golden parameter, relative to how far that has moved from its start: |p - p64| / |p64 - p0|.
    ///
    /// # Panics
    /// If `snapshot` is not one of [`Case::snapshots`].
    pub fn rel_update(&self, snapshot: usize, p: &[f64]) -> f64 {
        let golden = self.parameter(snapshot);
        assert_eq!(golden.len(), p.len(), "{}", self.name);
        let error = norm(p.iter().zip(golden).map(|(a, b)| a - b));
        let moved = norm(golden.iter().zip(&self.p0).map(|(a, &b)| a - f64::from(b)));
        // The reference's first call does not move the parameter: 0 / 0 is agreement there.
        if error == 0.0 { 0.0 } else { error / moved }
    }

    /// Whether the reference has a float32 run from such a `start`.
    pub fn has_f32_run(&self, start: Start) -> bool {
        self.f32_rel_update.contains_key(&start)
    }

    /// The largest [`Case::rel_update`] a float32 run may have at `snapshot`, ten times what the reference's own float32 run has.
    ///
    /// # Panics
    /// If the case has no such snapshot, or was not run from such a `start`.
    pub fn f32_tolerance(&self, start: Start, snapshot: usize) -> f64 {
        let errors = self.f32_rel_update.get(&start).unwrap_or_else(|| panic!("{}: no float32 run from {start:?}", self.name));
        10.0 * errors[&snapshot] + 1e-6
    }
}

/// Euclidean norm.
pub fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

/// |a - b| / |b|, and |a| where b vanishes.
///
/// # Panics
/// If the lengths differ.
pub fn rel_error(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let scale = norm(b.iter().copied());
    let error = norm(a.iter().zip(b).map(|(a, b)| a - b));
    if scale > 0.0 { error / scale } else { error }
}

fn f32_errors(metrics: &serde_json::Value) -> Result<BTreeMap<Start, BTreeMap<usize, f64>>> {
    let mut errors = BTreeMap::new();
    for (start, name) in [
        (Start::Seeded, "f32_vs_f64_rel_update"),
        (Start::Unseeded, "unseeded_f32_vs_f64_rel_update"),
        (Start::FirstParameter, "p1_seeded_f32_vs_f64_rel_update"),
    ] {
        if let Some(serde_json::Value::Object(values)) = metrics.get(name) {
            let table = errors.entry(start).or_insert_with(BTreeMap::new);
            for (snapshot, value) in values {
                table.insert(snapshot.parse()?, value.as_f64().ok_or("a metric that is not a number")?);
            }
        }
    }
    Ok(errors)
}

/// What a case's `.json` says apart from its arrays.
#[derive(Deserialize)]
struct Header {
    algorithm: String,
    shape: Vec<usize>,
    hyper: Hyper,
    snapshots: Vec<usize>,
    grads_file: String,
    #[serde(rename = "must_seed_Q_init")]
    must_seed_basis: bool,
    metrics: serde_json::Value,
}

/// Where an array lies in the `.bin`.
#[derive(Deserialize)]
struct Place {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    offset: usize,
    nbytes: usize,
}

#[derive(Deserialize)]
struct Places {
    bin: String,
    arrays: Vec<Place>,
}

fn read_json(folder: &Path, name: &str) -> Result<serde_json::Value> {
    let path = folder.join(format!("{name}.json"));
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(serde_json::from_str(&text)?)
}

fn read_arrays(folder: &Path, json: &serde_json::Value) -> Result<BTreeMap<String, Array>> {
    let places = Places::deserialize(json)?;
    let bytes = fs::read(folder.join(&places.bin))?;
    let mut arrays = BTreeMap::new();
    for place in places.arrays {
        let bytes = bytes.get(place.offset..place.offset + place.nbytes).ok_or_else(|| format!("{}: too short", places.bin))?;
        let array = match place.dtype.as_str() {
            "float32" => Array::F32(bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()),
            "float64" => Array::F64(bytes.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()),
            other => return Err(format!("{}: dtype {other}", place.name).into()),
        };
        let len = match &array {
            Array::F32(values) => values.len(),
            Array::F64(values) => values.len(),
        };
        if len != place.shape.iter().product::<usize>() {
            return Err(format!("{}: shape and size disagree", place.name).into());
        }
        arrays.insert(place.name, array);
    }
    Ok(arrays)
}

fn f32_array<'a>(arrays: &'a BTreeMap<String, Array>, name: &str) -> Result<&'a [f32]> {
    match arrays.get(name) {
        Some(Array::F32(values)) => Ok(values),
        _ => Err(format!("no float32 array {name}").into()),
    }
}
