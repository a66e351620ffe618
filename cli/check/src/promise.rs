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
    Entry "entry" "resay_plugin_v1 accepts every host minor, and returns the same each time"
    Table "table" "sizes, names, bits and functions of the table are as the header requires"
    Lifecycle "lifecycle" "init() and shutdown() work in turn, and shutdown() leaves no thread and no descriptor"
    Creates "creates" "create() makes an instance from the declared options"
    Options "options" "create() accepts the fallback of each declared option, and survives any value"
    ErrorText "error-text" "an error text stays within its buffer, ends with NUL and is UTF-8"
    StructSize "struct-size" "nothing beyond struct_size is accessed, and pointers that may be NULL are tested"
    Leaks "leaks" "destroy() and session_close() release all memory, descriptors and threads"
    Alone "alone" "the process is left alone: no exit, no change of signals, directory or environment, no output"
    Returns "returns" "every call returns"
    NoCrash "no-crash" "no call crashes"
    NoPanic "no-panic" "no input makes it panic"
    SessionBounds "session-bounds" "a session stays within its session_size bytes"
    InputBounds "input-bounds" "only the bytes of the input are accessed"
    InputUnchanged "input-unchanged" "process() does not write to its input"
    OutputBounds "output-bounds" "at most output_cap bytes are written, and output_len is at most output_cap"
    Consumed "consumed" "input_used is at most input_len, and with RESAY_OK it is input_len"
    Statuses "statuses" "functions return only statuses of the header, each where it is allowed"
    Progress "progress" "RESAY_MORE_OUT makes progress and ends"
    Ends "ends" "RESAY_MORE_IN is not returned at the end of a message or stream"
    Bound "bound" "the output stays within the declared bound"
    Bytewise "bytewise" "RESAY_CAP_BYTEWISE: each output byte depends on the same input byte alone, and the length stays"
    Observer "observer" "RESAY_CAP_OBSERVER: the message is never changed, and map() does not write"
    Alias "alias" "RESAY_CAP_ALIAS: process() works with output == input"
    Room "room" "output_cap changes the number of calls, not the output"
    Place "place" "the address and alignment of buffers do not matter"
    Sessions "sessions" "sessions do not affect each other"
    Threading "threading" "calls from several threads, as declared, act as from one thread, without data races"
    SessionState "session-state" "a session that was saved and loaded continues where it was"
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
