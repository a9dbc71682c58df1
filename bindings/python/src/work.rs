//! Long work: on threads of its own, without the interpreter's lock, told to a listener, and stopped by Ctrl-C.
//!
//! A call computes in a pool of threads that no other call has at the same time. So calls of several Python threads go on side by side:
//! in one pool, a worker that waits for a part of a training would take another call as its next task, and the training would wait for
//! the end of this call. A process that was forked has none of its parent's threads, so it starts pools of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use pupilla::device::{self as devices, DeviceChoice};
use pupilla_cli::host::{ErrorKind, Progress};
use pupilla_core::observer::StopFlag;
use pyo3::prelude::*;
use pythonize::pythonize;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde_json::Value;

use crate::errors;

/// How often the listener gets events, and Ctrl-C is looked for. Rarely enough that other Python threads run at full speed.
const INTERVAL: Duration = Duration::from_millis(50);

/// The number of threads that was asked for; 0 for one thread for each core.
static WANTED: AtomicUsize = AtomicUsize::new(0);

/// The pools that no call uses now.
static IDLE: Mutex<Vec<Pool>> = Mutex::new(Vec::new());

/// A pool of threads, as long as a call has it. Afterwards, another call takes it.
struct Pool {
    /// The process that started the threads.
    process: u32,
    /// As [`WANTED`].
    wanted: usize,
    /// `None` while it is dropped.
    threads: Option<ThreadPool>,
}

/// The most pools that wait for a call.
const MOST_IDLE: usize = 8;

impl Pool {
    /// A pool of this process with as many threads as are wanted now.
    fn take() -> anyhow::Result<Self> {
        let process = std::process::id();
        let wanted = WANTED.load(Ordering::SeqCst);
        if let Some(mut idle) = lock_if_free(&IDLE) {
            // Those of the process that forked this one are of no use.
            idle.retain(|pool| pool.process == process && pool.wanted == wanted);
            if let Some(pool) = idle.pop() {
                return Ok(pool);
            }
        }
        let builder = ThreadPoolBuilder::new().thread_name(|index| format!("pupilla {index}"));
        let threads = Some(builder.num_threads(wanted).build()?);
        Ok(Self {
            process,
            wanted,
            threads,
        })
    }

    /// Lets another call take the pool. A pool with another number of threads than is wanted now ends.
    fn give_back(self) {
        if self.wanted == WANTED.load(Ordering::SeqCst)
            && let Some(mut idle) = lock_if_free(&IDLE)
            && idle.len() < MOST_IDLE
        {
            idle.push(self);
        }
    }

    fn threads(&self) -> &ThreadPool {
        match &self.threads {
            Some(threads) => threads,
            None => unreachable!("the pool is not being dropped"),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // A pool of another process would wait for threads that this process does not have.
        if self.process != std::process::id() {
            std::mem::forget(self.threads.take());
        }
    }
}

/// The guard; `None` if another thread keeps the lock for long, or held the lock when this process was forked.
fn lock_if_free<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    const TRIES: usize = 100;
    for _ in 0..TRIES {
        match mutex.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(guard)) => return Some(guard.into_inner()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_micros(100)),
        }
    }
    None
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Number of threads that compute.
#[pyfunction]
pub fn threads(py: Python<'_>) -> PyResult<usize> {
    let pool = Pool::take().map_err(|error| errors::exception(py, &error))?;
    let count = pool.threads().current_num_threads();
    pool.give_back();
    Ok(count)
}

/// Sets the number of threads that compute from the next call on; None is one for each core. A training repeats its bytes with the same
/// number alone.
#[pyfunction]
pub fn set_threads(py: Python<'_>, count: Option<i64>) -> PyResult<()> {
    const MOST: i64 = 1024;
    if let Some(count) = count
        && !(1..=MOST).contains(&count)
    {
        let text = format!("{count} threads are out of range: give 1 to {MOST}, or None");
        return Err(errors::raise(py, ErrorKind::Setting, &text));
    }
    // The next call ends the pools with other numbers of threads.
    WANTED.store(count.map_or(0, |count| count as usize), Ordering::SeqCst);
    Ok(())
}

/// The device that this process has chosen, and its name.
static DEVICE: Mutex<Option<(DeviceChoice, String)>> = Mutex::new(None);

/// The device that computes networks, in words.
#[pyfunction]
pub fn device() -> String {
    let chosen = lock(&DEVICE);
    let chosen = chosen.as_ref().map(|(_, name)| name.clone());
    chosen.unwrap_or_else(|| "the processor".to_owned())
}

