//! Whether files that a filter has read say something else by now, under the same names.
//!
//! Their digests stay in this process, and are of no use elsewhere: one of the files is a private key.

use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::LazyLock;

use resay::Options;
use resay::transform::spec::StageSpec;

/// What options of TLS name files.
const KEYS: [&str; 3] = ["cert", "key", "client_ca"];
/// TLS reads no longer ones.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The files of one listener, as they were.
#[derive(Debug, Clone, Default)]
pub(super) struct Files(Vec<Known>);

#[derive(Debug, Clone)]
struct Known {
    key: String,
    path: Vec<u8>,
    /// `None`: it could not be read.
    digest: Option<u64>,
}

impl Files {
    /// Those that the filter of these options names, as they are now.
    pub(super) fn of(options: &Options) -> Files {
        let filter = options.filter.as_deref().and_then(|text| StageSpec::parse_filter(text).ok());
        let options = filter.into_iter().flat_map(|filter| filter.options);
        let named = options.filter(|option| {
            KEYS.contains(&option.key.as_str())
                && !option.value.is_empty()
                && !option.value.trim_ascii_start().starts_with(b"-----BEGIN")
        });
        Files(
            named
                .map(|option| Known { digest: digest(&option.value), key: option.key, path: option.value })
                .collect(),
        )
    }

    /// What says something else now, each with its key.
    pub(super) fn renewed(&self) -> Vec<String> {
        let changed = self.0.iter().filter(|known| digest(&known.path) != known.digest);
        changed.map(|known| format!("{} {}", known.key, String::from_utf8_lossy(&known.path))).collect()
    }
}

fn digest(path: &[u8]) -> Option<u64> {
    let path = Path::new(OsStr::from_bytes(path));
    // To open a pipe could take for ever.
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).ok()?;
    Some(HASHER.hash_one(bytes))
}
