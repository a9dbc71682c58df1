//! The options that help against an error. The library names settings in its own words; only this file names the options for them.

use pupilla::backbone::BackboneError;
use pupilla::device::DeviceError;
use pupilla::{ExtractorError, FitError, ScoreError, TrainError};
use std::path::Path;

use pupilla_core::data::DatasetError;
use pupilla_core::image::read::ReadError;
use pupilla_core::map::heatmap::SizeMismatch;
use pupilla_core::verdict::INSPECTED;

/// What to give on the command line, if an error of the library or one of its causes says so.
pub fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        let text = if let Some(error) = train_error(cause) {
            return of_training(error);
        } else if let Some(error) = cause.downcast_ref::<ScoreError>() {
            of_scoring(error)
        } else if let Some(ReadError::OtherDepth { .. } | ReadError::MoreBits { .. }) =
            cause.downcast_ref()
        {
            Some("the model keeps the --bits of `pupilla train`")
        } else if let Some(path) = missing(cause) {
            return of_missing(path);
        } else if let Some(error) = dataset_error(cause) {
            of_data(error)
        } else if let Some(error) = cause.downcast_ref::<SizeMismatch>() {
            (error.what == INSPECTED).then_some("--roi takes a picture of the size of the images")
        } else if let Some(error) = cause.downcast_ref::<DeviceError>() {
            Some(of_device(error))
        } else {
            backbone_error(cause).and_then(of_backbone)
        };
        text.map(str::to_owned)
    })
}

