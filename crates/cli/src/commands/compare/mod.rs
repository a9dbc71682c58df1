//! `pupilla compare`: every detector trained and measured on the same images, and one table of them.
//!
//! Each is trained and measured by a process of its own, with the commands that a user would give: one that fails or runs out of memory
//! leaves the others alone, and its memory is its own.

mod child;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use pupilla::detector_kind::DetectorKind;
use pupilla::device::DeviceChoice;
use pupilla::network_detectors::{self, NetworkDetectorConfig};
use pupilla::receptive_field::ReceptiveField;
use pupilla_core::comparison::{self, Comparison, Failure, Figures, Tested};
use pupilla_core::dataset::categories;
use pupilla_core::evaluation::Evaluation;
use pupilla_core::image::resize::Resize;
use pupilla_core::observer::Observer;
use serde::{Deserialize, Serialize};

use crate::arguments::Compare;
use crate::commands::train::usual_scales;
use crate::output::{self, Usage};
use crate::progress::Progress;

use child::Child;

/// One training with its tests.
struct Job {
    category: String,
    detector: DetectorKind,
    seed: u64,
    /// Where its model and figures go.
    folder: PathBuf,
    /// The words of `pupilla train`, without `--out`.
    train: Vec<String>,
    /// The patch sizes of each test, and the words of `pupilla eval` behind the model.
    tests: Vec<(Vec<usize>, Vec<String>)>,
}

/// What a job leaves as it begins to train, so that a second run goes on from its own checkpoint alone.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Begun {
    program: String,
    train: Vec<String>,
}

/// What a finished job leaves, so that a second run need not do it again.
#[derive(Serialize, Deserialize)]
struct Finished {
    #[serde(flatten)]
    begun: Begun,
    tests: Vec<Vec<String>>,
    tested: Vec<Tested>,
}

pub fn run(compare: &Compare, device: DeviceChoice, progress: &mut Progress) -> anyhow::Result<()> {
    let json = compare.json.as_deref();
    output::check_json(json)?;
    let folders = categories(&compare.data)?;
    let dataset = name(&compare.data)?;
    let jobs = jobs(compare, device, &folders)?;
    // Results of another comparison are found before any table is written.
    let known = jobs
        .iter()
        .map(Job::finished)
        .collect::<anyhow::Result<Vec<_>>>()?;
    output::folder(&compare.out)?;
    say_own_sizes(compare, &jobs, json)?;
    let (mut tested, mut failed) = (Vec::new(), Vec::new());
    for (index, (job, known)) in jobs.iter().zip(known).enumerate() {
        let title = format!(
            "[{}/{}] {} on {}",
            index + 1,
            jobs.len(),
            job.detector,
            job.category
        );
        match known {
            Some(done) => {
                output::line(
                    json,
                    format_args!("{title}, seed {}: done before", job.seed),
                )?;
                tested.extend(done);
            }
            None => {
                output::line(json, format_args!("{title}, seed {}", job.seed))?;
                match job.run(progress) {
                    Ok(done) => tested.extend(done),
                    Err(_) if progress.stop_requested() => bail!(
                        "stopped on request: the same command goes on with what is left ({} of {} done)",
                        index,
                        jobs.len()
                    ),
                    Err(error) => {
                        progress.warn(&format!("{title} failed: {error}"));
                        failed.push(Failure {
                            category: job.category.clone(),
                            detector: job.detector.to_string(),
                            seed: job.seed,
                            reason: error.to_string(),
                        });
                    }
                }
            }
        }
        // Whatever comes next, what is known stands there.
        let so_far = Comparison::new(dataset.clone(), compare.fpr_limit, &tested, failed.clone());
        write(&so_far, &compare.out)?;
    }
    let comparison = Comparison::new(dataset, compare.fpr_limit, &tested, failed);
    table::print(&comparison, json)?;
    let page = compare.out.join("comparison.html");
    output::line(json, format_args!("wrote {}", page.display()))?;
    if let Some(target) = json {
        output::json(target, &comparison)?;
    }
    if comparison.detectors.is_empty() {
        bail!("no detector could be compared");
    }
    Ok(())
}

