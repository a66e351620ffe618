//! Rust as far as the rules need it: code without comments and literals, modules, imports, unsafe.

/// `source` with comments and the insides of literals blanked; lines and columns stay.
pub(crate) fn code_of(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment_len(rest)
        } else if first == '"' {
            string_len(rest, 0)
        } else if first == 'r' && !is_letter(before) && raw_string_hashes(&rest[1..]).is_some() {
            let hashes = raw_string_hashes(&rest[1..]).unwrap_or(0);
            1 + string_len(&rest[1..], hashes + 1)
        } else if first == '\'' && char_len(rest) > 0 {
            char_len(rest)
        } else {
            code.push(first);
            before = first;
            rest = &rest[first.len_utf8()..];
            continue;
        };
        code.extend(rest[..len].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        before = ' ';
        rest = &rest[len..];
    }
    code
}

fn is_letter(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn block_comment_len(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// How many `#` stand before the quote of a raw string, behind its `r`.
fn raw_string_hashes(text: &str) -> Option<usize> {
    let hashes = text.len() - text.trim_start_matches('#').len();
    text[hashes..].starts_with('"').then_some(hashes)
}

/// `raw`: 0 for a string with escapes, else one more than it has hashes.
fn string_len(text: &str, raw: usize) -> usize {
    if raw > 0 {
        let hashes = raw - 1;
        let end = format!("\"{}", "#".repeat(hashes));
        return text[hashes + 1..].find(&end).map_or(text.len(), |at| hashes + 1 + at + end.len());
    }
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character literal; 0: it is a lifetime.
fn char_len(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((escaped, _))) => {
            let after = &text[escaped + 1..];
            after.find('\'').map_or(0, |at| escaped + 1 + at + 1)
        }
        (Some(_), Some((end, '\''))) => end + 1,
        _ => 0,
    }
}

/// Code with the inline modules that are only there in tests blanked too.
pub(crate) fn without_tests(source: &str) -> String {
    let mut code = code_of(source);
    let mut from = 0;
    while let Some(found) = code[from..].find("#[cfg(test)]") {
        let start = from + found;
        from = start + "#[cfg(test)]".len();
        let rest = &code[from..];
        let (Some(open), Some(semicolon)) = (rest.find('{'), rest.find(';').or(Some(usize::MAX))) else {
            break;
        };
        if open > semicolon || !rest[..open].trim_start().starts_with("mod ") {
            continue;
        }
        let mut depth = 0;
        let end = rest[open..].char_indices().find_map(|(at, c)| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            (depth == 0).then_some(from + open + at + 1)
        });
        let end = end.unwrap_or(code.len());
        let blank: String = code[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        code.replace_range(start..end, &blank);
        from = start;
    }
    code
}

/// `mod name;`
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) name: String,
    /// Under `#[cfg(test)]`.
    pub(crate) is_test: bool,
}

/// The modules that a file declares to be in files of their own.
pub(crate) fn declared_modules(source: &str) -> Vec<Declared> {
    let code = code_of(source);
    let mut found = Vec::new();
    let mut is_test = false;
    for line in code.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line.starts_with("#[") {
            is_test |= line.contains("cfg(test)") || line.contains("cfg(any(test, fuzzing))");
            if !line.ends_with("mod") && line.ends_with(']') {
                continue;
            }
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if let Some(place) = words.iter().position(|word| *word == "mod")
            && let Some(name) = words.get(place + 1).and_then(|name| name.strip_suffix(';'))
            && words[..place].iter().all(|word| word.starts_with("pub") || word.starts_with("#["))
        {
            found.push(Declared { name: name.to_owned(), is_test });
        }
        is_test = false;
    }
    found
}

/// A path from the crate's root that a module uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
}

