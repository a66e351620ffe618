//! The SDK for plugins in Rust, as files for a new project. `resay-plugin` in this directory, the header and the licences
//! are symbolic links: cargo packs the files that they lead to, so a published package has all that it includes.

/// The name of the package, and of its directory in a project.
pub(super) const NAME: &str = "resay-plugin";

macro_rules! sources {
    ($($file:literal)*) => {
        &[$((concat!("resay-plugin/src/", $file), include_str!(concat!("resay-plugin/", $file)))),*]
    };
}

/// The sources of the package, with their paths in a project.
pub(super) const SOURCES: &[(&str, &str)] = sources! {
    "abi.rs" "dice.rs" "environment.rs" "error.rs" "file.rs" "filter.rs" "growing.rs" "harness.rs" "host.rs" "inspect.rs" "instance.rs" "io.rs"
    "lib.rs" "limits.rs" "options.rs" "panics.rs" "shim.rs" "state.rs" "table.rs" "transform.rs" "vectors.rs"
};

pub(super) const LICENSES: &[(&str, &str)] = &[
    ("resay-plugin/LICENSE-APACHE", include_str!("../../LICENSE-APACHE")),
    ("resay-plugin/LICENSE-MIT", include_str!("../../LICENSE-MIT")),
];

/// The manifest: that of this workspace, without what only holds in the workspace.
pub(super) fn manifest() -> String {
    format!(
        "[package]\n\
         name = \"{NAME}\"\n\
         description = \"The plugin ABI of Resay and a safe SDK for transforms in Rust\"\n\
         version = \"{}\"\n\
         edition = \"2024\"\n\
         rust-version = \"{}\"\n\
         license = \"{}\"\n",
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_RUST_VERSION"),
        env!("CARGO_PKG_LICENSE"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn every_source_file_of_the_sdk_comes_along() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/new/resay-plugin");
        let there: BTreeSet<String> = directory
            .read_dir()
            .unwrap()
            .map(|entry| format!("{NAME}/src/{}", entry.unwrap().file_name().display()))
            .collect();
        let listed: BTreeSet<String> = SOURCES.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(there, listed);
    }
}
