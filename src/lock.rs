//! Locking a mutex. What the engine's mutexes guard is whole between any two statements, so a holder that panicked has
//! broken nothing for those who come after.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
