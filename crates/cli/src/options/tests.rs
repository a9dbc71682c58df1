//! The command line as a whole, and the page that describes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::*;

#[test]
fn the_command_line_is_consistent() {
    Arguments::command().debug_assert();
}

/// The options of a command that a person sees, with their defaults.
fn seen(command: &clap::Command) -> BTreeMap<String, String> {
    let options = command.get_arguments().filter(|option| {
        let everywhere = option.get_help_heading() == Some(EVERYWHERE);
        !option.is_hide_set() && !everywhere && option.get_id() != "help"
    });
    let named = options.filter_map(|option| {
        let defaults = option.get_default_values().iter();
        let defaults: Vec<_> = defaults.map(|value| value.to_string_lossy()).collect();
        Some((format!("--{}", option.get_long()?), defaults.join(",")))
    });
    named.collect()
}

/// Options that stand in the tables of a section, with the cells after them; several in one cell share them.
fn described(section: &str) -> BTreeMap<String, String> {
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `-"));
    let rows = rows.filter_map(|row| row.split_once(" | "));
    rows.flat_map(|(names, rest)| {
        let names = format!("`-{names}");
        let names: Vec<_> = names.split("`").map(str::to_owned).collect();
        let options = names.into_iter().filter(|name| name.starts_with("--"));
        options.map(move |name| {
            let name = name.split(' ').next().unwrap_or_default();
            (name.to_owned(), rest.to_owned())
        })
    })
    .collect()
}

#[test]
fn the_reference_describes_every_option_with_its_default() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/command-line.md");
    let page = fs::read_to_string(page).unwrap();
    let sections = page.split("\n## ").skip(1);
    let sections: BTreeMap<&str, &str> =
        sections.filter_map(|text| text.split_once('\n')).collect();
    let command = command();
    let teacher = command.find_subcommand("teacher").unwrap();
    let commands = command
        .get_subcommands()
        .map(|command| (command, String::new()));
    let below = teacher
        .get_subcommands()
        .map(|command| (command, "teacher ".to_owned()));
    let mut looked_at = 0;
    for (command, prefix) in commands.chain(below) {
        let name = format!("{prefix}{}", command.get_name());
        if ["help", "teacher", "teacher help"].contains(&&*name) {
            continue;
        }
        let section = sections
            .get(&*name)
            .unwrap_or_else(|| panic!("no section {name}"));
        let described = described(section);
        let mut seen = seen(command);
        // In the table of all commands.
        seen.remove("--json");
        let names =
            |options: &BTreeMap<String, String>| options.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(names(&seen), names(&described), "{name}");
        for (option, default) in seen
            .iter()
            .filter(|(_, default)| !["", "false"].contains(&&***default))
        {
            let row = &described[option];
            let default_cell = row.split(" | ").next().unwrap_or_default();
            let elsewhere = default_cell.contains("as for");
            assert!(
                elsewhere || default_cell.contains(default),
                "{name} {option}: {default} is not in {row}"
            );
            looked_at += 1;
        }
    }
    assert!(looked_at > 20, "{looked_at}");
}

#[test]
fn commands_without_networks_show_no_device() {
    let command = command();
    for name in WITHOUT_NETWORKS {
        let mut command = command.find_subcommand(name).unwrap().clone();
        let help = command.render_long_help().to_string();
        assert!(
            help.contains("--threads") && !help.contains("--device"),
            "{help}"
        );
    }
    let mut train = command.find_subcommand("train").unwrap().clone();
    assert!(train.render_long_help().to_string().contains("--device"));
}
