//! All integration tests in one binary: the framework is linked once.

mod patch_network;
