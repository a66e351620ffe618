//! Both headers as programs in other languages read them: `resay.cdef`, declarations without a preprocessor, and
//! `resay.json`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::declarations::{Declared, Item, Kind, Type, read};
use super::json::{Json, number, object, text};

/// What both headers declare.
pub(crate) struct Interface {
    /// With the name of its header.
    items: Vec<(&'static str, Item)>,
}

/// Size and alignment in bytes.
type Layout = (usize, usize);

/// Of the layouts: those of every Linux with 64 bits.
const POINTER_BYTES: usize = 8;

/// Grows when a reader of resay.json must change.
const FORMAT: usize = 1;

impl Interface {
    /// Of each header the name and the text; first those that others include.
    pub(crate) fn read(headers: &[(&'static str, &str)]) -> Result<Interface, String> {
        let mut items = Vec::new();
        for (name, text) in headers {
            let found = read(text).map_err(|reason| format!("{name}: {reason}"))?;
            items.extend(found.into_iter().map(|item| (*name, item)));
        }
        Ok(Interface { items })
    }

    /// Declarations alone, as cffi and LuaJIT take them. Texts cannot be had in this form.
    pub(crate) fn cdef(&self) -> String {
        let mut cdef = "/* Resay's C interface without a preprocessor: for ffi.cdef of LuaJIT and of cffi. Generated from\n   \
                        resay.h and resay_plugin.h, which have the documentation. It needs size_t and the types of stdint.h. */\n\n"
            .to_owned();
        for (_, item) in &self.items {
            if let Kind::Number(value, of) = &item.kind {
                let _ = writeln!(cdef, "static const {of} {} = {value};", item.name);
            }
        }
        cdef.push('\n');
        for (_, item) in &self.items {
            if let Kind::Opaque | Kind::Struct(_) = &item.kind {
                let _ = writeln!(cdef, "typedef struct {0} {0};", item.name);
            }
        }
        cdef.push('\n');
        for (_, item) in &self.items {
            match &item.kind {
                Kind::Alias(what) => {
                    let _ = writeln!(cdef, "typedef {};", in_c(what, &item.name));
                }
                Kind::Struct(fields) => {
                    let _ = writeln!(cdef, "struct {} {{", item.name);
                    for field in fields {
                        let _ = writeln!(cdef, "  {};", in_c(&field.what, &field.name));
                    }
                    cdef.push_str("};\n");
                }
                Kind::Function(signature) => {
                    let name = format!("{}({})", item.name, list(&signature.parameters));
                    let _ = writeln!(cdef, "{};", joined(&signature.returns, &name));
                }
                Kind::Number(..) | Kind::Text(_) | Kind::Opaque => {}
            }
        }
        cdef
    }

    /// The same with the documentation, and where each field is.
    pub(crate) fn json(&self) -> Result<String, String> {
        let mut layouts = Layouts::default();
        let [mut constants, mut opaque, mut types, mut callbacks, mut structs, mut functions]: [Vec<Json>;
            6] = Default::default();
        for (header, item) in &self.items {
            let mut members = vec![("name", text(&item.name))];
            let place = match &item.kind {
                Kind::Number(value, of) => {
                    members.extend([("type", text(of)), ("value", Json::Number(*value))]);
                    &mut constants
                }
                Kind::Text(value) => {
                    members.extend([("type", text("const char *")), ("value", text(value))]);
                    &mut constants
                }
                Kind::Opaque => &mut opaque,
                Kind::Alias(Type { text: returns, parameters: Some(parameters), .. }) => {
                    layouts.known.insert(item.name.clone(), (POINTER_BYTES, POINTER_BYTES));
                    members.extend(signature(returns, parameters));
                    &mut callbacks
                }
                Kind::Alias(what) => {
                    let layout = layouts.of(what).ok_or_else(|| format!("{}: of what size?", item.name))?;
                    layouts.known.insert(item.name.clone(), layout);
                    members.extend([("type", text(&what.text)), ("size", number(layout.0))]);
                    &mut types
                }
                Kind::Struct(fields) => {
                    let (members_of_it, (size, align)) = layouts
                        .place(fields)
                        .map_err(|field| format!("{}.{field}: of what size?", item.name))?;
                    layouts.known.insert(item.name.clone(), (size, align));
                    members.extend([
                        ("size", number(size)),
                        ("align", number(align)),
                        ("fields", Json::List(members_of_it)),
                    ]);
                    &mut structs
                }
                Kind::Function(of) => {
                    members.extend(signature(&of.returns, &of.parameters));
                    &mut functions
                }
            };
            members.extend([("header", text(header)), ("doc", text(&item.doc))]);
            place.push(object(members));
        }
        let whole = object(vec![
            ("format", number(FORMAT)),
            ("pointer_bytes", number(POINTER_BYTES)),
            ("constants", Json::List(constants)),
            ("opaque", Json::List(opaque)),
            ("types", Json::List(types)),
            ("callbacks", Json::List(callbacks)),
            ("structs", Json::List(structs)),
            ("functions", Json::List(functions)),
        ]);
        Ok(format!("{whole}\n"))
    }
}

/// What a type's size is known by.
#[derive(Default)]
struct Layouts {
    known: BTreeMap<String, Layout>,
}

impl Layouts {
    fn of(&self, what: &Type) -> Option<Layout> {
        let (size, align) = if what.parameters.is_some() || what.text.contains('*') {
            (POINTER_BYTES, POINTER_BYTES)
        } else {
            let name = what.text.rsplit(' ').next().unwrap_or_default();
            let size = match name {
                "char" | "int8_t" | "uint8_t" | "bool" => 1,
                "int16_t" | "uint16_t" => 2,
                "int" | "int32_t" | "uint32_t" => 4,
                "int64_t" | "uint64_t" | "double" => 8,
                "size_t" | "intptr_t" | "uintptr_t" => POINTER_BYTES,
                _ => 0,
            };
            if size == 0 { *self.known.get(name)? } else { (size, size) }
        };
        Some((size * what.count.unwrap_or(1), align))
    }

    /// The fields with their places, and the layout of all together; or the field of which no size is known.
    fn place(&self, fields: &[Declared]) -> Result<(Vec<Json>, Layout), String> {
        let (mut end, mut align) = (0_usize, 1);
        let mut placed = Vec::new();
        for field in fields {
            let (size, of_field) = self.of(&field.what).ok_or_else(|| field.name.clone())?;
            let offset = end.next_multiple_of(of_field);
            (end, align) = (offset + size, align.max(of_field));
            let mut members = declared(field);
            members.extend([("offset", number(offset)), ("size", number(size)), ("doc", text(&field.doc))]);
            placed.push(object(members));
        }
        Ok((placed, (end.next_multiple_of(align), align)))
    }
}

fn signature(returns: &str, parameters: &[Declared]) -> Vec<(&'static str, Json)> {
    let parameters = parameters.iter().map(|parameter| object(declared(parameter))).collect();
    vec![("returns", text(returns)), ("parameters", Json::List(parameters))]
}

/// Name and type. Of an array the type is that of an element; a pointer to a function has its signature beside it.
fn declared(what: &Declared) -> Vec<(&'static str, Json)> {
    let mut members = vec![("name", text(&what.name))];
    match &what.what.parameters {
        None => members.push(("type", text(&what.what.text))),
        Some(parameters) => {
            members.push(("type", text(&in_c(&what.what, ""))));
            members.extend(signature(&what.what.text, parameters));
        }
    }
    members.extend(what.what.count.map(|count| ("count", number(count))));
    members
}

/// A declaration in C; without a name a type.
fn in_c(what: &Type, name: &str) -> String {
    match (&what.parameters, what.count) {
        (Some(parameters), _) => joined(&what.text, &format!("(*{name})({})", list(parameters))),
        (None, Some(count)) => joined(&what.text, &format!("{name}[{count}]")),
        (None, None) => joined(&what.text, name),
    }
}

fn list(parameters: &[Declared]) -> String {
    if parameters.is_empty() {
        return "void".to_owned();
    }
    parameters.iter().map(|parameter| in_c(&parameter.what, &parameter.name)).collect::<Vec<_>>().join(", ")
}

fn joined(what: &str, name: &str) -> String {
    let gap = if name.is_empty() || what.ends_with('*') { "" } else { " " };
    format!("{what}{gap}{name}")
}