/// Which detectors see images at another size than was asked for.
fn say_own_sizes(compare: &Compare, jobs: &[Job], json: Option<&Path>) -> anyhow::Result<()> {
    let mut said: Vec<DetectorKind> = Vec::new();
    for job in jobs {
        if let (Some(own), Some(wanted)) = (own_size(compare, job.detector), &compare.resize)
            && !said.contains(&job.detector)
        {
            said.push(job.detector);
            output::line(
                json,
                format_args!(
                    "{} sees images at {own}×{own}, not --resize {wanted}: its networks take squares of a power of two",
                    job.detector
                ),
            )?;
        }
    }
    Ok(())
}

/// The three forms of the table.
fn write(comparison: &Comparison, out: &Path) -> anyhow::Result<()> {
    output::json(&out.join("comparison.json"), comparison)?;
    table::write_csv(comparison, &out.join("comparison.csv"))?;
    comparison::write_page(comparison, &out.join("comparison.html"))?;
    Ok(())
}

fn jobs(compare: &Compare, device: DeviceChoice, folders: &[PathBuf]) -> anyhow::Result<Vec<Job>> {
    let mut detectors = compare.detectors.clone();
    if detectors.is_empty() {
        detectors = DetectorKind::ALL.to_vec();
    }
    let mut once = detectors.clone();
    once.sort_unstable();
    once.dedup();
    if once.len() < detectors.len() {
        return Err(Usage("--detectors names one twice".to_string()).into());
    }
    check_belonging(compare, &detectors)?;
    let several = folders.len() > 1;
    let scales = match &compare.scales[..] {
        [] if several && compare.budget.is_none() => vec![17, 33, 65],
        [] => sides(&usual_scales(compare.budget)),
        given => sides(given),
    };
    let mut jobs = Vec::new();
    for folder in folders {
        let category = name(folder)?;
        for &detector in &detectors {
            let students = detector == DetectorKind::StudentTeacher;
            let seeds = if detector.is_trained_in_steps() {
                compare.network_seeds
            } else {
                compare.seeds
            };
            for seed in 0..u64::from(seeds.get()) {
                jobs.push(Job {
                    folder: compare
                        .out
                        .join(&category)
                        .join(format!("{detector}-{seed}")),
                    train: train_words(compare, device, folder, detector, &scales, seed)?,
                    tests: test_words(
                        compare,
                        device,
                        folder,
                        if students { &scales } else { &[] },
                    )?,
                    category: category.clone(),
                    detector,
                    seed,
                });
            }
        }
    }
    Ok(jobs)
}

/// Refuses options that none of the detectors has.
fn check_belonging(compare: &Compare, detectors: &[DetectorKind]) -> Result<(), Usage> {
    use DetectorKind::{CnnDictionary, MemoryBank, Padim, StudentTeacher};
    let students = |kind: &DetectorKind| *kind == StudentTeacher;
    let networks = |kind: &DetectorKind| kind.is_trained_in_steps();
    let others = |kind: &DetectorKind| !kind.is_trained_in_steps();
    let on_backbones = |kind: &DetectorKind| matches!(kind, CnnDictionary | MemoryBank | Padim);
    let has = |which: &dyn Fn(&DetectorKind) -> bool| detectors.iter().any(which);
    let options = [
        ("--scales", !compare.scales.is_empty(), has(&students)),
        ("--budget", compare.budget.is_some(), has(&networks)),
        ("--steps", compare.steps.is_some(), has(&networks)),
        (
            "--network-seeds",
            compare.network_seeds.get() > 1,
            has(&networks),
        ),
        ("--seeds", compare.seeds.get() > 1, has(&others)),
        ("--backbone", compare.backbone.is_some(), has(&on_backbones)),
    ];
    match options
        .iter()
        .find(|(_, given, applies)| *given && !applies)
    {
        Some((option, ..)) => Err(Usage(format!(
            "{option} belongs to none of these detectors: leave it out, or add one that it belongs to"
        ))),
        None => Ok(()),
    }
}

