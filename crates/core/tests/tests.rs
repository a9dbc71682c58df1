//! All integration tests in one binary: the library is linked once.

mod differences;
mod hostile_images;
mod image_files;
mod layouts;
mod map_files;
mod metrics;
