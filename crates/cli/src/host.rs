//! The commands for a program of another language that holds this one, such as a Python package. Data and results are values. Settings
//! have the names of the program's options, with `_` in place of `-`, so that one list of options serves both.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command as Clap};
use pupilla::backbone::BackboneError;
use pupilla::device::DeviceError;
use pupilla::{DoesNotApply, FitError, Model, ScoreError, TrainError};
use pupilla_core::data::image_source::{ImageSetError, Listed};
use pupilla_core::data::mask::MaskError;
use pupilla_core::data::{Dataset, DatasetError};
use pupilla_core::evaluate::EvaluationError;
use pupilla_core::evaluate::map_run::{self, LabelledMap, MapRunError};
use pupilla_core::evaluate::test_run::TestError;
use pupilla_core::image::read::ReadError;
use pupilla_core::map::anomaly_map::AnomalyMap;
use pupilla_core::map::heatmap::SizeMismatch;
use pupilla_core::observer::Stopped;
use pupilla_core::verdict::INSPECTED;
use pupilla_files::weight_file::WeightFileError;
use serde_json::Value;

use crate::commands::inspect::inputs;
use crate::commands::{calibrate, check, compare, eval, score, train};
use crate::options::{self, Command, Score};
use crate::output::{self, Usage};
use crate::{hints, is_usage};

pub use crate::commands::train::Outcome;
pub use crate::progress::{Events, Progress};

/// Says which words start this program in a process of its own, if it is not the file of this process: `python -m …`. The first call
/// counts.
pub fn start_with(words: Vec<OsString>) {
    compare::child::start_with(words);
}

/// The value of a setting.
#[derive(Clone, Debug)]
pub enum Given {
    /// Yes or no.
    Switch(bool),
    /// A text, a number, a path; several for a list.
    Values(Vec<OsString>),
}

/// Settings by their names.
pub type Settings = Vec<(String, Given)>;

/// A setting of a command, for documentation.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// What it does, with its default.
    pub help: String,
    /// What kind of value it takes.
    pub kind: SettingKind,
    /// Whether it takes a list.
    pub repeated: bool,
}

/// The kind of a setting's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingKind {
    /// Yes or no.
    Switch,
    /// A text or a number.
    Value,
    /// The path of a file or a folder.
    Path,
}

/// Options that are no settings: a host gives what they are for in another way.
const NO_SETTINGS: [&str; 8] = [
    "help",
    "version",
    "json",
    "progress",
    "threads",
    "device",
    "stop-with-input",
    "dry-run",
];

/// Options of one command that are no settings.
const NO_SETTINGS_OF: [(&str, &[&str]); 2] =
    [("calibrate", &["out", "force"]), ("score", &["maps"])];

/// The settings of a command. The names of a command and a command below it have a space between them.
pub fn settings(command: &str) -> Vec<Setting> {
    let program = options::command();
    let Some(of_program) = find(&program, command) else {
        return Vec::new();
    };
    let settings = setting_options(command, of_program).map(|option| Setting {
        name: name_of(option),
        help: with_setting_names(
            &option
                .get_help()
                .map(ToString::to_string)
                .unwrap_or_default(),
        ),
        kind: kind_of(option),
        repeated: is_repeated(option),
    });
    settings.collect()
}

fn find<'a>(program: &'a Clap, command: &str) -> Option<&'a Clap> {
    let mut names = command.split(' ');
    names.try_fold(program, |command, name| command.find_subcommand(name))
}

fn setting_options<'a>(command: &str, of_program: &'a Clap) -> impl Iterator<Item = &'a Arg> {
    let other = NO_SETTINGS_OF.iter().find(|(owner, _)| *owner == command);
    let other = other.map_or(&[][..], |(_, names)| names);
    of_program.get_arguments().filter(move |option| {
        let long = option.get_long();
        long.is_some_and(|long| !NO_SETTINGS.contains(&long) && !other.contains(&long))
    })
}

fn name_of(option: &Arg) -> String {
    option.get_long().unwrap_or_default().replace('-', "_")
}

fn kind_of(option: &Arg) -> SettingKind {
    let names = option.get_value_names().unwrap_or_default();
    let is = |wanted: &[&str]| names.iter().any(|name| wanted.contains(&name.as_str()));
    match option.get_action() {
        ArgAction::SetTrue | ArgAction::SetFalse => SettingKind::Switch,
        _ if is(&["BOOL"]) => SettingKind::Switch,
        _ if is(&["FILE", "DIR", "IMAGE", "FOLDER"]) => SettingKind::Path,
        _ => SettingKind::Value,
    }
}

