//! The step of a table of tensors as a program of kernels.
//!
//! | read | for |
//! |---|---|
//! | [`Program`], [`Memory`], [`Refused`] | what becomes of a table: its batches, and how much device memory they take |
//! | [`DeviceOptimizer`] | the program at a place in device memory: its step |
//! | [`Transfer`] | where state and headers lie on the device and in the core's arrays |
//!
//! Items (pieces of slices of tensors) of equal layout, configuration and geometry are a batch, and one launch works on all of them. A batch's
//! step is that of the core's `step.rs`, launch by launch, of the whole method family: what differs between methods are the numbers of
//! [`klshampoo::Config`]'s axes, in the kernels' parameters, and which launches are made. Everything is computed into a workspace that all
//! batches share; the last launches write parameter, state and header of the items in which nothing went wrong. Methods without factors make their
//! step in one launch instead, once it is known that nothing goes wrong in it: see `single_pass.rs`. What the passes over elements move can be
//! counted without a device: [`crate::queue::Tally`].
//!
//! Refreshes can be left to a queue of their own ([`Options::refreshes_later`]): a step then writes everything else, and they work on the state until
//! the next one.
//!
//! The host knows no number of the device. It keeps a count of each item's steps, which says for whom a refresh is due; everything else that
//! depends on numbers is a flag of the item on the device, and launches are predicated on it.

mod axes;
mod batch;
mod device;
mod direction;
mod estimate;
mod gradient;
mod later;
mod memory;
mod mirror;
mod params;
mod pass;
mod program;
mod refresh;
mod single_pass;
mod start;
mod traffic;

pub use device::{DeviceOptimizer, StepError, TooManySteps, Transfer, Transferred};
pub use memory::Memory;
pub use program::{DEFAULT_WORKSPACE_LIMIT, Library, MOST_ITEMS, Options, Precisions, Program, Reason, Refused};
