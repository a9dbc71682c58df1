//! `pupilla check`: looks for problems in a data set, before training and measuring.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

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

/// Several data sets, by their names.
#[derive(Serialize)]
struct Several {
    problems: usize,
    notices: usize,
    categories: BTreeMap<String, DatasetCheck>,
}

pub fn run(arguments: &Check, progress: &mut Progress) -> anyhow::Result<ExitCode> {
    let json = arguments.json.file();
    output::check_json(json)?;
    let datasets = Dataset::open_all(&arguments.data, &arguments.layout.settings())?;
    let several = datasets.len() > 1;
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
    let sum = |count: fn(&DatasetCheck) -> usize| checks.values().map(count).sum();
    let (problems, notices) = (sum(|found| found.problems), sum(|found| found.notices));
    if let Some(target) = json {
        match checks.values().next() {
            Some(found) if !several => output::json(target, found)?,
            _ => output::json(
                target,
                &Several {
                    problems,
                    notices,
                    categories: checks,
                },
            )?,
        }
    }
    Ok(if problems > 0 {
        ExitCode::from(PROBLEMS)
    } else {
        ExitCode::SUCCESS
    })
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
