//! The trained detector: from an image to its anomaly map.

use pupilla_core::detector::Detector;
use pupilla_core::image::resize::resize_map;
use pupilla_core::image::{Image, Size};
use pupilla_core::map::anomaly_map::AnomalyMap;
use pupilla_core::observer::StopFlag;
use pupilla_core::verdict::attribution::{Explained, Part};

use super::memory::{Need, fitting_tiles};
use super::model_file::{ScaleManifest, StudentTeacherManifest, StudentTeacherTraining};
use super::scale::{Scale, Scan};
use super::scoring::Terms;
use crate::error::ScoreError;
use crate::features::Sampling;
use crate::features::grid::Grid;
use crate::features::tiles::Tiling;
use crate::manifest::{Manifest, Trained};
use crate::patch_network::ReceptiveField;

/// A trained student–teacher detector.
#[derive(Clone, Debug)]
pub struct StudentTeacher {
    pub(super) scales: Vec<Scale>,
    pub(super) manifest: Manifest<StudentTeacherManifest, StudentTeacherTraining>,
    pub(super) sampling: Sampling,
    pub(super) memory: Option<usize>,
}

/// The grid of an image, and `e` and `v` at its positions.
pub(super) type ImageTerms = (Grid, Terms);

impl Trained for StudentTeacher {
    type Method = StudentTeacherManifest;
    type Training = StudentTeacherTraining;

    fn manifest(&self) -> &Manifest<StudentTeacherManifest, StudentTeacherTraining> {
        &self.manifest
    }

    fn manifest_mut(&mut self) -> &mut Manifest<StudentTeacherManifest, StudentTeacherTraining> {
        &mut self.manifest
    }
}

impl StudentTeacher {
    /// The positions at which it scores; by default those of its calibration.
    pub fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// The same detector with other positions.
    #[must_use]
    pub fn with_sampling(self, sampling: Sampling) -> Self {
        Self { sampling, ..self }
    }

    /// The same detector with only some of its scales, to find out what each contributes. The thresholds stay the thresholds of all
    /// scales.
    ///
    /// # Errors
    /// [`ScoreError::NoScale`] if the model lacks a wanted scale, or no scale is wanted.
    pub fn with_scales(mut self, wanted: &[ReceptiveField]) -> Result<Self, ScoreError> {
        let there: Vec<_> = self
            .scales
            .iter()
            .map(|scale| scale.ensemble.field())
            .collect();
        let missing = wanted.iter().find(|field| !there.contains(field)).copied();
        if missing.is_some() || wanted.is_empty() {
            return Err(ScoreError::NoScale { missing, there });
        }
        let mut kept = there.iter().map(|field| wanted.contains(field));
        self.scales.retain(|_| kept.next() == Some(true));
        let kept = |scale: &ScaleManifest| wanted.contains(&scale.network.receptive_field);
        self.manifest.training.scales.retain(kept);
        Ok(self)
    }

    /// The same detector with a limit to the memory that the process takes, in bytes: it takes smaller tiles of an image, and no bit
    /// of the map changes.
    #[must_use]
    pub fn with_memory(self, limit: usize) -> Self {
        let memory = Some(limit);
        Self { memory, ..self }
    }

    /// About how many bytes the process takes while it inspects an image of this size.
    ///
    /// # Errors
    /// [`ScoreError::Memory`] if even the smallest tiles exceed the limit.
    pub fn memory_needed(&self, size: Size) -> Result<usize, ScoreError> {
        Ok(self.fitting_tiles(size)?.bytes)
    }

    fn fitting_tiles(&self, size: Size) -> Result<Need, ScoreError> {
        let resized = self.manifest.method.settings.resize.target_size(size);
        let tiles = fitting_tiles(&self.scales, self.sampling, size, resized, self.memory);
        tiles.map_err(|smallest| ScoreError::Memory {
            limit: self.memory.unwrap_or(0),
            needed: smallest.bytes,
        })
    }
}

