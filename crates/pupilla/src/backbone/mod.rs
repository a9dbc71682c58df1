//! Pretrained networks: frozen, their batch norm folded into the convolutions, for inference alone.
//!
//! [`load`] reads ResNet-18 (He et al., CVPR 2016) or SqueezeNet 1.1 (Iandola et al., 2016) from a file of weights with torchvision's
//! names, which timm's ResNet-18 shares, or EfficientNet-Lite0 to 4 (Google, 2020; Tan and Le, ICML 2019) with the names of
//! `efficientnet_lite_pytorch`. The layers in the file decide which outputs the network has: [`Backbone::outputs`] names them. A file
//! may end after any stage of ResNet-18 or EfficientNet-Lite or any fire module of SqueezeNet, and may come with its batch norm folded
//! in already.
//!
//! | network | outputs: channels, stride |
//! |---|---|
//! | ResNet-18 | `stem` (after its max-pooling): 64, 4; `layer1`: 64, 4; `layer2`: 128, 8; `layer3`: 256, 16; `layer4`: 512, 32; `features`: 512 pooled; `logits`: one a class |
//! | SqueezeNet 1.1 | `conv1`: 64, 2; `fire3`: 128, 4; `fire5`: 256, 8; `fire9`: 512, 16; `features`: 512 pooled |
//! | EfficientNet-Lite0 | `stage1`: 16, 2; `stage2`: 24, 4; `stage3`: 40, 8; `stage4`: 80, 16; `stage5`: 112, 16; `stage6`: 192, 32; `stage7`: 320, 32; `features`: 1280 pooled; `logits`: one a class |
//! | EfficientNet-Lite1 | as Lite0 |
//! | EfficientNet-Lite2 | as Lite0 with 16, 24, 48, 88, 120, 208 and 352 channels |
//! | EfficientNet-Lite3 | as Lite0 with 24, 32, 48, 96, 136, 232 and 384 channels |
//! | EfficientNet-Lite4 | as Lite0 with 24, 32, 56, 112, 160, 272 and 448 channels |
//!
//! Maps of ResNet-18 and SqueezeNet are taken after the ReLU. Maps of EfficientNet-Lite are the linear sums at the end of each stage,
//! so they have both signs. The paper's P, which a teacher is distilled from, is ResNet-18's output `features` (§3.1 of Bergmann et
//! al., CVPR 2020).

mod architecture;
mod batch_norm;
mod config;
mod dense_features;
mod efficientnet_lite;
mod output;
mod preprocessing;
mod pretrained;
mod resnet18;
mod squeezenet;
mod summary;
mod weight_source;
mod weights;

use pupilla_core::image::Size;
use pupilla_core::observer::{StopFlag, Stopped};
use std::path::{Path, PathBuf};

use pretrained::Pretrained;
use pupilla_nn::Tensor;

use pupilla_files::tensor_file::{TensorFile, TensorFileError};

pub use config::{BackboneConfig, EfficientNetLiteConfig, ResNet18Config, SqueezeNetConfig};
pub use dense_features::{DenseFeatures, FeatureMaps, Positions};
pub(crate) use dense_features::{MAX_PIXELS, ZOOMS};
pub use output::{Centres, FEATURES, LOGITS, Output};
pub use preprocessing::Preprocessing;
pub use summary::{OutputSummary, features, summarise};
pub use weight_source::WeightSource;
pub use weights::NamedArray;

/// A pretrained network that turns images into maps. Its weights never change and get no gradients.
pub trait Backbone: std::fmt::Debug + Send + Sync {
    /// Which network it is and how much of it there is; with [`arrays`](Self::arrays) everything that
    /// a model file must keep of it.
    fn config(&self) -> BackboneConfig;

