//! Student-teacher.
#![forbid(unsafe_code)]