/// The size that a detector sees images at instead of the one asked for, which its networks cannot have; `None` if it can, or none was
/// asked for.
fn own_size(compare: &Compare, detector: DetectorKind) -> Option<Resize> {
    let wanted: Resize = compare.resize.as_ref()?.parse().ok()?;
    let own = NetworkDetectorConfig::new(detector)?.settings.resize;
    (!network_detectors::config::fits(wanted)).then_some(own)
}

/// Where the processes' networks run, if that is not the processor.
fn device_words(device: DeviceChoice) -> Vec<String> {
    match device {
        DeviceChoice::Cpu => Vec::new(),
        _ => vec!["--device".to_string(), device.to_string()],
    }
}

fn train_words(
    compare: &Compare,
    device: DeviceChoice,
    data: &Path,
    detector: DetectorKind,
    scales: &[usize],
    seed: u64,
) -> anyhow::Result<Vec<String>> {
    let mut words = vec![
        "train".to_string(),
        text(data)?,
        "--detector".into(),
        detector.to_string(),
    ];
    words.extend(["--seed".into(), seed.to_string()]);
    words.extend(device_words(device));
    match detector {
        DetectorKind::StudentTeacher => {
            words.extend(["--scales".into(), join(scales)]);
        }
        DetectorKind::CnnDictionary | DetectorKind::MemoryBank | DetectorKind::Padim => {
            if let Some(weights) = &compare.backbone {
                words.extend(["--backbone".into(), text(weights)?]);
            }
        }
        DetectorKind::NearestNeighbour
        | DetectorKind::OneClassSvm
        | DetectorKind::KMeans
        | DetectorKind::SquaredErrorAutoencoder
        | DetectorKind::SimilarityAutoencoder
        | DetectorKind::VariationalAutoencoder
        | DetectorKind::AnoGan => {}
    }
    if detector.is_trained_in_steps() {
        if let Some(budget) = compare.budget {
            words.extend(["--budget".into(), format!("{}s", budget.0)]);
        }
        if let Some(steps) = compare.steps {
            words.extend(["--steps".into(), steps.to_string()]);
        }
    }
    if let Some(resize) = &compare.resize
        && own_size(compare, detector).is_none()
    {
        words.extend(["--resize".into(), resize.clone()]);
    }
    Ok(words)
}

/// Each scale of several by itself, then all of them.
fn test_words(
    compare: &Compare,
    device: DeviceChoice,
    data: &Path,
    scales: &[usize],
) -> anyhow::Result<Vec<(Vec<usize>, Vec<String>)>> {
    let mut words = vec![
        text(data)?,
        "--fpr-limit".into(),
        compare.fpr_limit.to_string(),
    ];
    words.extend([
        "--mask-threshold".into(),
        compare.mask_threshold.to_string(),
    ]);
    words.extend(device_words(device));
    let mut tests = Vec::new();
    if scales.len() > 1 {
        for &scale in scales {
            let one = ["--scales".to_string(), scale.to_string()];
            tests.push((vec![scale], [&words[..], &one].concat()));
        }
    }
    tests.push((scales.to_vec(), words));
    Ok(tests)
}

impl Job {
    fn record(&self) -> PathBuf {
        self.folder.join("finished.json")
    }

    /// Its figures, if a run before this one has finished it.
    fn finished(&self) -> anyhow::Result<Option<Vec<Tested>>> {
        let path = self.record();
        if !path.exists() {
            return Ok(None);
        }
        let bytes =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let finished: Finished = serde_json::from_slice(&bytes).with_context(|| {
            format!(
                "{} is not what a comparison leaves: remove it",
                path.display()
            )
        })?;
        if finished.begun != self.begun()
            || !finished
                .tests
                .iter()
                .eq(self.tests.iter().map(|(_, words)| words))
        {
            let text = format!(
                "{} is from a comparison with other options or another version: give another --out, or remove it",
                path.display()
            );
            return Err(Usage(text).into());
        }
        Ok(Some(finished.tested))
    }