fn dataset_error<'e>(cause: &'e (dyn std::error::Error + 'static)) -> Option<&'e DatasetError> {
    match cause.downcast_ref::<FitError>() {
        Some(FitError::Dataset(error)) => Some(error),
        _ => cause.downcast_ref(),
    }
}

/// The path where nothing is, if the error says so.
fn missing<'e>(cause: &'e (dyn std::error::Error + 'static)) -> Option<&'e Path> {
    match (dataset_error(cause), cause.downcast_ref()) {
        (Some(DatasetError::NotFound { path, .. }), _) => Some(path),
        (_, Some(ReadError::NotFound { path, .. })) => Some(path),
        _ => None,
    }
}

/// An error of training, bare or in what wraps it without being a link of the chain.
pub fn train_error<'e>(cause: &'e (dyn std::error::Error + 'static)) -> Option<&'e TrainError> {
    match cause.downcast_ref::<FitError>() {
        Some(FitError::Train(error)) => Some(error),
        _ => cause.downcast_ref(),
    }
}

fn backbone_error<'e>(cause: &'e (dyn std::error::Error + 'static)) -> Option<&'e BackboneError> {
    if let Some(ExtractorError::Load(error)) = cause.downcast_ref() {
        return Some(error);
    }
    let boxed = cause.downcast_ref::<Box<BackboneError>>();
    boxed.map(|error| &**error).or_else(|| cause.downcast_ref())
}

fn of_training(error: &TrainError) -> Option<String> {
    let text = match error {
        TrainError::BudgetBelowSmallest {
            smallest_seconds, ..
        } => return Some(format!("--budget {smallest_seconds}s, or --steps")),
        TrainError::CheckpointWrite(_) | TrainError::StoppedWithCheckpoint { .. } => {
            "the same command with --resume"
        }
        TrainError::Checkpoint(_) | TrainError::OtherRun { .. } => {
            "the same command without --resume starts from the beginning"
        }
        TrainError::Diverged { .. }
        | TrainError::Lost { .. }
        | TrainError::BrokenState { .. }
        | TrainError::Metric { .. } => "--learning-rate",
        TrainError::Backbone(error) => of_backbone(error)?,
        _ => return None,
    };
    Some(text.to_owned())
}

fn of_scoring(error: &ScoreError) -> Option<&'static str> {
    match error {
        ScoreError::TooSmall { .. } => Some("`pupilla train` with --resize or --scales"),
        ScoreError::TooManyPositions { .. } => {
            Some("`pupilla train` with --backbone-stride or --resize")
        }
        ScoreError::Memory { .. } => Some("--memory, or `pupilla train` with --resize"),
        _ => None,
    }
}

/// What was probably meant by a path where nothing is.
fn of_missing(path: &Path) -> Option<String> {
    let text = path.to_string_lossy();
    if text.contains(['*', '?']) {
        return Some("the shell has left the pattern as it is: give the folder instead".to_owned());
    }
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let names = std::fs::read_dir(folder).ok()?.take(MOST_NAMES).flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    // A link to nothing has the name itself.
    let mut names: Vec<String> = names.filter(|other| other.to_lowercase() != name).collect();
    names.sort();
    let likeness = |other: &String| strsim::jaro_winkler(&name, &other.to_lowercase());
    let nearest = names
        .into_iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let nearest = nearest.filter(|other| likeness(other) > ALIKE)?;
    Some(format!("is {} meant?", folder.join(nearest).display()))
}

/// The most entries of a folder among which a similar name is looked for.
const MOST_NAMES: usize = 10_000;

/// How alike two names are from which on one may be meant by the other, from 0 to 1.
const ALIKE: f64 = 0.85;

fn of_data(error: &DatasetError) -> Option<&'static str> {
    match error {
        DatasetError::ImagesBelow { .. } => Some("--recursive"),
        DatasetError::NoTrainGood { folders, .. } if !folders.is_empty() => {
            Some("--good NAME, if one of these folders has the good images")
        }
        DatasetError::SeveralDatasets { .. } => Some("--category NAME"),
        _ => None,
    }
}

fn of_device(error: &DeviceError) -> &'static str {
    match error {
        DeviceError::NotBuilt => {
            "`cargo install --path crates/cli --features gpu`, or --device cpu"
        }
        DeviceError::NoSuchGpu { .. } => "--device",
        DeviceError::Unusable { .. } => "--device gpu:1, or --device cpu",
        DeviceError::OutOfMemory { .. } => {
            "`inspect`, `eval` and `calibrate`: --memory 300M; `train`: --windows, --window; or --device cpu"
        }
        DeviceError::Lost { .. } => "`train`: --resume; or --device cpu",
        _ => "--device cpu",
    }
}

fn of_backbone(error: &BackboneError) -> Option<&'static str> {
    match error {
        BackboneError::TooLarge { .. } => Some("--resize"),
        BackboneError::NotBuiltIn => Some("--backbone WEIGHTS, or --detector student-teacher"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use pupilla_core::image::Size;
    use std::path::PathBuf;

    use anyhow::Context;
    use pupilla::DetectorKind;

    use super::*;

    fn of(error: impl Into<anyhow::Error>) -> Option<String> {
        hint(&error.into().context("while training"))
    }

    #[test]
    fn a_budget_is_named_as_it_is_given() {
        let error = || TrainError::BudgetBelowSmallest {
            what: DetectorKind::AnoGan,
            steps: 100,
            smallest_seconds: 80,
        };
        let wanted = Some("--budget 80s, or --steps".to_owned());
        assert_eq!(of(error()), wanted);
        assert_eq!(of(FitError::from(error())), wanted);
    }

    #[test]
    fn causes_are_found_however_they_are_wrapped() {
        let large = || BackboneError::TooLarge {
            size: Size::square(9000),
            zoom: 1,
        };
        let wanted = Some("--resize".to_owned());
        assert_eq!(of(large()), wanted);
        assert_eq!(of(TrainError::from(large())), wanted);
        assert_eq!(of(ExtractorError::Load(large())), wanted);
        let of_image = TrainError::Image {
            name: "a.png".to_owned(),
            source: ScoreError::Backbone {
                file: "w.pth".to_owned(),
                source: Box::new(large()),
            },
        };
        assert_eq!(of(of_image), wanted);
        let memory = ScoreError::Memory {
            limit: 1,
            needed: 2,
        };
        assert!(of(memory).is_some_and(|text| text.starts_with("--memory")));
    }

    #[test]
    fn what_no_option_cures_has_no_hint() {
        assert_eq!(of(TrainError::Stopped), None);
        assert_eq!(of(anyhow::anyhow!("a file is missing")), None);
        let stopped = TrainError::StoppedWithCheckpoint {
            step: 5,
            path: PathBuf::from("m.checkpoint"),
        };
        let said = Err::<(), _>(stopped).context("training").unwrap_err();
        assert!(hint(&said).is_some_and(|text| text.contains("--resume")));
    }
}
