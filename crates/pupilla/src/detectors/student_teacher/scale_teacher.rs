//! The teacher of one scale: what the students of a patch size learn to predict. Student–teacher feature pyramid matching (Wang et al.,
//! BMVC 2021) uses a pretrained network's features in place of a patch network's descriptors.

use pupilla_core::image::{Image, Size};
use pupilla_core::observer::StopFlag;
use pupilla_nn::Tensor;

use super::seen_images::SeenImages;
use crate::backbone::BackboneError;
use crate::error::ScoreError;
use crate::features::grid::{Grid, windows_positions};
use crate::features::input::{Border, Window};
use crate::features::{BackboneExtractor, Extractor, Sampling, Teacher};
use crate::patch_network::{PatchNetworkConfig, ReceptiveField};

/// The teacher of one scale.
#[derive(Clone, Debug)]
pub struct ScaleTeacher {
    field: ReceptiveField,
    extractor: Extractor,
}

impl From<Teacher> for ScaleTeacher {
    fn from(teacher: Teacher) -> Self {
        Self {
            field: teacher.receptive_field(),
            extractor: teacher.into(),
        }
    }
}

impl ScaleTeacher {
    /// A pretrained network, which students of patch size p predict.
    pub fn backbone(field: ReceptiveField, backbone: BackboneExtractor) -> Self {
        Self {
            field,
            extractor: backbone.for_students().into(),
        }
    }

    /// The teacher of students of patch size p, from a model file.
    pub(super) fn from_file(field: ReceptiveField, extractor: Extractor) -> Self {
        Self { field, extractor }
    }

    /// The patch size p of the students.
    pub fn receptive_field(&self) -> ReceptiveField {
        self.field
    }

    /// What gives the features that the students learn to predict.
    pub fn extractor(&self) -> &Extractor {
        &self.extractor
    }

    /// The network that each of its students is.
    ///
    /// # Errors
    /// If a pretrained network does not give its features, which loading rules out.
    pub(super) fn students(&self) -> Result<PatchNetworkConfig, BackboneError> {
        Ok(match &self.extractor {
            Extractor::PatchNetwork(teacher) => teacher.network().config(),
            Extractor::Backbone(backbone) => PatchNetworkConfig {
                output_channels: backbone.manifest().channels()?,
                ..PatchNetworkConfig::new(self.field)
            },
        })
    }

    /// Fails if an image of this width and height (already resized) is not one that teacher and students can describe.
    pub(super) fn check_size(&self, size: Size) -> Result<(), ScoreError> {
        let field = self.field;
        if size.shorter() < field.side() {
            return Err(ScoreError::TooSmall { size, field });
        }
        self.extractor.check_size(size)
    }

    /// The grid of an image (already resized) for the students.
    ///
    /// # Errors
    /// If the teacher cannot describe such an image.
    pub(super) fn grid(&self, image: &Image, sampling: Sampling) -> Result<Grid, ScoreError> {
        self.check_size(image.size())?;
        Ok(Grid::new(image.size(), sampling.stride(self.field)))
    }

    /// The descriptors of windows of one size, each with the index of the image (already resized) that it
    /// is a window of; a pretrained network sees every image once. `sources` are the images' numbers in `seen`.
    ///
    /// # Shapes
    /// - `input`: `[windows, 3, height, width]`, the pixels under the windows
    /// - output: `[windows, channels, (height - p) / stride + 1, (width - p) / stride + 1]`
    ///
    /// # Errors
    /// The index of the first image that a pretrained network cannot describe, and why; or `stop` is raised.
    pub(super) fn describe_windows(
        &self,
        (images, sources): (&[Image], &[usize]),
        windows: &[(usize, Window)],
        border: Border,
        input: &Tensor,
        stride: usize,
        (seen, stop): (&mut SeenImages, &StopFlag),
    ) -> Result<Tensor, (usize, ScoreError)> {
        let backbone = match &self.extractor {
            Extractor::PatchNetwork(teacher) => return Ok(teacher.network().grid(input, stride)),
            Extractor::Backbone(backbone) => backbone,
        };
        let maps = images
            .iter()
            .zip(sources)
            .enumerate()
            .map(|(index, (image, &source))| {
                let maps = seen.maps(source, || backbone.maps(image, border, stop));
                maps.map_err(|error| (index, error))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut target = Vec::new();
        let mut size = [0, 0];
        for (image, window) in windows {
            let positions = windows_positions(window, self.field, stride);
            target.extend(maps[*image].at(&positions.moved(backbone.manifest().margin)));
            size = positions.size;
        }
        let area = windows.len() * size[0] * size[1];
        let channels = target.len() / area.max(1);
        let shape = [windows.len(), channels, size[0], size[1]];
        Ok(Tensor::new(target, shape))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::{BackboneConfig, DenseFeatures, Positions, ResNet18Config};
    use crate::features::BackboneManifest;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// ResNet-18 to layer2 with random weights.
    fn teacher(random: &mut ChaCha8Rng, zoom: usize) -> BackboneExtractor {
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
        let manifest = BackboneManifest {
            network,
            features: DenseFeatures {
                outputs: vec!["layer1".to_string(), "layer2".to_string()],
                zoom,
                smooth: true,
            },
            margin: 3,
            file: "random".to_string(),
            fingerprint: "none".to_string(),
            stride: None,
        };
        BackboneExtractor::new(network.build(arrays).unwrap(), manifest)
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
            let backbone = teacher.clone();
            let features = &backbone.manifest().features;
            let teacher = ScaleTeacher::backbone(field, teacher);
            let target = teacher
                .describe_windows(
                    (&images, &[4, 7]),
                    &windows,
                    Border::Reflect,
                    &input,
                    stride,
                    (&mut SeenImages::default(), &StopFlag::default()),
                )
                .unwrap();
            assert_eq!(target.shape(), [3, 192, 3, 2]);
            // The maps of an image are computed once.
            let mut seen = SeenImages::default();
            for _ in 0..2 {
                let again = teacher
                    .describe_windows(
                        (&images, &[4, 7]),
                        &windows,
                        Border::Reflect,
                        &input,
                        stride,
                        (&mut seen, &StopFlag::default()),
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
                let view = teacher.extractor();
                let stop = StopFlag::default();
                let view = view.view(&images[*index], Border::Reflect, &stop);
                let view = view.unwrap();
                let part = &target.values()[number * 192 * 6..][..192 * 6];
                let positions = windows_positions(window, field, stride);
                assert_eq!(positions.size, [3, 2]);
                let described = view.describe(&positions, || unreachable!());
                assert_eq!(part, described);
                for row in 0..3 {
                    for column in 0..2 {
                        let centre = |start: isize, at: usize| {
                            (start + (at * stride + field.radius()) as isize) as f32 + 3.0
                        };
                        let alone = features
                            .describe(
                                backbone.network(),
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
