//! How far a server is from its beginning to its end, for whoever asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// In the order in which they come; a server that is told to end at once leaves some out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    Starting,
    Serving,
    /// It is to end, and goes on serving for a while, so that balancers send nobody any more.
    LameDuck,
    Draining,
    Stopping,
}

const ALL: [State; 5] = [State::Starting, State::Serving, State::LameDuck, State::Draining, State::Stopping];

impl State {
    /// For programs: it is the same in all versions.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Serving => "serving",
            State::LameDuck => "lame_duck",
            State::Draining => "draining",
            State::Stopping => "stopping",
        }
    }
}

/// One that any thread may look at. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared(Arc<AtomicU8>);

impl Shared {
    pub(crate) fn get(&self) -> State {
        let number = self.0.load(Ordering::Relaxed);
        ALL.get(usize::from(number)).copied().unwrap_or(State::Stopping)
    }

    pub(crate) fn set(&self, state: State) {
        self.0.store(state as u8, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_is_found() {
        let shared = Shared::default();
        assert_eq!(shared.get(), State::Starting);
        for state in ALL {
            shared.clone().set(state);
            assert_eq!(shared.get(), state);
        }
    }
}
