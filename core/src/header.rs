//! What a slice remembers besides its numbers.

/// Counters and flags of one tensor slice: 64 bytes beside its state.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct SliceHeader {
    /// Steps made (calls with a gradient that did not fail), the first one included.
    pub step: u64,
    /// The last step in which a refresh was due.
    pub last_refresh: u64,
    /// Whether a non-zero gradient has set the eigenbasis and the first eigenvalues. 0 or 1.
    pub started: u32,
    /// Refreshes of an eigenbasis done (one per mode).
    pub refreshes: u32,
    /// Factorisations that failed; the old eigenbasis stayed.
    pub refresh_failures: u32,
    /// Refreshes left out because the eigenbasis was not stale.
    pub refreshes_skipped: u32,
    /// Calls skipped because the gradient was not finite or too large.
    pub skipped: u32,
    /// Eigenvalues that were raised to the floor (2^-63 for matrices).
    pub floored: u32,
    /// Eigenvalues that the clamp bounded.
    pub clamped: u32,
    /// Times the scale of the factors was rebalanced.
    pub rebalanced: u32,
    /// Updates that the cap on their root mean square scaled down.
    pub capped: u32,
    /// Root mean square of the last update's direction (before learning rate and decay), where the group measures it; else 0.
    pub update_rms: f32,
    /// Cosine of the angle between that direction and the gradient, likewise; 0 if one of them is zero.
    pub update_cosine: f32,
    /// Steps that a refresh has been waiting for its turn, where refreshes are on a budget.
    pub postponed: u32,
}

impl SliceHeader {
    /// A slice that has not been stepped.
    pub const NEW: Self = Self {
        step: 0,
        last_refresh: 0,
        started: 0,
        refreshes: 0,
        refresh_failures: 0,
        refreshes_skipped: 0,
        skipped: 0,
        floored: 0,
        clamped: 0,
        rebalanced: 0,
        capped: 0,
        update_rms: 0.0,
        update_cosine: 0.0,
        postponed: 0,
    };
}
