//! One training with its tests, and its records. With the same images, weights and options, a second run continues from the records.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use pupilla::DetectorKind;
use pupilla::backbone::WeightSource;
use pupilla_core::evaluate::Evaluation;
use pupilla_core::report::comparison::{Figures, Tested};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::child::Child;
use crate::commands::train::checkpoint_of;
use crate::output::{self, Usage};
use crate::progress::Progress;

/// The folder of a job's report.
pub const REPORT: &str = "report";

/// A data set of the comparison.
#[derive(Clone, Debug)]
pub struct Category {
    pub name: String,
    /// The place of the data set and the options of its layout, for `pupilla train` and `pupilla eval`.
    pub address: Vec<String>,
    /// What tells its files from others; why not, if it cannot be used.
    pub files: Result<Fingerprints, String>,
}

/// SHA-256 over names and contents.
#[derive(Clone, Debug)]
pub struct Fingerprints {
    /// The images to learn from.
    pub good: String,
    /// The images to test with, and their masks.
    pub test: String,
}

/// A pretrained network.
#[derive(Clone, Debug)]
pub struct Weights {
    pub source: WeightSource,
    pub fingerprint: String,
}

/// One training with its tests.
pub struct Job {
    pub category: Category,
    pub detector: DetectorKind,
    pub seed: u64,
    /// Where its model and figures go.
    pub folder: PathBuf,
    /// The options of `pupilla train`, without data, weights and `--out`.
    pub train: Vec<String>,
    pub backbone: Option<Weights>,
    /// The patch sizes of each test, and the options of `pupilla eval` after model and data.
    pub tests: Vec<(Vec<usize>, Vec<String>)>,
    /// The address of the last test's report, relative to the comparison's page; `None` without reports.
    pub report: Option<String>,
}

/// All that a model depends on.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Training {
    program: String,
    threads: usize,
    images: String,
    weights: Option<String>,
    options: Vec<String>,
}

/// What a job leaves after its training, so that a second run goes on with its tests.
#[derive(Serialize, Deserialize)]
struct Trained {
    training: Training,
    seconds: f64,
    memory_bytes: Option<u64>,
}

/// All that its figures depend on beside the model.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Testing {
    images: String,
    options: Vec<Vec<String>>,
}

/// What a finished job leaves, so that a second run need not do it again.
#[derive(Serialize, Deserialize)]
struct Finished {
    training: Training,
    testing: Testing,
    tested: Vec<Tested>,
}