impl StudentTeacher {
    /// The resized image's size, and the terms of each scale.
    fn terms(&self, image: &Image, stop: &StopFlag) -> Result<(Size, Vec<ImageTerms>), ScoreError> {
        let settings = &self.manifest.method.settings;
        let tiles = self.fitting_tiles(image.size())?;
        let resized = settings.resize.apply(image);
        let mut terms = Vec::with_capacity(self.scales.len());
        for scale in &self.scales {
            let grid = scale.ensemble.teacher.grid(&resized, self.sampling)?;
            let tiling = Tiling::new(scale.ensemble.field(), self.sampling, tiles.side);
            let scan = Scan {
                border: settings.border,
                grid,
                tiling,
            };
            terms.push((grid, scale.ensemble.terms(&resized, scan, stop)?));
        }
        Ok((resized.size(), terms))
    }

    /// The map of an image of this size, from the terms of each scale.
    fn map(
        &self,
        resized: Size,
        terms: &[ImageTerms],
        size: Size,
    ) -> Result<AnomalyMap, ScoreError> {
        let of_scales = self
            .scales
            .iter()
            .zip(terms)
            .map(|(scale, (grid, terms))| (scale, *grid, terms));
        let map = combine(of_scales, resized);
        check_finite(&map)?;
        Ok(resize_map(&map, size))
    }
}

impl Detector for StudentTeacher {
    type Error = ScoreError;

    fn anomaly_map(&self, image: &Image) -> Result<AnomalyMap, ScoreError> {
        let (resized, terms) = self.terms(image, &StopFlag::default())?;
        self.map(resized, &terms, image.size())
    }

    /// Two parts a scale: its share of the mean over scales of the normalised regression error, and of
    /// the normalised predictive variance.
    fn explain(&self, image: &Image) -> Result<Explained, ScoreError> {
        self.explain_until(image, &StopFlag::default())
    }

    /// Looks at `stop` before each network of each tile.
    fn explain_until(&self, image: &Image, stop: &StopFlag) -> Result<Explained, ScoreError> {
        let (resized, terms) = self.terms(image, stop)?;
        let size = image.size();
        let map = self.map(resized, &terms, size)?;
        let share = 1.0 / self.scales.len() as f32;
        let mut parts = Vec::with_capacity(2 * self.scales.len());
        for (scale, (grid, terms)) in self.scales.iter().zip(terms) {
            let names = ["regression_error", "predictive_variance"];
            for (name, mut scores) in names.into_iter().zip(scale.normalisation.parts(&terms)) {
                scores.iter_mut().for_each(|score| *score *= share);
                let field = scale.ensemble.field().to_string();
                parts.push(Part::new(field, name, move || {
                    let Size { width, height } = resized;
                    let spread = AnomalyMap::new(width, height, grid.spread(&scores, resized));
                    resize_map(&spread, size)
                }));
            }
        }
        Ok(Explained { map, parts })
    }
}

/// The mean of the scales' normalised scores (the paper's §3.4), at the size of the resized image.
pub(super) fn combine<'a>(
    scales: impl Iterator<Item = (&'a Scale, Grid, &'a Terms)>,
    size: Size,
) -> AnomalyMap {
    let mut sum = vec![0.0f32; size.area()];
    let mut count = 0.0;
    for (scale, grid, terms) in scales {
        let scores = grid.spread(&scale.normalisation.apply(terms), size);
        for (sum, score) in sum.iter_mut().zip(scores) {
            *sum += score;
        }
        count += 1.0;
    }
    for score in &mut sum {
        *score /= count;
    }
    AnomalyMap::new(size.width, size.height, sum)
}

/// Fails at the first NaN or infinity, with its place.
pub(super) fn check_finite(map: &AnomalyMap) -> Result<(), ScoreError> {
    match map.scores().iter().position(|score| !score.is_finite()) {
        None => Ok(()),
        Some(at) => Err(ScoreError::NotFinite {
            row: at / map.width(),
            column: at % map.width(),
        }),
    }
}
