//! Where a pretrained network comes from: the library itself, or a file of weights.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use pupilla_core::data::{FingerprintError, content_fingerprint, file_fingerprint};

use super::{Backbone, BackboneError};

/// Where a pretrained network comes from. In text, the built-in network is [`WeightSource::BUILT_IN`], and everything else is a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WeightSource {
    /// The network that comes with the library: EfficientNet-Lite0 up to stride 16 (feature `built-in-backbone`).
    BuiltIn,
    /// A file of weights, see [`load`](super::load).
    File(PathBuf),
}

impl WeightSource {
    /// What stands for the built-in network in text.
    pub const BUILT_IN: &str = "built-in";

    /// Reads the network.
    ///
    /// # Errors
    /// As [`load`](super::load) for a file. [`BackboneError::NotBuiltIn`] in a build without the feature `built-in-backbone`.
    pub fn load(&self) -> Result<Box<dyn Backbone>, BackboneError> {
        match self {
            Self::BuiltIn => {
                let weights = built_in().ok_or(BackboneError::NotBuiltIn)?;
                super::from_bytes(Path::new(BUILT_IN_FILE), weights.to_vec())
            }
            Self::File(path) => super::load(path),
        }
    }

    /// Name of the file, without its folder.
    pub fn file_name(&self) -> String {
        match self {
            Self::BuiltIn => BUILT_IN_FILE.to_string(),
            Self::File(path) => {
                let name = path.file_name().unwrap_or(path.as_os_str());
                name.to_string_lossy().into_owned()
            }
        }
    }

    /// SHA-256 over name and content of the file, see [`file_fingerprint`].
    ///
    /// # Errors
    /// If the file cannot be read, or nothing is built in.
    pub fn fingerprint(&self) -> Result<String, FingerprintError> {
        match self {
            Self::BuiltIn => match built_in() {
                Some(weights) => Ok(content_fingerprint(BUILT_IN_FILE, weights)),
                None => Err(FingerprintError {
                    path: BUILT_IN_FILE.into(),
                    source: io::Error::new(io::ErrorKind::NotFound, "it is not built in"),
                }),
            },
            Self::File(path) => file_fingerprint(path),
        }
    }
}

impl fmt::Display for WeightSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => formatter.write_str(Self::BUILT_IN),
            Self::File(path) => path.display().fmt(formatter),
        }
    }
}

impl<P: AsRef<Path> + ?Sized> From<&P> for WeightSource {
    fn from(path: &P) -> Self {
        let path = path.as_ref();
        if path == Path::new(Self::BUILT_IN) {
            Self::BuiltIn
        } else {
            Self::File(path.to_path_buf())
        }
    }
}

impl FromStr for WeightSource {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.into())
    }
}

/// The name of the built-in file in messages and manifests.
const BUILT_IN_FILE: &str = "efficientnet_lite0.safetensors";

#[cfg(feature = "built-in-backbone")]
fn built_in() -> Option<&'static [u8]> {
    Some(pupilla_backbone_lite0::BACKBONE)
}

#[cfg(not(feature = "built-in-backbone"))]
fn built_in() -> Option<&'static [u8]> {
    None
}
