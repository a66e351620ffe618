//! What the table of options says about a file: its JSON Schema, and an example.

use std::fmt::Write;

use resay::options::{ENGINE_KEYS, KEYS, ValueType};
use serde_json::{Map, Value, json};

use super::types::Types;

/// The JSON Schema (2020-12) of a configuration file.
pub(super) fn schema() -> Value {
    let mut top = Map::new();
    for key in ENGINE_KEYS {
        top.insert(key.name.to_owned(), described(key.kind, key.value, key.fallback, key.help));
    }
    let duration = ValueType { name: "duration", unit: "", min: "0", max: "8760h" };
    let text = ValueType { name: "string", unit: "", min: "", max: "" };
    let mut insert = |name: &str, value: Value| top.insert(name.to_owned(), value);
    insert(
        "log",
        json!({
            "type": "string", "pattern": "^(text|json)$|\\$\\{", "default": "text",
            "description": "format of the log: text, json",
        }),
    );
    insert("drain_timeout", described(duration, "DURATION", "5s", "time limit for draining"));
    let lame_duck = "time that all goes on for after SIGTERM, before draining";
    insert("lame_duck", described(duration, "DURATION", "0", lame_duck));
    let flag = ValueType { name: "bool", unit: "", min: "", max: "" };
    let sandbox = "after the start, give up all files, programs and system calls that serving does not need";
    insert("sandbox", described(flag, "0|1", "0", sandbox));
    insert(
        "control",
        described(text, "PATH", "", "accept commands of `resay ctl` on a unix socket at this path"),
    );
    insert(
        "control_read",
        described(text, "PATH", "", "answer the questions of `resay ctl` on another unix socket"),
    );
    insert(
        "metrics",
        described(
            text,
            "ADDRESS",
            "",
            "serve metrics and health checks over HTTP, at HOST:PORT or unix:PATH",
        ),
    );
    let directories = "directories in which plugins are looked up";
    insert(
        "plugin_dirs",
        json!({
            "type": Types::TEXTS.names, "items": {"type": Types::TEXTS.elements}, "description": directories,
        }),
    );
    insert("chain", described(text, "CHAIN", "", "chain of all listeners that have none of their own"));
    let options = |is_listener: bool| {
        let mut options = Map::new();
        for key in KEYS.iter().filter(|key| is_listener || key.name != "chain") {
            let kinds: Vec<_> = key.applies.iter().map(ToString::to_string).collect();
            let help = format!("{}; for {}", key.help, kinds.join(", "));
            options.insert(key.name.to_owned(), described(key.kind, key.value, key.fallback, &help));
        }
        options
    };
    let table = |properties: Map<String, Value>| json!({"type": "object", "additionalProperties": false, "properties": properties});
    insert("defaults", table(options(false)));
    let mut listener = options(true);
    listener.insert(
        "name".to_owned(),
        json!({"type": "string", "pattern": "^(?!all$|[0-9]+$)[A-Za-z0-9_.-]{1,64}$|\\$\\{", "description": "name of the listener"}),
    );
    listener.insert(
        "listen".to_owned(),
        json!({"$ref": "#/$defs/texts", "description": "where to listen: one URL, or several"}),
    );
    listener.insert(
        "tls".to_owned(),
        json!({
            "type": "object",
            "description": "for tls: and unix+tls: addresses: cert, key and the other options of the filter tls",
            "additionalProperties": {"anyOf": [{"type": ["string", "integer"]}, {"$ref": "#/$defs/texts"}]},
        }),
    );
    let mut listener = table(listener);
    listener["required"] = json!(["name", "listen"]);
    insert("listener", json!({"type": "array", "minItems": 1, "items": listener}));
    let mut schema = table(top);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Configuration of resay serve");
    schema["required"] = json!(["listener"]);
    schema["$defs"] = json!({
        "texts": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
    });
    schema
}

fn described(kind: ValueType, form: &str, fallback: &str, help: &str) -> Value {
    let types = Types::of(kind, form);
    let mut schema = json!({"type": types.names});
    if !types.elements.is_empty() {
        schema["items"] = json!({"type": types.elements});
    }
    if kind.name == "duration" && !form.contains('|') && types.names.contains(&"integer") {
        // Nothing else needs no unit.
        (schema["minimum"], schema["maximum"]) = (json!(0), json!(0));
    }
    // A text may be a word such as `auto`, or hold a variable: only numbers have a range.
    if matches!(kind.name, "integer" | "size") {
        for (word, limit) in [("minimum", kind.min), ("maximum", kind.max)] {
            if let Ok(limit) = resay::options::parse_size(limit) {
                schema[word] = json!(limit);
            }
        }
    }
    schema["description"] = json!(format!("{help} ({form})"));
    if !fallback.is_empty() {
        schema["default"] = json!(fallback);
    }
    schema
}

/// A file with every key, which is valid as it stands.
pub(super) fn example() -> String {
    let mut text = String::from(
        "# A configuration of `resay serve --config FILE`. Everything but [[listener]] may be left out; what stands\n\
         # behind a number sign is the default. `resay serve --config FILE --check` says what is wrong.\n\
         # ${NAME} in a value is a variable of the environment, $$ a dollar sign.\n\n",
    );
    // Writing to a String does not fail.
    for key in ENGINE_KEYS {
        let _ = writeln!(text, "# {}\n# {} = {}", key.help, key.name, quoted(key.fallback));
    }
    text += "# format of the log: text, json\n# log = \"text\"\n\
             # time limit for draining; connections that are open then are cut off\n# drain_timeout = \"5s\"\n\
             # time that all goes on for after SIGTERM, before draining\n# lame_duck = 0\n\
             # after the start, give up all files, programs and system calls that serving does not need\n# sandbox = false\n\
             # accept commands of `resay ctl` on a unix socket at this path\n# control = \"/run/resay/control\"\n\
             # answer its questions on another one, for the server's group too\n# control_read = \"/run/resay/control-read\"\n\
             # serve metrics and health checks over HTTP: /metrics, /stats.json, /readyz, /livez\n# metrics = \"127.0.0.1:9464\"\n\
             # directories in which plugins are looked up\n# plugin_dirs = []\n\
             # chain of all listeners that have none of their own\nchain = \"uppercase\"\n\n\
             # Options of all listeners that do not say otherwise.\n[defaults]\n";
    for key in KEYS.iter().filter(|key| key.name != "chain") {
        let kinds: Vec<_> = key.applies.iter().map(ToString::to_string).collect();
        let _ = writeln!(
            text,
            "# {}; for {}\n# {} = {}",
            key.help,
            kinds.join(", "),
            key.name,
            quoted(key.fallback)
        );
    }
    text + "\n# A listener: its name stays the same in logs, in `resay ctl` and over reloads. It takes every option above.\n\
            [[listener]]\nname = \"public\"\nlisten = [\"tcp://127.0.0.1:8888\", \"udp://127.0.0.1:8888\"]\n\
            idle_timeout = \"1m\"\n\n\
            [[listener]]\nname = \"lines\"\nlisten = \"tcp://127.0.0.1:8889?max_per_peer=64\"\n\
            frame = \"lines\"\nchain = \"uppercase | identity\"\n"
}

fn quoted(fallback: &str) -> String {
    match fallback.parse::<u64>() {
        Ok(number) => number.to_string(),
        Err(_) => format!("{fallback:?}"),
    }
}
