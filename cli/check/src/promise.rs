//! What a plugin promises: the rules of `resay_plugin.h`, each with a name and a sentence.

macro_rules! promises {
    ($($(#[$doc:meta])* $name:ident $code:literal $text:literal)*) => {
        /// One rule of the boundary.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Promise { $(#[doc = $text] $name,)* }

        impl Promise {
            /// Every one, in the order of the enum.
            pub const ALL: &'static [Promise] = &[$(Promise::$name,)*];

            /// A short name that stays, such as `output-bounds`.
            pub const fn code(self) -> &'static str {
                match self { $(Promise::$name => $code,)* }
            }

            /// The rule in a sentence.
            pub const fn text(self) -> &'static str {
                match self { $(Promise::$name => $text,)* }
            }
        }
    };
}

promises! {
    File "file" "a library file that not everyone may write to"
    Exports "exports" "resay_plugin_v1 is the only export"
    Loads "loads" "the library loads, with every symbol bound"
    Entry "entry" "resay_plugin_v1 takes any host revision, and gives the same each time"
    Table "table" "sizes, names, bits and functions of the table are as the header says"
    Creates "creates" "create() makes an instance of what is declared"
    Options "options" "create() takes each declared option with its fallback, and survives any value"
    ErrorText "error-text" "an error's text keeps to its room, ends with NUL and is UTF-8"
    StructSize "struct-size" "nothing behind struct_size is touched, and what may be NULL is tested"
    Leaks "leaks" "destroy() and session_close() give back what was taken"
    Alone "alone" "the process is left alone: no exit, signals, directory, environment, standard streams"
    Returns "returns" "every call returns"
    NoCrash "no-crash" "no call crashes"
    NoPanic "no-panic" "no input makes it panic"
    SessionBounds "session-bounds" "a session keeps to its session_size bytes"
    InputBounds "input-bounds" "only the bytes that are lent are touched"
    InputUnchanged "input-unchanged" "process() does not write to its input"
    OutputBounds "output-bounds" "at most out_cap bytes are written, and out_len says no more"
    Consumed "consumed" "in_used is at most in_len, and with RESAY_OK it is in_len"
    Statuses "statuses" "only statuses of the header, each where it is allowed"
    Progress "progress" "RESAY_MORE_OUT comes with progress and has an end"
    Ends "ends" "RESAY_MORE_IN is no answer to the end of a message or stream"
    Bound "bound" "the output keeps to the declared bound"
    Bytewise "bytewise" "RESAY_CAP_BYTEWISE: a byte depends on the same byte of input alone, and the length stays"
    Observer "observer" "RESAY_CAP_OBSERVER: the bytes are never changed, and map() does not write"
    Alias "alias" "RESAY_CAP_ALIAS: process() works with out == in"
    Room "room" "the room for output changes the calls, not the stream"
    Place "place" "where the bytes are in memory does not matter"
    Sessions "sessions" "sessions stay apart"
    Threading "threading" "calls from the threads that are declared give what one thread gives"
    SessionState "session-state" "a session that was saved and loaded goes on where it was"
    Unload "unload" "RESAY_LIB_UNLOADABLE: dlclose() leaves nothing behind"
}

impl Promise {
    pub(crate) fn from_code(code: &str) -> Option<Promise> {
        Promise::ALL.iter().copied().find(|promise| promise.code() == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_a_name_and_names_one() {
        for promise in Promise::ALL {
            assert_eq!(Promise::from_code(promise.code()), Some(*promise));
            assert!(promise.code().chars().all(|c| c.is_ascii_lowercase() || c == '-'));
        }
        assert_eq!(Promise::from_code("nonsense"), None);
    }
}