fn is_repeated(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::Append) || option.get_value_delimiter().is_some()
}

/// The words of a command line that give these settings, with JSON on standard output. The first word is the program's name.
///
/// # Errors
/// If the command has no such setting, or the setting takes another kind of value.
pub fn words(command: &str, data: &[&Path], settings: Settings) -> anyhow::Result<Vec<OsString>> {
    let program = options::command();
    let Some(of_program) = find(&program, command) else {
        return Err(Usage(format!("{command} is no command")).into());
    };
    let mut words = vec![OsString::from("pupilla")];
    words.extend(command.split(' ').map(OsString::from));
    words.push("--json=-".into());
    for (name, given) in settings {
        let mut known = setting_options(command, of_program);
        let Some(option) = known.find(|option| name_of(option) == name) else {
            let names: Vec<_> = setting_options(command, of_program).map(name_of).collect();
            return Err(unknown(command, &name, &names).into());
        };
        let long = option.get_long().unwrap_or_default();
        let with = |value: &dyn AsRef<std::ffi::OsStr>| {
            let mut word = OsString::from(format!("--{long}="));
            word.push(value);
            word
        };
        // Some switches take a value too: `--batch-norm=false`.
        let values = option.get_num_args();
        let is_flag = !values.is_some_and(|values| values.takes_values());
        match given {
            Given::Switch(true) if is_flag => words.push(format!("--{long}").into()),
            Given::Switch(false) if is_flag => {}
            Given::Values(_) if is_flag => {
                return Err(Usage(format!("{name} takes True or False")).into());
            }
            Given::Switch(value) => words.push(with(&value.to_string())),
            Given::Values(values) => match option.get_value_delimiter() {
                Some(delimiter) => {
                    let mut delimiters = [0; 4];
                    let delimiter: &str = delimiter.encode_utf8(&mut delimiters);
                    words.push(with(&values.join(delimiter.as_ref())));
                }
                None if values.len() > 1 && !is_repeated(option) => {
                    let text = format!("{name} takes one value, not a list");
                    return Err(Usage(text).into());
                }
                None => words.extend(values.iter().map(|value| with(value))),
            },
        }
    }
    words.push("--".into());
    words.extend(data.iter().map(|path| path.as_os_str().to_owned()));
    Ok(words)
}

fn unknown(command: &str, name: &str, names: &[String]) -> Usage {
    const ALIKE: f64 = 0.8;
    let likeness = |other: &&String| strsim::jaro_winkler(name, other);
    let nearest = names
        .iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let cure = match nearest.filter(|other| likeness(other) > ALIKE) {
        Some(other) => format!("is {other} meant?"),
        None => format!("its settings are {}", names.join(", ")),
    };
    Usage(format!("{command} has no setting {name}: {cure}"))
}

/// [`words`] whose values are right too.
///
/// # Errors
/// Those of the command's options.
pub fn checked_words(
    command: &str,
    data: &[&Path],
    settings: Settings,
) -> anyhow::Result<Vec<OsString>> {
    let words = words(command, data, settings)?;
    options::parse(words.clone())?;
    Ok(words)
}

/// The options of a command.
fn parse(command: &str, data: &[&Path], settings: Settings) -> anyhow::Result<Command> {
    Ok(options::parse(words(command, data, settings)?)?.command)
}

/// What stands in an error in place of a path that a host does not give.
const IN_MEMORY: &str = "in memory";

/// Images to learn from, or to calibrate on.
#[derive(Clone, Debug)]
pub enum Images {
    /// A folder, a data set, or a manifest.
    Folder(PathBuf),
    /// Images, one by one.
    Listed(Listed),
}

impl Images {
    fn path(&self) -> &Path {
        match self {
            Self::Folder(path) => path,
            Self::Listed(_) => Path::new(IN_MEMORY),
        }
    }

    fn listed(self) -> Option<Listed> {
        match self {
            Self::Folder(_) => None,
            Self::Listed(images) => Some(images),
        }
    }
}

/// `pupilla train`. With the setting `out`, the model is written too, and a stopped run leaves a checkpoint. `plan_only` is `--dry-run`.
///
/// # Errors
/// Those of the command.
pub fn train(
    images: Images,
    settings: Settings,
    plan_only: bool,
    progress: &mut Progress,
) -> anyhow::Result<Outcome> {
    let mut words = words("train", &[images.path()], settings)?;
    let train_options = |words| match options::parse(words)?.command {
        Command::Train(options) => Ok::<_, anyhow::Error>(options),
        _ => unreachable!("the words are those of train"),
    };
    let mut options = train_options(words.clone())?;
    if plan_only {
        if !options.detector.is_trained_in_steps() {
            let kind = options.detector;
            let text = format!("{kind} is not trained in steps: there is nothing to plan");
            return Err(Usage(text).into());
        }
        words.insert(2, "--dry-run".into());
        options = train_options(words)?;
    }
    train::trained(&options, images.listed(), progress)
}

