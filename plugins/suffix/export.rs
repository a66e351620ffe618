//! `libsuffix.so`: the table of `suffix`, exported.

resay_plugin::export!(resay_transforms::suffix::TABLE);
