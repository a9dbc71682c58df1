//! Where features come from: a patch network's descriptors, or a pretrained network's maps.

use pupilla_core::image::Size;
use std::borrow::Cow;

use pupilla_core::image::Image;
use pupilla_core::observer::{StopFlag, Stopped};
use pupilla_files::weight_file::{NamedTensor, Precision};
use pupilla_nn::Tensor;
use serde::{Deserialize, Serialize};

use super::backbone_extractor::{BackboneExtractor, BackboneManifest};
use super::grid::{Grid, window_tensor};
use super::input::Border;
use super::sampling::Sampling;
use super::teacher::{Teacher, TeacherManifest};
use super::tiles::{TileOfGrid, Tiling};
use crate::backbone::{BackboneError, FeatureMaps, Positions};
use crate::error::ScoreError;
use crate::patch_network::{PatchNetwork, arrays};

/// Before the names of a pretrained network's arrays in a model file. One file has at most one pretrained network.
const BACKBONE: &str = "backbone";

/// The most features of an image, of all positions together: 1 GiB.
const MOST_FEATURES: usize = 1 << 28;

/// Side of the tiles that a patch network describes one after the other.
const TILE: usize = 256;

/// What gives the features of an image.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Extractor {
    /// A trained patch network. It describes the p×p patch around each position.
    PatchNetwork(Box<Teacher>),
    /// A pretrained network. It sees the whole image, continued beyond its edges; its maps are read at any positions.
    Backbone(BackboneExtractor),
}

/// Everything about an extractor but its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ExtractorManifest {
    /// A patch network's whole manifest.
    PatchNetwork(Box<TeacherManifest>),
    /// A pretrained network.
    Backbone(BackboneManifest),
}

impl From<Teacher> for Extractor {
    fn from(teacher: Teacher) -> Self {
        Self::PatchNetwork(Box::new(teacher))
    }
}

impl From<BackboneExtractor> for Extractor {
    fn from(backbone: BackboneExtractor) -> Self {
        Self::Backbone(backbone)
    }
}

impl ExtractorManifest {
    /// The patch network's manifest, if it is one.
    pub fn patch_network(&self) -> Option<&TeacherManifest> {
        match self {
            Self::PatchNetwork(teacher) => Some(teacher),
            Self::Backbone(_) => None,
        }
    }

    /// The pretrained network's manifest, if it is one.
    pub fn backbone(&self) -> Option<&BackboneManifest> {
        match self {
            Self::PatchNetwork(_) => None,
            Self::Backbone(backbone) => Some(backbone),
        }
    }

    /// Features at a position.
    ///
    /// # Errors
    /// If a pretrained network does not give them, which a file may claim.
    pub(crate) fn channels(&self) -> Result<usize, BackboneError> {
        match self {
            Self::PatchNetwork(teacher) => Ok(teacher.config.network.output_channels),
            Self::Backbone(backbone) => backbone.channels(),
        }
    }

    /// Pixels of the (resized) image between positions.
    pub(crate) fn stride(&self) -> usize {
        match self {
            Self::PatchNetwork(teacher) => {
                Sampling::Grid.stride(teacher.config.network.receptive_field)
            }
            Self::Backbone(backbone) => backbone.stride(),
        }
    }

    /// Checks an untrusted file, before its numbers decide over memory.
    ///
    /// # Errors
    /// The reason, in words.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self {
            Self::PatchNetwork(teacher) => teacher.config.network.check(),
            Self::Backbone(backbone) => backbone.check().map_err(|error| error.to_string()),
        }
    }

    /// Names and shapes of its arrays in a model file; `teacher` stands before those of a patch network.
    ///
    /// # Errors
    /// If there is no such pretrained network.
    pub(crate) fn layout(&self, teacher: &str) -> Result<Vec<(String, Vec<usize>)>, BackboneError> {
        match self {
            Self::PatchNetwork(manifest) => Ok(arrays::layout(teacher, &manifest.config.network)),
            Self::Backbone(manifest) => {
                let layout = manifest.network.layout()?.into_iter();
                let named = layout.map(|(name, shape)| (format!("{BACKBONE}.{name}"), shape));
                Ok(named.collect())
            }
        }
    }

    /// The extractor with the next of some arrays, which are those of its [`layout`](Self::layout).
    ///
    /// # Errors
    /// If the arrays are not those of the pretrained network.
    pub(crate) fn build(
        &self,
        values: &mut impl Iterator<Item = Vec<f32>>,
    ) -> Result<Extractor, BackboneError> {
        match self {
            Self::PatchNetwork(manifest) => {
                let network = arrays::import(&manifest.config.network, values);
                Ok(Teacher::within_model(network, (**manifest).clone()).into())
            }
            Self::Backbone(manifest) => {
                let count = manifest.network.layout()?.len();
                let network = manifest.network.build(values.take(count).collect())?;
                Ok(BackboneExtractor::new(network, manifest.clone()).into())
            }
        }
    }
}

impl Extractor {
    /// Everything about it but its weights.
    pub fn manifest(&self) -> ExtractorManifest {
        match self {
            Self::PatchNetwork(teacher) => {
                ExtractorManifest::PatchNetwork(Box::new(teacher.manifest().clone()))
            }
            Self::Backbone(backbone) => ExtractorManifest::Backbone(backbone.manifest().clone()),
        }
    }

    /// The pretrained network, if it is one.
    pub fn backbone(&self) -> Option<&BackboneExtractor> {
        match self {
            Self::PatchNetwork(_) => None,
            Self::Backbone(backbone) => Some(backbone),
        }
    }

