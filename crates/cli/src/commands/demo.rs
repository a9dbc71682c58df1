//! `pupilla demo`.
