//! The quality of a teacher, for people: figures on images that it was not trained on, how its descriptor's dimensions correlate, and
//! which patches it finds alike.

use pupilla_core::data::image_source::ImageSource;
use pupilla_core::image::Image;
use pupilla_core::observer::{Observer, for_each};
use pupilla_nn::Tensor;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Serialize, Serializer};

use super::correlation::Products;
use super::distillation::Tutor;
use super::measure::measure;
use crate::backbone::Backbone;
use crate::error::TrainError;
use crate::features::input::{Border, Window};
use crate::features::teacher::{HeldOut, Teacher, TeacherConfig};
use crate::patch_network::DESCRIPTOR_CHANNELS;
use crate::random::derive_seed;

/// Patches of each image, among which neighbours are searched.
const PATCHES: usize = 24;

/// The result of [`report`].
#[derive(Clone, Debug, Serialize)]
pub struct TeacherReport {
    /// The figures, `None` with fewer than two images.
    pub held_out: Option<HeldOut>,
    /// The correlation matrix of the descriptor's dimensions over the patches that the figures are of (of one image, over patches of it),
    /// `[128, 128]`, −1 to 1; in JSON a list of rows.
    #[serde(serialize_with = "rows")]
    pub correlation: Vec<f32>,
    /// Patches; after each patch, nearest first, the patches of other images whose descriptors are nearest to its own.
    #[serde(skip)]
    pub neighbours: Vec<Vec<Image>>,
}

/// A matrix as a list of rows.
fn rows<S: Serializer>(matrix: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(matrix.chunks(DESCRIPTOR_CHANNELS))
}

/// Measures a teacher on some images. `rows` patches get `columns` neighbours each, patches of different images as far as there are
/// enough images. With the pretrained network that the teacher learned from, the distillation is measured too.
///
/// # Errors
/// If there is no image, an image cannot be read, the pretrained network is not the one that the teacher learned from, or the
/// observer asks to stop.
pub fn report(
    teacher: &Teacher,
    images: &dyn ImageSource,
    chosen: &[usize],
    backbone: Option<&dyn Backbone>,
    [rows, columns]: [usize; 2],
    observer: &mut dyn Observer,
) -> Result<TeacherReport, TrainError> {
    let config = &teacher.manifest().config;
    if chosen.is_empty() {
        return Err(TrainError::TooFewImages {
            purpose: "report",
            found: 0,
            needed: 1,
        });
    }
    let tutor = match (backbone, &config.distillation, teacher.decoding()) {
        (None, ..) => None,
        (Some(backbone), Some(form), Some(decoding)) => {
            let tutor = Tutor {
                form,
                backbone,
                field: config.network.receptive_field,
                window: config.window,
            };
            let found = tutor.targets()?;
            if found != teacher.manifest().targets {
                return Err(TrainError::Setting {
                    setting: "backbone",
                    reason: format!(
                        "must be the network that the teacher learned from, which gave {} numbers a patch, not {found}",
                        teacher.manifest().targets
                    ),
                });
            }
            Some((tutor, decoding))
        }
        (Some(_), ..) => {
            return Err(TrainError::Setting {
                setting: "backbone",
                reason: "must be left out: this teacher learned from no pretrained network".into(),
            });
        }
    };
    let measured = measure(
        teacher.network(),
        tutor.as_ref().map(|(tutor, decoding)| (tutor, *decoding)),
        config,
        images,
        chosen,
        observer,
    )?;
    let (mut patches, mut too_small) = (Patches::default(), 0);
    for_each(observer, "patches", chosen.len(), |at| {
        let image = images.image(chosen[at])?;
        too_small += usize::from(!patches.cut(teacher, config, at, &image));
        Ok::<_, TrainError>(())
    })?;
    if too_small > 0 {
        observer.warn(&format!(
            "{too_small} of {} images are smaller than a patch: no patches of theirs are shown",
            chosen.len()
        ));
    }
    let (held_out, correlation) = measured.map_or_else(
        || (None, patches.correlation()),
        |(held_out, correlation)| (Some(held_out), correlation),
    );
    Ok(TeacherReport {
        held_out,
        correlation,
        neighbours: patches.neighbours(config, [rows, columns]),
    })
}

/// Patches of several images and their descriptors.
#[derive(Default)]
struct Patches {
    pictures: Vec<Image>,
    /// Which image each is of.
    images: Vec<usize>,
    /// `[patches, 128]`
    descriptors: Vec<f32>,
}

impl Patches {
    /// Takes some patches of an image at random, as it is; false if it is smaller than a patch.
    fn cut(
        &mut self,
        teacher: &Teacher,
        config: &TeacherConfig,
        index: usize,
        image: &Image,
    ) -> bool {
        let side = config.network.receptive_field.side();
        let seed = derive_seed(config.seed, "report patches", index as u64);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut planes = Vec::new();
        if image.width().min(image.height()) < side {
            return false;
        }
        for _ in 0..PATCHES {
            let top = random.random_range(0..=image.height() - side);
            let left = random.random_range(0..=image.width() - side);
            let patch = image.crop(top, left, side, side);
            let whole = Window {
                top: 0,
                left: 0,
                height: side,
                width: side,
            };
            whole.read(&patch, Border::Reflect, &mut planes);
            self.pictures.push(patch);
            self.images.push(index);
        }
        let input = Tensor::new(planes, [PATCHES, 3, side, side]);
        let stride = config.network.receptive_field.pooling_stride();
        let descriptors = teacher.network().grid(&input, stride);
        self.descriptors.extend(descriptors.values());
        true
    }

    fn descriptor(&self, patch: usize) -> &[f32] {
        &self.descriptors[patch * DESCRIPTOR_CHANNELS..][..DESCRIPTOR_CHANNELS]
    }

    /// `[128, 128]`; 0 for a dimension that does not vary, and everywhere without patches.
    fn correlation(&self) -> Vec<f32> {
        let shape = [self.pictures.len(), DESCRIPTOR_CHANNELS, 1, 1];
        let mut products = Products::new(DESCRIPTOR_CHANNELS);
        products.add(&Tensor::new(self.descriptors.clone(), shape));
        products.correlation()
    }

    /// Patches drawn at random, of different images first, with their nearest ones of other images.
    fn neighbours(&self, config: &TeacherConfig, [rows, columns]: [usize; 2]) -> Vec<Vec<Image>> {
        let seed = derive_seed(config.seed, "report rows", 0);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut order: Vec<usize> = (0..self.pictures.len()).collect();
        order.shuffle(&mut random);
        let mut seen = Vec::new();
        let (mut chosen, further): (Vec<usize>, Vec<usize>) =
            order.into_iter().partition(|&patch| {
                let new = !seen.contains(&self.images[patch]);
                if new {
                    seen.push(self.images[patch]);
                }
                new
            });
        // Patches of one image alone have no neighbours in others.
        if seen.len() > 1 {
            chosen.extend(further);
        }
        chosen.truncate(rows);
        chosen
            .into_iter()
            .map(|query| {
                let mut others: Vec<(f64, usize)> = (0..self.pictures.len())
                    .filter(|&other| self.images[other] != self.images[query])
                    .map(|other| {
                        let pairs = self.descriptor(query).iter().zip(self.descriptor(other));
                        let distance = pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
                        (distance, other)
                    })
                    .collect();
                others.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                std::iter::once(query)
                    .chain(others.into_iter().take(columns).map(|(_, other)| other))
                    .map(|patch| self.pictures[patch].clone())
                    .collect()
            })
            .collect()
    }
}
