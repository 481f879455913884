//! The axes of the family: one enum per choice that the methods and the published codes make differently.

/// What the Kronecker factors estimate: the weights `w_j` and constants `c_k` of
/// `Delta_k = c_k mat_k(X_k) mat_k(X_k)^T`, `X_k = G~ . prod_{j != k} w_j(lambda_j)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Estimator {
    /// No factors: every mode is `Identity` (the elementwise methods).
    None,
    /// KL-Shampoo and KL-SOAP (paper A, Claims 2 to 5): `w_j = lambda_j^{-1/2}`, `c_k = d_k / N`.
    KullbackLeibler,
    /// One-sided (paper A, Claim 1): `w_j = 1`, `c_k = d_k / N`. A tensor has one preconditioned mode.
    OneSided,
    /// Shampoo, SOAP and VN-Shampoo variant 1 (paper A, Eqs. 1, 2 and Fig. 6): `w_j = 1`, `c_k = 1`.
    Shampoo,
    /// VN-Shampoo variant 2 (paper A, Fig. 6): `w_j = 1`, `c_k = 1 / prod_{j != k} sum lambda_j`.
    VonNeumann,
    /// F-Shampoo variant 2 (paper A, Fig. 8): `w_j = lambda_j^{1/2}`, `c_k = 1 / prod_{j != k} sum lambda_j^2`.
    Frobenius,
    /// F-Shampoo variant 1 (paper A, Fig. 8, Claim 7): the factors themselves instead of their eigenvalues,
    /// `Delta_k = c_k mat_k(G~ x_j S~_j) mat_k(G~)^T`, `c_k = 1 / prod_{j != k} Tr(S_j^2)`.
    FrobeniusFactor,
}

/// Where the eigenvalues of `Full` modes come from. A `Diagonal` mode always averages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eigenvalues {
    /// A moving average of their own, every step (paper A, Claim 4).
    Average,
    /// `diag(S~)` every step, in the basis from before the refresh (paper A, Fig. 4).
    Instantaneous,
    /// `diag(S~)` every step, taken again in the new basis after a refresh.
    InstantaneousAfterRefresh,
    /// `diag(S~)` of the first step and of each refresh, in the new basis (also of one that is left out because the basis is not stale);
    /// fixed in between. With [`Refresh::Eigendecomposition`]
    /// these are the idealized methods (paper A, Figs. 3, 6 and 8, left).
    AtRefresh,
}

/// How a refresh turns the eigenbasis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// One QR step of the orthogonal iteration: `Q <- qr(S Q)`, from Cholesky factors, and by reflections where those break down.
    Qr,
    /// The same by Householder reflections, always.
    HouseholderQr,
    /// The eigenvectors of `S`, eigenvalues descending.
    Eigendecomposition,
}

/// What the numerator of the direction (the momentum, see [`Momentum`]) is divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Direction<T> {
    /// `prod_k lambda_k^p`, p in (0, 1]; 1/2 for KL-, VN-2- and F-Shampoo (paper A, Fig. 13), 1/4 for the first Shampoo.
    KroneckerPower(T),
    /// `prod_k lambda_k^{1/(2 K')}` with K' preconditioned modes (paper A, Eq. 1, for tensors).
    ShampooRoot,
    /// `(tau prod_k lambda_k)^{1/2}`, `tau = prod_k Tr(S_k)^{-(K'-1)/K'}` (VN-Shampoo variant 1: paper A, Fig. 6, Claim 6).
    TraceScaled,
    /// `sqrt(D)`, a second moment per element: in the eigenbasis (SOAP, KL-SOAP: paper A, Eq. 2, Claim 5), without factors Adam.
    SecondMoment,
    /// Nothing: SGD. Only without factors.
    Momentum,
}

/// Whose length the direction takes (Frobenius norm, per tensor slice).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Graft {
    /// Its own.
    None,
    /// Adam's: numerator over `sqrt(v) + eps`, `v` the average of `G^2`, bias-corrected with [`BiasCorrection::Moments`].
    Adam,
    /// The gradient's.
    Sgd,
    /// `G / (sqrt(v) + eps)`, `v` the average of `G^2`.
    RmsProp,
    /// `G / (sqrt(v) + eps)`, `v` the sum of `G^2`.
    AdaGrad,
}

