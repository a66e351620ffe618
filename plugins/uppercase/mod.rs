//! `uppercase`: letters come back as capitals. ASCII letters by default, in place; with `unicode=1` all
//! letters of UTF-8 text, which may change its length.
//!
//! The two modes make different promises, so each has a table of its own, and `unicode` chooses.

mod ascii;
mod unicode;

use resay_plugin::{Draft, OptionSpec, Table, Transform};

/// The table: bundled into the engine, and exported by `libuppercase`.
pub static TABLE: Table = described(Table::map::<ascii::Ascii>(c"uppercase"))
    .bytewise()
    .select(|options| options.bool(unicode::OPTION).unwrap_or(false).then_some(&UNICODE_TABLE))
    .build();

static UNICODE_TABLE: Table = {
    let (mul, div, add) = unicode::BOUND;
    described(Table::process::<unicode::Unicode>(c"uppercase")).bound(mul, div, add).build()
};

const OPTIONS: &[OptionSpec] = &[OptionSpec::bool(
    c"unicode",
    c"all letters of UTF-8 text rather than ASCII's; the length may change (ß becomes SS)",
)
.or(c"0")];

/// What the two tables have in common.
const fn described<T: Transform>(draft: Draft<T>) -> Draft<T> {
    draft.version(resay_plugin::package_version!()).summary(c"letters come back as capitals").options(OPTIONS)
}

#[cfg(test)]
mod tests {
    use super::TABLE;
    use resay_plugin::harness::{Harness, assert_refused};

    #[test]
    fn the_option_chooses() {
        let text = "größe ŉ";
        for (options, expected) in [
            (&[][..], "GRößE ŉ"),
            (&[("unicode", "0")], "GRößE ŉ"),
            (&[("unicode", "false")], "GRößE ŉ"),
            (&[("unicode", "1")], "GRÖSSE ʼN"),
            (&[("unicode", "true")], "GRÖSSE ʼN"),
        ] {
            let uppercase = Harness::new(&TABLE, options).unwrap();
            assert_eq!(uppercase.message(text.as_bytes()).unwrap(), expected.as_bytes(), "{options:?}");
        }
    }

    #[test]
    fn a_wrong_value_is_named() {
        assert_refused(&TABLE, &[("unicode", "yes", "1, 0, true or false")]);
    }
}
