//! `identity`: every message comes back as it is.

use resay_plugin::{Call, Error, Map, Setup, Status, Table, Transform};

/// The table: bundled into the engine, and exported by `libidentity`.
pub static TABLE: Table = Table::map::<Identity>(c"identity")
    .version(resay_plugin::package_version!())
    .summary(c"every message comes back as it is")
    .bytewise()
    .observer()
    .build();

#[derive(Debug)]
struct Identity;

impl Transform for Identity {
    type Session = ();

    fn create(_: &Setup<'_>) -> Result<Self, Error> {
        Ok(Identity)
    }
}

impl Map for Identity {
    fn map(&self, _: Call<'_, ()>, _: &mut [u8]) -> Status {
        Status::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::TABLE;
    use resay_plugin::harness::Harness;

    #[test]
    fn returns_what_came() {
        let identity = Harness::new(&TABLE, &[]).unwrap();
        for message in [&b""[..], b"\0", b"hello", &[0xff; 70_000]] {
            assert_eq!(identity.message(message).unwrap(), message);
        }
        assert_eq!(identity.stream(&[b"a", b"", b"bc"]).unwrap(), b"abc");
    }

    #[test]
    fn has_no_options() {
        assert!(Harness::new(&TABLE, &[("loud", "1")]).is_err());
    }
}
