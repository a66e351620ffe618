//! uppercase as a shared library.
