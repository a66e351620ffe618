//! `librot13.so`: the table of `rot13`, exported.

resay_plugin::export!(resay_transforms::rot13::TABLE);
