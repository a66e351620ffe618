//! A transform that may block, so that it runs off the workers.

use resay_plugin::{Call, Error, Map, Setup, Status, Table, Transform};

/// Answers in capital letters: `offloaded`.
pub(crate) static OFFLOADED: Table = Table::map::<Offloaded>(c"offloaded").may_block().build();

struct Offloaded;

impl Transform for Offloaded {
    type Session = ();

    fn create(_: &Setup<'_>) -> Result<Self, Error> {
        Ok(Offloaded)
    }
}

impl Map for Offloaded {
    fn map(&self, _: Call<'_, ()>, data: &mut [u8]) -> Status {
        data.make_ascii_uppercase();
        Status::Ok
    }
}