/// Chooses the device that computes networks: "cpu", "gpu", "gpu:1" or "auto". Gives its name. A process chooses once.
#[pyfunction]
pub fn set_device(py: Python<'_>, device: &str) -> PyResult<String> {
    let choice: DeviceChoice = match device.parse() {
        Ok(choice) => choice,
        Err(error) => {
            let text = format!("device: {error}");
            return Err(errors::raise(py, ErrorKind::Setting, &text));
        }
    };
    let mut chosen = lock(&DEVICE);
    match &*chosen {
        Some((before, name)) if *before == choice => return Ok(name.clone()),
        Some((before, name)) => {
            let text = format!(
                "this process computes on {name} ({before}): start another process for {choice}"
            );
            return Err(errors::raise(py, ErrorKind::Device, &text));
        }
        None => {}
    }
    let opened = devices::choose(choice).map_err(|error| errors::of(py, error))?;
    *chosen = Some((choice, opened.name.clone()));
    Ok(opened.name)
}

/// What the work tells the thread that waits for it.
enum Message<T> {
    Event(Value),
    Done(std::thread::Result<anyhow::Result<T>>),
}

/// Runs work in a pool. The calling thread waits without the interpreter's lock. Now and then it gives `listener` the events, and lets
/// Python handle signals. If either raises, the work is stopped, and the exception is raised.
pub fn run<T: Send + 'static>(
    py: Python<'_>,
    listener: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&mut Progress) -> anyhow::Result<T> + Send,
) -> PyResult<T> {
    let pool = Pool::take().map_err(|error| errors::exception(py, &error))?;
    let listener = listener.map(|listener| listener.clone().unbind());
    let stop = StopFlag::default();
    let (result, interrupt) = py.detach(|| {
        let (sender, receiver) = channel();
        pool.threads().in_place_scope(|scope| {
            let of_work = stop.clone();
            scope.spawn(move |_| {
                let events = sender.clone();
                let tell = move |event: &Value| {
                    let _ = events.send(Message::Event(event.clone()));
                };
                let mut progress = Progress::hosted(Box::new(tell), of_work);
                // No panic leaves the thread. What the work held is dropped, so that nobody sees it half-changed.
                let result = catch_unwind(AssertUnwindSafe(|| {
                    devices::guarded(|| work(&mut progress))
                        .map_err(anyhow::Error::from)
                        .flatten()
                }));
                let _ = sender.send(Message::Done(result));
            });
            wait(&receiver, listener.as_ref(), &stop)
        })
    });
    pool.give_back();
    let failure = match result {
        Some(Ok(Ok(value))) if interrupt.is_none() => return Ok(value),
        Some(Ok(Ok(_))) => None,
        Some(Ok(Err(error))) => Some(error),
        Some(Err(panic)) => {
            let text = panic_text(&*panic);
            Some(anyhow::anyhow!("internal error, please report it: {text}"))
        }
        None => Some(anyhow::anyhow!(
            "internal error, please report it: the work was lost"
        )),
    };
    match (interrupt, failure) {
        (Some(interrupt), failure) => {
            if let Some(failure) = failure {
                let note = pupilla_cli::host::message(&failure);
                // Pythons before 3.11 have no notes.
                let _ = interrupt.value(py).call_method1("add_note", (note,));
            }
            Err(interrupt)
        }
        (None, Some(failure)) => Err(errors::exception(py, &failure)),
        (None, None) => unreachable!("a result without an interrupt was given back"),
    }
}

/// Waits for the end of the work. Gives its result, and the exception that stopped it.
fn wait<T>(
    messages: &Receiver<Message<T>>,
    listener: Option<&Py<PyAny>>,
    stop: &StopFlag,
) -> (
    Option<std::thread::Result<anyhow::Result<T>>>,
    Option<PyErr>,
) {
    let mut interrupt = None;
    let mut events = Vec::new();
    let mut next = Instant::now() + INTERVAL;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let done = match messages.recv_timeout(left) {
            Ok(Message::Event(event)) => {
                add(&mut events, event);
                None
            }
            Ok(Message::Done(result)) => Some(Some(result)),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(None),
        };
        if done.is_some() || Instant::now() >= next {
            let told = std::mem::take(&mut events);
            let wanted = interrupt.is_none() && (done.is_none() || !told.is_empty());
            if wanted && let Err(error) = tell(listener, told) {
                stop.raise();
                interrupt = Some(error);
            }
            next = Instant::now() + INTERVAL;
        }
        if let Some(result) = done {
            return (result, interrupt);
        }
    }
}

/// Adds an event. Of the progress of a stage, the last event counts.
fn add(events: &mut Vec<Value>, event: Value) {
    let is_progress = |event: &Value| event["event"] == "progress";
    match events.last_mut() {
        Some(last) if is_progress(last) && is_progress(&event) => *last = event,
        _ => events.push(event),
    }
}

fn tell(listener: Option<&Py<PyAny>>, events: Vec<Value>) -> PyResult<()> {
    Python::attach(|py| {
        py.check_signals()?;
        let Some(listener) = listener else {
            return Ok(());
        };
        for event in events {
            listener.call1(py, (pythonize(py, &event)?,))?;
        }
        Ok(())
    })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        return text;
    }
    let text = panic.downcast_ref::<String>();
    text.map_or("a panic without words", String::as_str)
}
