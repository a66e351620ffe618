//! Plugins: files that are none, plugins that break the rules, and plugins that keep them.
//!
//! The plugins are written in C and compiled against the public header when the tests run. Without a C compiler
//! that is said and left out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

mod plugins {
    mod chains;
    mod files;
    mod instances;
    mod loading;
    mod rules;
}

use std::path::{Path, PathBuf};

use common::plugin::*;
use common::{engine_builder, text};
use resay::{Engine, Error};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// An engine with a listener and this chain.
fn build(chain: &str) -> Result<Engine, Error> {
    engine_builder().listen("tcp://127.0.0.1:0").unwrap().chain(chain).unwrap().build()
}

/// The file is not loaded, and the error says which it is and why.
#[track_caller]
fn assert_refused(library: &Path, why: &str) {
    let error = build(text(library)).map(drop).unwrap_err();
    assert!(matches!(error, Error::Plugin { .. }), "{library:?}: {error}");
    let message = error.to_string();
    assert!(message.contains(text(library)) && message.contains(why), "{message}: {why:?} is missing");
}

/// Compiles C code to a library in `directory`.
fn compile(directory: &Path, name: &str, code: &str) -> PathBuf {
    compile_with(directory, name, code, &[])
}

/// A plugin whose bytes come back XORed with `mask`.
fn xor(id: &str, mask: u8) -> String {
    format!(
        r#"#include <resay_plugin.h>
static resay_status map(void *instance, void *session, uint8_t *data, size_t len) {{
  (void)instance, (void)session;
  for (size_t i = 0; i < len; i++) data[i] ^= {mask};
  return RESAY_OK;
}}
static const resay_transform table = {{
  .struct_size = sizeof table, .caps = RESAY_CAP_BYTEWISE, .id = "{id}", .version = "1", .map = map,
}};
RESAY_PLUGIN(&table);
"#
    )
}
