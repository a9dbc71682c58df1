//! The program `pupilla`: arguments → one library call → output.
//!
//! [`main`] is the program. A package of another language holds it too, and calls single commands through [`host`].
#![forbid(unsafe_code)]

mod colour;
mod commands;
mod data_set;
mod hints;
pub mod host;
mod options;
mod output;
mod progress;
mod region_of_interest;
mod region_table;
mod report;
mod training_log;

use std::ffi::OsString;
use std::io;

use anyhow::Context;
use pupilla::device::{self, DeviceChoice};

use options::{Arguments, Command, TeacherCommand};
use progress::Progress;
use pupilla_core::observer::{Observer, StopFlag};

/// The version of the program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The exit status of success.
const SUCCESS: u8 = 0;

/// The program: `words` are its name and its arguments. Gives the exit status.
pub fn main(words: impl IntoIterator<Item = OsString>) -> u8 {
    let stop = StopFlag::default();
    match options::parse(words).and_then(|arguments| run(arguments, &stop)) {
        Ok(status) => status,
        // A reader that has seen enough (`pupilla inspect … | head`) is no failure.
        Err(error) if is_broken_pipe(&error) => SUCCESS,
        Err(error) => match error.downcast_ref::<clap::Error>() {
            Some(error) => {
                // Help is such an error too. Whether anybody reads it must not decide over the status.
                let _ = error.print();
                u8::try_from(error.exit_code()).unwrap_or(1)
            }
            None => {
                let hint = hints::hint(&error).map_or(String::new(), |hint| format!(" ({hint})"));
                let word = colour::styled(colour::ALARM, "error:");
                progress::print_line(format_args!("{word} {}{hint}", output::sentence(&error)));
                status(&error, stop.is_raised())
            }
        },
    }
}

/// The exit status of an error.
fn status(error: &anyhow::Error, stop_requested: bool) -> u8 {
    if stop_requested {
        progress::STOPPED
    } else if is_usage(error) {
        2
    } else {
        1
    }
}

fn run(arguments: Arguments, stop: &StopFlag) -> anyhow::Result<u8> {
    let mut progress = Progress::new(arguments.progress, arguments.stop_with_input, stop.clone())?;
    if let Some(threads) = arguments.threads {
        start_threads(threads.into(), &mut progress)?;
    }
    choose_device(arguments.device, &progress)?;
    device::guarded(|| command(arguments, &mut progress))?
}

/// Starts the worker threads: no more than the machine can run without stalling. A few more than it has cores are allowed, since a
/// training repeats another machine's bytes with as many threads only.
fn start_threads(threads: usize, progress: &mut Progress) -> anyhow::Result<()> {
    const MOST_PER_CORE: usize = 4;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let most = MOST_PER_CORE * cores;
    if threads > most {
        progress.warn(&format!(
            "--threads {threads} is too many for the {cores} cores of this machine: {most} are started"
        ));
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.min(most))
        .build_global()
        .context("cannot start the worker threads")
}

/// Decides where networks run, and says so if it is not the processor.
fn choose_device(choice: DeviceChoice, progress: &Progress) -> anyhow::Result<()> {
    let chosen = device::choose(choice)?;
    match chosen.no_gpu {
        Some(reason) => progress.note(&format!("networks run on {}: {reason}", chosen.name)),
        None if choice != DeviceChoice::Cpu => {
            progress.note(&format!("networks run on {}", chosen.name));
        }
        None => {}
    }
    Ok(())
}

fn command(arguments: Arguments, progress: &mut Progress) -> anyhow::Result<u8> {
    match arguments.command {
        Command::Train(train) => commands::train::run(&train, progress),
        Command::Calibrate(calibrate) => commands::calibrate::run(&calibrate, progress),
        Command::Inspect(inspect) => return commands::inspect::run(&inspect, progress),
        Command::Eval(eval) => commands::eval::run(&eval, progress),
        Command::Score(score) => commands::score::run(&score, progress),
        Command::Compare(compare) => commands::compare::run(&compare, arguments.device, progress),
        Command::Check(check) => return commands::check::run(&check, progress),
        Command::Teacher(teacher) => match teacher.command {
            TeacherCommand::Train(train) => commands::teacher::train(&train, progress),
            TeacherCommand::Report(report) => commands::teacher::report(&report, progress),
        },
        Command::Info(info) => commands::info::run(&info),
        Command::Backbone(backbone) => commands::backbone::run(&backbone),
        Command::Demo(demo) => commands::demo::run(&demo, progress),
        Command::Completions { shell } => commands::shell::completions(shell),
        Command::Man { folder } => commands::shell::manual(&folder),
    }?;
    Ok(SUCCESS)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// A setting out of its range is a matter of usage, like an unknown option, or one that the model's kind does not have.
fn is_usage(error: &anyhow::Error) -> bool {
    use pupilla::{DoesNotApply, TrainError};
    matches!(
        error.chain().find_map(hints::train_error),
        Some(TrainError::Setting { .. })
    ) || error.is::<output::Usage>()
        || error.is::<DoesNotApply>()
}
