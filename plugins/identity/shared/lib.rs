//! identity as a shared library.
