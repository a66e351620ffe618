//! `libduplicate.so`: the table of `duplicate`, exported.

resay_plugin::export!(resay_transforms::duplicate::TABLE);
