//! What shells and `man` get, and numbers of threads that no machine has.

use std::fs;

use crate::data::{assert_failure, assert_success, listing, model, run, stderr, stdout, text};

#[test]
fn every_shell_completes_commands_and_options() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = run(&["completions", shell]);
        assert_success(&output);
        for word in ["inspect", "skip-unreadable"] {
            assert!(stdout(&output).contains(word), "{shell}: {word}");
        }
    }
    assert_failure(&run(&["completions", "tea"]), 2, &["tea", "fish"]);
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man");
    assert_success(&run(&["man", text(&pages)]));
    let names = listing(&pages);
    for command in ["", "-train", "-inspect", "-teacher-report"] {
        let name = format!("pupilla{command}.1");
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    let inspect = fs::read_to_string(pages.join("pupilla-inspect.1")).unwrap();
    assert!(inspect.contains("skip\\-unreadable"), "{inspect}");
    // A file stands where the folder should be.
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    assert_failure(&run(&["man", text(&file)]), 1, &["file"]);
    assert_failure(&run(&["--device", "cpu", "man", text(&pages)]), 2, &["man"]);
}

#[test]
fn threads_are_bounded_by_the_machine() {
    let output = run(&["info", text(model()), "--threads", "1000"]);
    assert_success(&output);
    let said = stderr(&output);
    let cores = std::thread::available_parallelism().unwrap();
    let expected = format!("too many for the {cores} cores");
    assert!(said.contains(&expected), "{said}");
    let output = run(&["info", text(model()), "--threads", "2"]);
    assert!(!stderr(&output).contains("cores"), "{}", stderr(&output));
}