    fn beginning(&self) -> PathBuf {
        self.folder.join("begun.json")
    }

    fn begun(&self) -> Begun {
        Begun {
            program: program(),
            train: self.train.clone(),
        }
    }

    /// Whether what an unfinished run left there was this very training. If not, it begins anew and replaces that checkpoint.
    fn begun_before(&self) -> bool {
        let bytes = std::fs::read(self.beginning());
        bytes.is_ok_and(|bytes| {
            serde_json::from_slice(&bytes).is_ok_and(|begun: Begun| begun == self.begun())
        })
    }

    fn run(&self, progress: &mut Progress) -> anyhow::Result<Vec<Tested>> {
        output::folder(&self.folder)?;
        let model = self.folder.join("model.pupilla");
        let of_model = text(&model)?;
        let mut words = [&self.train[..], &["--out".into(), of_model.clone()]].concat();
        let mut checkpoint = model.clone().into_os_string();
        checkpoint.push(".checkpoint");
        if Path::new(&checkpoint).exists() && self.begun_before() {
            words.push("--resume".into());
        }
        output::json(&self.beginning(), &self.begun())?;
        let trained = Child::run(&words, progress)?;
        let bytes = std::fs::metadata(&model)
            .with_context(|| format!("cannot read {}", model.display()))?
            .len();
        let mut tested = Vec::new();
        for (scales, test) in &self.tests {
            let target = self.folder.join("eval.json");
            let words = [
                &["eval".to_string(), of_model.clone()][..],
                test,
                &["--json".into(), text(&target)?],
            ];
            let measured = Child::run(&words.concat(), progress)?;
            let evaluation = std::fs::read(&target)
                .with_context(|| format!("cannot read {}", target.display()))?;
            let evaluation: Evaluation = serde_json::from_slice(&evaluation)
                .with_context(|| format!("cannot understand {}", target.display()))?;
            let memory = [trained.memory_bytes, measured.memory_bytes];
            let memory: Option<Vec<f64>> = memory
                .map(|bytes| bytes.map(|bytes| bytes as f64))
                .into_iter()
                .collect();
            tested.push(Tested {
                category: self.category.clone(),
                detector: self.detector.to_string(),
                scales: scales.clone(),
                seed: self.seed,
                figures: Figures {
                    au_pro: evaluation.au_pro,
                    pixel_auroc: evaluation.pixel_auroc,
                    image_auroc: evaluation.image_auroc,
                    // One of several scales has no training of its own.
                    training_seconds: (test == &self.tests[self.tests.len() - 1].1)
                        .then_some(trained.seconds),
                    seconds_per_image: evaluation.seconds_per_image,
                    memory_bytes: memory.map(|both| both[0].max(both[1])),
                    model_bytes: Some(bytes as f64),
                },
            });
        }
        let finished = Finished {
            begun: self.begun(),
            tests: self.tests.iter().map(|(_, words)| words.clone()).collect(),
            tested,
        };
        output::json(&self.record(), &finished)?;
        Ok(finished.tested)
    }
}

fn program() -> String {
    concat!("pupilla ", env!("CARGO_PKG_VERSION")).to_string()
}

fn name(folder: &Path) -> anyhow::Result<String> {
    let whole = folder
        .canonicalize()
        .with_context(|| format!("cannot find {}", folder.display()))?;
    let name = whole.file_name().unwrap_or(whole.as_os_str());
    Ok(name.to_string_lossy().into_owned())
}

fn text(path: &Path) -> anyhow::Result<String> {
    let text = path
        .to_str()
        .with_context(|| format!("{} is not valid UTF-8: rename it", path.display()))?;
    Ok(text.to_string())
}

fn sides(fields: &[ReceptiveField]) -> Vec<usize> {
    fields.iter().map(|field| field.side()).collect()
}

fn join(scales: &[usize]) -> String {
    let scales: Vec<String> = scales.iter().map(ToString::to_string).collect();
    scales.join(",")
}
