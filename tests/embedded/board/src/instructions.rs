//! Executed instructions, counted on the device.
//!
//! With `-icount shift=6` QEMU's clock advances by 64 ns with each instruction, and SysTick, which counts the processor's clock, tells how
//! many there were. They are instructions, not cycles: QEMU knows nothing of a processor's timing.

use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::exception;

/// Instructions in a second of QEMU's clock.
const PER_SECOND: u64 = 1_000_000_000 / 64;
/// SysTick counts down from here.
const RELOAD: u32 = 0x00ff_ffff;

/// Turns of the loop by which the counter is checked.
const TURNS: u32 = 50_000;

/// How often SysTick has come to zero.
static ROUNDS: AtomicU32 = AtomicU32::new(0);

#[exception]
fn SysTick() {
    ROUNDS.store(ROUNDS.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

/// Counts executed instructions from its making on.
#[derive(Debug)]
pub struct Counter {
    hertz: u64,
}

impl Counter {
    /// Starts counting, on a board whose SysTick has a clock of `hertz`.
    ///
    /// # Panics
    /// If a loop of known length is miscounted: another clock, or QEMU without `-icount shift=6`.
    pub fn start(mut timer: SYST, hertz: u32) -> Self {
        timer.set_clock_source(SystClkSource::Core);
        timer.set_reload(RELOAD);
        timer.clear_current();
        timer.enable_counter();
        timer.enable_interrupt();
        let counter = Self { hertz: u64::from(hertz) };
        let before = counter.ticks();
        // SAFETY: a loop of two instructions, which touches one register.
        unsafe { asm!("2:", "subs {turns}, #1", "bne 2b", turns = inout(reg) TURNS => _, options(nomem, nostack)) };
        let counted = counter.instructions(counter.ticks() - before);
        let there_are = u64::from(2 * TURNS);
        assert!((there_are..there_are + 100).contains(&counted), "{counted} instructions counted where there are {there_are}");
        counter
    }

    /// Instructions executed so far, to within one or two, these questions included.
    pub fn read(&self) -> u64 {
        self.instructions(self.ticks())
    }

    fn instructions(&self, ticks: u64) -> u64 {
        ticks * PER_SECOND / self.hertz
    }

    fn ticks(&self) -> u64 {
        loop {
            let rounds = ROUNDS.load(Ordering::Relaxed);
            let left = SYST::get_current();
            // Not if it has come to zero meanwhile, or has and the exception is still to be taken.
            if rounds == ROUNDS.load(Ordering::Relaxed) && !cortex_m::peripheral::SCB::is_pendst_pending() {
                return u64::from(rounds) * (u64::from(RELOAD) + 1) + u64::from(RELOAD - left);
            }
        }
    }
}
