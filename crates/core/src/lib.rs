//! Everything around the network: images, data sets, anomaly maps, metrics, evaluation, pictures.
//!
//! The modules follow the data path: [`image`] → [`dataset`] → [`detector`] → [`anomaly_map`] →
//! [`metrics`] → [`evaluation`] → pictures ([`heatmap`], [`sheet`]). Nothing here knows a network
//! or a deep-learning framework; a detector speaks in images and maps, never in tensors.
#![forbid(unsafe_code)]

pub mod anomaly_map;
pub mod attribution;
pub mod calibration;
pub mod calibration_run;
mod canvas;
pub mod comparison;
pub mod dataset;
pub mod dataset_check;
pub mod detector;
pub mod evaluation;
pub mod heatmap;
pub mod image;
pub mod image_source;
pub mod map_file;
pub mod map_run;
pub mod map_set;
pub mod mask;
pub mod metrics;
pub mod observer;
pub mod patch_sheet;
pub mod pipeline;
pub mod process_memory;
pub mod region;
pub mod report;
pub mod sheet;
pub mod synthetic;
pub mod test_run;
pub mod verdict;
