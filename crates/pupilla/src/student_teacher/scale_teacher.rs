//! What the students of a scale learn to predict: a patch network's descriptors, or a pretrained
//! network's own features (student–teacher feature pyramid matching, Wang et al., BMVC 2021, has the latter).

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pupilla_core::data::{FingerprintError, file_fingerprint};
use pupilla_core::image::Image;
use pupilla_nn::Tensor;
use serde::{Deserialize, Serialize};

use super::scale::windows_positions;
use super::seen_images::SeenImages;
use crate::backbone::Positions;
use crate::backbone::{self, Backbone, BackboneConfig, BackboneError, DenseFeatures, FeatureMaps};
use crate::error::ScoreError;
use crate::input::{Border, CHANNEL_MEAN, Window};
use crate::patch_network::{PatchNetwork, PatchNetworkConfig};
use crate::receptive_field::ReceptiveField;
use crate::teacher::{Teacher, TeacherManifest};

/// Pixels by which the image is continued on every side before a pretrained network sees it. Such networks
/// put zeros around the image, which changes what they say near its edges: their students, which know
/// nothing of the image's edges, cannot predict that.
pub const BACKBONE_MARGIN: usize = 32;

/// The largest margin that a file may have.
const MAX_MARGIN: usize = 256;

/// The teacher of one scale.
#[derive(Clone, Debug)]
pub enum ScaleTeacher {
    /// A patch network, which sees what its students see.
    PatchNetwork(Box<Teacher>),
    /// A pretrained network, which sees all of the image.
    Backbone {
        /// The patch size p of the students.
        field: ReceptiveField,
        /// The network and what is read from it.
        teacher: BackboneTeacher,
    },
}

impl From<Teacher> for ScaleTeacher {
    fn from(teacher: Teacher) -> Self {
        Self::PatchNetwork(Box::new(teacher))
    }
}

/// A pretrained network whose features students learn to predict. Clones share its weights.
#[derive(Clone, Debug)]
pub struct BackboneTeacher {
    pub(crate) network: Arc<dyn Backbone>,
    pub(crate) manifest: BackboneManifest,
}

/// Everything about a pretrained network as a teacher but its weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackboneManifest {
    /// Which network it is.
    pub network: BackboneConfig,
    /// What is read from it.
    pub features: DenseFeatures,
    /// Pixels by which the resized image is continued on every side before the network sees it, 0 to 256
    /// ([`BACKBONE_MARGIN`]).
    pub margin: usize,
    /// Name of the file that its weights came from.
    pub file: String,
    /// SHA-256 over that file's name and content, see [`file_fingerprint`].
    pub fingerprint: String,
}

/// Where the teacher of a scale came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScaleTeacherManifest {
    /// A patch network's whole manifest.
    PatchNetwork(Box<TeacherManifest>),
    /// A pretrained network.
    Backbone(BackboneManifest),
}

impl ScaleTeacherManifest {
    /// The patch network's manifest, if it is one.
    pub fn patch_network(&self) -> Option<&TeacherManifest> {
        match self {
            Self::PatchNetwork(teacher) => Some(teacher),
            Self::Backbone(_) => None,
        }
    }
}

/// A file of weights cannot be a teacher.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackboneTeacherError {
    /// It holds no whole network.
    #[error(transparent)]
    Load(BackboneError),
    /// Its network does not give these features.
    #[error("{}: {source}", path.display())]
    Features {
        /// The file.
        path: PathBuf,
        /// Why.
        source: BackboneError,
    },
    /// It could be read once, but not a second time for its fingerprint.
    #[error(transparent)]
    Fingerprint(#[from] FingerprintError),
}

impl BackboneTeacher {
    /// The network of a file of weights ([`backbone::load`]), and of its maps those named by `outputs`,
    /// or [`DenseFeatures::usual`]; `zoom`, 1 to 8, is [`DenseFeatures::zoom`].
    ///
    /// # Errors
    /// If the file is not that of a network that is known here, all wrong tensors named; if the
    /// network lacks an output, or the zoom is out of range.
    pub fn load(
        path: &Path,
        outputs: Option<Vec<String>>,
        zoom: usize,
    ) -> Result<Self, BackboneTeacherError> {
        let network = backbone::load(path).map_err(BackboneTeacherError::Load)?;
        let wrong = |source| BackboneTeacherError::Features {
            path: path.to_path_buf(),
            source,
        };
        let mut features = DenseFeatures::usual(&*network, zoom).map_err(wrong)?;
        if let Some(outputs) = outputs {
            features.outputs = outputs;
        }
        features.of(&*network).map_err(wrong)?;
        let file = path.file_name().unwrap_or(path.as_os_str());
        Ok(Self {
            manifest: BackboneManifest {
                network: network.config(),
                features,
                margin: BACKBONE_MARGIN,
                file: file.to_string_lossy().into_owned(),
                fingerprint: file_fingerprint(path)?,
            },
            network: Arc::from(network),
        })
    }

