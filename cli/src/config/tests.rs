use std::path::Path;

use serde_json::{Map, Value, json};

use super::read::{check, parse};
use super::schema::schema;
use crate::exit::Exit;

/// What JSON Schema says of a value, as far as the schema of files uses it.
fn is_valid(schema: &Value, value: &Value, root: &Value) -> bool {
    let Value::Object(words) = schema else { return schema != &json!(false) };
    words.iter().all(|(word, rule)| match word.as_str() {
        "type" => match rule {
            Value::String(name) => is_of_type(value, name),
            names => names.as_array().unwrap().iter().any(|name| is_of_type(value, name.as_str().unwrap())),
        },
        "anyOf" => rule.as_array().unwrap().iter().any(|schema| is_valid(schema, value, root)),
        "$ref" => {
            is_valid(root.pointer(rule.as_str().unwrap().strip_prefix('#').unwrap()).unwrap(), value, root)
        }
        "minimum" => value.as_i64().is_none_or(|number| number >= rule.as_i64().unwrap()),
        "maximum" => value.as_i64().is_none_or(|number| number <= rule.as_i64().unwrap()),
        "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap()),
        "items" => value.as_array().is_none_or(|items| items.iter().all(|item| is_valid(rule, item, root))),
        "required" => value.as_object().is_none_or(|table| {
            rule.as_array().unwrap().iter().all(|key| table.contains_key(key.as_str().unwrap()))
        }),
        "properties" => value.as_object().is_none_or(|table| {
            table.iter().all(|(key, value)| rule.get(key).is_none_or(|schema| is_valid(schema, value, root)))
        }),
        "additionalProperties" => value.as_object().is_none_or(|table| {
            let none = Map::new();
            let known = schema.get("properties").map_or(&none, |known| known.as_object().unwrap());
            table.iter().all(|(key, value)| known.contains_key(key) || is_valid(rule, value, root))
        }),
        // Notes, and the pattern of texts, which are not of the types.
        "description" | "default" | "title" | "$schema" | "$defs" | "pattern" => true,
        other => panic!("the schema has a word that this test does not know: {other}"),
    })
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "string" => value.is_string(),
        "integer" => value.is_i64(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other}"),
    }
}

