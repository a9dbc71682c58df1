//! The common case: from a folder to a model in few words.

use std::sync::Arc;

use pupilla::backbone::BackboneError;
use pupilla::{
    BackboneExtractor, Config, Dataset, Detector, DetectorConfig, DetectorKind, ExtractorError,
    Family, FileSettings, Length, Model, PreparedImages, ReceptiveField, Resize, Silent, Size,
    Trainer, write_png,
};
use pupilla_core::data::image_source::Listed;
use pupilla_core::image::read::{StoredImage, Values};
use pupilla_core::map::heatmap::to_rgb8;

use crate::student_teacher::{striped, with_defect};

#[test]
fn a_folder_of_images_becomes_a_model_of_any_family() {
    let folder = tempfile::tempdir().unwrap();
    for index in 0..6 {
        let path = folder.path().join(format!("{index}.png"));
        write_png(path, &to_rgb8(&striped(48, 44, index))).unwrap();
    }
    let good = Dataset::open(folder.path()).unwrap();
    let trainers = [
        Trainer::new()
            .scales(&[ReceptiveField::P33])
            .resize(Resize::Square(48))
            .length(Length::Steps(2)),
        Trainer::new()
            .detector(DetectorKind::KMeans)
            .resize(Resize::Square(40)),
        Trainer::new()
            .detector(DetectorKind::SquaredErrorAutoencoder)
            .resize(Resize::Square(16))
            .length(Length::Steps(2)),
    ];
    let families = [
        Family::StudentTeacher,
        Family::Embedding,
        Family::Reconstruction,
    ];
    for (trainer, family) in trainers.into_iter().zip(families) {
        let trainer = trainer.seed(3);
        let model = trainer.train(&good, &mut Silent).unwrap();
        assert_eq!(model.kind().family(), family);
        assert_eq!(model.about().training_images, 5);
        let image = with_defect(&striped(48, 44, 9), 20, 20, 6);
        let map = model.anomaly_map(&image).unwrap();
        assert_eq!(map.size(), image.size());
        // The seed is part of the configuration, and the same words give the same bytes.
        let saved = |model: &Model| {
            let path = folder.path().join("model.pupilla");
            model.save(&path).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            std::fs::remove_file(path).unwrap();
            bytes
        };
        let again = trainer.train(&good, &mut Silent).unwrap();
        assert!(saved(&again) == saved(&model), "{family:?}");
        let other = trainer.seed(4).train(&good, &mut Silent).unwrap();
        assert!(saved(&other) != saved(&model), "{family:?}");
    }
}

#[test]
fn images_in_memory_train_the_detector_of_their_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut held = Vec::new();
    // The last image is a copy of the first image.
    for (index, seed) in [0, 1, 2, 3, 4, 5, 0].into_iter().enumerate() {
        let picture = to_rgb8(&striped(48, 44, seed));
        write_png(folder.path().join(format!("{index}.png")), &picture).unwrap();
        let values = Values::Bits8(picture.into_raw());
        let image = StoredImage::of_values(Size::new(48, 44), values).unwrap();
        held.push(Arc::new(image));
    }
    let trainer = Trainer::new().detector(DetectorKind::KMeans);
    let trainer = trainer.resize(Resize::Square(40));
    let Ok(DetectorConfig::Embedding(config)) = trainer.config() else {
        panic!("k-means compares features")
    };
    let config = config.check().unwrap();
    let settings = FileSettings::default();
    let dataset = Dataset::open(folder.path()).unwrap();
    let of_files = PreparedImages::open(&dataset, 3, &settings, &mut Silent).unwrap();
    let of_memory =
        PreparedImages::of_list(Listed::Held(held.clone()), 3, &settings, &mut Silent).unwrap();
    assert_eq!(of_memory.data().learned, of_files.data().learned);
    assert_eq!(of_memory.data().images, of_files.data().images);
    let paths = (0..7).map(|index| folder.path().join(format!("{index}.png")));
    let listed = Listed::Files(paths.collect());
    let of_list = PreparedImages::of_list(listed, 3, &settings, &mut Silent).unwrap();
    let maps = [of_files, of_memory, of_list].map(|images| {
        let detector = images.fit(&config, &mut Silent).unwrap();
        detector.anomaly_map(&striped(48, 44, 9)).unwrap()
    });
    assert!(maps[0] == maps[1] && maps[0] == maps[2]);
    let again =
        PreparedImages::of_list(Listed::Held(held.clone()), 3, &settings, &mut Silent).unwrap();
    let fewer =
        PreparedImages::of_list(Listed::Held(held[1..].to_vec()), 3, &settings, &mut Silent)
            .unwrap();
    let twice = PreparedImages::of_list(Listed::Held(held), 3, &settings, &mut Silent).unwrap();
    assert_eq!(again.data().fingerprint, twice.data().fingerprint);
    assert_ne!(again.data().fingerprint, fewer.data().fingerprint);
    let none = PreparedImages::of_list(Listed::Files(Vec::new()), 3, &settings, &mut Silent);
    assert!(none.is_err());
}

#[test]
fn what_a_detector_does_not_have_is_refused() {
    let refused = [
        (
            Trainer::new()
                .detector(DetectorKind::Padim)
                .length(Length::Steps(5)),
            "length",
        ),
        (
            Trainer::new()
                .detector(DetectorKind::KMeans)
                .scales(&[ReceptiveField::P17, ReceptiveField::P33]),
            "scales",
        ),
        (
            Trainer::new()
                .detector(DetectorKind::AnoGan)
                .scales(&[ReceptiveField::P17]),
            "scales",
        ),
    ];
    for (trainer, setting) in refused {
        let error = trainer.config().unwrap_err().to_string();
        assert!(
            error.starts_with(setting) && error.contains("does not have it"),
            "{error}"
        );
    }
    let missing = BackboneExtractor::load("missing.pth", None, 1);
    assert!(matches!(
        missing,
        Err(ExtractorError::Load(BackboneError::File(_)))
    ));
}

#[test]
fn patch_sizes_or_a_length_choose_students_and_nothing_the_default() {
    let kind = |trainer: Trainer| match trainer.config().unwrap() {
        DetectorConfig::StudentTeacher(_) => DetectorKind::StudentTeacher,
        DetectorConfig::Embedding(config) => config.settings.method.kind(),
        other => panic!("{other:?}"),
    };
    let scales = [ReceptiveField::P17];
    assert_eq!(kind(Trainer::new()), DetectorKind::default());
    assert_eq!(
        kind(Trainer::new().scales(&scales)),
        DetectorKind::StudentTeacher
    );
    assert_eq!(
        kind(Trainer::new().length(Length::Steps(3))),
        DetectorKind::StudentTeacher
    );
    let named = Trainer::new()
        .scales(&scales)
        .detector(DetectorKind::MemoryBank);
    assert_eq!(kind(named), DetectorKind::MemoryBank);
    let students = Trainer::new().detector(DetectorKind::StudentTeacher);
    assert!(matches!(
        students.config().unwrap(),
        DetectorConfig::StudentTeacher(config) if config.teachers.len() == 2
    ));
}