    /// Everything about it but its weights.
    pub fn manifest(&self) -> &BackboneManifest {
        &self.manifest
    }

    /// The network.
    pub fn network(&self) -> &dyn Backbone {
        &*self.network
    }

    /// What it says about an image, which is seen as a whole, continued beyond its edges.
    pub(crate) fn maps(&self, image: &Image, border: Border) -> Result<FeatureMaps, ScoreError> {
        let features = &self.manifest.features;
        let continued = continued(image, self.manifest.margin, border);
        features
            .maps(&*self.network, &continued)
            .map_err(|source| self.failed(source))
    }

    /// Bytes of its weights.
    pub(super) fn weight_bytes(&self) -> usize {
        let layout = self.manifest.network.layout().unwrap_or_default();
        let values: usize = layout
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum();
        values * size_of::<f32>()
    }

    /// Bytes that it takes, about, while it looks at an image of this width and height (already resized).
    pub(super) fn maps_bytes(&self, [width, height]: [usize; 2]) -> usize {
        /// A pixel that it sees: thrice three values on the way in, and 64 channels of half the size, the
        /// largest map of all networks here, with the one behind it.
        const BYTES_PER_PIXEL: usize = 3 * 3 * 4 + 64 * 4 / 4 + 64 * 4 / 16;
        let margin = 2 * self.manifest.margin;
        let zoom = self.manifest.features.zoom;
        (width + margin) * (height + margin) * zoom * zoom * BYTES_PER_PIXEL
    }

    pub(crate) fn failed(&self, source: BackboneError) -> ScoreError {
        ScoreError::Backbone {
            file: self.manifest.file.clone(),
            source: Box::new(source),
        }
    }
}

/// An image with `margin` pixels more on every side.
fn continued(image: &Image, margin: usize, border: Border) -> Image {
    let [width, height] = [image.width(), image.height()].map(|side| side + 2 * margin);
    let source = |at: usize, size| border.source(at as isize - margin as isize, size);
    let columns: Vec<_> = (0..width).map(|at| source(at, image.width())).collect();
    let mut pixels = Vec::with_capacity(width * height * 3);
    for row in 0..height {
        let row = source(row, image.height());
        for column in &columns {
            pixels.extend(match (row, column) {
                (Some(row), Some(column)) => image.pixel(row, *column),
                _ => CHANNEL_MEAN,
            });
        }
    }
    Image::new(width, height, pixels)
}

/// Positions of an image as those of the image with `margin` pixels more on every side.
fn continued_positions(positions: Positions, margin: usize) -> Positions {
    Positions {
        first: positions.first.map(|at| at + margin as f32),
        ..positions
    }
}

impl BackboneManifest {
    /// Whether two are the same weights, whatever is read from them.
    pub(super) fn same_weights(&self, other: &Self) -> bool {
        self.network == other.network && self.fingerprint == other.fingerprint
    }

    /// What an untrusted file must satisfy beside the existence of the features.
    ///
    /// # Errors
    /// If there is no such network, or the margin is too large.
    pub(crate) fn check(&self) -> Result<(), BackboneError> {
        self.network.layout()?;
        if self.margin > MAX_MARGIN {
            return Err(BackboneError::Features {
                network: self.network.name(),
                reason: format!("the margin is {}, not 0 to {MAX_MARGIN}", self.margin),
            });
        }
        Ok(())
    }

    /// The students of patch size p that predict these features.
    ///
    /// # Errors
    /// As [`DenseFeatures::check`], and if the margin is too large.
    pub(super) fn students(
        &self,
        field: ReceptiveField,
    ) -> Result<PatchNetworkConfig, BackboneError> {
        self.check()?;
        let outputs = self.features.check(&self.network)?;
        Ok(PatchNetworkConfig {
            output_channels: outputs.iter().map(|output| output.channels).sum(),
            ..PatchNetworkConfig::new(field)
        })
    }
}

impl ScaleTeacher {
    /// The patch size p of the students.
    pub fn receptive_field(&self) -> ReceptiveField {
        match self {
            Self::PatchNetwork(teacher) => teacher.receptive_field(),
            Self::Backbone { field, .. } => *field,
        }
    }

    /// Everything about it but its weights.
    pub fn manifest(&self) -> ScaleTeacherManifest {
        match self {
            Self::PatchNetwork(teacher) => {
                ScaleTeacherManifest::PatchNetwork(Box::new(teacher.manifest.clone()))
            }
            Self::Backbone { teacher, .. } => {
                ScaleTeacherManifest::Backbone(teacher.manifest.clone())
            }
        }
    }

