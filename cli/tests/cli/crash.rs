use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Server, finish, resay, run};

/// A transform that ends the process: on `!` in map, by abort on `?`, and in create where an option asks for it.
const CRASHER: &str = r#"
#include <resay_plugin.h>
#include <signal.h>
#include <stdlib.h>
static resay_status create(const resay_transform *t, const resay_host *h, const resay_kv *kv, size_t n, void **self, resay_text *err)
{
  (void)t; (void)h; (void)kv; (void)self; (void)err;
  if (n > 0) raise(SIGILL);
  return RESAY_OK;
}
static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  volatile char *nowhere = (volatile char *)8;
  (void)instance; (void)session;
  if (len > 0 && data[0] == '!') *nowhere = 1;
  if (len > 0 && data[0] == '?') abort();
  return RESAY_OK;
}
static const resay_option options[] = {{.key = "die", .type = "bool", .fallback = "0", .help = "crash in create"}};
static const resay_transform crasher = {.struct_size = sizeof crasher, .id = "crasher", .options = options,
                                        .n_options = 1, .create = create, .map = map};
RESAY_PLUGIN(&crasher);
"#;

/// The plugin, where there is a C compiler.
fn crasher(directory: &Path) -> Option<PathBuf> {
    compiled(directory, "crasher", CRASHER)
}

/// A plugin in C, where there is a compiler.
pub(crate) fn compiled(directory: &Path, name: &str, code: &str) -> Option<PathBuf> {
    let library = directory.join(format!("lib{name}.so"));
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../include");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-x", "c", "-", "-o"]).arg(&library).arg("-I").arg(include);
    let Ok(mut child) = compiler.stdin(std::process::Stdio::piped()).spawn() else {
        eprintln!("skipped: there is no C compiler");
        return None;
    };
    child.stdin.take().unwrap().write_all(code.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    Some(library)
}

#[test]
fn a_crashing_transform_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let Some(library) = crasher(directory.path()) else { return };
    for (message, name, signals) in [("!", "SIGSEGV", [11, 7]), ("?", "SIGABRT", [6, 6])] {
        let mut server = Server::start(&["tcp://127.0.0.1:0"], &["-t", library.to_str().unwrap()]);
        assert_eq!(run(["send", server.url(), "fine"], b"").text(), "fine");
        let answer = run(["send", server.url(), message], b"");
        assert_ne!(answer.code, Some(0));
        let status = server.process.wait();
        assert!(status.signal().is_some_and(|signal| signals.contains(&signal)), "{status}");
        server.stderr.wait_for(&format!("resay: transform crasher crashed: {name}\n"));
    }
}

#[test]
fn a_crash_in_create_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let Some(library) = crasher(directory.path()) else { return };
    let chain = format!("{}:die=1", library.display());
    let output = finish(resay(["serve", "tcp://127.0.0.1:0", "-t", &chain]), b"");
    assert_eq!(output.code, None, "{}", output.stderr);
    assert!(output.stderr.contains("resay: transform crasher crashed: SIGILL\n"), "{}", output.stderr);
}