    /// Features at a position.
    pub(crate) fn channels(&self) -> usize {
        match self {
            Self::PatchNetwork(teacher) => teacher.network().config().output_channels,
            // Loading has checked that the maps exist.
            Self::Backbone(backbone) => backbone.manifest().channels().unwrap_or_default(),
        }
    }

    /// Features of each output of a pretrained network, in the order of a position's features. A patch network has one output.
    pub(crate) fn channels_of_outputs(&self) -> Vec<usize> {
        match self {
            Self::PatchNetwork(_) => vec![self.channels()],
            Self::Backbone(backbone) => backbone.manifest().channels_of_outputs(),
        }
    }

    /// The arrays of its weights, to be written; [`ExtractorManifest::layout`] has their names.
    pub(crate) fn export(&self, teacher: &str) -> Vec<NamedTensor> {
        match self {
            Self::PatchNetwork(of) => arrays::export(teacher, of.network(), Precision::Full),
            Self::Backbone(of) => {
                let arrays = of.network().arrays().into_iter();
                let named = arrays.map(|array| NamedTensor {
                    name: format!("{BACKBONE}.{}", array.name),
                    shape: array.shape,
                    values: array.values,
                    precision: Precision::Full,
                });
                named.collect()
            }
        }
    }

    /// Fails if it cannot describe an image of this size (already resized).
    pub(crate) fn check_size(&self, size: Size) -> Result<(), ScoreError> {
        match self {
            Self::PatchNetwork(teacher) => {
                let field = teacher.receptive_field();
                if size.shorter() < field.side() {
                    return Err(ScoreError::TooSmall { size, field });
                }
                Ok(())
            }
            Self::Backbone(backbone) => backbone.check_size(size),
        }
    }

    /// The positions of an image of this size (already resized).
    ///
    /// # Errors
    /// If it cannot describe such an image.
    pub(crate) fn grid(&self, size: Size) -> Result<Grid, ScoreError> {
        self.check_size(size)?;
        let grid = Grid::new(size, self.manifest().stride());
        let (positions, channels) = (grid.rows * grid.columns, self.channels());
        if positions.saturating_mul(channels) > MOST_FEATURES {
            return Err(ScoreError::TooManyPositions {
                positions,
                channels,
            });
        }
        Ok(grid)
    }

    /// Prepares an image (already resized), so that any positions can be described. A pretrained network runs here, over the whole
    /// image.
    ///
    /// # Errors
    /// If a pretrained network cannot describe the image, or `stop` is raised.
    pub(crate) fn view(
        &self,
        image: &Image,
        border: Border,
        stop: &StopFlag,
    ) -> Result<View<'_>, ScoreError> {
        Ok(match self {
            Self::PatchNetwork(teacher) => View::PatchNetwork(teacher.network()),
            Self::Backbone(backbone) => View::Features {
                margin: backbone.manifest().margin,
                maps: backbone.maps(image, border, stop)?,
            },
        })
    }

    /// The features of an image (already resized) at the positions of a grid, tile by tile: where the tile lies in the grid
    /// (top, left, rows, columns), and `[channels, rows · columns]`.
    ///
    /// # Errors
    /// If it cannot describe the image, or `stop` is raised.
    pub(crate) fn describe(
        &self,
        image: &Image,
        border: Border,
        grid: Grid,
        stop: &StopFlag,
        mut tell: impl FnMut([usize; 4], Vec<f32>),
    ) -> Result<(), ScoreError> {
        let view = self.view(image, border, stop)?;
        match self {
            Self::PatchNetwork(teacher) => {
                let tiling = Tiling::new(teacher.receptive_field(), Sampling::Grid, TILE);
                let tiles = tiling.tiles(grid);
                view.describe_tiles(image, border, tiles, grid.stride, stop, tell)?;
            }
            Self::Backbone(_) => {
                let all = [0, 0, grid.rows, grid.columns];
                let input = || unreachable!("a pretrained network has seen the image");
                tell(all, view.describe(&grid.positions(all), input));
            }
        }
        Ok(())
    }
}

/// An extractor that is prepared for an image.
pub(crate) enum View<'a> {
    /// It needs the pixels of each window.
    PatchNetwork(&'a PatchNetwork),
    /// It has seen all of the image.
    Features {
        /// Pixels by which the image was continued.
        margin: usize,
        /// Its maps of the image.
        maps: FeatureMaps,
    },
}

impl View<'_> {
    /// The features at some positions, `[channels, rows · columns]`. `input` are the pixels of the window whose first patches are
    /// centred there, `[1, 3, height, width]`, made if they are needed.
    pub fn describe<'t>(
        &self,
        positions: &Positions,
        input: impl FnOnce() -> Cow<'t, Tensor>,
    ) -> Vec<f32> {
        match self {
            Self::PatchNetwork(network) => {
                let map = network.grid(&input(), positions.stride as usize);
                map.resized(positions.size).into_values()
            }
            Self::Features { margin, maps } => maps.at(&positions.moved(*margin)),
        }
    }

    /// The features of some tiles of an image, one tile after the other.
    ///
    /// # Errors
    /// If `stop` is raised.
    pub fn describe_tiles(
        &self,
        image: &Image,
        border: Border,
        tiles: impl Iterator<Item = TileOfGrid>,
        stride: usize,
        stop: &StopFlag,
        mut tell: impl FnMut([usize; 4], Vec<f32>),
    ) -> Result<(), Stopped> {
        for TileOfGrid { part, window } in tiles {
            stop.check()?;
            let input = || Cow::Owned(window_tensor(image, &window, border));
            tell(part, self.describe(&Grid::part(part, stride), input));
        }
        Ok(())
    }
}
