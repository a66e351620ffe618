//! A program in C that compiles only if the header declares what resay.json says.

use std::fmt::Write as _;

use serde_json::Value;

/// `declarations` is what the program begins with. A `static const` of resay.cdef is no constant to a C compiler, so
/// its values are compared when the program runs; the answer is then the number of those that differ.
pub(crate) fn program(declarations: &str, json: &Value, has_macros: bool) -> String {
    let mut code = "#include <stddef.h>\n#include <stdint.h>\n#include <string.h>\n".to_owned();
    code.push_str(declarations);
    let mut checks = String::new();
    for constant in all(json, "constants") {
        let (name, of, value) = (word(constant, "name"), word(constant, "type"), &constant["value"]);
        match (value, has_macros) {
            (Value::String(_), true) => {
                let _ = writeln!(checks, "  wrong += strcmp({name}, {value}) != 0;");
            }
            (Value::String(_), false) => {}
            (value, true) => {
                let _ = writeln!(code, "_Static_assert({name} == {value}, \"{name}\");");
                let _ = writeln!(code, "_Static_assert(_Generic({name}, {of}: 1, default: 0), \"{name}\");");
            }
            (value, false) => {
                let _ = writeln!(
                    checks,
                    "  wrong += {name} != {value} || !_Generic({name}, {of}: 1, default: 0);"
                );
            }
        }
    }
    for opaque in all(json, "opaque") {
        let _ = writeln!(code, "extern {} *opaque_{0};", word(opaque, "name"));
    }
    for alias in all(json, "types") {
        let (name, of) = (word(alias, "name"), word(alias, "type"));
        let _ = writeln!(code, "_Static_assert(_Generic(({name})0, {of}: 1, default: 0), \"{name}\");");
        let _ = writeln!(code, "_Static_assert(sizeof({name}) == {}, \"{name}\");", alias["size"]);
    }
    for of in all(json, "structs") {
        let name = word(of, "name");
        let _ = writeln!(code, "_Static_assert(sizeof({name}) == {}, \"{name}\");", of["size"]);
        let _ = writeln!(code, "_Static_assert(_Alignof({name}) == {}, \"{name}\");", of["align"]);
        for field in all(of, "fields") {
            let it = word(field, "name");
            let what = format!("\"{name}.{it}\"");
            let _ = writeln!(code, "_Static_assert(offsetof({name}, {it}) == {}, {what});", field["offset"]);
            let _ =
                writeln!(code, "_Static_assert(sizeof((({name} *)0)->{it}) == {}, {what});", field["size"]);
            let count = field["count"].as_u64().map(|count| format!("[{count}]")).unwrap_or_default();
            // A pointer to it, which converts from no other type.
            let pointer = match field.get("parameters") {
                None => format!("{} (*pointer){count}", word(field, "type")),
                Some(_) => format!("{} (**pointer)({})", word(field, "returns"), parameters(field)),
            };
            let check = format!("static inline void check_{name}_{it}({name} *of, int ok)");
            let _ = writeln!(code, "{check} {{ {pointer} = &of->{it}; (void)pointer, (void)ok; }}");
        }
    }
    for callback in all(json, "callbacks") {
        let (name, returns) = (word(callback, "name"), word(callback, "returns"));
        let _ = writeln!(code, "extern {returns} (*again_{name})({});", parameters(callback));
        let _ = writeln!(code, "extern {name} again_{name};");
    }
    for function in all(json, "functions") {
        let (name, returns) = (word(function, "name"), word(function, "returns"));
        let _ = writeln!(code, "{returns} {name}({});", parameters(function));
    }
    let _ = writeln!(code, "int main(void)\n{{\n  int wrong = 0;\n{checks}  return wrong;\n}}");
    code
}

/// The members of a list that the file must have.
pub(crate) fn all<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().unwrap_or_else(|| panic!("no list {name} in {value}"))
}

pub(crate) fn word<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no text {name} in {value}"))
}

fn parameters(of: &Value) -> String {
    let one = |parameter: &Value| match parameter.get("parameters") {
        None => format!("{} {}", word(parameter, "type"), word(parameter, "name")),
        Some(_) => {
            let returns = word(parameter, "returns");
            format!("{returns} (*{})({})", word(parameter, "name"), parameters(parameter))
        }
    };
    let list: Vec<_> = all(of, "parameters").iter().map(one).collect();
    if list.is_empty() { "void".to_owned() } else { list.join(", ") }
}
