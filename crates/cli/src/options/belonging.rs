//! Which options belong to which detectors, presets or forms. An option says so where it is described, as a group of clap; help,
//! and the check that refuses what does not apply, come from there.

use std::borrow::Cow;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, Id};
use pupilla::embedding::Method as Embedding;
use pupilla::{DetectorKind, Family, ReconstructionConfig};
use serde_json::{Map, Value};

use crate::output::Usage;

/// The values of another option that an option belongs to.
pub struct Owners {
    /// The other option's id.
    key: &'static str,
    values: Vec<String>,
    /// What help says of them.
    text: String,
}

/// The id of the option that chooses detectors, in every command.
pub const DETECTOR: &str = "detector";

/// An option of these detectors, whose names stand in the heading above it.
pub fn of(detectors: impl Fn(DetectorKind) -> bool) -> Owners {
    let owners = DetectorKind::ALL
        .into_iter()
        .filter(|&kind| detectors(kind));
    Owners {
        key: DETECTOR,
        values: owners.map(|kind| kind.name().to_string()).collect(),
        text: String::new(),
    }
}

/// An option of these detectors, whose names stand in its help.
pub fn detectors(detectors: impl Fn(DetectorKind) -> bool) -> Owners {
    let owners = of(detectors);
    Owners {
        text: format!(" [detectors: {}]", owners.values.join(", ")),
        ..owners
    }
}

/// A setting of the library, by its name there: it belongs to the detectors that have it, and help says their defaults.
pub fn setting(name: &str) -> Owners {
    let kinds = DetectorKind::ALL.into_iter();
    let defaults = kinds.filter_map(|kind| Some((kind.name(), plain(defaults(kind).get(name)?))));
    let defaults: Vec<_> = defaults.collect();
    let [(_, first), ..] = &defaults[..] else {
        unreachable!("no detector has the setting {name}")
    };
    let owners = detectors(|kind| defaults.iter().any(|(owner, _)| *owner == kind.name()));
    let text = if defaults.iter().all(|(_, value)| value == first) {
        format!(" [default: {first}]{}", owners.text)
    } else {
        let defaults: Vec<_> = defaults
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        format!(" [default: {}]", defaults.join(", "))
    };
    Owners { text, ..owners }
}

/// An option that belongs to values of another option of the same command.
pub fn only(key: &'static str, values: &[&str]) -> Owners {
    Owners {
        key,
        values: values.iter().map(ToString::to_string).collect(),
        text: format!(" [{key}: {}]", values.join(", ")),
    }
}

impl Owners {
    /// Help does not name them: the option belongs to every command, and the other option to one.
    pub fn silently(self) -> Self {
        let text = String::new();
        Self { text, ..self }
    }
}

/// A heading for options of several detectors, with their names.
pub fn heading(title: &str, detectors: impl Fn(DetectorKind) -> bool) -> String {
    format!("{title} ({})", of(detectors).values.join(", "))
}

pub fn students(kind: DetectorKind) -> bool {
    kind == DetectorKind::StudentTeacher
}

/// Those that compare embeddings of patches.
pub fn embedding(kind: DetectorKind) -> bool {
    kind.family() == Family::Embedding
}

/// Networks that reconstruct images.
pub fn reconstruction(kind: DetectorKind) -> bool {
    kind.family() == Family::Reconstruction
}

/// Those that see patches, and so what lies beyond the edge of an image.
pub fn of_patches(kind: DetectorKind) -> bool {
    students(kind) || embedding(kind)
}

/// Those that compare a pretrained network's features.
pub fn on_backbones(kind: DetectorKind) -> bool {
    Embedding::of(kind).is_some_and(|method| method.on_backbone())
}

/// The default settings that are a detector's own, by the names that model files have for them.
fn defaults(kind: DetectorKind) -> Map<String, Value> {
    let embedding = Embedding::of(kind).map(|method| {
        let smoothing = serde_json::json!({ "smoothing": method.usual_smoothing() });
        [serde_json::to_value(method), Ok(smoothing)]
    });
    let network = ReconstructionConfig::new(kind).map(|config| {
        let settings = config.settings;
        [
            serde_json::to_value(settings.method),
            serde_json::to_value(settings.training),
        ]
    });
    let values = [embedding, network].into_iter().flatten().flatten();
    let objects = values.filter_map(|value| match value {
        Ok(Value::Object(entries)) => Some(entries),
        _ => None,
    });
    objects.flatten().collect()
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value
            .as_f64()
            .map_or_else(|| value.to_string(), |number| number.to_string()),
    }
}

/// Says of an option whom it belongs to: `#[arg(long, belongs = detectors(…))]`.
pub trait Belongs {
    fn belongs(self, owners: Owners) -> Self;
}

impl Belongs for Arg {
    fn belongs(self, owners: Owners) -> Self {
        let help = format!(
            "{}{}",
            self.get_help().cloned().unwrap_or_default(),
            owners.text
        );
        let groups = owners.values.iter();
        let groups: Vec<_> = groups
            .map(|value| format!("{}={value}", owners.key))
            .collect();
        self.help(help).groups(groups)
    }
}

