//! Reads ahead and writes afterwards: during the work on one item, the next item is read and the last item is written.

use std::sync::mpsc::sync_channel;
use std::thread;

/// Takes each item through `read`, `work` and `write`, in order; `read` and `write` have a thread each, `work` the
/// caller's.
///
/// No more than one item is in each stage (an item that was read waits until `work` takes it), so that memory does not grow with the
/// items.
///
/// # Errors
/// The error of the first item that has one. Items before it have been through every stage. Items after it may have been read, but are
/// neither worked on nor written.
///
/// # Panics
/// If `read` or `write` panics.
pub fn run<Item, Read, Done, Error>(
    items: impl IntoIterator<Item = Item> + Send,
    read: impl Fn(Item) -> Result<Read, Error> + Send,
    mut work: impl FnMut(Read) -> Result<Done, Error>,
    mut write: impl FnMut(Done) -> Result<(), Error> + Send,
) -> Result<(), Error>
where
    Read: Send,
    Done: Send,
    Error: Send,
{
    thread::scope(|scope| {
        // Without room in between: a stage hands over when the next is free.
        let (to_work, from_read) = sync_channel(0);
        let (to_write, from_work) = sync_channel(0);
        scope.spawn(move || {
            for item in items {
                let read = read(item);
                let failed = read.is_err();
                // Nobody takes it any more if a later stage has failed.
                if to_work.send(read).is_err() || failed {
                    break;
                }
            }
        });
        let writer = scope.spawn(move || from_work.into_iter().try_for_each(&mut write));
        let worked = from_read.into_iter().try_for_each(|read| {
            let done = read.and_then(&mut work).map_err(Some)?;
            // The writer is gone if it failed, and says itself why.
            to_write.send(done).map_err(|_| None)
        });
        drop(to_write);
        let written = match writer.join() {
            Ok(written) => written,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        // The writer is behind: its error comes first.
        written?;
        match worked {
            Err(Some(error)) => Err(error),
            _ => Ok(()),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn items_keep_their_order_and_few_are_held() {
        let (held, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let mut written = Vec::new();
        let result: Result<(), ()> = run(
            0..200,
            |item| {
                most.fetch_max(held.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                Ok(item)
            },
            |item| Ok(2 * item),
            |item| {
                written.push(item);
                held.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            },
        );
        assert_eq!(result, Ok(()));
        assert_eq!(written, (0..200).map(|item| 2 * item).collect::<Vec<_>>());
        assert!(most.into_inner() <= 4);
    }

    #[test]
    fn the_first_failing_item_ends_it() {
        for (reads, works, writes, expected) in [
            (7, 9, 9, Err("read 7")),
            (9, 3, 9, Err("work 3")),
            (9, 9, 0, Err("write 0")),
            (4, 4, 3, Err("write 3")),
            (99, 99, 99, Ok(())),
        ] {
            let failing = |stage: &str, item: usize, at: usize| {
                let failed = format!("{stage} {item}");
                if item == at { Err(failed) } else { Ok(item) }
            };
            let mut written = Vec::new();
            let result = run(
                0..20,
                |item| failing("read", item, reads),
                |item| failing("work", item, works),
                |item| {
                    written.push(failing("write", item, writes)?);
                    Ok(())
                },
            );
            assert_eq!(result, expected.map_err(str::to_owned));
            let before = reads.min(works).min(writes).min(20);
            assert_eq!(written, (0..before).collect::<Vec<_>>());
        }
    }
}
