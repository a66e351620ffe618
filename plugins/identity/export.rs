//! `libidentity.so`: the table of `identity`, exported.

resay_plugin::export!(resay_transforms::identity::TABLE);
