//! The losses of each step, in a file that grows with the run. So the losses of a failed, stopped or killed run are there too.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use pupilla::teacher::{self, StepLosses};
use pupilla_core::observer::{Observer, StopFlag};
use pupilla_files::atomic_file;

use crate::progress::Progress;

/// Shows work as [`Progress`] does, and writes losses to a file if one is wanted.
pub struct TrainingLog<'a> {
    progress: &'a mut Progress,
    path: Option<&'a Path>,
    file: Option<File>,
    /// Whether the file could not be written, and the warning was given.
    failed: bool,
}

impl<'a> TrainingLog<'a> {
    /// Nothing is written before the first step.
    pub fn new(progress: &'a mut Progress, path: Option<&'a Path>) -> Self {
        Self {
            progress,
            path,
            file: None,
            failed: false,
        }
    }

    /// The table of another run begins.
    pub fn restart(&mut self) {
        self.file = None;
    }

    /// The table of a whole run in place of what was written step by step.
    pub fn replace(&mut self, history: &[StepLosses]) -> Result<(), atomic_file::WriteError> {
        self.file = None;
        match self.path {
            Some(path) => atomic_file::write_bytes(path, teacher::to_csv(history).as_bytes()),
            None => Ok(()),
        }
    }

    /// Begins the file with the steps so far that it may have already; without them if it cannot be read.
    fn begin(&mut self, steps: u64) {
        let Some(path) = self.path.filter(|_| !self.failed) else {
            return;
        };
        let mut text = teacher::to_csv(&[]);
        let known = if steps > 0 {
            std::fs::read_to_string(path)
        } else {
            Ok(String::new())
        };
        for line in known.unwrap_or_default().lines() {
            let step = line
                .split(',')
                .next()
                .and_then(|step| step.parse::<u64>().ok());
            if step.is_some_and(|step| step <= steps) {
                text.push_str(line);
                text.push('\n');
            }
        }
        let file = File::create(path).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            Ok(file)
        });
        self.keep(path, file);
    }

    /// A log that cannot be written is no reason to end a run: a warning appears once, and the end of the run is an error.
    fn keep(&mut self, path: &Path, file: std::io::Result<File>) {
        match file {
            Ok(file) => self.file = Some(file),
            Err(error) => {
                let warning = format!("the log {} is not written: {error}", path.display());
                self.progress.warn(&warning);
                self.failed = true;
            }
        }
    }
}

impl Observer for TrainingLog<'_> {
    fn start(&mut self, stage: &str, total: u64) {
        self.progress.start(stage, total);
    }

    fn advance(&mut self, done: u64, loss: Option<f64>) {
        self.progress.advance(done, loss);
    }

    fn losses(&mut self, step: u64, terms: &[(&str, f64)]) {
        self.progress.losses(step, terms);
        if self.file.is_none() {
            self.begin(0);
        }
        if let (Some(mut file), Some(path)) = (self.file.take(), self.path) {
            let line = StepLosses::from_named(terms).csv_line(step);
            let written = file.write_all(line.as_bytes());
            self.keep(path, written.map(|()| file));
        }
    }

    fn resumed(&mut self, step: u64, seconds: Option<f64>) {
        self.progress.resumed(step, seconds);
        self.begin(step);
    }

    fn finish(&mut self) {
        self.progress.finish();
    }

    fn warn(&mut self, warning: &str) {
        self.progress.warn(warning);
    }

    fn skipped(&mut self, path: &Path, reason: &str) {
        self.progress.skipped(path, reason);
    }

    fn stop_flag(&self) -> StopFlag {
        self.progress.stop_flag()
    }
}
