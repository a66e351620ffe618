//! Files that are plugins, and files that are none.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::common::plugin::*;
use crate::common::*;
use crate::{assert_refused, build, compile, root, xor};
use resay::TransformOrigin;

/// The example in the documentation of the ABI.
#[test]
fn the_example_works_everywhere() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let code = fs::read_to_string(root().join("examples/c/plugin_rot13.c")).unwrap();
        let library = compile(directory.path(), "rot13", &code);
        for chain in [text(&library).to_owned(), format!("{}#rot13 | uppercase", library.display())] {
            for transport in Transport::all() {
                let (engine, url) = serve(&transport.url(directory.path()), &chain);
                let answer = Peer::connect(&url).ask(b"Hello, world");
                let expected = if chain.contains("upper") { "URYYB, JBEYQ" } else { "Uryyb, jbeyq" };
                assert_eq!(String::from_utf8_lossy(&answer), expected, "{transport:?}");
                finish(engine);
            }
        }
    });
}

/// Files that are no libraries, or only a part of one, are refused with the reason, whatever part is missing.
#[test]
fn files_that_are_no_libraries() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let at = |name: &str| directory.path().join(name);
        assert_refused(&at("missing.so"), "No such file");
        fs::write(at("empty.so"), "").unwrap();
        assert_refused(&at("empty.so"), "file too short");
        fs::write(at("text.so"), "this is no library, however long it is".repeat(100)).unwrap();
        assert_refused(&at("text.so"), "invalid ELF header");
        fs::create_dir(at("folder.so")).unwrap();
        assert_refused(&at("folder.so"), "is not a file");

        let good = compile(directory.path(), "good", &xor("good", 0x20));
        let whole = fs::read(&good).unwrap();
        // Some cuts only take the section headers away, which a loader does not need: those may load.
        let (mut refused, cuts) = (0, 24);
        for cut in 1..cuts {
            let part = at(&format!("part{cut}.so"));
            fs::write(&part, &whole[..whole.len() * cut / cuts]).unwrap();
            if let Err(error) = build(text(&part)) {
                assert!(error.to_string().contains(text(&part)), "{error}");
                refused += 1;
            }
        }
        assert!(refused > cuts / 3, "{refused} of {cuts} parts were refused");
        // What was refused has left nothing behind that would hinder the whole one.
        let (engine, url) = serve("tcp://127.0.0.1:0", text(&good));
        assert_eq!(Peer::connect(&url).ask(b"whole"), b"WHOLE");
        finish(engine);
    });
}

/// A library that everybody may replace is not trusted, nor one behind a link.
#[test]
fn libraries_that_anybody_can_write() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let library = compile(directory.path(), "open", &xor("open", 1));
        let link = directory.path().join("link.so");
        std::os::unix::fs::symlink(&library, &link).unwrap();
        fs::set_permissions(&library, fs::Permissions::from_mode(0o757)).unwrap();
        assert_refused(&library, "writable by everyone");
        assert_refused(&link, "writable by everyone");
        fs::set_permissions(&library, fs::Permissions::from_mode(0o755)).unwrap();
        finish(serve("tcp://127.0.0.1:0", text(&library)).0);
        finish(serve("tcp://127.0.0.1:0", text(&link)).0);
    });
}

