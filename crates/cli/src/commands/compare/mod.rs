//! `pupilla compare`: trains and measures every detector on the same images, and makes one table of all.
//!
//! Each detector is trained and measured by processes of its own, with the commands that a user would give. So a detector that fails or
//! runs out of memory does not disturb the others, and its memory is measured alone.

pub mod child;
mod job;
mod table;

use std::fs::{File, TryLockError};
use std::path::Path;

use anyhow::{Context, bail};
use pupilla::backbone::WeightSource;
use pupilla::device::DeviceChoice;
use pupilla::{
    DetectorKind, ReceptiveField, ReconstructionConfig, StudentTeacherConfig, reconstruction,
};
use pupilla_core::data::{Dataset, Layout, fingerprint};
use pupilla_core::image::resize::Resize;
use pupilla_core::observer::Observer;
use pupilla_core::report::comparison::{self, Comparison, Failure, Tested};

use crate::data_set;
use crate::options::{Compare, RunLength, on_backbones};
use crate::output::{self, Usage};
use crate::progress::Progress;

use job::{Category, Fingerprints, Job, REPORT, Weights, text};

pub fn run(compare: &Compare, device: DeviceChoice, progress: &mut Progress) -> anyhow::Result<()> {
    let json = compare.json.file();
    output::check_json(json)?;
    let detectors = detectors(compare)?;
    let datasets = Dataset::open_all(&compare.data, &compare.layout.settings())?;
    for dataset in &datasets {
        data_set::tell(dataset, &compare.layout, progress);
    }
    let scales = scales(compare, datasets.len())?;
    check_apart(&compare.out, &compare.data, &datasets)?;
    let source = compare.pretrained.backbone.clone();
    let source = source.unwrap_or(WeightSource::BuiltIn);
    let backbone = Weights {
        fingerprint: match source {
            WeightSource::File(_) => source.fingerprint()?,
            // Detectors that need it say so themselves if it is not built in.
            WeightSource::BuiltIn => source.fingerprint().unwrap_or_default(),
        },
        source,
    };
    let categories = checked(compare, &datasets, progress)?;
    let jobs = jobs(compare, device, &categories, &detectors, &scales, &backbone);
    // Results of another comparison are found before any table is written.
    let mut done = jobs
        .iter()
        .map(Job::finished)
        .collect::<anyhow::Result<Vec<_>>>()?;
    let _folder = output::folder(&compare.out)?;
    let _lock = locked(&compare.out)?;
    say_own_sizes(compare, &jobs, json)?;
    let names: Vec<_> = detectors.iter().map(|kind| kind.name()).collect();
    let in_table = |done: &[Option<Vec<Tested>>], failed: &[Failure]| {
        let tested: Vec<_> = done.iter().flatten().flatten().cloned().collect();
        let dataset = Dataset::name_of(&compare.data);
        Comparison::new(
            dataset,
            compare.measuring.fpr_limit,
            &tested,
            failed.to_vec(),
        )
        .in_order(&names)
    };
    let mut failed = Vec::new();
    for (index, job) in jobs.iter().enumerate() {
        let title = format!(
            "[{}/{}] {} on {}",
            index + 1,
            jobs.len(),
            job.detector,
            job.category.name
        );
        if done[index].is_some() {
            let title = format!("{title}, seed {}: done before", job.seed);
            output::line(json, title)?;
            continue;
        }
        output::line(json, format_args!("{title}, seed {}", job.seed))?;
        match job.run(progress) {
            Ok(tested) => done[index] = Some(tested),
            Err(_) if progress.stop_requested() => bail!(
                "stopped on request: the same command goes on with what is left ({} of {} done)",
                done.iter().flatten().count(),
                jobs.len()
            ),
            Err(error) => {
                progress.warn(&format!("{title} failed: {error}"));
                failed.push(Failure {
                    category: job.category.name.clone(),
                    detector: job.detector.to_string(),
                    seed: job.seed,
                    reason: error.to_string(),
                });
            }
        }
        // Whatever comes next, what is known stands there.
        write(&in_table(&done, &failed), &compare.out)?;
    }
    let comparison = in_table(&done, &failed);
    write(&comparison, &compare.out)?;
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

/// Those asked for, or all.
fn detectors(compare: &Compare) -> Result<Vec<DetectorKind>, Usage> {
    check_distinct("--detectors", &compare.detectors)?;
    Ok(match &compare.detectors[..] {
        [] => DetectorKind::ALL.to_vec(),
        given => given.to_vec(),
    })
}

/// The students' patch sizes, the smallest of given ones first.
fn scales(compare: &Compare, categories: usize) -> Result<Vec<usize>, Usage> {
    let sides = |fields: &[ReceptiveField]| fields.iter().map(|field| field.side()).collect();
    let mut scales: Vec<usize> = sides(&compare.scales);
    check_distinct("--scales", &scales)?;
    scales.sort_unstable();
    Ok(match &scales[..] {
        [] if categories > 1 && compare.length.budget.is_none() => sides(&ReceptiveField::ALL),
        [] => sides(&StudentTeacherConfig::usual_scales(compare.length.wanted())),
        _ => scales,
    })
}

fn check_distinct<T: PartialEq>(option: &str, values: &[T]) -> Result<(), Usage> {
    let twice = |(at, value): (usize, &T)| values[..at].contains(value);
    match values.iter().enumerate().any(twice) {
        true => Err(Usage(format!("{option} names a value twice"))),
        false => Ok(()),
    }
}

/// Results among the images would be taken for a part of the data set.
fn check_apart(out: &Path, data: &Path, datasets: &[Dataset]) -> Result<(), Usage> {
    let out_place = output::place(out);
    // The folder of a manifest may hold anything.
    let inside = |dataset: &Dataset| {
        dataset.layout != Layout::Manifest && out_place.starts_with(output::place(&dataset.root))
    };
    if out_place == output::place(data) || datasets.iter().any(inside) {
        let out = out.display();
        return Err(Usage(format!(
            "--out {out} lies in the data set: give another folder"
        )));
    }
    Ok(())
}

/// What is wrong with a data set's folders and masks is found before anything is trained on it.
fn checked(
    compare: &Compare,
    datasets: &[Dataset],
    progress: &mut Progress,
) -> anyhow::Result<Vec<Category>> {
    progress.start("reading the files", datasets.len() as u64);
    let mut categories = Vec::new();
    for dataset in datasets {
        if progress.stop_requested() {
            bail!("stopped on request");
        }
        let files = || -> anyhow::Result<Fingerprints> {
            dataset.require_good()?;
            dataset.require_test()?;
            let good = [&dataset.good[..], &dataset.validation].concat();
            Ok(Fingerprints {
                good: fingerprint(&good, &dataset.root)?,
                test: fingerprint(&dataset.test_files(), &dataset.root)?,
            })
        };
        categories.push(Category {
            name: dataset.name.clone(),
            address: place_words(compare, dataset)?,
            files: files().map_err(|error| error.to_string()),
        });
        progress.advance(categories.len() as u64, None);
    }
    progress.finish();
    Ok(categories)
}

/// How a process of its own is told which data set is meant: the place, and options.
fn place_words(compare: &Compare, dataset: &Dataset) -> anyhow::Result<Vec<String>> {
    let place = match dataset.layout {
        Layout::Manifest if compare.data.is_file() => &compare.data,
        _ => &dataset.root,
    };
    let mut words = vec![text(place)?];
    if dataset.layout == Layout::Manifest {
        words.extend(["--category".to_owned(), dataset.name.clone()]);
    }
    words.extend(compare.layout.words());
    Ok(words)
}

/// Keeps a second comparison from the folder as long as the guard lives.
fn locked(out: &Path) -> anyhow::Result<File> {
    let path = out.join("comparison.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = file.with_context(|| format!("cannot write {}", path.display()))?;
    // Some file systems have no locks.
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        bail!(
            "another comparison is writing into {}: wait for its end, or give another --out",
            out.display()
        );
    }
    Ok(file)
}

/// Which detectors see images at another size than was asked for.
fn say_own_sizes(compare: &Compare, jobs: &[Job], json: Option<&Path>) -> anyhow::Result<()> {
    let mut said: Vec<DetectorKind> = Vec::new();
    for job in jobs {
        if let (Some(own), Some(wanted)) = (own_size(compare, job.detector), compare.resize)
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

fn jobs(
    compare: &Compare,
    device: DeviceChoice,
    categories: &[Category],
    detectors: &[DetectorKind],
    scales: &[usize],
    backbone: &Weights,
) -> Vec<Job> {
    let mut jobs = Vec::new();
    for category in categories {
        for &detector in detectors {
            let students = detector == DetectorKind::StudentTeacher;
            let scales = if students { scales } else { &[] };
            let seeds = if detector.is_trained_in_steps() {
                compare.network_seeds
            } else {
                compare.seeds
            };
            for seed in 0..u64::from(seeds.get()) {
                let name = format!("{detector}-{seed}");
                jobs.push(Job {
                    folder: compare.out.join(&category.name).join(&name),
                    train: train_words(compare, device, detector, scales, seed),
                    backbone: on_backbones(detector).then(|| backbone.clone()),
                    tests: test_words(compare, device, scales),
                    category: category.clone(),
                    detector,
                    seed,
                    report: compare.reports.then(|| {
                        let [category, name] = [&category.name, &name].map(|name| address(name));
                        format!("{category}/{name}/{REPORT}/index.html")
                    }),
                });
            }
        }
    }
    jobs
}

/// A name as a part of a relative address.
fn address(name: &str) -> String {
    let bytes = name.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    });
    bytes.collect()
}

/// The size that a detector sees images at instead of the one asked for, which its networks cannot have; `None` if it can, or none was
/// asked for.
fn own_size(compare: &Compare, detector: DetectorKind) -> Option<Resize> {
    let wanted = compare.resize?;
    let own = ReconstructionConfig::new(detector)?.settings.resize;
    (!reconstruction::fits(wanted)).then_some(own)
}

/// An option of a command.
fn option(name: &str, value: impl ToString) -> Vec<String> {
    vec![name.to_string(), value.to_string()]
}

/// Where the processes' networks run, if that is not the processor.
fn device_words(device: DeviceChoice) -> Vec<String> {
    match device {
        DeviceChoice::Cpu => Vec::new(),
        _ => option("--device", device),
    }
}

fn train_words(
    compare: &Compare,
    device: DeviceChoice,
    detector: DetectorKind,
    scales: &[usize],
    seed: u64,
) -> Vec<String> {
    let mut words = [option("--detector", detector), option("--seed", seed)].concat();
    words.extend(device_words(device));
    words.extend(compare.decoding.words());
    if !scales.is_empty() {
        let scales: Vec<_> = scales.iter().map(ToString::to_string).collect();
        words.extend(option("--scales", scales.join(",")));
    }
    if detector.is_trained_in_steps() {
        let RunLength { budget, steps } = &compare.length;
        words.extend(budget.iter().flat_map(|budget| option("--budget", budget)));
        words.extend(steps.iter().flat_map(|steps| option("--steps", steps)));
    }
    let resize = compare
        .resize
        .filter(|_| own_size(compare, detector).is_none());
    words.extend(
        resize
            .into_iter()
            .flat_map(|resize| option("--resize", resize)),
    );
    words
}

/// Each scale of several by itself, then all of them.
fn test_words(
    compare: &Compare,
    device: DeviceChoice,
    scales: &[usize],
) -> Vec<(Vec<usize>, Vec<String>)> {
    let measuring = &compare.measuring;
    let words = [
        option("--fpr-limit", measuring.fpr_limit),
        option("--mask-threshold", measuring.masks.threshold),
        device_words(device),
    ]
    .concat();
    let each = scales.iter().filter(|_| scales.len() > 1);
    let each = each.map(|&scale| {
        (
            vec![scale],
            [words.clone(), option("--scales", scale)].concat(),
        )
    });
    let mut tests: Vec<_> = each.collect();
    tests.push((scales.to_vec(), words));
    tests
}