/// What a module uses of its own crate: paths that begin with `crate`, `super` or `self`, wherever they stand, and
/// `use` of a child. Tests are left out.
pub(crate) fn imports(source: &str, module: &[String], children: &[String]) -> Vec<Import> {
    let code = without_tests(source);
    let mut found = Vec::new();
    for (at, word) in words(&code) {
        let after = &code[at + word.len()..];
        let is_path = after.starts_with("::") && !code[..at].ends_with([':', '$']);
        let base = match word {
            "crate" => Vec::new(),
            "self" => module.to_vec(),
            "super" => module.split_last().map(|(_, above)| above.to_vec()).unwrap_or_default(),
            _ if code[..at].ends_with("use ") && children.iter().any(|child| child == word) => {
                [module, &[word.to_owned()]].concat()
            }
            _ => continue,
        };
        if is_path {
            let line = code[..at].matches('\n').count() + 1;
            let mut paths = Vec::new();
            path_tree(&after[2..], base, &mut paths);
            found.extend(paths.into_iter().map(|path| Import { path, line }));
        }
    }
    found
}

/// The names that a module makes public by `pub use`.
pub(crate) fn reexports(source: &str) -> Vec<String> {
    let code = without_tests(source);
    let mut paths = Vec::new();
    for rest in code.split("pub use ").skip(1) {
        path_tree(rest, Vec::new(), &mut paths);
    }
    paths.into_iter().filter_map(|mut path| path.pop()).collect()
}

/// Reads `a::b`, `a::{b, c::d}`, `a::*`; gives what follows.
fn path_tree<'a>(text: &'a str, mut path: Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = path_tree(rest, path.clone(), found).trim_start();
            if let Some(name) = rest.strip_prefix("as ") {
                rest = name.trim_start().trim_start_matches(is_letter).trim_start();
            }
            match rest.strip_prefix(',') {
                Some(more) if !more.trim_start().starts_with('}') => rest = more,
                Some(more) => return more.trim_start().trim_start_matches('}'),
                None => return rest.trim_start_matches('}'),
            }
        }
    }
    let len = if text.starts_with('*') { 1 } else { text.find(|c| !is_letter(c)).unwrap_or(text.len()) };
    match &text[..len] {
        "" => return text,
        "self" => {}
        "super" => drop(path.pop()),
        name => path.push(name.to_owned()),
    }
    match text[len..].strip_prefix("::") {
        Some(rest) if !rest.starts_with('<') => path_tree(rest, path, found),
        _ => {
            found.push(path);
            &text[len..]
        }
    }
}

fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.split(|c| !is_letter(c))
        .filter(|word| !word.is_empty())
        .map(move |word| (word.as_ptr() as usize - code.as_ptr() as usize, word))
}

/// What is unsafe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsafe {
    Block,
    Impl,
    Function,
}

/// One use of the word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnsafeUse {
    pub(crate) what: Unsafe,
    pub(crate) line: usize,
    /// A comment says why it is sound, or what it asks of its caller.
    pub(crate) is_explained: bool,
}

/// Every unsafe block, impl, trait and function. Types of function pointers and attributes are none. The contract of a
/// function for C is what the header says of it: its documentation as a whole.
pub(crate) fn unsafe_uses(source: &str) -> Vec<UnsafeUse> {
    let code = code_of(source);
    let lines: Vec<&str> = source.lines().collect();
    let mut found = Vec::new();
    for (at, _) in words(&code).filter(|(_, word)| *word == "unsafe") {
        let line = code[..at].matches('\n').count();
        let after = code[at + "unsafe".len()..].trim_start();
        let word = after.split(|c| !is_letter(c)).next().unwrap_or_default();
        let for_c = word == "extern";
        let function = after.trim_start_matches("extern").trim_start();
        let (what, is_explained) = if after.starts_with('{') {
            (Unsafe::Block, is_explained(&lines, line, "SAFETY:"))
        } else if word == "impl" {
            (Unsafe::Impl, is_explained(&lines, line, "SAFETY:"))
        } else if let Some(name) = function.strip_prefix("fn ")
            && name.starts_with(is_letter)
        {
            let explained = is_explained(&lines, line, "# Safety") || is_explained(&lines, line, "SAFETY:");
            (Unsafe::Function, explained || for_c)
        } else if word == "trait" {
            (Unsafe::Function, is_explained(&lines, line, "# Safety"))
        } else {
            continue;
        };
        found.push(UnsafeUse { what, line: line + 1, is_explained });
    }
    found
}

