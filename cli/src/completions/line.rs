//! A command line as a shell sees it, as far as it is typed.

/// The words, without their quotes; the last is the one that is being typed, and may be empty. `None`: it ends within
/// something that is not to be completed.
pub(super) fn words(line: &str) -> Option<Vec<String>> {
    let mut words = vec![String::new()];
    let mut quote = None;
    let mut letters = line.chars();
    // Blanks have come since the last word.
    let mut is_between = true;
    while let Some(letter) = letters.next() {
        if quote.is_none() && letter.is_whitespace() {
            is_between = true;
            continue;
        }
        if std::mem::take(&mut is_between) && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        let word = words.last_mut()?;
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (None, '\'' | '"') => quote = Some(letter),
            (None | Some('"'), '\\') => word.push(letters.next()?),
            _ => word.push(letter),
        }
    }
    if is_between && words.last().is_some_and(|word| !word.is_empty()) {
        words.push(String::new());
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        let table: [(&str, &[&str]); 8] = [
            ("resay ", &["resay", ""]),
            ("resay  serve", &["resay", "serve"]),
            ("resay serve -t 'uppercase | he", &["resay", "serve", "-t", "uppercase | he"]),
            ("resay serve -t \"a 'b' \\\" c", &["resay", "serve", "-t", "a 'b' \" c"]),
            (r"resay serve a\ b", &["resay", "serve", "a b"]),
            ("resay 'tcp'://x?y", &["resay", "tcp://x?y"]),
            ("resay 'done' ", &["resay", "done", ""]),
            ("", &[""]),
        ];
        for (line, expected) in table {
            assert_eq!(words(line).unwrap(), expected, "{line}");
        }
        assert_eq!(words("resay a\\"), None);
    }
}
