//! How plugin files are loaded: whom they belong to, what happens when they change, and what their libraries begin and end.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use crate::common::plugin::*;
use crate::common::*;
use crate::{assert_refused, build, compile, xor};
use resay::{EventKind, LogLevel};

const OTHER_USER: u32 = 12_345;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Who may write to a directory may replace what is in it.
#[test]
fn plugins_in_directories_that_others_can_write() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let outer = directory.path().join("outer");
        let inner = outer.join("inner");
        fs::create_dir_all(&inner).unwrap();
        let library = compile(&inner, "good", &xor("good", 1));
        for place in [&inner, &outer] {
            set_mode(place, 0o777);
            assert_refused(&library, &format!("({}) is writable by everyone", place.display()));
            // As in /tmp, where nobody can replace what is not theirs.
            set_mode(place, 0o1777);
            build(text(&library)).unwrap();
            set_mode(place, 0o755);
        }
        build(text(&library)).unwrap();
    });
}

/// Root does not run what a user could have written, unless it is told to.
#[test]
fn plugins_of_another_user() {
    isolated(|| {
        if role().is_some() {
            let library = std::env::var("LIBRARY").unwrap();
            say(&build(&library).map_or_else(|error| error.to_string(), |_| "loaded".to_owned()));
            return;
        }
        let directory = directory();
        if !has_compiler() {
            return;
        }
        if fs::metadata(directory.path()).unwrap().uid() != 0 {
            return skipped("plugins of another user: only root can make files of others");
        }
        let place = directory.path().join("theirs");
        fs::create_dir(&place).unwrap();
        let library = compile(&place, "good", &xor("good", 1));
        let load_with = |owners: &str| {
            let mut helper = Helper::start_with("loader", |command| {
                command.env("LIBRARY", &library).env("RESAY_PLUGIN_OWNERS", owners);
            });
            let said = helper.hear();
            helper.finish();
            said
        };
        for path in [&library, &place] {
            chown(path, Some(OTHER_USER), None).unwrap();
            assert_refused(&library, &format!("({}) belongs to user {OTHER_USER}", path.display()));
            assert!(load_with("1,2").contains("RESAY_PLUGIN_OWNERS=12345"));
            assert_eq!(load_with("1, 12345"), "loaded");
            chown(path, Some(0), None).unwrap();
        }
        assert_eq!(load_with(""), "loaded");
        // A group that is not root's.
        chown(&library, None, Some(OTHER_USER)).unwrap();
        set_mode(&library, 0o775);
        assert_refused(&library, &format!("is writable by group {OTHER_USER}"));
        set_mode(&library, 0o755);
        build(text(&library)).unwrap();
    });
}

/// A plugin that needs a library beside itself.
fn with_library_beside(directory: &Path, version: u8) -> std::path::PathBuf {
    let code = xor("changing", version)
        .replace("static resay_status map", "uint8_t beside(void);\nstatic resay_status map");
    let code = code.replace(&format!("^= {version}"), &format!("^= (uint8_t)(beside() ^ {version})"));
    let beside = format!("-L{}", directory.display());
    let flags = ["-Wl,-rpath,$ORIGIN", "-Wl,--no-as-needed", &beside, "-lbeside"];
    // The library is named after the source in the command, where the linker looks for it.
    compile_with(directory, "changing", &code, &flags)
}

/// A file that has changed is loaded anew without a directory to write to, whether it was replaced or overwritten, and
/// what is beside it is found. Files that were overwritten are reported.
#[test]
fn a_changed_file_needs_no_directory_and_finds_what_is_beside_it() {
    isolated(|| {
        if role().is_some() {
            let here = std::env::var("HERE").unwrap();
            let here = Path::new(&here);
            let library = here.join("libchanging.so");
            let log = Log::default();
            let builder = log.builder().listen("tcp://127.0.0.1:0").unwrap();
            let engine = builder.chain(text(&library)).unwrap().start().unwrap();
            let peer = Peer::connect(&engine.urls()[0]);
            let answer = |expected: u8| {
                engine.set_chain(text(&library)).unwrap();
                eventually("the chain is the new one", || match peer.ask(&[0])[0] {
                    found if found == expected => Ok(()),
                    found => Err(format!("{found}")),
                });
            };
            let warnings = || {
                let lines = log.lines(EventKind::ChainChanged);
                lines
                    .iter()
                    .filter(|(level, line)| *level == LogLevel::Warn && line.contains("written to in place"))
                    .count()
            };
            answer(0x40 ^ 1);
            fs::rename(here.join("2/libchanging.so"), &library).unwrap();
            answer(0x40 ^ 2);
            assert_eq!((resay::overwritten_plugins(), warnings()), (Vec::new(), 0));
            for version in [3, 4] {
                let bytes = fs::read(here.join(format!("{version}/libchanging.so"))).unwrap();
                // As cp does, but without cutting the file: what has been relocated of the old one stays, so that this
                // process can end well.
                let mut file = fs::File::options().write(true).open(&library).unwrap();
                assert_eq!(file.metadata().unwrap().len(), bytes.len() as u64);
                file.write_all(&bytes).unwrap();
                assert_eq!(resay::overwritten_plugins(), [library.canonicalize().unwrap()]);
                answer(0x40 ^ version);
                assert_eq!(warnings(), usize::from(version) - 2);
            }
            drop(peer);
            finish(engine);
            say("done");
            return;
        }
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let beside = "unsigned char beside(void);\nunsigned char beside(void) { return 0x40; }\n";
        let built = compile_with(directory.path(), "beside", beside, &["-Wl,-soname,libbeside.so"]);
        for version in 2..=4 {
            let place = directory.path().join(version.to_string());
            fs::create_dir(&place).unwrap();
            fs::copy(&built, place.join("libbeside.so")).unwrap();
            with_library_beside(&place, version);
        }
        with_library_beside(directory.path(), 1);
        for version in 2..=4 {
            fs::remove_file(directory.path().join(format!("{version}/libbeside.so"))).unwrap();
        }
        let mut helper = Helper::start_with("reloader", |command| {
            command.env("HERE", directory.path()).env("TMPDIR", "/nonexistent");
        });
        assert_eq!(helper.hear(), "done");
        helper.finish();
    });
}