/// Lets options of the same owner stand beside each other, in a command and those below it.
pub fn settle(command: Command) -> Command {
    let owned = command.get_groups().map(|group| group.get_id().clone());
    let owned: Vec<Id> = owned.filter(|id| id.as_str().contains('=')).collect();
    owned
        .into_iter()
        .fold(command, |command, id| {
            command.mut_group(id, |group| group.multiple(true))
        })
        .mut_subcommands(settle)
}

/// The option that chooses students, if no detector is named: patch sizes, their teachers, or an option that students have and the
/// default detector lacks. Options about the run alone, such as `--resume`, choose nothing.
pub fn choice_of_students(command: &Command, matches: &ArgMatches) -> Option<String> {
    let (name, matches) = matches.subcommand()?;
    let command = command.find_subcommand(name)?;
    let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    if !matches!(matches.try_contains_id(DETECTOR), Ok(true)) || given(DETECTOR) {
        return None;
    }
    let chooses = |option: &&Arg| {
        let id = option.get_id().as_str();
        let owners = owners(command, option);
        let of = |kind: DetectorKind| owners.contains(&(DETECTOR, kind.name()));
        let of_students = of(DetectorKind::StudentTeacher) && !of(DetectorKind::default());
        let about_the_run = CHOOSE_NOTHING.contains(&id);
        given(id) && (of_students && !about_the_run || CHOOSE_STUDENTS.contains(&id))
    };
    let option = command.get_arguments().find(chooses)?;
    option.get_long().map(|long| format!("--{long}"))
}

/// Options of several detectors that choose students if no detector is named.
const CHOOSE_STUDENTS: [&str; 2] = ["scales", "teachers"];

/// Options of students that say nothing about the detector.
const CHOOSE_NOTHING: [&str; 3] = ["dry_run", "resume", "checkpoint_every"];

/// The same command, not built yet, with students as the default detector.
pub fn with_students(command: Command) -> Command {
    let students = DetectorKind::StudentTeacher.name();
    command.mut_subcommand("train", |train| {
        train.mut_arg(DETECTOR, |detector| detector.default_value(students))
    })
}

/// The values of other options that an option belongs to: the other option's id, and the value.
fn owners<'a>(command: &'a Command, option: &Arg) -> Vec<(&'a str, &'a str)> {
    let groups = command.get_groups().filter(|group| {
        let mut members = group.get_args();
        members.any(|member| member == option.get_id())
    });
    groups
        .filter_map(|group| group.get_id().as_str().split_once('='))
        .collect()
}

/// Refuses the first option that was given and does not belong to what else was given. `choice` is the option that chose the detector,
/// if the detector was not named.
pub fn check(command: &Command, matches: &ArgMatches, choice: Option<&str>) -> Result<(), Usage> {
    if let Some((name, matches)) = matches.subcommand()
        && let Some(command) = command.find_subcommand(name)
    {
        return check(command, matches, choice);
    }
    for option in command.get_arguments() {
        let source = matches.value_source(option.get_id().as_str());
        if source == Some(ValueSource::CommandLine) {
            check_owners(command, matches, choice, option)?;
        }
    }
    Ok(())
}

fn check_owners(
    command: &Command,
    matches: &ArgMatches,
    choice: Option<&str>,
    option: &Arg,
) -> Result<(), Usage> {
    let owners = owners(command, option);
    for key in command.get_arguments() {
        let id = key.get_id().as_str();
        let of_key = owners.iter().filter(|(owner, _)| *owner == id);
        let owners: Vec<_> = of_key.map(|&(_, value)| value).collect();
        let Ok(Some(chosen)) = matches.try_get_raw(id) else {
            continue;
        };
        let chosen: Vec<_> = chosen
            .map(|value| own_name(id, value.to_string_lossy()))
            .collect();
        if !owners.is_empty() && !chosen.iter().any(|value| owners.contains(&&**value)) {
            let long = |arg: &Arg| arg.get_long().unwrap_or_default().to_string();
            let cure = match choice.filter(|_| id == DETECTOR) {
                Some(choice) => format!(
                    "leave it out, or name the detector ({choice} chose {})",
                    chosen.join(", ")
                ),
                None => "leave it out".to_string(),
            };
            return Err(Usage(format!(
                "--{} belongs to --{} {}, not to {}: {cure}",
                long(option),
                long(key),
                either(&owners),
                chosen.join(", ")
            )));
        }
    }
    Ok(())
}

/// The name that owners have for a chosen value: a detector may be given by a name of the field.
fn own_name<'a>(key: &str, value: Cow<'a, str>) -> Cow<'a, str> {
    match value.parse::<DetectorKind>() {
        Ok(kind) if key == DETECTOR => kind.name().into(),
        _ => value,
    }
}

/// Alternatives in a sentence.
fn either(values: &[&str]) -> String {
    match values {
        [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => values.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_and_defaults_are_those_of_the_library() {
        let sample = setting("sample");
        assert_eq!(sample.values.len(), 6);
        let defaults = "1-nn 50000, oc-svm 10000, k-means 50000, cnn-dictionary 50000, memory-bank 200000, mahalanobis 200000";
        assert_eq!(sample.text, format!(" [default: {defaults}]"));
        assert_eq!(
            setting("gamma").text,
            " [default: scale] [detectors: oc-svm]"
        );
        assert!(
            setting("dictionary")
                .text
                .contains("1-nn 5000, k-means 10, cnn-dictionary 500")
        );
        assert!(setting("variance").text.starts_with(" [default: 0.95] "));
    }
}
