//! The results of a run, written image by image: what was judged is there, however the run ends.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use pupilla::Model;
use pupilla_core::data::Dataset;
use pupilla_core::map::heatmap::{self, Heatmap};
use pupilla_core::map::map_file;
use pupilla_core::map::result_files::ResultFiles;
use pupilla_core::observer::Observer;
use pupilla_core::verdict::region::{Region, draw_regions};
use pupilla_core::verdict::{Rule, Verdict};
use pupilla_files::atomic_file;
use pupilla_files::growing_file::GrowingFile;
use serde::Serialize;

use super::{Judged, Named};
use crate::colour;
use crate::options::Inspect;
use crate::output;
use crate::progress::{Printer, Progress};
use crate::region_table::RegionTable;
use crate::report::InspectionReport;

/// Where JSON goes: one value at the end, or lines, one an image, as they come.
#[derive(Clone, Copy)]
pub enum JsonTarget<'a> {
    Stdout,
    File(&'a Path),
    LinesStdout,
    LinesFile(&'a Path),
}

impl<'a> JsonTarget<'a> {
    /// What the options ask for: names that end in `.jsonl` or `.ndjson` ask for lines, and `-` is standard output.
    pub fn of(inspect: &'a Inspect) -> Option<Self> {
        let path = inspect.json.file()?;
        let ending = path.extension().unwrap_or_default();
        let lines = ending == "jsonl" || ending == "ndjson";
        Some(match (path.to_str(), lines) {
            (Some("-"), _) => Self::Stdout,
            (Some("-.jsonl" | "-.ndjson"), _) => Self::LinesStdout,
            (_, true) => Self::LinesFile(path),
            (_, false) => Self::File(path),
        })
    }

    pub fn is_stdout(self) -> bool {
        matches!(self, Self::Stdout | Self::LinesStdout)
    }
}

/// The JSON of a run.
#[derive(Debug, Serialize)]
struct Inspection {
    /// Whether all images were inspected that can be read.
    complete: bool,
    /// Why the run ended before; `None` (JSON `null`) if it is complete.
    stopped: Option<String>,
    /// Images that score above this are called defective.
    threshold: f32,
    /// Regions are made of the pixels that score above this.
    pixel_threshold: f32,
    /// Smaller regions were left out.
    min_area: usize,
    /// The picture of the pixels that are inspected, if there is one.
    roi: Option<String>,
    images: Vec<Inspected>,
    /// Images that could not be read, if they were to be skipped.
    skipped: Vec<String>,
}

/// One image.
#[derive(Debug, Serialize)]
struct Inspected {
    path: String,
    /// Score, verdict, where and why.
    #[serde(flatten)]
    verdict: Verdict,
    /// How the image was taken otherwise than those of the training; empty if it was not, `None` (JSON `null`) if that is not known.
    unlike_training: Option<Vec<String>>,
    heatmap: Option<String>,
    map: Option<String>,
}

/// A line of JSON Lines.
#[derive(Debug, Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    image: &'a Inspected,
    /// Images that score above this are called defective.
    threshold: f32,
}

/// The results of a run, as they are written.
pub struct Results<'a> {
    inspect: &'a Inspect,
    images: &'a [Named],
    rule: &'a Rule,
    heatmap: Heatmap,
    /// The files of `--out`, one pair an image.
    files: Option<Vec<ResultFiles>>,
    /// Removes the folder of `--out` again if nothing was written.
    _folder: Option<output::NewFolders>,
    table: Option<RegionTable>,
    lines: Option<GrowingFile>,
    report: Option<InspectionReport>,
    model: &'a Model,
    /// For JSON that is one value.
    inspected: Vec<Inspected>,
    printer: Printer,
    /// Whether the reader of standard output has gone.
    unread: bool,
    count: usize,
    defective: usize,
    /// The images unlike those of the training, and what the first of them is like.
    unlike: (usize, Option<String>),
}

impl<'a> Results<'a> {
    /// Makes the folder of `--out`, the table and the lines. Fails if a file could not be written there.
    pub fn begin(
        inspect: &'a Inspect,
        model: &'a Model,
        images: &'a [Named],
        rule: &'a Rule,
        files: Option<Vec<ResultFiles>>,
        printer: Printer,
    ) -> anyhow::Result<Self> {
        let folder = inspect.out.as_deref().map(output::folder).transpose()?;
        if let (Some(out), Some([first, ..])) = (&inspect.out, files.as_deref())
            && let Some(name) = first.map.file_name()
        {
            atomic_file::prepare(&out.join(name))?;
        }
        let table = inspect.csv.as_deref().map(RegionTable::begin).transpose()?;
        let lines = match JsonTarget::of(inspect) {
            Some(JsonTarget::LinesFile(path)) => Some(GrowingFile::begin(path)?),
            _ => None,
        };
        let heatmap = model.kind().heatmap(rule.image_threshold);
        let report = inspect.report.as_ref();
        Ok(Self {
            report: report
                .map(|_| InspectionReport::new(rule.clone(), heatmap, inspect.report_images)),
            model,
            inspect,
            images,
            rule,
            heatmap,
            files,
            _folder: folder,
            table,
            lines,
            inspected: Vec::new(),
            printer,
            unread: false,
            count: 0,
            defective: 0,
            unlike: (0, None),
        })
    }

