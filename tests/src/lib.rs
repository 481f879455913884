//! What the tests of klshampoo are measured against, and what drives the implementations under test.
//!
//! | module | what it is |
//! |---|---|
//! | [`textbook`] | the whole family in parameter space and float64, to read beside the paper: the oracle |
//! | [`matrix`] | the textbook's matrices |
//! | [`golden`] | trajectories of the published optimizers and of the whole family (`golden/`), with their acceptance rule |
//! | [`cases`] | edge shapes and gradient sequences, two named tables |
//! | [`fixed_points`] | where estimators come to rest: the paper's claims, for any implementation |
//! | [`harness`] | one tensor's optimizer behind one trait, so that a test runs on every face and backend of the library |
//! | [`translate`] | configurations in the textbook's terms |
//! | [`lockstep`] | the core in float64 beside the textbook, compared after every step |
//! | [`c_abi`] | the C ABI behind that trait: lent memory and heap, each backend |
//! | [`handle`] | an optimizer on the heap with its files, for tests of what becomes of those |
//! | [`child`] | a test that starts its own program again |
//! | [`counting`] | an allocator that counts |
//! | [`exhaustible`] | an allocator whose memory comes to an end |
//! | [`flops`] | a backend that counts |
//! | [`failing`] | a backend that fails, or lies, where it is told to |
//! | [`table`] | whole tables: numbers for them, and all their bits |
//! | [`plugins`] | pools and a matrix product that a caller may bring |
//! | [`workspace`] | the repository's files and its generated documents |
//! | [`acceptance`] | the golden cases that klshampoo must pass, over that trait |
//!
//! The first four know nothing of klshampoo, the fifth speaks of methods in its terms. An oracle that shared code with what it judges
//! would share its mistakes.
#![deny(unsafe_code)]

pub mod acceptance;
#[allow(unsafe_code)]
pub mod c_abi;
pub mod cases;
pub mod child;
#[allow(unsafe_code)]
pub mod counting;
#[allow(unsafe_code)]
pub mod exhaustible;
pub mod failing;
pub mod fixed_points;
pub mod flops;
pub mod golden;
#[allow(unsafe_code)]
pub mod handle;
pub mod harness;
pub mod lockstep;
pub mod matrix;
#[allow(unsafe_code)]
pub mod plugins;
pub mod table;
pub mod textbook;
pub mod translate;
pub mod workspace;
