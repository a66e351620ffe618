//! `libbandwidth.so`: the table of `bandwidth`, exported.

resay_plugin::export!(resay_transforms::bandwidth::TABLE);
