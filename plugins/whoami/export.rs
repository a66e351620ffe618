//! `libwhoami.so`: the table of `whoami`, exported.

resay_plugin::export!(resay_transforms::whoami::TABLE);
