//! `libsockperf.so`: the table of `sockperf`, exported.

resay_plugin::export!(resay_transforms::sockperf::TABLE);
