//! Progress of long work, for a person or a program; and how both stop the work.

use std::io::{self, IsTerminal, Write, sink, stderr, stdin, stdout};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle as BarStyle};
use pupilla_core::observer::{Observer, StopFlag};
use serde_json::json;

use crate::colour;
use crate::options::ProgressStyle;

/// The exit status of a command that was asked to stop: what shells give after Ctrl-C.
pub const STOPPED: u8 = 130;

/// Who gets the events of `--progress json`.
pub type Events = Box<dyn Fn(&serde_json::Value) + Send>;

/// Shows work on standard error, and ends it at Ctrl-C or SIGTERM. Or gives the events of the work to a host, which ends the work itself.
pub struct Progress {
    style: ProgressStyle,
    /// The host, with the style [`ProgressStyle::Json`].
    host: Option<Events>,
    bar: Option<ProgressBar>,
    stage: String,
    total: u64,
    stop: StopFlag,
    /// Files that were left out.
    pub skipped: usize,
}

impl Progress {
    /// Starts listening for Ctrl-C: the first asks for an orderly stop, a second ends at once. With `stop_with_input`, the end of
    /// standard input asks for it as well. A request raises `stop`.
    pub fn new(
        style: Option<ProgressStyle>,
        stop_with_input: bool,
        stop: StopFlag,
    ) -> anyhow::Result<Self> {
        let flag = stop.clone();
        let pressed = AtomicBool::new(false);
        ctrlc::set_handler(move || {
            if pressed.swap(true, Ordering::SeqCst) {
                std::process::exit(STOPPED.into());
            }
            flag.raise();
        })
        .context("cannot listen for Ctrl-C")?;
        if stop_with_input {
            let flag = stop.clone();
            std::thread::spawn(move || {
                // However it ends: nobody is there any more who could want the results.
                let _ = std::io::copy(&mut stdin().lock(), &mut sink());
                flag.raise();
            });
        }
        let default = if stderr().is_terminal() {
            ProgressStyle::Bar
        } else {
            ProgressStyle::None
        };
        let mut progress = Self::of_host(None, stop);
        progress.style = style.unwrap_or(default);
        Ok(progress)
    }

    /// Gives the events to a host. Listens for no signal.
    pub fn hosted(events: Events, stop: StopFlag) -> Self {
        Self::of_host(Some(events), stop)
    }

    fn of_host(host: Option<Events>, stop: StopFlag) -> Self {
        Self {
            style: ProgressStyle::Json,
            host,
            bar: None,
            stage: String::new(),
            total: 0,
            stop,
            skipped: 0,
        }
    }

    /// An event, in the style [`ProgressStyle::Json`].
    fn event(&self, event: &serde_json::Value) {
        match &self.host {
            Some(host) => host(event),
            None => print_line(event),
        }
    }

    /// Prints lines of results while a stage is shown.
    pub fn printer(&self) -> Printer {
        let bar = self.bar.clone().filter(|_| stdout().is_terminal());
        Printer { bar }
    }

    /// Takes the bar away, so that no bar stands between lines of results.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Something worth knowing beforehand.
    pub fn note(&self, note: &str) {
        self.say(note, &json!({"event": "note", "text": note}));
    }

    fn say(&self, text: &str, event: &serde_json::Value) {
        match (self.style, &self.bar) {
            (ProgressStyle::Json, _) => self.event(event),
            (_, Some(bar)) => bar.suspend(|| print_line(text)),
            (_, None) => print_line(text),
        }
    }
}

/// Prints lines on standard output. A bar on the same terminal makes room for them.
pub struct Printer {
    bar: Option<ProgressBar>,
}

impl Printer {
    pub fn line(&self, line: impl std::fmt::Display) -> io::Result<()> {
        let print = || writeln!(anstream::stdout().lock(), "{line}");
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

/// A line on standard error; whether anybody reads it must not decide over the work.
pub fn print_line(line: impl std::fmt::Display) {
    let _ = writeln!(anstream::stderr().lock(), "{line}");
}

impl Observer for Progress {
    fn start(&mut self, stage: &str, total: u64) {
        self.stage = stage.to_string();
        self.total = total;
        match self.style {
            ProgressStyle::None => {}
            ProgressStyle::Json => {
                self.event(&json!({"event": "start", "stage": stage, "total": total}));
            }
            ProgressStyle::Bar => {
                let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
                let template =
                    "{msg:>32} {bar:32} {pos}/{len}  {elapsed} elapsed, {eta} left {prefix}";
                if let Ok(style) = BarStyle::with_template(template) {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.set_message(stage.to_string());
                bar.enable_steady_tick(Duration::from_millis(500));
                self.bar = Some(bar);
            }
        }
    }

    fn advance(&mut self, done: u64, loss: Option<f64>) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            if let Some(loss) = loss {
                bar.set_prefix(format!(" loss {loss:.4}"));
            }
        } else if self.style == ProgressStyle::Json {
            let event = json!({
                "event": "progress", "stage": self.stage,
                "done": done, "total": self.total, "loss": loss,
            });
            self.event(&event);
        }
    }

    fn losses(&mut self, step: u64, terms: &[(&str, f64)]) {
        if self.style == ProgressStyle::Json {
            let terms: serde_json::Map<_, _> = terms
                .iter()
                .map(|(name, value)| ((*name).to_string(), json!(value)))
                .collect();
            self.event(&json!({"event": "losses", "step": step, "terms": terms}));
        }
    }

    fn resumed(&mut self, step: u64, seconds: Option<f64>) {
        self.say(
            &format!("resumed at step {step}"),
            &json!({"event": "resumed", "step": step, "seconds": seconds}),
        );
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        } else if self.style == ProgressStyle::Json {
            self.event(&json!({"event": "finish", "stage": self.stage}));
        }
    }

    fn warn(&mut self, warning: &str) {
        let word = colour::styled(colour::CAUTION, "warning:");
        self.say(
            &format!("{word} {warning}"),
            &json!({"event": "warning", "text": warning}),
        );
    }

    fn skipped(&mut self, path: &Path, reason: &str) {
        self.skipped += 1;
        self.say(
            &format!("skipped: {reason}"),
            &json!({"event": "skipped", "path": path.to_string_lossy(), "reason": reason}),
        );
    }

    fn stop_flag(&self) -> StopFlag {
        self.stop.clone()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.abandon();
        }
    }
}