    pub fn images(&self) -> &'a [Named] {
        self.images
    }

    pub fn rule(&self) -> &'a Rule {
        self.rule
    }

    /// Whether unreadable images are left out.
    pub fn skips_unreadable(&self) -> bool {
        self.inspect.unreadable.skip
    }

    /// Writes the results of one image.
    pub fn add(&mut self, judged: Judged) -> anyhow::Result<()> {
        let files = self.files.as_ref().map(|files| &files[judged.index]);
        if let Some(files) = files {
            self.draw(files, &judged)?;
        }
        let Named { path, name } = &self.images[judged.index];
        if let Some(report) = &mut self.report {
            // Within one folder, the page does not tell where the images lie.
            let shown = match &self.inspect.images[..] {
                [_] => name,
                _ => path,
            };
            let shown = shown.display().to_string();
            report.add(&shown, &judged.image, &judged.map, &judged.verdict)?;
        }
        let path = path.display().to_string();
        let [heatmap, map] = match files.map(ResultFiles::paths) {
            Some(paths) => paths.map(|path| Some(path.display().to_string())),
            None => [None, None],
        };
        let image = Inspected {
            path,
            verdict: judged.verdict,
            unlike_training: judged.unlike_training,
            heatmap,
            map,
        };
        if let Some(table) = &mut self.table {
            let unlike = image.unlike_training.as_deref();
            table.add(
                &image.path,
                self.rule.image_threshold,
                &image.verdict,
                unlike,
            )?;
        }
        if let Some(reasons @ [_, ..]) = image.unlike_training.as_deref() {
            self.unlike.0 += 1;
            self.unlike
                .1
                .get_or_insert_with(|| format!("{}: {}", image.path, reasons.join("; ")));
        }
        self.count += 1;
        self.defective += usize::from(image.verdict.defective);
        let printed = self.print(&image);
        if let Some(JsonTarget::File(_) | JsonTarget::Stdout) = JsonTarget::of(self.inspect) {
            self.inspected.push(image);
        }
        printed
    }

    /// Writes the heatmap and the map of an image. The map comes first: a heatmap without its map is not taken for a result.
    fn draw(&self, files: &ResultFiles, judged: &Judged) -> anyhow::Result<()> {
        let _folder = files.map.parent().map(output::folder).transpose()?;
        map_file::write(&files.map, &judged.map)?;
        let mut drawn = self.heatmap.overlay(&judged.image, &judged.map)?;
        draw_regions(&mut drawn, &regions(&judged.verdict), 1.0);
        heatmap::write_png(&files.heatmap, &drawn)?;
        Ok(())
    }

    /// The line of an image: JSON, if lines of JSON are wanted, and for people.
    fn print(&mut self, image: &Inspected) -> anyhow::Result<()> {
        let json = JsonTarget::of(self.inspect);
        if let Some(JsonTarget::LinesFile(_) | JsonTarget::LinesStdout) = json {
            let threshold = self.rule.image_threshold;
            let mut line = serde_json::to_string(&Line { image, threshold })?;
            if let Some(file) = &mut self.lines {
                line.push('\n');
                file.append(line.as_bytes())?;
            } else {
                return self.say(line);
            }
        }
        if json.is_some_and(JsonTarget::is_stdout) {
            return Ok(());
        }
        let verdict = &image.verdict;
        // Both words take nine places: colours would be counted.
        let word = if verdict.defective {
            colour::styled(colour::ALARM, "DEFECTIVE").to_string()
        } else {
            format!("{:9}", "good")
        };
        self.say(format!("{:>9.3}  {word}  {}", verdict.score, image.path))
    }

    /// Prints a line on standard output. Without a reader, files that are wanted are written all the same.
    fn say(&mut self, line: String) -> anyhow::Result<()> {
        let said = self.printer.line(line);
        let json = matches!(JsonTarget::of(self.inspect), Some(JsonTarget::File(_)));
        let files = json
            || self.files.is_some()
            || self.table.is_some()
            || self.lines.is_some()
            || self.report.is_some()
            || self.inspect.fail_on_defect;
        match said {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && (files || self.unread) => {
                self.unread = true;
                Ok(())
            }
            said => Ok(said?),
        }
    }

    /// Ends the run: gives the table and the lines their names, and writes the JSON. Returns the number of defective images.
    ///
    /// # Errors
    /// `ended`, with how far the run came; and if a file cannot be written.
    pub fn end(
        mut self,
        skipped: Vec<String>,
        ended: anyhow::Result<()>,
        progress: &mut Progress,
    ) -> anyhow::Result<usize> {
        let (count, all) = (self.count, self.images.len());
        let unreadable = skipped.len();
        let ended = match ended {
            Ok(()) if count == 0 => Err(anyhow!("none of the {all} images can be read")),
            ended => ended,
        };
        if let (unlike, Some(first)) = &self.unlike {
            progress.warn(&format!(
                "{unlike} of {count} images are unlike those that the model has learned from, as {first}"
            ));
        }
        let stopped = ended.as_ref().err().map(output::sentence);
        let (mut written, mut failed) = (Vec::new(), Vec::new());
        let mut keep = |name: String, outcome: anyhow::Result<()>| match outcome {
            Ok(()) => written.push(name),
            Err(error) => failed.push(error),
        };
        let json = JsonTarget::of(self.inspect);
        if let (Some(table), Some(path)) = (self.table.take(), &self.inspect.csv) {
            keep(path.display().to_string(), table.end().map_err(Into::into));
        }
        if let (Some(lines), Some(JsonTarget::LinesFile(path))) = (self.lines.take(), json) {
            keep(path.display().to_string(), lines.end().map_err(Into::into));
        }
        if let (Some(report), Some(folder), 1..) = (&self.report, &self.inspect.report, count) {
            let title = self.title();
            let file = &self.inspect.model;
            let early = stopped.as_ref();
            let early =
                early.map(|why| format!("The run ended after {count} of {all} images: {why}"));
            let page = report.write(folder, &title, self.model, file, skipped.len(), early);
            keep(page_of(folder).display().to_string(), page.map(drop));
        }
        if let Some(target @ (JsonTarget::File(_) | JsonTarget::Stdout)) = json {
            let inspection = self.json(skipped, stopped);
            match target {
                JsonTarget::File(path) => {
                    keep(path.display().to_string(), output::json(path, &inspection));
                }
                _ => keep(
                    "the JSON output".to_owned(),
                    output::json(Path::new("-"), &inspection),
                ),
            }
        }
        if let Err(error) = ended {
            for error in failed {
                progress.warn(&output::sentence(&error));
            }
            return Err(match count {
                0 => error,
                _ => error.context(how_far(count, all, &written)),
            });
        }
        failed.into_iter().next().map_or(Ok(()), Err)?;
        if !json.is_some_and(JsonTarget::is_stdout) {
            if let Some(folder) = &self.inspect.report {
                self.say(format!("wrote {}", page_of(folder).display()))?;
            }
            let unread = match unreadable {
                0 => String::new(),
                count => format!("; {count} could not be read"),
            };
            self.say(format!(
                "{} of {count} images are defective at the threshold {:.3}{unread}",
                self.defective, self.rule.image_threshold
            ))?;
        }
        Ok(self.defective)
    }

    /// The title of the report: the one folder or image that was inspected, or how many.
    fn title(&self) -> String {
        match &self.inspect.images[..] {
            [one] => Dataset::name_of(one),
            _ => format!("{} images", self.images.len()),
        }
    }

    fn json(&mut self, skipped: Vec<String>, stopped: Option<String>) -> Inspection {
        let roi = self.inspect.roi.picture();
        Inspection {
            complete: stopped.is_none(),
            stopped,
            threshold: self.rule.image_threshold,
            pixel_threshold: self.rule.pixel_threshold,
            min_area: self.rule.min_area,
            roi: roi.map(|path| path.display().to_string()),
            images: std::mem::take(&mut self.inspected),
            skipped,
        }
    }
}

/// The page of a report in a folder.
fn page_of(folder: &Path) -> PathBuf {
    folder.join("index.html")
}

/// How far a run came that has ended early, and where its results are.
fn how_far(count: usize, all: usize, written: &[String]) -> String {
    if written.is_empty() {
        format!("after {count} of {all} images")
    } else {
        format!(
            "after {count} of {all} images, whose results are in {}",
            written.join(" and ")
        )
    }
}

/// The regions of a verdict, to be drawn.
fn regions(verdict: &Verdict) -> Vec<Region> {
    let regions = verdict.regions.iter();
    regions.map(|explained| explained.region.clone()).collect()
}