/// Libraries that load, but whose tables are not what the ABI asks for.
#[test]
fn libraries_that_are_no_plugins() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let good = xor("good", 1);
        let library = |fields: &str| {
            format!(
                "{}RESAY_EXTERN_C RESAY_EXPORT const resay_library *resay_plugin_v1(uint32_t minor) {{\n\
                 static const resay_transform *const list[] = {{&table}};\n\
                 static const resay_library library = {{{fields}}};\n(void)minor, (void)list;\nreturn &library; }}",
                good.replace("RESAY_PLUGIN(&table)", "")
            )
        };
        let with = |from: &str, to: &str| {
            assert!(good.contains(from));
            good.replace(from, to)
        };
        let cases = [
            ("nothing", "int something(void);\nint something(void) { return 1; }".to_owned(), "has no resay_plugin_v1"),
            (
                "next-major",
                good.replace("RESAY_PLUGIN(&table)", "const void *resay_plugin_v2(uint32_t minor);\nconst void *resay_plugin_v2(uint32_t minor) { (void)minor; return &table; }"),
                "another ABI major",
            ),
            (
                "refuses",
                good.replace("RESAY_PLUGIN(&table)", "const resay_library *resay_plugin_v1(uint32_t minor) { (void)minor, (void)table; return NULL; }"),
                "answered NULL",
            ),
            ("tiny", library("8, 0, 0, 1, list, NULL, NULL, NULL, 0, 0"), "struct_size 8 is too small"),
            ("none", library("sizeof(resay_library), 0, 0, 0, list, NULL, NULL, NULL, 0, 0"), "no transform"),
            ("countless", library("sizeof(resay_library), 0, 0, 0x7fffffff, list, NULL, NULL, NULL, 0, 0"), "2147483647 transforms"),
            ("askew-list", library("sizeof(resay_library), 0, 0, 1, (const void *)((const char *)list + 1), NULL, NULL, NULL, 0, 0"), "multiple of"),
            (
                "askew-table",
                good.replace("RESAY_PLUGIN(&table)", "RESAY_PLUGIN((const resay_transform *)((const char *)&table + 1))"),
                "multiple of",
            ),
            ("optionful", with(".version", ".n_options = 0x7fffffff, .options = (const void *)&table, .version"), "2147483647 options"),
            ("null-list", library("sizeof(resay_library), 0, 0, 1, NULL, NULL, NULL, NULL, 0, 0"), "no transform"),
            ("twice", good.replace("RESAY_PLUGIN(&table)", "RESAY_PLUGIN(&table, &table)"), "twice"),
            ("idle", with(".map = map,", "") + "\nresay_status (*unused)(void *, void *, uint8_t *, size_t) = map;", "neither map nor process"),
            ("small-table", with(".struct_size = sizeof table", ".struct_size = 12"), "struct_size 12 is too small"),
            ("bad-id", with("\"good\"", "\"No Good\""), "not a name"),
            ("no-id", with(".id = \"good\",", ""), "id is missing"),
            ("needy", with(".version", ".needs = 1u << 30, .version"), "needs what this engine does not know"),
            ("threads", with(".version", ".threading = 9, .version"), "unknown threading"),
            ("align", with(".version", ".session_size = 8, .session_align = 3, .version"), "session_align"),
            ("huge", with(".version", ".session_size = 1u << 31, .version"), "session_size"),
            ("cut-field", with(".struct_size = sizeof table", ".struct_size = sizeof table + 4"), "multiple of 8"),
            ("endless", format!("static char endless[9999] = {{[0 ... 9998] = 'x'}};\n{}", with(".version", ".summary = endless, .version")), "transform 1: good: summary has no end within 1024 bytes"),
            ("endless-id", format!("static char endless[9999] = {{[0 ... 9998] = 'x'}};\n{}", with("\"good\"", "endless")), "the id has no end within 128 bytes"),
            ("not-utf8", with(".version = \"1\"", ".version = \"\\xff\""), "version is not UTF-8"),
            ("keyless", with(".version", ".create = (void *)map, .n_options = 1, .options = &(const resay_option){.type = \"bool\"}, .version"), "option 1: key is missing"),
            ("typeless", with(".version", ".create = (void *)map, .n_options = 1, .options = &(const resay_option){.key = \"mark\"}, .version"), "option 1 (\"mark\"): type is missing"),
            ("doubled", with(".version", ".create = (void *)map, .n_options = 2, .options = (const resay_option[]){{.key = \"a\", .type = \"bool\"}, {.key = \"a\", .type = \"bool\"}}, .version"), "two options have the key \"a\""),
            ("overlapping", with(".version", ".create = (void *)map, .n_options = 1, .options = (const void *)&table, .version").replace("static const resay_transform table", "static const resay_transform table;\nstatic const resay_transform table"), "options overlap the table"),
            ("uncreated", with(".version", ".n_options = 1, .options = &(const resay_option){.key = \"a\", .type = \"bool\"}, .version"), "create is NULL"),
            ("optionless", with(".version", ".n_options = 1, .version"), "options is NULL"),
        ];
        for (name, code, why) in cases {
            assert_refused(&compile(directory.path(), name, &code), why);
        }
    });
}