impl Job {
    fn record(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The content of a record; `None` if there is no record, or another program wrote it.
    fn recorded<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let bytes = std::fs::read(self.record(name)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn training(&self, files: &Fingerprints) -> Training {
        Training {
            program: concat!("pupilla ", env!("CARGO_PKG_VERSION")).to_string(),
            threads: rayon::current_num_threads(),
            images: files.good.clone(),
            weights: self.backbone.as_ref().map(|file| file.fingerprint.clone()),
            options: self.train.clone(),
        }
    }

    fn testing(&self, files: &Fingerprints) -> Testing {
        let options = self.tests.iter().map(|(_, options)| options.clone());
        Testing {
            images: files.test.clone(),
            options: options.collect(),
        }
    }

    /// Its figures, if a run before this one has finished it.
    ///
    /// # Errors
    /// If what is there belongs to another comparison: this one's tables must not replace that one's.
    pub fn finished(&self) -> anyhow::Result<Option<Vec<Tested>>> {
        let path = self.record("finished.json");
        let Ok(files) = &self.category.files else {
            return Ok(None);
        };
        if !path.exists() {
            return Ok(None);
        }
        let finished: Finished = self.recorded("finished.json").with_context(|| {
            let path = path.display();
            format!("{path} is not what a comparison of this version leaves: give another --out, or remove it")
        })?;
        let (training, testing) = (self.training(files), self.testing(files));
        let then = &finished.training;
        let other = if then.program != training.program {
            "another version of the program"
        } else if then.threads != training.threads {
            "another number of --threads"
        } else if then.images != training.images || finished.testing.images != testing.images {
            "other images"
        } else if then.weights != training.weights {
            "another --backbone"
        } else if *then != training || finished.testing != testing {
            "other options"
        } else {
            // Without its report, the job is tested again.
            let has_report = |tested: &Tested| tested.report.is_some();
            let is_whole = self.report.is_none() || finished.tested.last().is_some_and(has_report);
            return Ok(is_whole.then_some(finished.tested));
        };
        let text = format!(
            "{} is from a comparison with {other}: give another --out, or remove it",
            path.display()
        );
        Err(Usage(text).into())
    }

    /// Trains and tests, as far as a run before this one has not.
    pub fn run(&self, progress: &mut Progress) -> anyhow::Result<Vec<Tested>> {
        let files = self.category.files.as_ref();
        let files = files.map_err(|reason| anyhow!("{reason}"))?;
        let _folder = output::folder(&self.folder)?;
        let model = self.record("model.pupilla");
        let trained = self.train(&model, self.training(files), progress)?;
        let bytes = std::fs::metadata(&model)
            .with_context(|| format!("cannot read {}", model.display()))?
            .len();
        let mut tested = Vec::new();
        for (scales, options) in &self.tests {
            let target = self.record("eval.json");
            let mut words = vec!["eval".into(), text(&model)?];
            words.extend_from_slice(&self.category.address);
            words.extend_from_slice(options);
            // A report is of all patch sizes, which come last.
            let is_last = tested.len() + 1 == self.tests.len();
            let report = self.report.clone().filter(|_| is_last);
            if report.is_some() {
                words.extend(["--report".into(), text(&self.record(REPORT))?]);
            }
            words.extend(["--json".into(), text(&target)?]);
            let measured = Child::run(&words, progress)?;
            let evaluation = std::fs::read(&target)
                .with_context(|| format!("cannot read {}", target.display()))?;
            let evaluation: Evaluation = serde_json::from_slice(&evaluation)
                .with_context(|| format!("cannot understand {}", target.display()))?;
            let memory = trained.memory_bytes.zip(measured.memory_bytes);
            tested.push(Tested {
                category: self.category.name.clone(),
                detector: self.detector.to_string(),
                scales: scales.clone(),
                seed: self.seed,
                figures: Figures {
                    au_pro: evaluation.pixel.au_pro,
                    pixel_auroc: evaluation.pixel.auroc,
                    image_auroc: evaluation.image.auroc,
                    // One of several scales has no training of its own.
                    training_seconds: is_last.then_some(trained.seconds),
                    seconds_per_image: evaluation.seconds_per_image,
                    memory_bytes: memory.map(|(train, eval)| train.max(eval) as f64),
                    model_bytes: Some(bytes as f64),
                },
                report,
            });
        }
        let finished = Finished {
            training: trained.training,
            testing: self.testing(files),
            tested,
        };
        output::json(&self.record("finished.json"), &finished)?;
        Ok(finished.tested)
    }

    /// The training: one that was finished before is not done again, one that has begun goes on from its own checkpoint. That of
    /// another training is replaced.
    fn train(
        &self,
        model: &Path,
        training: Training,
        progress: &mut Progress,
    ) -> anyhow::Result<Trained> {
        const BEGUN: &str = "begun.json";
        const TRAINED: &str = "trained.json";
        if let Some(trained) = self.recorded::<Trained>(TRAINED)
            && trained.training == training
            && model.exists()
        {
            return Ok(trained);
        }
        let mut words = vec!["train".into()];
        words.extend_from_slice(&self.category.address);
        words.extend_from_slice(&self.train);
        if let Some(weights) = &self.backbone {
            let source = match &weights.source {
                WeightSource::File(path) => text(path)?,
                built_in => built_in.to_string(),
            };
            words.extend(["--backbone".into(), source]);
        }
        // The folder of the comparison is its own.
        words.extend(["--out".into(), text(model)?, "--force".into()]);
        if checkpoint_of(model).exists()
            && self.recorded::<Training>(BEGUN).as_ref() == Some(&training)
        {
            words.push("--resume".into());
        }
        output::json(&self.record(BEGUN), &training)?;
        let child = Child::run(&words, progress)?;
        let trained = Trained {
            training,
            seconds: child.seconds,
            memory_bytes: child.memory_bytes,
        };
        output::json(&self.record(TRAINED), &trained)?;
        Ok(trained)
    }
}

pub fn text(path: &Path) -> anyhow::Result<String> {
    let text = path
        .to_str()
        .with_context(|| format!("{} is not valid UTF-8: rename it", path.display()))?;
    Ok(text.to_string())
}
