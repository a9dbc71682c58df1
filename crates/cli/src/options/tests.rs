//! The command line as a whole, and the page that describes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use pupilla::backbone::DenseFeatures;
use pupilla::student_teacher::{Paper, Quick, Settings};
use pupilla::teacher::{Distillation, TeacherConfig};
use pupilla::{
    DetectorKind, Length, ReceptiveField, ReconstructionConfig, StudentTeacherConfig,
    reconstruction,
};

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
            let name = name.split([' ', '[']).next().unwrap_or_default();
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
    let mut checked = 0;
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
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked}");
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

/// Where a default depends on something else, help says it in words.
#[test]
fn defaults_in_words_are_those_of_the_library() {
    let command = command();
    let train = command.find_subcommand("train").unwrap();
    let teacher = command.find_subcommand("teacher").unwrap();
    let teach = teacher.find_subcommand("train").unwrap();
    let says = |command: &clap::Command, option: &str, defaults: &[String]| {
        let mut options = command.get_arguments();
        let option = options.find(|arg| arg.get_id() == option).unwrap();
        let help = option.get_help().unwrap().to_string();
        let (_, words) = help.split_once("[default: ").unwrap();
        let numbers: Vec<_> = words.split([' ', ',', ';', ']']).collect();
        for default in defaults {
            assert!(numbers.contains(&&**default), "{default} is not in {help}");
        }
    };
    let networks = DetectorKind::ALL
        .into_iter()
        .filter_map(ReconstructionConfig::new);
    let networks: Vec<_> = networks.map(|config| config.settings).collect();
    assert_eq!(networks.len(), 4);
    let of_networks = |value: fn(&reconstruction::Settings) -> String, students: &[String]| {
        [students, &networks.iter().map(value).collect::<Vec<_>>()].concat()
    };
    let steps = |length: Length| length.steps().unwrap().to_string();
    let quick = Quick::default();
    let of_all = of_networks(
        |of| of.training.length.steps().unwrap().to_string(),
        &[steps(quick.length)],
    );
    says(train, "steps", &of_all);
    let rates = [
        quick.learning_rate,
        Quick::without_batch_norm().learning_rate,
        Paper::default().learning_rate,
    ];
    let of_all = of_networks(
        |of| of.training.learning_rate.to_string(),
        &rates.map(|rate| rate.to_string()),
    );
    says(train, "learning_rate", &of_all);
    let of_all = of_networks(
        |of| of.resize.to_string(),
        &[Settings::default().resize.to_string()],
    );
    says(train, "resize", &of_all);
    says(
        train,
        "scales",
        &StudentTeacherConfig::SCALES.map(|field| field.to_string()),
    );
    let features = DenseFeatures {
        outputs: Vec::new(),
        zoom: 1,
        smooth: true,
    };
    let dense = Distillation::Dense {
        features,
        context: 16,
    };
    let metric = TeacherConfig::new(ReceptiveField::P33);
    let distilled = TeacherConfig::distilled(ReceptiveField::P33, dense);
    let of_both = |value: fn(&TeacherConfig) -> String| [value(&metric), value(&distilled)];
    says(teach, "steps", &of_both(|of| of.steps.to_string()));
    says(
        teach,
        "images_per_step",
        &of_both(|of| of.images_per_step.to_string()),
    );
    says(
        teach,
        "learning_rate",
        &of_both(|of| of.learning_rate.to_string()),
    );
    says(teach, "optimizer", &of_both(|of| of.optimizer.to_string()));
    says(
        teach,
        "batch_norm",
        &of_both(|of| of.batch_norm.to_string()),
    );
    says(
        teach,
        "triplet_weight",
        &of_both(|of| of.triplet_weight.to_string()),
    );
    says(
        teach,
        "compactness_weight",
        &of_both(|of| of.compactness_weight.to_string()),
    );
}
