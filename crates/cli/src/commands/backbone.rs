//! `pupilla backbone`: a pretrained network's file and an image in; the network's outputs, out.

use anyhow::{Context, anyhow};
use pupilla::backbone::{self, OutputSummary};
use pupilla_core::image::read;
use serde::Serialize;

use crate::options::Backbone;
use crate::output;

/// What `--json` gives.
#[derive(Debug, Serialize)]
struct Features {
    /// The last map's mean over all its pixels.
    features: Vec<f32>,
}

pub fn run(arguments: &Backbone) -> anyhow::Result<()> {
    output::check_json(arguments.json.file())?;
    let network = arguments.weights.load()?;
    let image = read::read(&arguments.image)?;
    let named = || arguments.image.display().to_string();
    let image = match arguments.resize {
        Some(resize) => resize.apply_owned(image),
        None => {
            let check = network.preprocessing().check_size(&image);
            check.map_err(|error| {
                anyhow!(
                    "{}: {error}: resize it with --resize {}, or take it as it is with --resize none",
                    named(),
                    network.preprocessing().side
                )
            })?;
            image
        }
    };
    let both = || format!("{} on {}", arguments.weights, named());
    if let Some(target) = arguments.json.file() {
        let features = backbone::features(&*network, &image).with_context(both)?;
        return output::json(target, &Features { features });
    }
    let outputs = backbone::summarise(&*network, &image).with_context(both)?;
    output::line(
        None,
        format_args!(
            "{}: {}, {} numbers",
            arguments.weights,
            network.config().name(),
            network
                .arrays()
                .iter()
                .map(|array| array.values.len())
                .sum::<usize>()
        ),
    )?;
    let heading = format_args!("output    channels  stride       map       mean  deviation");
    output::line(None, heading)?;
    for summary in &outputs {
        output::line(None, line(summary))?;
    }
    Ok(())
}

fn line(summary: &OutputSummary) -> String {
    let output = summary.output;
    format!(
        "{:8}  {:8}  {:>6}  {:>8}  {:9.4}  {:9.4}",
        output.name,
        output.channels,
        output
            .stride
            .map_or_else(|| "-".to_string(), |stride| stride.to_string()),
        format!("{}×{}", summary.columns, summary.rows),
        summary.mean,
        summary.deviation
    )
}
