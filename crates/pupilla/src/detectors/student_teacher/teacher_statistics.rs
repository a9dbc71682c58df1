//! The statistics of a teacher's descriptors on the training images, which whiten the descriptors.

use pupilla_core::observer::{Observer, for_each};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::resized_images::ResizedImages;
use super::scale_teacher::ScaleTeacher;
use super::scoring::Whitening;
use crate::error::TrainError;
use crate::features::tiles::Tiling;
use crate::random::derive_seed;
use crate::statistics::Moments;

/// Side of the tiles that statistics are taken in, by one network alone.
const TILE: usize = 256;

/// Mean and deviation of the teacher's descriptors over at most `most` of the training images, one
/// pass, in `f64`.
pub(super) fn whitening(
    teacher: &ScaleTeacher,
    images: &ResizedImages<'_>,
    most: usize,
    observer: &mut dyn Observer,
) -> Result<Whitening, TrainError> {
    let settings = images.settings;
    let field = teacher.receptive_field();
    let sampling = settings.training.sampling();
    let mut chosen: Vec<usize> = (0..images.len()).collect();
    let seed = derive_seed(settings.seed, "statistics images", field.side() as u64);
    chosen.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    chosen.truncate(most);

    let stop = observer.stop_flag();
    let mut channels = Vec::new();
    let stage = format!("teacher statistics p={field}");
    for_each(observer, &stage, chosen.len(), |at| {
        let index = chosen[at];
        let image = images.image(index)?;
        let wrong = |source| images.wrong(index, source);
        let grid = teacher.grid(&image, sampling).map_err(wrong)?;
        let view = teacher.extractor().view(&image, settings.border, &stop);
        let view = view.map_err(wrong)?;
        let tiles = Tiling::new(field, sampling, TILE).tiles(grid);
        view.describe_tiles(
            &image,
            settings.border,
            tiles,
            grid.stride,
            &stop,
            |part, described| {
                let [_, _, rows, columns] = part;
                let positions = rows * columns;
                channels.resize(described.len() / positions, Moments::default());
                channels
                    .par_iter_mut()
                    .zip(described.par_chunks(positions))
                    .for_each(|(moments, values)| *moments = moments.merge(Moments::of(values)));
            },
        )?;
        Ok::<_, TrainError>(())
    })?;
    Ok(Whitening::new(&channels))
}
