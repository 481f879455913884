//! The methods that are tried, each in both precisions.

use klshampoo::{Config, ConfigError, Refresh};
use klshampoo_tests::harness::Number;

/// A method: for the optimizer under test and for its twin.
#[derive(Clone, Debug)]
pub struct Method {
    /// For the table.
    pub name: String,
    /// As it is tried.
    pub single: Config<f32>,
    /// The same.
    pub double: Config<f64>,
}

/// What is changed in a preset.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// How bases are refreshed; the preset's own way, if that is not said.
    pub refresh: Option<Refresh>,
    /// Floating-point operations of a portion; 0: refreshes are made in one step.
    pub portion: u32,
    /// Steps between refreshes; the preset's own 10, if that is not said.
    pub period: Option<u32>,
}

fn configured<T: Number>(preset: &str, options: Options) -> Config<T> {
    let (_, config) = T::presets().into_iter().find(|(name, _)| *name == preset).expect("the name of a preset");
    Config {
        refresh: options.refresh.unwrap_or(config.refresh),
        refresh_portion: options.portion,
        refresh_period: options.period.unwrap_or(config.refresh_period),
        measure: true,
        ..config
    }
}

/// A preset with options.
///
/// # Errors
/// Where they do not go together.
pub fn method(preset: &str, options: Options) -> Result<Method, ConfigError> {
    let (single, double) = (configured::<f32>(preset, options), configured::<f64>(preset, options));
    single.validate()?;
    let mut name = preset.replace('_', " ");
    name += match options.refresh {
        None => "",
        Some(Refresh::Qr) => ", QR",
        Some(Refresh::HouseholderQr) => ", reflections",
        Some(Refresh::Eigendecomposition) => ", eigendecomposition",
    };
    if options.portion > 0 {
        name += ", in portions";
    }
    if let Some(period) = options.period {
        name += &format!(", T = {period}");
    }
    Ok(Method { name, single, double })
}

/// Presets with a basis: each estimator, each rule for eigenvalues, each direction.
pub const PRESETS: [&str; 12] = [
    "kl_shampoo",
    "kl_soap",
    "soap",
    "shampoo",
    "shampoo_half",
    "vn_shampoo_1",
    "vn_shampoo_2",
    "f_shampoo_1",
    "f_shampoo_2",
    "one_sided",
    "idealized_kl",
    "idealized_vn_2",
];

/// Each of them with each kind of refresh that it allows.
///
/// # Panics
/// If one of them has none: the list is the program's own.
#[must_use]
pub fn all_refreshes() -> Vec<Method> {
    let kinds = [Refresh::Qr, Refresh::HouseholderQr, Refresh::Eigendecomposition];
    let mut options: Vec<Options> = kinds.map(|refresh| Options { refresh: Some(refresh), ..Options::default() }).into();
    options.push(Options { portion: 400, ..Options::default() });
    let mut all = Vec::new();
    for preset in PRESETS {
        let before = all.len();
        all.extend(options.iter().filter_map(|&options| method(preset, options).ok()));
        assert!(all.len() >= before + 3, "{preset}");
    }
    all
}

/// Each preset as it is.
///
/// # Panics
/// Never: presets are valid.
#[must_use]
pub fn all() -> Vec<Method> {
    PRESETS.iter().map(|preset| method(preset, Options::default()).expect("a preset")).collect()
}