    /// The wanted outputs for a batch of images, in the order asked for. Layers after the last wanted output are not computed.
    ///
    /// # Shapes
    /// - `input`: `[batch, 3, height, width]`, as [`Preprocessing`] makes it, of any size that is not
    ///   below [`Output::smallest_side`]
    /// - outputs: `[batch, channels, rows, columns]`, about an [`Output::stride`]-th of the input's
    ///   size; `[batch, channels, 1, 1]` for outputs without a stride
    ///
    /// # Errors
    /// If an output is unknown or not in the file that was loaded, or the input is too small for it.
    fn maps(&self, input: &Tensor, wanted: &[&str]) -> Result<Vec<Tensor>, BackboneError> {
        self.maps_until(input, wanted, &StopFlag::default())
    }

    /// [`maps`](Self::maps), given up between two layers once `stop` is raised.
    ///
    /// # Errors
    /// As `maps`, and [`BackboneError::Stopped`].
    fn maps_until(
        &self,
        input: &Tensor,
        wanted: &[&str],
        stop: &StopFlag,
    ) -> Result<Vec<Tensor>, BackboneError>;

    /// All weights by name, in the order of [`BackboneConfig::layout`].
    fn arrays(&self) -> Vec<NamedArray>;

    /// Its outputs, first layer first.
    fn outputs(&self) -> Vec<Output> {
        self.config().outputs()
    }

    /// The preprocessing that turns an image into an input.
    fn preprocessing(&self) -> Preprocessing {
        self.config().preprocessing()
    }
}

/// A pretrained network could not be read or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackboneError {
    /// The file could not be read.
    #[error(transparent)]
    File(#[from] TensorFileError),
    /// The file holds a network that is not whole.
    #[error("read as {network}: {source}")]
    Weights {
        /// The network that its names suggest.
        network: &'static str,
        /// The error about its tensors.
        source: TensorFileError,
    },
    /// This build of the library has no built-in network.
    #[error(
        "this build has no built-in pretrained network (feature built-in-backbone): give a file of weights"
    )]
    NotBuiltIn,
    /// An EfficientNet with squeeze-and-excitation.
    #[error("{} holds an EfficientNet with squeeze-and-excitation (B0 to B8), which is not read here: give an EfficientNet-Lite", path.display())]
    SqueezeAndExcitation {
        /// The file.
        path: PathBuf,
    },
    /// No known network has tensors of these names.
    #[error("{} holds no network that is known here: ResNet-18 or SqueezeNet 1.1 with torchvision's names, or EfficientNet-Lite with efficientnet_lite_pytorch's; it holds {}", path.display(), if names.is_empty() { "nothing" } else { names })]
    Unrecognised {
        /// The file.
        path: PathBuf,
        /// Names of its first tensors.
        names: String,
    },
    /// An output that this network does not have, or whose layers are not in the file.
    #[error(
        "this {network} has no output {wanted:?}: it gives {available}{}",
        hint(network, wanted, available)
    )]
    NoOutput {
        /// The network.
        network: &'static str,
        /// The wanted output.
        wanted: String,
        /// The outputs that it has.
        available: String,
    },
    /// The network gives no map, only numbers about the whole image.
    #[error("this {network} gives no map of features to describe positions with")]
    NoMaps {
        /// The network.
        network: &'static str,
    },
    /// A choice of features that describes no position.
    #[error("features of this {network}: {reason}")]
    Features {
        /// The network.
        network: &'static str,
        /// The reason.
        reason: String,
    },
    /// A tensor that is no batch of images.
    #[error("the input of a network is [batch, 3, height, width], not {shape:?}")]
    Input {
        /// Its shape.
        shape: [usize; 4],
    },
    /// The images are too small for the strides.
    #[error("{size} pixels are too few for the output {output}: each side needs {needed}")]
    TooSmall {
        /// The images'.
        size: Size,
        /// The output that was asked for.
        output: &'static str,
        /// Smallest side.
        needed: usize,
    },
    /// The network would see more pixels at once than memory allows.
    #[error(
        "{size} pixels{} are more than the {} that a network sees at once: resize images to a smaller size, or lower the zoom",
        if *zoom > 1 { format!(", {zoom} times larger,") } else { String::new() },
        dense_features::MAX_PIXELS
    )]
    TooLarge {
        /// The image's.
        size: Size,
        /// How many times it was to be enlarged.
        zoom: usize,
    },
    /// An image has another size than the other images of its batch, or than the images that the network was trained on.
    #[error("{size} pixels instead of {expected}")]
    ImageSize {
        /// The image's.
        size: Size,
        /// The right size.
        expected: Size,
    },
    /// The work was asked to stop.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// An output is NaN or infinite.
    #[error("the output {output} holds NaN or infinity: the weights are damaged")]
    NotFinite {
        /// The output.
        output: &'static str,
    },
    /// A configuration that no network has, or arrays that do not fit it.
    #[error("the {network} cannot be rebuilt: {reason}")]
    Rebuild {
        /// The network.
        network: &'static str,
        /// The reason.
        reason: String,
    },
}

