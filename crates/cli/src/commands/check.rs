//! `pupilla check`: looks for problems in a data set, before training and measuring.

use std::collections::BTreeMap;
use std::path::Path;

use pupilla_core::data::Dataset;
use pupilla_core::data::check::{CheckSettings, DatasetCheck, Severity, check};
use serde::Serialize;

use crate::options::Check;
use crate::output;
use crate::progress::Progress;

/// The status when there are problems: neither a failure of the program nor wrong usage.
const PROBLEMS: u8 = 3;

/// Files of one finding that are shown to people; the JSON has all.
const SHOWN: usize = 5;

/// What was found in one data set, or in several.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Found {
    In(Box<DatasetCheck>),
    InSeveral(Several),
}

/// Several data sets, by their names.
#[derive(Serialize)]
pub struct Several {
    problems: usize,
    notices: usize,
    categories: BTreeMap<String, DatasetCheck>,
}

pub fn run(arguments: &Check, progress: &mut Progress) -> anyhow::Result<u8> {
    let json = arguments.json.file();
    output::check_json(json)?;
    let found = look(arguments, json, progress)?;
    if let Some(target) = json {
        output::json(target, &found)?;
    }
    let problems = match &found {
        Found::In(found) => found.problems,
        Found::InSeveral(several) => several.problems,
    };
    Ok(if problems > 0 {
        PROBLEMS
    } else {
        crate::SUCCESS
    })
}

/// Looks at the data sets of the options, and prints what it finds unless standard output carries JSON.
pub fn look(
    arguments: &Check,
    json: Option<&Path>,
    progress: &mut Progress,
) -> anyhow::Result<Found> {
    let datasets = Dataset::open_all(&arguments.data, &arguments.layout.settings())?;
    let settings = CheckSettings {
        read: arguments.decoding.settings(),
        mask_threshold: arguments.masks.threshold,
    };
    let mut checks = BTreeMap::new();
    for dataset in &datasets {
        let found = check(dataset, &settings, progress)?;
        print(&found, json)?;
        checks.insert(found.name.clone(), found);
    }
    if datasets.len() == 1
        && let Some((_, found)) = checks.pop_first()
    {
        return Ok(Found::In(Box::new(found)));
    }
    let sum = |count: fn(&DatasetCheck) -> usize| checks.values().map(count).sum();
    Ok(Found::InSeveral(Several {
        problems: sum(|found| found.problems),
        notices: sum(|found| found.notices),
        categories: checks,
    }))
}

fn print(found: &DatasetCheck, json: Option<&Path>) -> anyhow::Result<()> {
    for finding in &found.findings {
        let severity = match finding.severity {
            Severity::Problem => "problem",
            Severity::Notice => "notice",
        };
        output::line(json, format_args!("{severity}: {}", finding.text))?;
        for path in finding.paths.iter().take(SHOWN) {
            output::line(json, format_args!("    {path}"))?;
        }
        if let Some(more @ 1..) = finding.paths.len().checked_sub(SHOWN) {
            output::line(json, format_args!("    … and {more} more"))?;
        }
    }
    if !found.passed_over.is_empty() {
        output::line(json, format_args!("passed over: {}", found.passed_over))?;
    }
    let outliers = if found.outliers_looked_for {
        ""
    } else {
        " (too few good images to look for outliers)"
    };
    output::line(
        json,
        format_args!(
            "{} ({}): {} good images to learn from, {} to test with: problems: {}, notices: {}{outliers}",
            found.name,
            found.layout.name(),
            found.good,
            found.test,
            found.problems,
            found.notices
        ),
    )
}
