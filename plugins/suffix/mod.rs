//! `suffix`: a text goes behind each message.

use crate::affix::Suffix;
use resay_plugin::{OptionSpec, Table};

/// The table: bundled into the engine, and exported by `libsuffix`.
pub static TABLE: Table = Suffix::table(c"suffix", c"a text goes behind each message", OPTIONS);

const OPTIONS: &[OptionSpec] = &[OptionSpec::text(c"text", c"what goes behind; at most 1024 bytes")];
