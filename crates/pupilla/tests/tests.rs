//! All integration tests in one binary: the library is linked once.

mod backbone;
mod backbone_teacher;
mod calibration;
mod dense_features;
mod embedding;
mod embedding_parts;
mod golden;
mod model_file;
mod mutations;
mod numerics;
mod patch_network;
mod reconstruction;
mod residual_metric;
mod score;
mod student_teacher;
mod teacher;
mod torch_file;
mod trainer;