    /// The network that each of its students is.
    ///
    /// # Errors
    /// If a pretrained network does not give its features, which loading rules out.
    pub(super) fn students(&self) -> Result<PatchNetworkConfig, BackboneError> {
        match self {
            Self::PatchNetwork(teacher) => Ok(teacher.network.config()),
            Self::Backbone { field, teacher } => teacher.manifest.students(*field),
        }
    }

    /// Fails if an image of this width and height (already resized) is not one that it can describe.
    pub(super) fn check_size(&self, [width, height]: [usize; 2]) -> Result<(), ScoreError> {
        let field = self.receptive_field();
        if width.min(height) < field.side() {
            return Err(ScoreError::TooSmall {
                width,
                height,
                field,
            });
        }
        if let Self::Backbone { teacher, .. } = self {
            let margin = teacher.manifest.margin;
            let continued = [width, height].map(|side| side.saturating_add(2 * margin));
            let seen = teacher.manifest.features.seen_size(continued);
            seen.map_err(|source| teacher.failed(source))?;
        }
        Ok(())
    }

    /// The teacher before an image (already resized), of which any windows may then be described.
    ///
    /// # Errors
    /// If a pretrained network cannot describe the image.
    pub(super) fn look_at(&self, image: &Image, border: Border) -> Result<View<'_>, ScoreError> {
        Ok(match self {
            Self::PatchNetwork(teacher) => View::PatchNetwork(&teacher.network),
            Self::Backbone { field, teacher } => View::Features {
                field: *field,
                margin: teacher.manifest.margin,
                maps: teacher.maps(image, border)?,
            },
        })
    }

    /// The descriptors of windows of one size, each with the index of the image (already resized) that it
    /// is a window of; a pretrained network sees every image once. `sources` are the images' numbers in `seen`.
    ///
    /// # Shapes
    /// - `input`: `[windows, 3, height, width]`, the pixels under the windows
    /// - output: `[windows, channels, (height - p) / stride + 1, (width - p) / stride + 1]`
    ///
    /// # Errors
    /// The index of the first image that a pretrained network cannot describe, and why.
    pub(super) fn describe_windows(
        &self,
        (images, sources): (&[Image], &[usize]),
        windows: &[(usize, Window)],
        border: Border,
        input: &Tensor,
        stride: usize,
        seen: &mut SeenImages,
    ) -> Result<Tensor, (usize, ScoreError)> {
        match self {
            Self::PatchNetwork(teacher) => Ok(teacher.network.grid(input, stride)),
            Self::Backbone { field, teacher } => {
                let maps = images
                    .iter()
                    .zip(sources)
                    .enumerate()
                    .map(|(index, (image, &source))| {
                        let maps = seen.maps(source, || teacher.maps(image, border));
                        maps.map_err(|error| (index, error))
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                let mut target = Vec::new();
                let mut size = [0, 0];
                for (image, window) in windows {
                    let positions = windows_positions(window, *field, stride);
                    let positions = continued_positions(positions, teacher.manifest.margin);
                    target.extend(maps[*image].at(&positions));
                    size = positions.size;
                }
                let area = windows.len() * size[0] * size[1];
                let channels = target.len() / area.max(1);
                let shape = [windows.len(), channels, size[0], size[1]];
                Ok(Tensor::new(target, shape))
            }
        }
    }
}

/// A teacher before an image.
pub(super) enum View<'a> {
    /// It needs the pixels of each window.
    PatchNetwork(&'a PatchNetwork),
    /// It has seen all of the image.
    Features {
        /// The patch size p of the students.
        field: ReceptiveField,
        /// Pixels by which the image was continued.
        margin: usize,
        /// What it saw.
        maps: FeatureMaps,
    },
}

impl View<'_> {
    /// The descriptors of the first patches in a window, `[channels, rows · columns]`. `input` are the pixels
    /// under the window, `[1, 3, height, width]`, made if they are needed.
    pub fn describe<'t>(
        &self,
        window: &Window,
        stride: usize,
        size: [usize; 2],
        input: impl FnOnce() -> Cow<'t, Tensor>,
    ) -> Vec<f32> {
        match self {
            Self::PatchNetwork(network) => {
                let map = network.grid(&input(), stride);
                map.resized(size).into_values()
            }
            Self::Features {
                field,
                margin,
                maps,
            } => {
                let positions = Positions {
                    size,
                    ..windows_positions(window, *field, stride)
                };
                maps.at(&continued_positions(positions, *margin))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::ResNet18Config;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// ResNet-18 to layer2 with random weights.
    fn teacher(random: &mut ChaCha8Rng, zoom: usize) -> BackboneTeacher {
        let network = BackboneConfig::ResNet18(ResNet18Config {
            stages: 2,
            classes: None,
        });
        let arrays = network.layout().unwrap().into_iter().map(|(_, shape)| {
            let taps: usize = shape[1..].iter().product();
            let scale = (6.0 / taps as f32).sqrt();
            (0..shape.iter().product())
                .map(|_| scale * random.random_range(-1.0..1.0f32))
                .collect()
        });
        let arrays = arrays.collect();
        BackboneTeacher {
            network: Arc::from(network.build(arrays).unwrap()),
            manifest: BackboneManifest {
                network,
                features: DenseFeatures {
                    outputs: vec!["layer1".to_string(), "layer2".to_string()],
                    zoom,
                    smooth: true,
                },
                margin: 3,
                file: "random".to_string(),
                fingerprint: "none".to_string(),
            },
        }
    }

    /// Three pixels more on every side.
    fn mirrored(image: &Image) -> Image {
        let [width, height] = [image.width(), image.height()];
        let mirror = |at: usize, size: usize| match at {
            0..3 => 3 - at,
            at if at >= size + 3 => 2 * (size - 1) - (at - 3),
            at => at - 3,
        };
        let mut pixels = Vec::new();
        for row in 0..height + 6 {
            for column in 0..width + 6 {
                pixels.extend(image.pixel(mirror(row, height), mirror(column, width)));
            }
        }
        Image::new(width + 6, height + 6, pixels)
    }

    #[test]
    fn a_window_has_the_features_of_its_patches_centres() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for (field, zoom) in [
            (ReceptiveField::P17, 1),
            (ReceptiveField::P33, 2),
            (ReceptiveField::P65, 1),
        ] {
            let teacher = teacher(&mut random, zoom);
            let mut image = |width: usize, height: usize| {
                let pixels = (0..width * height * 3).map(|_| random.random_range(0.0..1.0));
                Image::new(width, height, pixels.collect())
            };
            let images = [image(70, 66), image(67, 75)];
            let stride = 2 * field.pooling_stride();
            let [height, width] = [field.side() + 2 * stride, field.side() + stride + 1];
            // Inside, and beyond the image on each side.
            let windows = [(1, 3, -2), (0, -(field.radius() as isize), 7), (1, 8, 11)].map(
                |(index, top, left)| {
                    let window = Window {
                        top,
                        left,
                        height,
                        width,
                    };
                    (index, window)
                },
            );
            let mut planes = Vec::new();
            for (index, window) in &windows {
                window.read(&images[*index], Border::Reflect, &mut planes);
            }
            let input = Tensor::new(planes, [3, 3, height, width]);
            let features = teacher.manifest.features.clone();
            let network = teacher.network.clone();
            let teacher = ScaleTeacher::Backbone { field, teacher };
            let target = teacher
                .describe_windows(
                    (&images, &[4, 7]),
                    &windows,
                    Border::Reflect,
                    &input,
                    stride,
                    &mut SeenImages::default(),
                )
                .unwrap();
            assert_eq!(target.shape(), [3, 192, 3, 2]);
            // What was seen once is not looked at again.
            let mut seen = SeenImages::default();
            for _ in 0..2 {
                let again = teacher
                    .describe_windows(
                        (&images, &[4, 7]),
                        &windows,
                        Border::Reflect,
                        &input,
                        stride,
                        &mut seen,
                    )
                    .unwrap();
                assert_eq!(again, target);
            }
            for source in [4, 7] {
                let known = seen.maps(source, || -> Result<_, ()> { unreachable!("it is kept") });
                assert!(known.is_ok());
            }
            assert_eq!(teacher.students().unwrap().output_channels, 192);
            // The same positions as the students' predictions.
            let student = teacher.students().unwrap().init(1);
            assert_eq!(student.grid(&input, stride).shape(), target.shape());
            for (number, (index, window)) in windows.iter().enumerate() {
                let view = teacher.look_at(&images[*index], Border::Reflect).unwrap();
                let part = &target.values()[number * 192 * 6..][..192 * 6];
                let described = view.describe(window, stride, [3, 2], || unreachable!());
                assert_eq!(part, described);
                for row in 0..3 {
                    for column in 0..2 {
                        let centre = |start: isize, at: usize| {
                            (start + (at * stride + field.radius()) as isize) as f32 + 3.0
                        };
                        let alone = features
                            .describe(
                                &*network,
                                &mirrored(&images[*index]),
                                &Positions {
                                    first: [centre(window.top, row), centre(window.left, column)],
                                    stride: 1.0,
                                    size: [1, 1],
                                },
                            )
                            .unwrap();
                        let found: Vec<f32> = part
                            .iter()
                            .skip(row * 2 + column)
                            .step_by(6)
                            .copied()
                            .collect();
                        assert_eq!(found, alone, "p = {field}: {row}, {column}");
                    }
                }
            }
        }
    }
}
