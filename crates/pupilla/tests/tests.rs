//! All integration tests in one binary: the library is linked once.

mod backbone;
mod backbone_teacher;
mod calibration;
mod dense_features;
mod feature_detector_parts;
mod feature_detectors;
mod golden;
mod model_file;
mod mutations;
mod network_detectors;
mod numerics;
mod patch_network;
mod residual_metric;
mod score;
mod student_teacher;
mod teacher;
mod torch_file;