/// Why a well-known output may not be there.
fn hint(network: &str, wanted: &str, available: &str) -> &'static str {
    let given = |wanted: &str| available.split(", ").any(|name| name == wanted);
    let (maps, classifier) = match network {
        resnet18::NAME => (["layer1", "layer2", "layer3", "layer4"].as_slice(), "fc"),
        squeezenet::NAME => (["fire3", "fire5", "fire9"].as_slice(), ""),
        _ => (efficientnet_lite::STAGE_NAMES.as_slice(), "_fc"),
    };
    if maps.last().is_some_and(|last| given(last)) {
        // A list of maps alone, or of everything that the network gives.
        return match (wanted, given(FEATURES), classifier) {
            (FEATURES, false, _) => " (pooled over the whole image, they describe no position)",
            (LOGITS, false, _) => " (classes of the whole image describe no position)",
            (LOGITS, true, "fc") => " (the file has no layer fc)",
            (LOGITS, true, "_fc") => " (the file has no layer _fc)",
            _ => "",
        };
    }
    let pooled = wanted == FEATURES || wanted == LOGITS && !classifier.is_empty();
    if pooled || maps.contains(&wanted) {
        " (the file ends before the layers of the others: use a complete one)"
    } else {
        ""
    }
}

/// Reads a network from a file of weights: safetensors or `.pth`, told by its content. The names of its tensors tell which network it
/// is. Nothing in the file is executed.
///
/// Batch norm is folded into the convolutions (in 64 bits). The prefix `module.`, which PyTorch's
/// `DataParallel` puts before every name, is taken off.
///
/// # Errors
/// If the file is unreadable, hostile or damaged, holds another network, or tensors are missing, too
/// many, misshapen or not finite: these are all named in one message.
pub fn load(path: &Path) -> Result<Box<dyn Backbone>, BackboneError> {
    recognise(&TensorFile::open(path)?.without_prefix("module."))
}

/// The same for the bytes of a file that are in memory; `path` names them in errors.
///
/// # Errors
/// As [`load`].
pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Box<dyn Backbone>, BackboneError> {
    recognise(&TensorFile::parse(path, bytes)?.without_prefix("module."))
}

fn recognise(file: &TensorFile) -> Result<Box<dyn Backbone>, BackboneError> {
    if efficientnet_lite::has_squeeze_and_excitation(file) {
        return Err(BackboneError::SqueezeAndExcitation {
            path: file.path().to_path_buf(),
        });
    }
    let Some(config) = BackboneConfig::of(file) else {
        const SHOWN: usize = 5;
        let mut names: Vec<String> = file
            .names()
            .take(SHOWN)
            .map(pupilla_files::foreign_text::shown)
            .collect();
        if file.names().count() > SHOWN {
            names.push("…".to_string());
        }
        return Err(BackboneError::Unrecognised {
            path: file.path().to_path_buf(),
            names: names.join(", "),
        });
    };
    let architecture = config.architecture();
    let unused = |name: &str| config.leaves_aside(name);
    let arrays =
        weights::read(file, &architecture, unused).map_err(|source| BackboneError::Weights {
            network: config.name(),
            source,
        })?;
    Ok(Box::new(Pretrained::new(config, architecture, arrays)))
}