/// `pupilla calibrate`: the model with new thresholds.
///
/// # Errors
/// Those of the command.
pub fn calibrate(
    model: Model,
    images: Images,
    settings: Settings,
    progress: &mut Progress,
) -> anyhow::Result<Model> {
    let data = [Path::new(IN_MEMORY), images.path()];
    let Command::Calibrate(options) = parse("calibrate", &data, settings)? else {
        unreachable!("the words are those of calibrate")
    };
    calibrate::calibrated(model, images.listed(), &options, progress)
}

/// The images that `pupilla inspect` takes from a folder, or the file itself.
///
/// # Errors
/// If a folder cannot be listed, or holds no image.
pub fn images(path: &Path, progress: &Progress) -> anyhow::Result<Vec<PathBuf>> {
    let named = inputs::list(&[path.to_path_buf()], None, progress)?;
    Ok(named.into_iter().map(|image| image.path).collect())
}

/// `pupilla eval`: the evaluation, as the command's JSON, and the pages that were written. `name` stands for the model's file on pages.
///
/// # Errors
/// Those of the command.
pub fn evaluate(
    model: Model,
    name: &Path,
    data: &Path,
    settings: Settings,
    progress: &mut Progress,
) -> anyhow::Result<(Value, Vec<PathBuf>)> {
    let Command::Eval(options) = parse("eval", &[name, data], settings)? else {
        unreachable!("the words are those of eval")
    };
    let mut measured = eval::measure(model, &options, progress)?;
    let pages = measured.write_pages(&options)?;
    Ok((serde_json::to_value(&measured.evaluation)?, pages))
}

/// `pupilla check`: what was found, as the command's JSON.
///
/// # Errors
/// Those of the command.
pub fn check(data: &Path, settings: Settings, progress: &mut Progress) -> anyhow::Result<Value> {
    let Command::Check(options) = parse("check", &[data], settings)? else {
        unreachable!("the words are those of check")
    };
    let found = check::look(&options, options.json.file(), progress)?;
    Ok(serde_json::to_value(found)?)
}

/// Anomaly maps to measure.
#[derive(Debug)]
pub enum Maps {
    /// Files in a folder, as `pupilla score` expects them.
    Folder(PathBuf),
    /// A map for each test image, in the data set's order.
    Held(Vec<AnomalyMap>),
}

impl Maps {
    fn folder(&self) -> &Path {
        match self {
            Self::Folder(folder) => folder,
            Self::Held(_) => Path::new(IN_MEMORY),
        }
    }
}

fn score_options(maps: &Path, data: &Path, settings: Settings) -> anyhow::Result<Score> {
    let mut words = words("score", &[data], settings)?;
    words.insert(2, "--maps".into());
    words.insert(3, maps.as_os_str().to_owned());
    match options::parse(words)?.command {
        Command::Score(options) => Ok(options),
        _ => unreachable!("the words are those of score"),
    }
}

/// `pupilla score`: the evaluation, as the command's JSON.
///
/// # Errors
/// Those of the command.
pub fn score(
    maps: &Maps,
    data: &Path,
    settings: Settings,
    progress: &mut Progress,
) -> anyhow::Result<Value> {
    let options = score_options(maps.folder(), data, settings)?;
    let Maps::Held(maps) = maps else {
        return Ok(serde_json::to_value(score::measure(&options, progress)?)?);
    };
    let dataset = Dataset::open_with(data, &options.layout.settings())?;
    let evaluation = map_run::run_held(maps, &dataset, &score::settings(&options), progress)?;
    Ok(serde_json::to_value(&evaluation)?)
}

/// The same for maps without a data set.
///
/// # Errors
/// Those of the command.
pub fn score_labelled(
    maps: &[LabelledMap],
    settings: Settings,
    progress: &mut Progress,
) -> anyhow::Result<Value> {
    let in_memory = Path::new(IN_MEMORY);
    let options = score_options(in_memory, in_memory, settings)?;
    let evaluation = map_run::run_labelled(maps, &score::settings(&options), progress)?;
    Ok(serde_json::to_value(&evaluation)?)
}

