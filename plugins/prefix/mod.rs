//! `prefix`: a text goes before each message.

use crate::affix::Prefix;
use resay_plugin::{OptionSpec, Table};

/// The table: bundled into the engine, and exported by `libprefix`.
pub static TABLE: Table = Prefix::table(c"prefix", c"a text goes before each message", OPTIONS);

const OPTIONS: &[OptionSpec] = &[OptionSpec::text(c"text", c"what goes before; at most 1024 bytes")];