/// Which eigenbasis and eigenvalues the direction sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepOrder {
    /// Estimate, refresh, apply: the new ones (paper A, Fig. 13).
    EstimateFirst,
    /// Apply, estimate, refresh: the ones from before this step (the authors' code, SOAP's code).
    ApplyFirst,
}

/// What the first non-zero gradient does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstStep {
    /// It sets the eigenbasis, then a whole step is made in it.
    Full,
    /// It sets the eigenbasis and the factors `(1 - beta2) c_k mat_k(G) mat_k(G)^T`; parameters and momentum are left alone.
    FactorsOnly,
}

/// The eigenbasis after the first non-zero gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstBasis {
    /// The eigenvectors of that gradient's `Delta_k`.
    Gradient,
    /// The identity. Nothing is preconditioned before the first refresh; a grafted method then steps as the grafted one.
    Identity,
}

/// `S_k` before the first estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactorInit {
    /// Zero.
    Zero,
    /// `lambda_0 I`.
    Lambda,
}

/// The uniform eigenvalue before the first estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LambdaInit<T> {
    /// An absolute value (paper A uses 0.1). It acts as a warm-up when gradients are small.
    Constant(T),
    /// `(||G||_F^2 / N)^{1/K'}` of the first non-zero gradient, `K'` the number of preconditioned modes.
    ScaleFree,
}

/// In which order the modes of an order-3 tensor see each other's eigenvalues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EstimateOrder {
    /// All estimates from the eigenvalues of before the step.
    Jacobi,
    /// As the authors' code: mode 3, then the eigenvalues of mode 2 from the new ones of mode 3, then mode 1 from the new ones of
    /// mode 2 and the old ones of mode 3. Tensors of another order: as `Jacobi`.
    ReferenceKl,
}

/// The numerator of the direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Momentum {
    /// The average `M <- beta1 M + (1 - beta1) G`. (Heavy-ball momentum is this with the learning rate times `1 - beta1`.)
    Average,
    /// `beta1 M + (1 - beta1) G` with the average that has just been updated (Nesterov's look-ahead).
    Nesterov,
    /// The gradient itself; no average is kept and `beta1` is not used.
    None,
}

/// What is done about averages that start at zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BiasCorrection {
    /// Nothing.
    None,
    /// The direction is multiplied by `sqrt(1 - beta2^t) / (1 - beta1^t)` (SOAP's code; `t + 1` for Nesterov's look-ahead): the damping is
    /// not corrected.
    StepSize,
    /// Each average that starts at zero is divided by `1 - beta^t` where it is used: momentum, second moments, and factors that
    /// eigenvalues are taken from ([`FactorInit::Zero`]). An average of eigenvalues starts at `lambda_0` and is not corrected.
    Moments,
}

/// Where `eps` is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damping {
    /// To the whole denominator: `prod_k lambda_k^p + eps`.
    Denominator,
    /// To each eigenvalue: `prod_k (lambda_k + eps)^p` (Distributed Shampoo). Kronecker directions only.
    Factor,
}

/// How weight decay acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightDecay {
    /// `theta <- theta (1 - lr wd)`, then the update (AdamW; paper A, Fig. 13; Distributed Shampoo).
    Before,
    /// The update, then `theta <- theta - lr wd theta` on the updated parameter (the authors' code, SOAP's code).
    After,
    /// `G + wd theta` is the gradient of everything.
    L2,
    /// `theta <- theta (1 - wd)`, then the update: not scaled by the learning rate.
    Independent,
}

/// What to do with a gradient that is not finite or too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadGradient {
    /// The whole call fails before anything is written.
    Error,
    /// The slice is left alone and counted in its header; the others are stepped.
    Skip,
}

/// A published set of choices beside the method (`Config::in_convention`). No two published codes agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Convention {
    /// Paper A, Fig. 13.
    Figure13,
    /// The code that the authors of KL-Shampoo published.
    ReferenceKl,
    /// The code that the authors of SOAP published.
    ReferenceSoap,
    /// Distributed Shampoo.
    ReferenceMeta,
}