/// What an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The work was asked to stop.
    Stopped,
    /// A setting, or settings that contradict each other.
    Setting,
    /// An image or a mask.
    Image,
    /// A data set.
    Dataset,
    /// A model or another file of weights.
    Model,
    /// The device that computes.
    Device,
    /// Training.
    Training,
    /// An image that the model cannot score.
    Inspection,
    /// Anything else.
    Other,
}

/// What an error is about, by the first cause that says so.
pub fn kind(error: &anyhow::Error) -> ErrorKind {
    if error.is::<clap::Error>() || is_usage(error) {
        return ErrorKind::Setting;
    }
    let kind = error.chain().find_map(of_cause);
    kind.unwrap_or(ErrorKind::Other)
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<ErrorKind> {
    // Errors that stand for others are no links of the chain themselves.
    let fit = cause.downcast_ref::<FitError>();
    let test = cause.downcast_ref::<TestError>();
    let files = match fit {
        Some(FitError::Files(files)) => Some(files),
        _ => cause.downcast_ref::<ImageSetError>(),
    };
    let stopped = cause.is::<Stopped>()
        || matches!(files, Some(ImageSetError::Stopped))
        || matches!(test, Some(TestError::Stopped));
    if stopped {
        return Some(ErrorKind::Stopped);
    }
    if let Some(error) = hints::train_error(cause) {
        return Some(match error {
            TrainError::Stopped | TrainError::StoppedWithCheckpoint { .. } => ErrorKind::Stopped,
            TrainError::Setting { .. } => ErrorKind::Setting,
            _ => ErrorKind::Training,
        });
    }
    let of_inspected = |error: &SizeMismatch| error.what == INSPECTED;
    if cause.is::<DoesNotApply>() || cause.downcast_ref().is_some_and(of_inspected) {
        return Some(ErrorKind::Setting);
    }
    if let Some(error) = cause.downcast_ref::<MapRunError>() {
        return Some(match error {
            MapRunError::Stopped(_) => ErrorKind::Stopped,
            MapRunError::Dataset(_) => ErrorKind::Dataset,
            MapRunError::Evaluation(EvaluationError::FprLimit(_)) => ErrorKind::Setting,
            _ => ErrorKind::Image,
        });
    }
    if cause.is::<BackboneError>() {
        return Some(ErrorKind::Model);
    }
    if cause.is::<EvaluationError>()
        || cause.is::<ReadError>()
        || cause.is::<MaskError>()
        || files.is_some()
        || matches!(test, Some(TestError::Read(_) | TestError::Mask(_)))
    {
        return Some(ErrorKind::Image);
    }
    if cause.is::<DatasetError>()
        || matches!(fit, Some(FitError::Dataset(_) | FitError::Split(_)))
        || matches!(test, Some(TestError::Dataset(_)))
    {
        return Some(ErrorKind::Dataset);
    }
    if cause.is::<WeightFileError>()
        || matches!(fit, Some(FitError::Teacher(_) | FitError::Extractor(_)))
    {
        return Some(ErrorKind::Model);
    }
    if cause.is::<DeviceError>() {
        return Some(ErrorKind::Device);
    }
    cause.is::<ScoreError>().then_some(ErrorKind::Inspection)
}

/// An error in the words of a host: a sentence with its causes and what helps, where settings have their names.
pub fn message(error: &anyhow::Error) -> String {
    let text = match error.downcast_ref::<clap::Error>() {
        Some(error) => of_parser(error),
        None => {
            // Commands of the program and remarks on the shell help nobody here.
            let hint =
                hints::hint(error).filter(|hint| !hint.contains(['`']) && !hint.contains("shell"));
            let hint = hint.map_or(String::new(), |hint| format!(" ({hint})"));
            format!("{}{hint}", output::sentence(error))
        }
    };
    with_setting_names(&text)
}

/// What the parser says of a wrong value, without the lines about the command line.
fn of_parser(error: &clap::Error) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    if let (Some(option), Some(value)) = (
        text(ContextKind::InvalidArg),
        text(ContextKind::InvalidValue),
    ) {
        let name = option.split(' ').next().unwrap_or_default();
        // A path stands in angle brackets.
        let name = name.trim_matches(['<', '>']).to_lowercase();
        if value.is_empty() {
            return format!("{name} is empty: give a value");
        }
        let cure = match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(values)) => format!("give {}", values.join(", ")),
            _ => match std::error::Error::source(error) {
                Some(source) => source.to_string(),
                None => "give another value".to_owned(),
            },
        };
        return format!("{name} is {value:?}: {cure}");
    }
    let text = error.render().to_string();
    let about = text.split("\n\n").take_while(|paragraph| {
        !["Usage:", "For more"]
            .iter()
            .any(|start| paragraph.trim_start().starts_with(start))
    });
    let text: Vec<_> = about.map(str::trim).collect();
    let text = text.join("; ");
    text.strip_prefix("error: ").unwrap_or(&text).to_owned()
}

