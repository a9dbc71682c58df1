//! All integration tests in one binary: the framework is linked once.

mod model_file;
mod patch_network;
mod score;
mod student_teacher;
mod teacher;
