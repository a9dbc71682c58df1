//! Runs a command of this program in a process of its own: shows its progress, and measures its time and memory.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use pupilla_core::observer::Observer;
use pupilla_core::process_memory::peak_bytes;
use serde_json::Value;

use crate::progress::Progress;

/// How often its memory is measured.
const INTERVAL: Duration = Duration::from_millis(50);

/// How long it may take to stop by itself, which leaves a checkpoint of its last step.
const GRACE: Duration = Duration::from_secs(30);

/// The words that start this program, if it is not the file of this process.
static OWN_COMMAND: OnceLock<Vec<OsString>> = OnceLock::new();

/// Says which words start this program, before its own: `python -m …`. The first call counts.
pub fn start_with(words: Vec<OsString>) {
    let _ = OWN_COMMAND.set(words);
}

/// The file to start, and its first words.
fn own_command() -> anyhow::Result<(OsString, &'static [OsString])> {
    if let Some([program, words @ ..]) = OWN_COMMAND.get().map(Vec::as_slice) {
        return Ok((program.clone(), words));
    }
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    Ok((program.into_os_string(), &[]))
}

/// What a command took.
pub struct Child {
    /// With those of the runs that it went on from.
    pub seconds: f64,
    /// The most that it held at a time. `None` where the system does not tell.
    pub memory_bytes: Option<u64>,
}

impl Child {
    /// Runs a command to its end; its last words as the error if it fails.
    pub fn run(words: &[String], progress: &mut Progress) -> anyhow::Result<Self> {
        let (program, first) = own_command()?;
        let start = Instant::now();
        let threads = rayon::current_num_threads().to_string();
        let mut child = Command::new(&program)
            .args(first)
            .args(words)
            .args(["--progress", "json", "--threads", &threads])
            // It stops in good order when this ends: because we let it go, or are no more.
            .arg("--stop-with-input")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", Path::new(&program).display()))?;
        let mut input = child.stdin.take();
        let (sender, lines) = channel();
        if let Some(stderr) = child.stderr.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        let mut memory_bytes = None;
        let mut stopping: Option<Instant> = None;
        let mut last = String::new();
        let mut before = 0.0;
        loop {
            match lines.recv_timeout(INTERVAL) {
                Ok(line) => show(&line, progress, &mut before, &mut last),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            memory_bytes = peak_bytes(Some(child.id())).or(memory_bytes);
            // Ctrl-C reaches it as well; a signal to us alone does not.
            if progress.stop_requested() {
                drop(input.take());
                if stopping.get_or_insert_with(Instant::now).elapsed() > GRACE {
                    let _ = child.kill();
                }
            }
        }
        let status = child.wait().context("cannot wait for a process")?;
        if !status.success() {
            let reason = last.strip_prefix("error: ").unwrap_or(&last);
            bail!(
                "{}",
                if reason.is_empty() {
                    status.to_string()
                } else {
                    reason.to_string()
                }
            );
        }
        Ok(Self {
            seconds: before + start.elapsed().as_secs_f64(),
            memory_bytes,
        })
    }
}

/// Shows an event of the child as an event of this program. Keeps a line that is no event, and the seconds of earlier runs.
fn show(line: &str, progress: &mut Progress, before: &mut f64, last: &mut String) {
    let Ok(event) = serde_json::from_str::<Value>(line) else {
        line.clone_into(last);
        return;
    };
    let word = |key: &str| event[key].as_str().unwrap_or_default();
    let number = |key: &str| event[key].as_u64().unwrap_or_default();
    match word("event") {
        "start" => progress.start(word("stage"), number("total")),
        "progress" => progress.advance(number("done"), event["loss"].as_f64()),
        "finish" => progress.finish(),
        "warning" => progress.warn(word("text")),
        "resumed" => {
            let seconds = event["seconds"].as_f64();
            *before = seconds.unwrap_or_default();
            progress.resumed(number("step"), seconds);
        }
        // Notes are for a person who starts a single run; a file that cannot be read ends a run here.
        _ => {}
    }
}
