//! Busy polling: looking again instead of sleeping, for a short time and only while that pays. A thread that sleeps is
//! woken in tens of microseconds; one that looks finds an answerable message at once, and costs a core meanwhile.

use std::io;
use std::time::Duration;

use crate::driver::Driver;
use crate::timer::Moment;

/// After so many waits in a row in which nothing came in time, ...
const FRUITLESS_MAX: u32 = 8;
/// ... one of so many is tried again.
const TRY_EVERY: u32 = 32;

/// Whether to spin before the next sleep.
#[derive(Debug)]
pub(super) struct Spin {
    window: Duration,
    fruitless: u32,
    skipped: u32,
}

impl Spin {
    pub(super) fn new(window: Duration) -> Spin {
        Spin { window, fruitless: 0, skipped: 0 }
    }

    /// To be asked once a wait.
    fn is_due(&mut self) -> bool {
        if self.window.is_zero() {
            return false;
        }
        if self.fruitless < FRUITLESS_MAX {
            return true;
        }
        self.skipped += 1;
        self.skipped.is_multiple_of(TRY_EVERY)
    }

    fn ended(&mut self, found: bool) {
        self.fruitless = if found { 0 } else { self.fruitless.saturating_add(1) };
    }

    /// Waits for the driver, at most for `timeout`: awake at first, where that was asked for and has paid lately.
    #[inline(always)]
    pub(super) fn wait(&mut self, driver: &mut impl Driver, timeout: Option<Duration>) -> io::Result<()> {
        if timeout == Some(Duration::ZERO) || !self.is_due() {
            return driver.wait(timeout);
        }
        self.look_and_wait(driver, timeout)
    }

    fn look_and_wait(&mut self, driver: &mut impl Driver, timeout: Option<Duration>) -> io::Result<()> {
        let window = timeout.map_or(self.window, |timeout| timeout.min(self.window));
        let mut until = Moment::NEVER;
        loop {
            driver.wait(Some(Duration::ZERO))?;
            let now = driver.now();
            if driver.has_found() {
                self.ended(true);
                return Ok(());
            }
            if until == Moment::NEVER {
                // The clock stood still while the last turn worked.
                until = now.after(window);
            }
            if now >= until {
                break;
            }
            std::hint::spin_loop();
        }
        self.ended(false);
        match timeout {
            Some(timeout) if timeout <= window => Ok(()),
            Some(timeout) => driver.wait(Some(timeout - window)),
            None => driver.wait(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spinning_that_does_not_pay_is_given_up_and_tried_again() {
        let mut spin = Spin::new(Duration::from_micros(60));
        for _ in 0..FRUITLESS_MAX {
            assert!(spin.is_due());
            spin.ended(false);
        }
        let due: Vec<bool> = (0..2 * TRY_EVERY)
            .map(|_| {
                let is_due = spin.is_due();
                if is_due {
                    spin.ended(false);
                }
                is_due
            })
            .collect();
        assert_eq!(due.iter().filter(|is_due| **is_due).count(), 2, "{due:?}");
        while !spin.is_due() {}
        spin.ended(true);
        assert!(spin.is_due());
        assert!(!Spin::new(Duration::ZERO).is_due());
    }
}