/// A bare name is never looked up in the working directory or in the dynamic linker's search path, and a path is
/// taken as it is.
#[test]
fn where_names_are_looked_up() {
    isolated(|| {
        if role().is_some() {
            let error = build("hidden").map(drop).unwrap_err().to_string();
            assert!(error.contains("unknown transform \"hidden\""), "{error}");
            // The linker would find this one by its file name; here it is a path, and there is none.
            let there = std::env::var("HERE").unwrap();
            let (engine, url) = serve("tcp://127.0.0.1:0", &format!("{there}/libtwin.so"));
            say(&String::from_utf8(Peer::connect(&url).ask(b"twin")).unwrap());
            finish(engine);
            let (engine, url) = serve("tcp://127.0.0.1:0", "./libhidden.so");
            say(&String::from_utf8(Peer::connect(&url).ask(b"hidden")).unwrap());
            finish(engine);
            return;
        }
        if !has_compiler() {
            return;
        }
        let (here, elsewhere) = (directory(), directory());
        compile(elsewhere.path(), "hidden", &xor("hidden", 0x20));
        compile(elsewhere.path(), "twin", &xor("twin", 0x00));
        compile(here.path(), "twin", &xor("twin", 0x20));
        let mut helper = Helper::start_with("finder", |command| {
            command
                .current_dir(elsewhere.path())
                .env("LD_LIBRARY_PATH", elsewhere.path())
                .env("HERE", here.path());
        });
        assert_eq!(helper.hear(), "TWIN");
        assert_eq!(helper.hear(), "HIDDEN");
        helper.finish();

        // Where they are looked up: what the builder says, then the environment's absolute directories.
        let builder = || engine_builder().listen("tcp://127.0.0.1:0").unwrap().chain("hidden").unwrap();
        builder().plugin_dir(elsewhere.path()).build().unwrap();
        assert!(builder().plugin_dir(here.path()).build().is_err());
        let (found, errors) = resay::transforms(&[elsewhere.path().to_owned()]);
        assert!(errors.is_empty(), "{errors:?}");
        let hidden = found.iter().find(|transform| transform.id == "hidden").unwrap();
        assert_eq!(hidden.origin, TransformOrigin::File(elsewhere.path().join("libhidden.so")));
        assert!(
            found
                .iter()
                .any(|transform| transform.id == "uppercase" && transform.origin == TransformOrigin::Bundled)
        );
    });
}

/// A library with several transforms: each is named behind a #, and the path alone means the first.
#[test]
fn several_transforms_in_one_library() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let code = xor("first", 0x20).replace(
            "RESAY_PLUGIN(&table)",
            "static resay_status same(void *i, void *s, uint8_t *data, size_t len) {\n\
             (void)i, (void)s, (void)data, (void)len;\nreturn RESAY_OK; }\n\
             static const resay_transform other = { .struct_size = sizeof other, .id = \"second\", .map = same };\n\
             RESAY_PLUGIN(&table, &other)",
        );
        let library = compile(directory.path(), "both", &code);
        let error = build(&format!("{}#third", library.display())).map(drop).unwrap_err();
        assert!(error.to_string().contains("no transform \"third\""), "{error}");
        let chain = format!("{0} | {0}#first | {0}#second | {0}#first", library.display());
        let (engine, url) = serve("tcp://127.0.0.1:0", &chain);
        // Turned by the path alone, and once more each time the first is named.
        assert_eq!(Peer::connect(&url).ask(b"three"), b"THREE");
        finish(engine);
    });
}

/// A file that has changed is another plugin: the next chain that names it gets the new one.
#[test]
fn a_changed_file_is_loaded_anew() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let library = compile(directory.path(), "changing", &xor("changing", 0x00));
        let (engine, url) = serve("tcp://127.0.0.1:0", text(&library));
        let peer = Peer::connect(&url);
        assert_eq!(peer.ask(b"version"), b"version");
        let build = directory.path().join("new");
        fs::create_dir(&build).unwrap();
        fs::rename(compile(&build, "changing", &xor("changing", 0x20)), &library).unwrap();
        engine.set_chain(text(&library)).unwrap();
        peer.ask(b"in between");
        assert_eq!(peer.ask(b"version"), b"VERSION");
        drop(peer);
        finish(engine);
    });
}