/// A library that could not be used is mapped all the same; when it is replaced, the new one is used.
#[test]
fn a_refused_plugin_that_is_replaced_is_loaded() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let library = compile(directory.path(), "late", &xor("Not A Name", 1));
        assert_refused(&library, "not a name");
        let new = directory.path().join("new");
        fs::create_dir(&new).unwrap();
        fs::rename(compile(&new, "late", &xor("late", 0x20)), &library).unwrap();
        let (engine, url) = serve("tcp://127.0.0.1:0", text(&library));
        assert_eq!(Peer::connect(&url).ask(b"late"), b"LATE");
        finish(engine);
    });
}

/// `init()` before the first instance, with the path; `shutdown()` after the last; and both again.
#[test]
fn a_library_begins_and_ends_with_its_instances() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let code = r#"
#include <resay_plugin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static char beside[4096];
static int inits, is_begun, instances;
static const char *at(const char *name) {
  static char path[5000];
  snprintf(path, sizeof path, "%s/%s", beside, name);
  return path;
}
static resay_status init(const char *path, resay_text *err) {
  if (is_begun) abort();
  snprintf(beside, sizeof beside, "%s", path);
  *strrchr(beside, '/') = 0;
  if (access(at("closed"), F_OK) == 0) {
    snprintf(err->buf, err->cap, "closed on Sundays");
    return RESAY_E_UNSUPPORTED;
  }
  inits++, is_begun = 1;
  return RESAY_OK;
}
static void end(void) {
  FILE *file = fopen(at("ended"), "a");
  if (!is_begun || instances || !file) abort();
  fprintf(file, "%d", inits);
  fclose(file);
  is_begun = 0;
}
static resay_status create(const resay_transform *t, const resay_host *host, const resay_kv *kv, size_t n, void **self,
                           resay_text *err) {
  (void)t, (void)host, (void)kv, (void)n, (void)self, (void)err;
  if (!is_begun) abort();
  instances++;
  return RESAY_OK;
}
static void destroy(void *self) {
  (void)self;
  instances--;
}
static resay_status map(void *self, void *session, uint8_t *data, size_t len) {
  (void)self, (void)session;
  for (size_t i = 0; i < len; i++) data[i] = (uint8_t)('0' + inits);
  return RESAY_OK;
}
static const resay_transform table = {
  .struct_size = sizeof table, .id = "turns", .create = create, .destroy = destroy, .map = map,
};
RESAY_PLUGIN_WITH(init, end, &table);
"#;
        let library = compile(directory.path(), "turns", code);
        let link = directory.path().join("link.so");
        std::os::unix::fs::symlink(&library, &link).unwrap();
        let ended = || fs::read_to_string(directory.path().join("ended")).unwrap_or_default();
        fs::write(directory.path().join("closed"), "").unwrap();
        let error = build(text(&library)).map(drop).unwrap_err().to_string();
        assert!(error.contains("transform turns: init of libturns.so: closed on Sundays"), "{error}");
        fs::remove_file(directory.path().join("closed")).unwrap();
        for (turn, before) in [(b'1', ""), (b'2', "1")] {
            // Two stages, two engines, a swap: one library.
            let (one, url) = serve("tcp://127.0.0.1:0", &format!("{0} | {0}", link.display()));
            let (two, other) = serve("tcp://127.0.0.1:0", text(&library));
            assert_eq!(Peer::connect(&url).ask(b"?"), [turn]);
            one.set_chain(text(&library)).unwrap();
            assert_eq!(Peer::connect(&url).ask(b"?"), [turn]);
            finish(one);
            assert_eq!(Peer::connect(&other).ask(b"?"), [turn]);
            assert_eq!(ended(), before);
            finish(two);
            eventually("the library has ended", || match ended() {
                text if text.as_bytes().last() == Some(&turn) => Ok(()),
                text => Err(text),
            });
        }
        assert_eq!(ended(), "12");
    });
}
