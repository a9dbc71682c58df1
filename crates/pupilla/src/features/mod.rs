//! From an image to features, which detectors compare and students learn to predict.
//!
//! [`input`] (pixels as networks read them) → [`grid`] (positions), [`tiles`] (parts of an image) → [`extractor`] (what gives features:
//! a [`teacher`]'s patch network, or a [pretrained network](backbone_extractor)).

pub mod backbone_extractor;
pub mod extractor;
pub(crate) mod grid;
pub mod input;
pub mod sampling;
pub mod teacher;
pub(crate) mod tiles;

pub use backbone_extractor::{BackboneExtractor, BackboneManifest, ExtractorError};
pub use extractor::{Extractor, ExtractorManifest};
pub use sampling::Sampling;
pub use teacher::Teacher;
