//! `libtemplate.so`: the table of `template`, exported.

resay_plugin::export!(resay_transforms::template::TABLE);
