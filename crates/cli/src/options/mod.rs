//! Every option of the command line: one file a command, and what commands share. An option's name, help, default and owners stand
//! where it is described, and nowhere else.

mod backbone;
mod belonging;
mod calibrate;
mod check;
mod compare;
mod demo;
mod eval;
mod info;
mod inspect;
mod optional_values;
mod score;
mod shared;
mod teacher;
mod train;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use pupilla::device::DeviceChoice;

use crate::output::Usage;

pub use backbone::Backbone;
pub use belonging::on_backbones;
pub use calibrate::Calibrate;
pub use check::Check;
pub use compare::Compare;
pub use demo::Demo;
pub use eval::Eval;
pub use info::Info;
pub use inspect::Inspect;
pub use score::Score;
pub use shared::{Computing, DataLayout, GivenThresholds, RunLength};
pub use teacher::{Form, Teacher, TeacherCommand, TeacherReport, TeacherTrain};
pub use train::{Preset, Train};
pub use values::Memory;

/// Finds defects in images of manufactured parts after seeing good parts only.
///
/// Try `pupilla demo` first. It makes a small data set, trains, evaluates, and writes a page of pictures.
///
/// Then train on good images of your own, and inspect new images:
///
/// `pupilla train GOOD_IMAGES --out part.pupilla`
///
/// `pupilla inspect part.pupilla NEW_IMAGES --out heatmaps`
#[derive(Debug, Parser)]
#[command(name = "pupilla", version, max_term_width = 100)]
pub struct Arguments {
    /// How the program reports progress, on standard error [default: bar in a terminal, else none]
    #[arg(long, global = true, value_enum, value_name = "STYLE", help_heading = EVERYWHERE)]
    pub progress: Option<ProgressStyle>,
    /// Number of worker threads, at most four for each core of the machine [default: one for each core]
    #[arg(long, global = true, value_name = "N", help_heading = EVERYWHERE, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Where networks run: on the processor, on a GPU (gpu:1 is the second GPU), or auto: on a GPU that works, else on the
    /// processor. GPUs need a program that was built with the feature gpu
    #[arg(long, global = true, value_name = "DEVICE", help_heading = EVERYWHERE, default_value_t,
        value_parser = values::named::<DeviceChoice>(["cpu", "gpu", "gpu:1", "auto"]))]
    pub device: DeviceChoice,
    /// Stop as at Ctrl-C once standard input ends: for a program that runs this one, and may be killed itself
    #[arg(long, global = true, hide = true)]
    pub stop_with_input: bool,
    #[command(subcommand)]
    pub command: Command,
}

/// The heading above options that every command has.
const EVERYWHERE: &str = "Options of every command";

/// The heading above what thresholds are, and come from.
const THRESHOLDS: &str = "Thresholds";

/// The heading above options that few people need.
const ADVANCED: &str = "Advanced options";

/// The heading of options about folders and files of images.
const IMAGES: &str = "Folders and files of images";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgressStyle {
    /// A bar with the remaining time (in a terminal only)
    Bar,
    /// One JSON object a line
    Json,
    /// Nothing but warnings
    None,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Learn what good parts look like, from good images alone
    Train(Box<Train>),
    /// Find new thresholds for a model from good images, without training
    Calibrate(Calibrate),
    /// Score images and draw where they differ from good parts
    Inspect(Inspect),
    /// Measure a model on a data set with labelled defects
    Eval(Eval),
    /// Measure the anomaly maps of any tool
    Score(Score),
    /// Look for mistakes in a data set: double images, leaks from training to test, outliers, broken files, wrong masks
    Check(Check),
    /// Train and measure several detectors on the same images, and compare them
    Compare(Compare),
    /// Train or measure teachers, the networks that students learn from
    Teacher(Teacher),
    /// Print what a model or teacher file says about itself; without a file, the built-in network and teachers
    Info(Info),
    /// Print what a pretrained network gives on an image
    Backbone(Backbone),
    /// Do the whole job on built-in data: make images, train, evaluate, show
    Demo(Demo),
    /// Print a script that completes commands and options in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages
    Man {
        /// The folder to write them into
        folder: PathBuf,
    },
}

/// Commands that run no network, for which a device would mean nothing.
const WITHOUT_NETWORKS: [&str; 5] = ["score", "check", "info", "completions", "man"];

/// The options as a person sees them, in help, completions and manual pages.
pub fn command() -> clap::Command {
    built(Arguments::command())
}

/// A command with all that its options need of each other.
fn built(mut command: clap::Command) -> clap::Command {
    command.build();
    belonging::settle(command).mut_subcommands(|command| {
        let runs_none = WITHOUT_NETWORKS.contains(&command.get_name());
        command.mut_args(|option| {
            let hidden = option.is_hide_set() || runs_none && option.get_id() == "device";
            // The short help has what most people need.
            let common = matches!(option.get_help_heading(), None | Some(THRESHOLDS));
            option.hide(hidden).hide_short_help(!common)
        })
    })
}

/// The options in the words of a command line, of which the first is the program's name.
///
/// # Errors
/// [`clap::Error`] if a word is wrong, or help is wanted. [`Usage`] if an option does not belong to what else was given, or a value does
/// not follow its option after `=`.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> anyhow::Result<Arguments> {
    let mut command = command();
    let words = optional_values::joined(&command, words)?;
    let mut matches = command.try_get_matches_from_mut(&words)?;
    let choice = belonging::choice_of_students(&command, &matches);
    if choice.is_some() {
        command = built(belonging::with_students(Arguments::command()));
        matches = command.try_get_matches_from_mut(&words)?;
    }
    let source = matches.value_source("device");
    if source == Some(clap::parser::ValueSource::CommandLine)
        && let Some(name) = matches.subcommand_name()
        && WITHOUT_NETWORKS.contains(&name)
    {
        return Err(Usage(format!("--device: {name} runs no network")).into());
    }
    belonging::check(&command, &matches, choice.as_deref())?;
    let arguments = Arguments::from_arg_matches(&matches);
    let mut arguments = arguments.map_err(|error| error.format(&mut command))?;
    if let (Command::Train(train), Some(option)) = (&mut arguments.command, choice) {
        train.chosen_by = Some(option);
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests;
