//! A 64-32-10 network learns handwritten digits on a Cortex-M, from first weights to tested ones: with KL-Shampoo, AdamW and SGD.
//!
//! Everything is float32 and lies in static memory of constant size: no heap. The program ends well only if KL-Shampoo gets at least 90 %
//! of the test images right, and not fewer than AdamW does after as many steps.
#![no_std]
#![no_main]

mod methods;
mod run;
mod table;

use board::instructions::Counter;
use board::println;
use cortex_m_rt::entry;
use digits::Perceptron;
use digits::images::TEST;
use methods::{AdamW, KlShampoo, Sgd};
use run::Course;
use static_cell::ConstStaticCell;

/// Clock of SysTick on the boards that QEMU emulates with this memory map.
const HERTZ: u32 = 25_000_000;
/// Steps after which the methods are compared.
const STEPS: u32 = 400;
/// Images of a step.
const BATCH: u32 = 32;
/// Of first weights and batches.
const SEED: u32 = 5;

/// The parameters and the gradient, in `.bss`.
static MODEL: ConstStaticCell<[Perceptron; 2]> = ConstStaticCell::new([const { Perceptron::ZERO }; 2]);

#[entry]
fn main() -> ! {
    let core = cortex_m::Peripherals::take().expect("taken once");
    let counter = Counter::start(core.SYST, HERTZ);
    let mut course = Course { model: MODEL.take(), counter: &counter };

    let kl_shampoo = course.run::<KlShampoo, _, _>(methods::KL_SHAMPOO.take(), 0);
    // The others go on until they have executed as many instructions as KL-Shampoo did for its steps.
    let budget = kl_shampoo.instructions;
    let adamw = course.run::<AdamW, _, _>(methods::ADAMW.take(), budget);
    let sgd = course.run::<Sgd, _, _>(methods::SGD.take(), budget);

    table::print(&[&kl_shampoo, &adamw, &sgd]);
    let good = kl_shampoo.correct * 100 >= 90 * TEST as u32;
    let not_behind = kl_shampoo.correct >= adamw.correct;
    if !good {
        println!("FAILED: KL-Shampoo gets fewer than 90 % of the test images right");
    }
    if !not_behind {
        println!("FAILED: KL-Shampoo is behind AdamW after {} steps", STEPS);
    }
    board::exit(good && not_behind)
}
