//! The transforms that come with Resay: a directory each, with a table of its own.
//!
//! The engine links [`ALL`] of them (feature `bundled`). `NAME/export.rs` makes a plugin file of one, `libNAME.so`.
//! What several of them do is in a file beside their directories.
#![forbid(unsafe_code)]

pub mod bandwidth;
pub mod base64;
pub mod close;
pub mod corrupt;
pub mod crc32;
pub mod delay;
pub mod drop;
pub mod duplicate;
pub mod hex;
pub mod hold;
pub mod identity;
pub mod lowercase;
pub mod prefix;
pub mod reorder;
pub mod reset;
pub mod reverse;
pub mod rot13;
pub mod slice;
pub mod sockperf;
pub mod suffix;
pub mod template;
pub mod truncate;
pub mod uppercase;
pub mod whoami;

mod affix;
mod bytes;
mod datagrams;
mod first;

use resay_plugin::Table;

/// All of them, by name.
pub static ALL: [&Table; 24] = [
    &bandwidth::TABLE,
    &base64::TABLE,
    &close::TABLE,
    &corrupt::TABLE,
    &crc32::TABLE,
    &delay::TABLE,
    &drop::TABLE,
    &duplicate::TABLE,
    &hex::TABLE,
    &hold::TABLE,
    &identity::TABLE,
    &lowercase::TABLE,
    &prefix::TABLE,
    &reorder::TABLE,
    &reset::TABLE,
    &reverse::TABLE,
    &rot13::TABLE,
    &slice::TABLE,
    &sockperf::TABLE,
    &suffix::TABLE,
    &template::TABLE,
    &truncate::TABLE,
    &uppercase::TABLE,
    &whoami::TABLE,
];

#[cfg(test)]
mod tests {
    use super::ALL;
    use std::fs;
    use std::path::Path;

    #[test]
    fn every_directory_is_a_transform_and_a_plugin_file() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
        let entries = fs::read_dir(root).unwrap().map(|entry| entry.unwrap());
        let mut directories: Vec<_> = entries
            .filter(|entry| entry.path().join("mod.rs").is_file())
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        directories.sort();
        assert_eq!(directories, ALL.map(|table| table.id().to_str().unwrap()));
        for name in directories {
            let export = fs::read_to_string(root.join(&name).join("export.rs")).unwrap();
            assert!(
                export.contains(&format!("export!(resay_transforms::{name}::TABLE);")),
                "{name}: {export}"
            );
            assert!(manifest.contains(&format!("name = \"{name}\", path = \"{name}/export.rs\"")), "{name}");
        }
    }
}
