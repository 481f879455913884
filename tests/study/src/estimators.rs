//! The methods that are compared, and their preconditioners as dense matrices.

use crate::covariance::{DIMS, kronecker};
use crate::divergence::Preconditioner;
use klshampoo::linalg::Portable;
use klshampoo::{Config, Direction, Eigenvalues, Estimator, FactorInit, StatePart};
use klshampoo_tests::harness::{Core, Driver};
use klshampoo_tests::matrix::Matrix;

/// A method under its name.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// For tables.
    pub name: &'static str,
    /// The preset.
    pub config: Config<f64>,
}

/// Every method that has a preconditioner.
#[must_use]
pub fn methods() -> Vec<Method> {
    type Preset = Config<f64>;
    [
        ("KL-Shampoo", Preset::kl_shampoo()),
        ("KL-Shampoo, idealized", Preset::idealized_kl()),
        ("KL-Shampoo, instantaneous", Preset::instantaneous_kl()),
        ("KL-SOAP", Preset::kl_soap()),
        ("SOAP", Preset::soap()),
        ("VN-Shampoo 1", Preset::vn_shampoo_1()),
        ("VN-Shampoo 1, idealized", Preset::idealized_vn_1()),
        ("VN-Shampoo 2", Preset::vn_shampoo_2()),
        ("VN-Shampoo 2, idealized", Preset::idealized_vn_2()),
        ("F-Shampoo 1", Preset::f_shampoo_1()),
        ("F-Shampoo 1, idealized", Preset::idealized_f_1()),
        ("F-Shampoo 2", Preset::f_shampoo_2()),
        ("F-Shampoo 2, idealized", Preset::idealized_f_2()),
        ("Shampoo, p = 1/2", Preset::shampoo_half()),
        ("Shampoo, p = 1/4", Preset::shampoo_quarter()),
        ("one-sided", Preset::one_sided()),
        ("Adafactor", Preset::adafactor()),
        ("AdamW", Preset::adamw()),
    ]
    .map(|(name, config)| Method { name, config })
    .to_vec()
}

/// KL-Shampoo with each source of its eigenvalues.
#[must_use]
pub fn eigenvalue_rules() -> Vec<Method> {
    [
        ("average", Eigenvalues::Average),
        ("instantaneous", Eigenvalues::Instantaneous),
        ("instantaneous, again after a refresh", Eigenvalues::InstantaneousAfterRefresh),
        ("at refreshes", Eigenvalues::AtRefresh),
    ]
    .map(|(name, eigenvalues)| {
        // As in the presets: what is read off a factor needs one of full rank from the start.
        let factor_init = if eigenvalues == Eigenvalues::Average { FactorInit::Zero } else { FactorInit::Lambda };
        Method { name, config: Config { eigenvalues, factor_init, ..Config::<f64>::kl_shampoo() } }
    })
    .to_vec()
}

/// One optimizer of one matrix.
#[derive(Clone, Debug)]
pub struct Subject {
    core: Core<f64, Portable>,
    config: Config<f64>,
    steps: i32,
    param: Vec<f64>,
}

impl Subject {
    /// With this configuration.
    #[must_use]
    pub fn new(config: Config<f64>) -> Self {
        Self { core: Driver::new(&config, &DIMS, &[None; 2]), config, steps: 0, param: vec![0.0; DIMS[0] * DIMS[1]] }
    }

    /// One step. The parameter is of no interest.
    pub fn step(&mut self, gradient: &[f64]) {
        self.steps += 1;
        self.core.step(&mut self.param, gradient, 0.0);
    }

    /// A part of the state, if there is one.
    fn read(&mut self, part: StatePart) -> Option<Vec<f64>> {
        part.len(self.core.tensors[0].layout()).map(|_| self.core.read(part))
    }

    /// `S` of after the last step, from the parts of the state: the square of what the direction divides by, without damping.
    pub fn preconditioner(&mut self) -> Preconditioner {
        let mut basis = Matrix::identity(1);
        for (k, d) in DIMS.into_iter().enumerate() {
            let own = self.read(StatePart::Basis(k)).map_or_else(|| Matrix::identity(d), |data| Matrix { rows: d, cols: d, data });
            basis = kronecker(&basis, &own);
        }
        let values = match self.config.direction {
            Direction::SecondMoment => self.second_moment(),
            Direction::KroneckerPower(p) => self.eigenvalues(2.0 * p, 1.0),
            Direction::ShampooRoot => self.eigenvalues(0.5, 1.0),
            Direction::TraceScaled => {
                let scale = self.tau();
                self.eigenvalues(1.0, scale)
            }
            Direction::Momentum => vec![1.0; basis.rows],
        };
        Preconditioner { basis, values }
    }

    fn second_moment(&mut self) -> Vec<f64> {
        // Without factors, Adam's average from zero is corrected.
        let corrected = self.config.estimator == Estimator::None;
        let correction = if corrected { 1.0 / (1.0 - self.config.beta2.powi(self.steps)) } else { 1.0 };
        self.read(StatePart::SecondMoment).into_iter().flatten().map(|d| d * correction).collect()
    }

    fn eigenvalues(&mut self, power: f64, scale: f64) -> Vec<f64> {
        let of_mode = |k: usize| self.read(StatePart::Eigenvalues(k)).unwrap_or_else(|| vec![1.0; DIMS[k]]);
        let [a, b] = [0, 1].map(of_mode);
        a.iter().flat_map(|x| b.iter().map(move |y| scale * (x * y).powf(power))).collect()
    }

    /// VN-Shampoo's `1 / sqrt(Tr S_a Tr S_b)`; a diagonal mode's trace is the sum of its eigenvalues.
    fn tau(&mut self) -> f64 {
        let mut trace = |k: usize| -> f64 {
            match self.read(StatePart::Factor(k)) {
                Some(factor) => factor.iter().step_by(DIMS[k] + 1).sum(),
                None => self.read(StatePart::Eigenvalues(k)).into_iter().flatten().sum(),
            }
        };
        1.0 / (trace(0) * trace(1)).sqrt()
    }

    /// The library's own objective, which differs from the divergence by a constant when averaged over gradients.
    ///
    /// # Panics
    /// If the library refuses.
    pub fn objective(&mut self, gradient: &[f64]) -> f64 {
        let (optimizer, scratch, linalg) = self.core.view();
        optimizer.objective(0, 0, gradient, scratch, linalg).expect("a stepped tensor has an objective")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::covariance::{Kind, Source};

    /// The dense preconditioners here and the library's objective are the same thing.
    #[test]
    fn the_library_agrees_with_the_dense_preconditioner() {
        for method in methods().into_iter().chain(eigenvalue_rules()) {
            let (mut subject, mut source) = (Subject::new(method.config), Source::new(Kind::Sum, 0.01, 0));
            (1..=23).for_each(|step| subject.step(&source.gradient(step)));
            let g = source.gradient(24);
            let s = subject.preconditioner();
            let wanted: f64 = (0..g.len())
                .map(|i| {
                    let seen: f64 = (0..g.len()).map(|r| s.basis[(r, i)] * g[r]).sum();
                    0.5 * (s.values[i].ln() + seen * seen / s.values[i])
                })
                .sum();
            let found = subject.objective(&g);
            assert!((found - wanted).abs() < 1e-8 * wanted.abs().max(1.0), "{}: {found} {wanted}", method.name);
        }
    }
}
