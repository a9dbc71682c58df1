//! Anomaly maps: scores of pixels, their files, and how they are drawn.

pub mod anomaly_map;
pub mod heatmap;
pub mod map_file;
pub mod map_set;
pub mod result_files;
