//! `pupilla teacher train`: natural images in, a teacher file out.

use pupilla::teacher::{self, Compactness, TeacherConfig};
use pupilla_core::dataset::{fingerprint, images_in};
use pupilla_core::image_source::ImageFiles;

use crate::arguments::TeacherTrain;
use crate::output;
use crate::progress::Progress;

pub fn train(train: &TeacherTrain, progress: &mut Progress) -> anyhow::Result<()> {
    let config = config(train);
    config.check()?;
    output::check_json(train.json.as_deref())?;
    let paths = images_in(&train.images)?;
    output::check_writable(&train.out)?;
    let files = ImageFiles::open(&paths, train.skip_unreadable, progress)?;
    let fingerprint = fingerprint(files.paths(), &train.images)?;
    let teacher = teacher::train(
        &config,
        &files,
        &train.data_terms,
        Some(fingerprint),
        progress,
    )?;
    teacher.save(&train.out)?;

    let manifest = teacher.manifest();
    let json = train.json.as_deref();
    output::line(
        json,
        format_args!(
            "p = {}: {} steps on {} images, final loss {:.4}",
            train.scale, config.steps, manifest.images, manifest.final_loss
        ),
    )?;
    if let Some(held_out) = &manifest.held_out {
        output::line(
            json,
            format_args!(
                "on {} other images: {:.1} % of the triplets hold, mean correlation {:.3}",
                held_out.images,
                100.0 * held_out.triplets_holding,
                held_out.mean_correlation
            ),
        )?;
    }
    output::line(json, format_args!("wrote {}", train.out.display()))?;
    if let Some(target) = json {
        output::json(target, manifest)?;
    }
    Ok(())
}

fn config(train: &TeacherTrain) -> TeacherConfig {
    let default = TeacherConfig::new(train.scale);
    TeacherConfig {
        steps: train.steps.map_or(default.steps, |steps| steps.get()),
        images_per_step: train.images_per_step.unwrap_or(default.images_per_step),
        window: train.window.unwrap_or(default.window),
        learning_rate: train.learning_rate.unwrap_or(default.learning_rate),
        triplet_weight: train.triplet_weight.unwrap_or(default.triplet_weight),
        compactness_weight: train
            .compactness_weight
            .unwrap_or(default.compactness_weight),
        compactness: if train.signed_compactness {
            Compactness::Signed
        } else {
            Compactness::Squared
        },
        margin: train.margin.unwrap_or(default.margin),
        seed: train.seed,
        ..default
    }
}
