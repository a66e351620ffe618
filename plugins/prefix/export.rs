//! `libprefix.so`: the table of `prefix`, exported.

resay_plugin::export!(resay_transforms::prefix::TABLE);
