//! Everything around the network: images, data sets, anomaly maps, metrics, evaluation, reports.
//!
//! The modules follow the data path: [`image`] → [`data`] → [`detector`] → [`map`] → [`metrics`] → [`evaluate`] and [`verdict`] →
//! [`report`]. Nothing here knows a network or a deep-learning framework; a detector speaks in images and maps, never in tensors.
#![forbid(unsafe_code)]

pub mod data;
pub mod detector;
pub mod evaluate;
pub mod image;
pub mod map;
pub mod metrics;
pub mod observer;
pub mod pipeline;
pub mod process_memory;
pub mod report;
pub mod synthetic;
pub mod verdict;