/// The same value in a file.
fn toml_of(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(toml_of).collect::<Vec<_>>().join(", ")),
        Value::Object(table) => {
            let pairs: Vec<_> =
                table.iter().map(|(key, value)| format!("{key} = {}", toml_of(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

fn samples() -> Vec<Value> {
    let plain = [
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(-1),
        json!(300),
        json!(432),
        json!(4_294_967_296_i64),
        json!(1.5),
        json!("a"),
        json!("1"),
        json!("tcp://127.0.0.1:0"),
        json!({}),
        json!({"a": 1}),
        json!([]),
    ];
    let lists = plain.iter().map(|value| json!([value]));
    let nested = [json!([["a"]]), json!([[1]]), json!(["a", true]), json!(["a", ["b"]]), json!([1, [2]])];
    plain.iter().cloned().chain(lists).chain(nested).collect()
}

fn listener() -> Value {
    let addresses = ["tcp://127.0.0.1:0", "udp://127.0.0.1:0", "unix:/a", "tls://127.0.0.1:0", "systemd:"];
    json!({"name": "a", "listen": addresses})
}

/// Both ways of reading a file agree on the types of a value.
fn assert_both_refuse(document: &Value, schema: &Value, refused: &mut usize) {
    let text: String = document
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, value)| format!("{key} = {}\n", toml_of(value)))
        .collect();
    if !is_valid(schema, document, schema) {
        *refused += 1;
        assert!(
            parse(Path::new("file"), &text).is_err(),
            "the schema refuses, and the reader takes:\n{text}"
        );
    }
}

#[test]
fn what_the_schema_refuses_is_refused_when_the_file_is_read() {
    let schema = schema();
    let keys = |pointer: &str| -> Vec<String> {
        let table = schema.pointer(pointer).unwrap().as_object().unwrap();
        table.keys().cloned().collect()
    };
    let mut refused = 0;
    for sample in samples() {
        for key in keys("/properties") {
            let mut document = json!({"listener": [listener()]});
            document[&key] = sample.clone();
            assert_both_refuse(&document, &schema, &mut refused);
        }
        for key in keys("/properties/defaults/properties") {
            let document = json!({"defaults": {key: sample}, "listener": [listener()]});
            assert_both_refuse(&document, &schema, &mut refused);
        }
        for key in keys("/properties/listener/items/properties") {
            let mut document = json!({"listener": [listener()]});
            document["listener"][0][&key] = sample.clone();
            assert_both_refuse(&document, &schema, &mut refused);
        }
        for key in ["cert", "tickets"] {
            let mut document = json!({"listener": [listener()]});
            document["listener"][0]["tls"] = json!({key: sample});
            assert_both_refuse(&document, &schema, &mut refused);
        }
    }
    assert!(refused > 1000, "{refused}");
    for document in
        [json!({}), json!({"listener": [{"name": "a"}]}), json!({"listener": [{"listen": "unix:/a"}]})]
    {
        let before = refused;
        assert_both_refuse(&document, &schema, &mut refused);
        assert_eq!(refused, before + 1);
    }
}

#[test]
fn the_types_that_the_schema_has_are_taken() {
    let text = "threads = 2\nsandbox = true\ndrain_timeout = 0\nplugin_dirs = []\nlog = \"json\"\nthread_cpus = [0, \"1-2\"]\n\
                [defaults]\nmax_connections = 5\nallow_uid = [0, \"1\"]\nnodelay = true\nkeepalive = false\nmode = \"0660\"\n\
                [[listener]]\nname = \"a\"\nlisten = \"tls://127.0.0.1:0\"\ntls = { cert = [\"a\"], tickets = 2 }\n";
    let read = parse(Path::new("file"), text);
    assert!(read.is_ok(), "{}", read.unwrap_err().text());
}

fn faults(text: &str) -> String {
    parse(Path::new("FILE"), text).map_or_else(|failure| failure.text().to_owned(), |_| String::new())
}

/// All that `--check` finds: places and messages, without the lines that are shown below them.
fn found(bytes: &[u8]) -> (Option<Exit>, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, bytes).unwrap();
    match check(&path) {
        Ok(()) => (None, Vec::new()),
        Err(failure) => {
            let heads = failure.text().lines().filter_map(|line| line.strip_prefix(path.to_str().unwrap()));
            (Some(failure.exit), heads.map(|head| head[1..].to_owned()).collect())
        }
    }
}

fn assert_found(text: &str, exit: Exit, wanted: &[&str]) {
    let (found_exit, all) = found(text.as_bytes());
    assert_eq!(all.len(), wanted.len(), "{text}\n{all:#?}");
    for (found, wanted) in all.iter().zip(wanted) {
        assert!(found.starts_with(wanted), "{text}\n{found}\n{wanted}");
    }
    assert_eq!(found_exit, Some(exit), "{text}");
}

#[test]
fn all_faults_of_chains_are_found_with_their_places() {
    let listener = |name: &str, rest: &str| {
        format!("[[listener]]\nname = {name:?}\nlisten = \"unix:/{name}\"\n{rest}\n")
    };
    let text = listener("a", "chain = \"upercase\"") + &listener("b", "chain = \"rot13 | revers\"");
    assert_found(
        &text,
        Exit::Plugin,
        &[
            "4:10: listener \"a\": unknown transform \"upercase\", did you mean \"uppercase\"?",
            "8:18: listener \"b\": unknown transform \"revers\", did you mean \"reverse\"?",
        ],
    );
    // Beside faults of another kind, and several in one chain.
    let text = format!(
        "threds = 1\nchain = \"delay:tme=1ms | uppercas\"\nplugin_dirs = [\"/nowhere/1\", \"/\", \"/nowhere/2\"]\n{}{}{}",
        listener("a", "chain = \"uppercase:unicod=1,x=2 | delay:time=soon\""),
        listener("b", ""),
        "[[listener]]\nname = \"c\"\nlisten = [\"unix:/c?chain=rot13|hx\", \"unix-dgram:/d\"]\nchain = \"lowrcase\"",
    );
    assert_found(
        &text,
        Exit::Usage,
        &[
            "1:1: unknown key \"threds\", did you mean \"threads\"?",
            "2:16: transform delay: unknown option \"tme\", did you mean \"time\"?",
            "2:26: unknown transform \"uppercas\", did you mean \"uppercase\"?",
            "3:16: plugin_dirs: /nowhere/1: ",
            "3:35: plugin_dirs: /nowhere/2: ",
            "7:20: listener \"a\": transform uppercase: unknown option \"unicod\", did you mean \"unicode\"?",
            "7:29: listener \"a\": transform uppercase: unknown option \"x\"",
            "7:46: listener \"a\": transform delay: ",
            "14:32: listener \"c\": unknown transform \"hx\"",
            "15:10: listener \"c\": unknown transform \"lowrcase\", did you mean \"lowercase\"?",
        ],
    );
}

#[cfg(feature = "tls")]
#[test]
fn all_faults_of_tls_are_found_with_their_places() {
    let listener = |name: &str, url: &str, tls: &str| {
        format!("[[listener]]\nname = {name:?}\nlisten = {url:?}\n{tls}\n")
    };
    let text = listener("a", "unix:/a", "chain = \"upercase\"")
        + &listener("b", "unix:/b", "chain = \"revers\"")
        + &listener("c", "tls://:0", "tls = { crt = \"x\" }")
        + &listener("d", "tls://:0", "tls = { cert = \"/nowhere/c\", key = \"/nowhere/k\", mn = \"1.3\" }")
        + &listener("e", "tls://:0?cert=/nowhere/c&aplpn=a", "")
        + &listener("f", "systemd:f", "filter = \"tls:cert=/nowhere/f\"")
        + &listener("g", "tls://:0", "");
    assert_found(
        &text,
        Exit::Usage,
        &[
            "4:10: listener \"a\": unknown transform",
            "8:10: listener \"b\": unknown transform",
            "12:9: listener \"c\": filter tls: unknown option \"crt\", did you mean \"cert\"?",
            "16:16: listener \"d\": filter tls: cert /nowhere/c: No such file or directory",
            "16:36: listener \"d\": filter tls: key /nowhere/k: No such file or directory",
            "16:50: listener \"d\": filter tls: unknown option \"mn\"",
            "19:25: listener \"e\": filter tls: cert /nowhere/c: No such file or directory",
            "19:36: listener \"e\": filter tls: unknown option \"aplpn\", did you mean \"alpn\"?",
            "24:20: listener \"f\": filter tls: cert /nowhere/f: No such file or directory",
            "27:10: listener \"g\": filter tls: option 'cert' must be given",
        ],
    );
}

#[test]
fn a_name_that_ctl_takes_for_something_else_is_refused() {
    let said = |name: &str| faults(&format!("[[listener]]\nname = {name:?}\nlisten = \"unix:/a\"\n"));
    assert!(said("all").starts_with("FILE:2:9: \"all\" is all listeners for `resay ctl`"), "{}", said("all"));
    for name in ["2", "0", "007", "99999999999999999999999"] {
        let wanted = format!("FILE:2:9: {name:?} is the number of a listener for `resay ctl`");
        assert!(said(name).starts_with(&wanted), "{}", said(name));
    }
    for name in ["All", "all2", "2a", "2.", "-2", "a2", "1.5"] {
        assert_eq!(said(name), "");
    }
    let pattern = &schema()["properties"]["listener"]["items"]["properties"]["name"]["pattern"];
    assert_eq!(pattern, "^(?!all$|[0-9]+$)[A-Za-z0-9_.-]{1,64}$|\\$\\{");
}

#[test]
fn options_of_tls_in_the_url_come_before_those_of_the_table() {
    let filter = |url: &str, table: &str| {
        let text = format!("[[listener]]\nname = \"a\"\nlisten = {url:?}\ntls = {table}\n");
        let config = parse(Path::new("file"), &text).unwrap();
        config.listeners[0].listen.options.filter.clone().unwrap()
    };
    for (url, table, wanted) in [
        ("tls://:1?cert=/u", "{ key = \"/t\" }", "tls:key=/t,cert=/u"),
        ("tls://:1?key=/u", "{ cert = \"/t\", key = \"/k\" }", "tls:cert=/t,key=/u"),
        ("tls://:1?cert=/u", "{ cert = \"/t\", key = \"/k\", alpn = \"a\" }", "tls:alpn=a,cert=/u"),
        ("tls://:1?cert=/u&key=/v&frame=lines", "{ cert = [\"/t\", \"/s\"] }", "tls:cert=/u,key=/v"),
        ("tls://:1", "{ cert = \"/t\", tickets = 0 }", "tls:cert=/t,tickets=0"),
        ("tls://:1?tickets=1", "{ cert = \"/t\", tickets = 0 }", "tls:cert=/t,tickets=1"),
    ] {
        assert_eq!(filter(url, table), wanted, "{url} {table}");
    }
}

#[cfg(feature = "tls")]
#[test]
fn a_fault_of_tls_is_told_where_the_file_stands_that_has_it() {
    let text =
        "[[listener]]\nname = \"a\"\nlisten = \"tls://:0?cert=/nowhere/u\"\ntls = { key = \"/nowhere/t\" }\n";
    assert_found(
        text,
        Exit::Usage,
        &[
            "3:25: listener \"a\": filter tls: cert /nowhere/u: ",
            "4:15: listener \"a\": filter tls: key /nowhere/t: ",
        ],
    );
}

#[test]
fn a_byte_that_is_not_utf_8_is_shown_with_its_place() {
    let text = b"threads = 1\nchain = \"\xc3\xa4 \xff\"\n";
    let wanted = "2:12: the file is not UTF-8: here is a byte 0xff".to_owned();
    assert_eq!(found(text), (Some(Exit::Usage), vec![wanted]));
}

#[test]
fn addresses_that_cannot_be_beside_each_other_are_refused() {
    let listeners = |urls: &[&str]| {
        let all = urls.iter().enumerate();
        all.fold(String::new(), |text, (number, url)| {
            text + &format!("[[listener]]\nname = \"l{number}\"\nlisten = {url:?}\n")
        })
    };
    for [one, other] in [
        ["tcp://127.0.0.1:8888", "tcp://127.0.0.1:8888"],
        ["tcp://127.0.0.1:8888", "tls://127.0.0.1:8888"],
        ["tcp://localhost:8888", "tcp://LocalHost:8888"],
        ["tcp://[::1]:8888", "tcp://[0:0::1]:8888"],
        ["tcp://[::ffff:127.0.0.1]:8888", "tcp://127.0.0.1:8888"],
        ["tcp://:8888", "tcp://127.0.0.1:8888"],
        ["tcp://[::1]:8888", "tcp://:8888"],
        ["udp://:8888", "udp://0.0.0.0:8888"],
        ["udp://0.0.0.0:8888", "udp://127.0.0.1:8888"],
        ["tcp://[::]:8888?v6only=0", "tcp://127.0.0.1:8888"],
        ["tcp://127.0.0.1:8888", "tcp://127.0.0.1:8888?frame=lines"],
        ["unix:/x", "unix:/./x"],
        ["unix:/x", "unix-dgram://///x"],
        ["unix:x", "unix:./x"],
        ["unix:@x", "unix:@x"],
        ["fd:3", "fd:3"],
        ["systemd:a", "systemd:a"],
    ] {
        let said = faults(&listeners(&[one, other]));
        assert!(said.starts_with("FILE:6:10: "), "{one} {other}: {said}");
        assert!(
            said.contains("is taken already: line 3 has it for listener \"l0\""),
            "{one} {other}: {said}"
        );
        // In one listener too.
        let said = faults(&format!("[[listener]]\nname = \"a\"\nlisten = [{one:?}, {other:?}]\n"));
        assert!(said.contains("is taken already: line 3 has it for listener \"a\""), "{one} {other}: {said}");
    }
    for [one, other] in [
        ["tcp://127.0.0.1:0", "tcp://127.0.0.1:0"],
        ["tcp://127.0.0.1:8888", "tcp://127.0.0.1:8889"],
        ["tcp://127.0.0.1:8888", "tcp://127.0.0.2:8888"],
        ["tcp://127.0.0.1:8888", "udp://127.0.0.1:8888"],
        ["tcp://[::]:8888", "tcp://0.0.0.0:8888"],
        ["tcp://:8888?v6only=1", "tcp://127.0.0.1:8888"],
        // What a name means is not asked.
        ["tcp://localhost:8888", "tcp://127.0.0.1:8888"],
        ["unix:@x", "unix-dgram:@x"],
        ["unix:/x", "unix:/x2"],
    ] {
        assert_eq!(faults(&listeners(&[one, other])), "", "{one} {other}");
    }
    for (top, url) in [
        ("control = \"/x\"\ncontrol_read = \"//x\"", "tcp://127.0.0.1:0"),
        ("control = \"/x\"\nmetrics = \"unix:/x\"", "tcp://127.0.0.1:0"),
        ("log = \"text\"\ncontrol_read = \"/x\"", "unix:/x"),
        ("log = \"text\"\nmetrics = \"127.0.0.1:9464\"", "tcp://:9464"),
    ] {
        let said = faults(&format!("{top}\n{}", listeners(&[url])));
        assert!(said.contains("is taken already: line "), "{top}: {said}");
    }
    assert_eq!(faults(&format!("control = \"/x\"\ncontrol_read = \"/y\"\n{}", listeners(&["unix:/z"]))), "");
}

#[test]
fn a_control_socket_needs_a_path_that_a_socket_can_have() {
    let listener = "[[listener]]\nname = \"a\"\nlisten = \"tcp://127.0.0.1:0\"\n";
    let longest = format!("/{}", "x".repeat(106));
    for key in ["control", "control_read"] {
        let said = |path: &str| faults(&format!("{key} = {path:?}\n{listener}"));
        let column = key.len() + 5;
        assert_eq!(said(&longest), "");
        for (path, wanted) in [
            (
                longest.clone() + "x",
                format!("FILE:1:{column}: the path of a unix socket has at most 107 bytes"),
            ),
            (String::new(), format!("FILE:1:{column}: a path is expected")),
            ("/run/".to_owned(), format!("FILE:1:{}: the path ends without a name", column + 5)),
        ] {
            assert!(said(&path).starts_with(&wanted), "{path}: {}", said(&path));
        }
    }
}

#[test]
fn a_frame_that_no_message_fits_into_is_refused() {
    let of =
        |url: &str, frame: &str| faults(&format!("[[listener]]\nname = \"a\"\nlisten = {url:?}\n{frame}\n"));
    let said = of("tcp://localhost:0", "frame = \"fixed:9\"\nmax_message = 8");
    assert_eq!(said, "FILE:4:1: it is over max_message (8 bytes)\n  frame = \"fixed:9\"\n  ^");
    let said = of("unix:/a?frame=fixed:2m", "");
    assert!(said.starts_with("FILE:3:19: it is over max_message (1048576 bytes)"), "{said}");
    assert_eq!(of("tcp://localhost:0", "frame = \"fixed:8\"\nmax_message = 8"), "");
}

#[test]
fn an_empty_list_of_listeners_is_a_file_without_listeners() {
    assert!(faults("listener = []\n").contains("FILE:1:12: there is no [[listener]]"));
    let said = faults("[[listener]]\nname = \"a\"\nlisten = []\n");
    assert!(said.contains("FILE:3:10: an address is expected"), "{said}");
}
