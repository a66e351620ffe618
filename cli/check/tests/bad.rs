//! Plugins that break a promise fail with exactly that promise: each file of `bad/` says in its first line which.
#![allow(clippy::unwrap_used, clippy::panic, unused_crate_dependencies, missing_docs)]

#[allow(dead_code)] // each program of tests uses some of it
mod common;

use common::{broken, compile, options};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[test]
fn child() {
    common::child();
}

macro_rules! bad {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                fails_as_it_says(stringify!($name));
            }
        )*

        #[test]
        fn every_file_is_tested() {
            let mut there: Vec<_> = sources().map(|path| path.file_stem().unwrap().display().to_string()).collect();
            there.sort();
            let mut tested = vec![$(stringify!($name)),*];
            tested.sort_unstable();
            assert_eq!(there, tested);
        }
    };
}

bad! {
    beyond_the_host clears_io countless crash_in_create crash_in_map depends_on_place depends_on_room endless_summary
    error_without_end exits exports_more exports_weakly forgets_a_session hang_in_process leaks_descriptors
    leaks_memory leaks_threads leaks_when_refused lying_alias lying_bytewise lying_observer
    lying_unloadable more_from_map needs_a_log no_progress not_consumed null_when_empty other_each_time
    over_long_output over_the_bound past_map past_out_cap prints races_in_the_open races_on_a_counter races_per_worker
    racy_shared reads_past_input
    refuses_its_fallback session_too_small shares_sessions shutdown_forgets_a_thread struct_too_small takes_a_signal takes_more_than_max twice_the_id
    unknown_status value_as_a_string waits_at_the_end writes_to_input
}

fn sources() -> impl Iterator<Item = PathBuf> {
    directory().read_dir().unwrap().map(|entry| entry.unwrap().path())
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad")
}

fn fails_as_it_says(name: &str) {
    let source = directory().join(name).with_extension("c");
    let text = std::fs::read_to_string(&source).unwrap();
    let promise = text.strip_prefix("/* breaks: ").unwrap().split(' ').next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let plugin = dir.path().join("libbad.so");
    compile(&source, &plugin, &["-lpthread"]);
    let mut options = options();
    if promise == "returns" {
        options.limit = Duration::from_secs(1);
    }
    if promise == "threading" {
        options.budget = Duration::from_millis(400); // a race takes its time
    }
    let report = resay_check::check(&plugin, &options);
    println!("{report}");
    assert_eq!(broken(&report), [promise], "{report}");
    assert_eq!(report.exit_status(), 6);
    let failure = report.failures().next().unwrap();
    let json = serde_json::to_value(&report).unwrap();
    let codes: Vec<_> =
        json["findings"].as_array().unwrap().iter().map(|finding| &finding["promise"]).collect();
    assert!(codes.contains(&&failure.promise.code().into()));
}
