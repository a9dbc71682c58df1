//! Thresholds of few images: every good image gives evidence.
//!
//! A part of few images is too few for a threshold. So the images are dealt into groups, and each group is scored by a model that learned
//! the other groups. A model of fewer images gives larger distances, and normalisation takes this difference away: each of these models
//! is normalised by the group that it scores, as the detector is normalised by its validation images. Methods without a normalisation
//! keep the thresholds of the validation images: thresholds from models of fewer images would be much too high.
//! `docs/notes/thresholds.md` has what was measured.

use pupilla_core::data::image_source::ImageSource;
use pupilla_core::observer::Observer;
use pupilla_core::verdict::calibration::Calibrator;
use pupilla_core::verdict::calibration_run::calibrate_maps;
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use super::config::EmbeddingConfig;
use super::features::Described;
use super::inspect::{EmbeddingDetector, finite, map_of};
use crate::error::TrainError;
use crate::manifest::CalibrationManifest;
use crate::random::derive_seed;

/// Number of groups. With two, a model learns too little; with more, thresholds change little, and training takes longer.
const GROUPS: usize = 3;

/// From this number on, a tenth of the images is enough, and the models of the groups would take too long.
const MANY_IMAGES: usize = 100;

/// The features of all images are held in memory, up to this number of bytes.
const MOST_BYTES: usize = 1 << 29;

/// The features of all images, those for validation at the end; `None` if the method does not normalise, or the images are too many, or
/// too few for the groups.
///
/// # Errors
/// If an image cannot be read or described, or the observer asks to stop.
pub(super) fn describe_few(
    config: &EmbeddingConfig,
    [training, validation]: [&dyn ImageSource; 2],
    observer: &mut dyn Observer,
) -> Result<Option<Vec<Described>>, TrainError> {
    let count = training.len() + validation.len();
    let normalises = config.settings.method.any().is_normalised();
    if !normalises || !(GROUPS..MANY_IMAGES).contains(&count) {
        return Ok(None);
    }
    let mut positions = 0usize;
    for images in [training, validation] {
        positions += config.features(images).positions_before()?[images.len()];
    }
    let bytes = positions.saturating_mul(config.extractor.channels() * size_of::<f32>());
    if bytes > MOST_BYTES {
        return Ok(None);
    }
    let mut described = Vec::with_capacity(count);
    for images in [training, validation] {
        let sizes = (0..images.len()).map(|index| images.size(index));
        let sizes: Vec<_> = sizes.collect::<Result<_, _>>()?;
        let features = config.features(images);
        features.for_each(observer, |index, grid, features| {
            described.push(Described {
                name: images.name(index),
                size: sizes[index],
                grid,
                features,
            });
            Ok(())
        })?;
    }
    Ok(Some(described))
}

/// Gives the detector the thresholds from all images, left out in turn.
///
/// # Errors
/// If a score is not finite, or the observer asks to stop.
pub(super) fn calibrate(
    config: &EmbeddingConfig,
    images: &[Described],
    detector: &mut EmbeddingDetector,
    observer: &mut dyn Observer,
) -> Result<(), TrainError> {
    let settings = &config.settings;
    let method = settings.method.any();
    let stop = observer.stop_flag();
    let groups = groups(images.len(), settings.seed);
    let mut scores = vec![Vec::new(); images.len()];
    for group in &groups {
        let others = (0..images.len()).filter(|index| !group.contains(index));
        let others = config.described(others.map(|index| &images[index]));
        let group_images = || group.iter().map(|&index| &images[index]);
        let kept = method.fit(&others, &config.described(group_images()), observer)?;
        for (&index, image) in group.iter().zip(group_images()) {
            scores[index] = kept.scores(image.grid, &image.features, &stop)?;
        }
    }
    let calibrator = Calibrator::in_turn(settings.false_reject, images.len(), groups.len());
    let stage = "leaving out in turn";
    let found = calibrate_maps(stage, images.len(), calibrator, None, observer, |index| {
        let Described {
            name, size, grid, ..
        } = &images[index];
        let scores = finite(std::mem::take(&mut scores[index]), *grid);
        let scores = scores.map_err(|source| TrainError::Image {
            name: name.clone(),
            source,
        })?;
        Ok::<_, TrainError>(map_of(&scores, *grid, settings, *size))
    })?;
    detector.manifest.calibration = found.thresholds.map(|thresholds| CalibrationManifest {
        thresholds,
        sampling: None,
        data: None,
    });
    Ok(())
}

/// The groups of `count` images, each of ascending indices, as equal in size as can be.
fn groups(count: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut random = ChaCha8Rng::seed_from_u64(derive_seed(seed, "groups", 0));
    let order = index::sample(&mut random, count, count);
    let mut groups = vec![Vec::new(); GROUPS];
    for (at, index) in order.into_iter().enumerate() {
        groups[at % GROUPS].push(index);
    }
    for group in &mut groups {
        group.sort_unstable();
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_is_in_one_group_and_the_seed_decides() {
        for count in [3, 10, 31, 99] {
            let dealt = groups(count, 7);
            assert_eq!(dealt.len(), GROUPS);
            assert!(dealt.iter().all(|group| group.is_sorted()));
            let sizes = dealt.iter().map(Vec::len);
            assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
            let mut all = dealt.concat();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..count));
        }
        assert_eq!(groups(31, 7), groups(31, 7));
        assert_ne!(groups(31, 7), groups(31, 8));
    }
}