/// Whether a comment with `mark` stands on the line or above the statement that the line is in.
fn is_explained(lines: &[&str], line: usize, mark: &str) -> bool {
    if lines.get(line).is_some_and(|line| line.contains(mark)) {
        return true;
    }
    let mut in_statement = true;
    for above in lines.get(..line).unwrap_or_default().iter().rev().map(|line| line.trim()) {
        let is_comment = above.starts_with("//") || above.starts_with("#[") || above.starts_with('*');
        if is_comment {
            if above.contains(mark) {
                return true;
            }
            in_statement = false;
        } else if !in_statement || above.is_empty() || above.ends_with([';', '}']) {
            return false;
        } else if above.ends_with('{') && !above.ends_with("match {") {
            // The statement begins behind this; or the block is what the comment above it explains.
            in_statement = false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_no_code() {
        let source = "a // b\n/* c /* d */ e */ f \"g\\\" // h\" r#\"i\"j\"# 'k' '\\'' &'l m";
        let words: String = code_of(source).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words, "a f &'l m");
        assert_eq!(code_of(source).len(), source.len());
    }

    #[test]
    fn imports_are_found_wherever_they_stand() {
        let source = "use crate::a::{self, b::C, d::*};\nfn f() -> crate::e::G<u8> { super::h::i() }\n\
                      pub use child::J;\n#[cfg(test)]\nmod tests { use crate::no; }\n";
        let module = ["x".to_owned(), "y".to_owned()];
        let found = imports(source, &module, &["child".to_owned()]);
        let paths: Vec<String> = found.iter().map(|import| import.path.join("::")).collect();
        assert_eq!(paths, ["a", "a::b::C", "a::d::*", "e::G", "x::h::i", "x::y::child::J"]);
        assert_eq!(found.iter().map(|import| import.line).collect::<Vec<_>>(), [1, 1, 1, 2, 2, 3]);
    }

    #[test]
    fn only_the_ends_of_paths_are_exported() {
        assert_eq!(reexports("pub use a::{B, c::D};\npub(crate) use e::F;\npub use g::H;"), ["B", "D", "H"]);
    }

    #[test]
    fn modules_of_tests_are_known_as_such() {
        let found = declared_modules(
            "mod a;\n#[cfg(test)]\npub(crate) mod b;\n#[allow(x)] // why\nmod c;\nmod d {}\n",
        );
        let found: Vec<_> = found.iter().map(|module| (module.name.as_str(), module.is_test)).collect();
        assert_eq!(found, [("a", false), ("b", true), ("c", false)]);
    }

    #[test]
    fn unsafe_code_is_found_with_its_reasons() {
        let source = "// SAFETY: yes.\nlet a =\n    unsafe { b };\nlet c = unsafe { d };\n\
                      type F = unsafe fn();\n/// # Safety\n/// No.\npub unsafe fn e() {}\n\
                      unsafe extern \"C\" fn f() {}\n#[unsafe(no_mangle)]\nunsafe impl G for H {}\n";
        let found: Vec<_> =
            unsafe_uses(source).iter().map(|found| (found.what, found.line, found.is_explained)).collect();
        assert_eq!(
            found,
            [
                (Unsafe::Block, 3, true),
                (Unsafe::Block, 4, false),
                (Unsafe::Function, 8, true),
                (Unsafe::Function, 9, true),
                (Unsafe::Impl, 11, false),
            ]
        );
    }
}