/// The text with `learning_rate` in place of `--learning-rate`: options of the program, where a word begins.
fn with_setting_names(text: &str) -> String {
    static OPTIONS: OnceLock<BTreeSet<String>> = OnceLock::new();
    let options = OPTIONS.get_or_init(|| {
        let mut options = BTreeSet::new();
        add_options(&options::command(), &mut options);
        options
    });
    let mut parts = text.split("--");
    let mut named = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part
            .find(|letter: char| !(letter.is_ascii_lowercase() || letter == '-'))
            .unwrap_or(part.len());
        let (name, rest) = part.split_at(end);
        let begins = named.is_empty() || named.ends_with([' ', '(', '\'', '"', '`']);
        if begins && options.contains(name) {
            named.push_str(&name.replace('-', "_"));
            named.push_str(rest);
        } else {
            named.push_str("--");
            named.push_str(part);
        }
    }
    named
}

fn add_options(command: &Clap, options: &mut BTreeSet<String>) {
    let own = command
        .get_arguments()
        .filter_map(|option| option.get_long());
    options.extend(own.map(str::to_owned));
    for below in command.get_subcommands() {
        add_options(below, options);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(values: &[&str]) -> Given {
        Given::Values(values.iter().map(OsString::from).collect())
    }

    #[track_caller]
    fn said(command: &str, settings: Settings) -> String {
        let parsed = parse(command, &[Path::new("images")], settings);
        let error = parsed.expect_err("the settings are wrong");
        assert_eq!(kind(&error), ErrorKind::Setting, "{error}");
        message(&error)
    }

    #[test]
    fn settings_become_options() {
        let settings = vec![
            ("detector".to_owned(), values(&["student-teacher"])),
            ("scales".to_owned(), values(&["17", "33"])),
            ("batch_norm".to_owned(), Given::Switch(false)),
            ("skip_unreadable".to_owned(), Given::Switch(true)),
            ("recursive".to_owned(), Given::Switch(false)),
        ];
        let words = words("train", &[Path::new("-x")], settings).unwrap();
        let wanted = [
            "pupilla",
            "train",
            "--json=-",
            "--detector=student-teacher",
            "--scales=17,33",
            "--batch-norm=false",
            "--skip-unreadable",
            "--",
            "-x",
        ];
        assert_eq!(words, wanted.map(OsString::from));
        assert!(options::parse(words).is_ok());
    }

    #[test]
    fn wrong_settings_are_named_as_the_host_names_them() {
        let given = |name: &str, value: &str| vec![(name.to_owned(), values(&[value]))];
        let text = said("train", given("learning_rat", "0.1"));
        assert!(text.ends_with("is learning_rate meant?"), "{text}");
        let text = said("train", given("steps", "many"));
        assert!(
            text.starts_with("steps is \"many\": invalid digit"),
            "{text}"
        );
        let text = said("train", given("preset", "fast"));
        assert_eq!(text, "preset is \"fast\": give quick, paper");
        let mut settings = given("detector", "padim");
        settings.extend(given("learning_rate", "0.1"));
        let text = said("train", settings);
        assert!(
            text.contains("learning_rate") && !text.contains("--"),
            "{text}"
        );
        let text = said("train", given("skip_unreadable", "maybe"));
        assert!(text.contains("True or False"), "{text}");
        let several = vec![("seed".to_owned(), values(&["1", "2"]))];
        assert!(said("train", several).contains("not a list"));
        for command_line in ["json", "dry_run", "threads"] {
            let text = said("train", given(command_line, "1"));
            assert!(text.contains("no setting"), "{text}");
        }
    }

    #[test]
    fn names_of_files_stay_as_they_are() {
        let error =
            anyhow::anyhow!("cannot read my--steps.png, --steps, (--learning-rate) or --x--y");
        let wanted = "cannot read my--steps.png, steps, (learning_rate) or --x--y";
        assert_eq!(message(&error), wanted);
    }

    #[test]
    fn every_setting_is_described() {
        let commands = [
            "train",
            "calibrate",
            "eval",
            "score",
            "check",
            "compare",
            "teacher train",
            "demo",
        ];
        for command in commands {
            let settings = settings(command);
            assert!(!settings.is_empty());
            for setting in settings {
                assert!(!setting.help.is_empty(), "{command}: {}", setting.name);
            }
        }
    }
}
