//! The images of a report that are shown: which, and their pictures.

use std::collections::BTreeMap;

use super::layer;
use super::outline::{self, OUTLINES};
use super::thumbnail::{self, fit};
use super::{Judged, ReportError, ReportImage};
use crate::map::heatmap::{self, Heatmap};
use crate::verdict::attribution::Why;
use crate::verdict::region::{Bounds, Region};

/// The longer side of a picture, in pixels: large enough to judge a defect.
const SIDE: u32 = 768;

/// The quality of the JPEGs.
const QUALITY: u8 = 82;

/// The most bytes of all pictures of a page: a page can still be sent.
const BYTES: usize = 16 << 20;

/// The regions that are listed for an image.
const LISTED: usize = 8;

/// Which images a report shows. All pictures together take at most 16 MB, so that the page can be sent; the least instructive images
/// are left out first. The page says how many images it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// At most this many: the worst mistakes first, then the images nearest to the threshold, of all kinds; without labels, the highest
    /// scores.
    Most(usize),
    /// At most this many of each kind, in the same order.
    OfEachKind(usize),
}

/// One image as it is shown.
#[derive(Clone, Debug)]
pub(super) struct Card {
    /// The place of the image among all images.
    pub index: usize,
    /// Its kind, as in [`Judged`].
    kind: String,
    interest: (bool, f32),
    pub why: Option<Why>,
    /// The first few regions.
    pub regions: Vec<Listed>,
    /// Width and height of the image, in pixels.
    pub size: [usize; 2],
    /// Data URIs.
    pub image: String,
    pub heat: String,
    /// SVG paths in the image's pixels.
    pub truth: String,
    pub outlines: Vec<Outline>,
}

/// A region of the list.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub bounds: Bounds,
    pub area: usize,
    pub peak: f32,
    pub mean: f64,
    pub why: Option<Why>,
}

/// A region that is drawn.
#[derive(Clone, Debug)]
pub(super) struct Outline {
    pub path: String,
    pub bounds: Bounds,
}

impl Card {
    fn bytes(&self) -> usize {
        let outlines = self.outlines.iter().map(|outline| outline.path.len());
        self.image.len() + self.heat.len() + self.truth.len() + outlines.sum::<usize>()
    }
}

/// Images in the order of their coming.
#[derive(Clone, Debug)]
pub(super) struct Gallery {
    heatmap: Heatmap,
    shown: Shown,
    threshold: f32,
    bytes: usize,
    most_bytes: usize,
    pub cards: Vec<Card>,
}

impl Gallery {
    pub fn new(heatmap: Heatmap, shown: Shown, threshold: f32) -> Self {
        Self {
            heatmap,
            shown,
            threshold,
            bytes: 0,
            most_bytes: BYTES,
            cards: Vec::new(),
        }
    }

    pub fn heatmap(&self) -> Heatmap {
        self.heatmap
    }

    /// Adds an image; the least instructive image leaves if there are too many.
    pub fn add(
        &mut self,
        image: &ReportImage<'_>,
        index: usize,
        judged: &Judged,
    ) -> Result<(), ReportError> {
        if let Some(mask) = image.mask {
            heatmap::same_size(image.image, "mask", mask.size())?;
        }
        heatmap::same_size(image.image, "anomaly map", image.map.size())?;
        if let Shown::Most(0) | Shown::OfEachKind(0) = self.shown {
            return Ok(());
        }
        let card = self.card(image, index, judged)?;
        self.bytes += card.bytes();
        self.cards.push(card);
        while self.is_too_full(&judged.kind) {
            let Some(least) = self.least(&judged.kind) else {
                break;
            };
            self.bytes -= self.cards.remove(least).bytes();
        }
        Ok(())
    }

    fn is_too_full(&self, newest: &str) -> bool {
        let of_kind = self.cards.iter().filter(|card| card.kind == newest);
        let too_many = match self.shown {
            Shown::Most(most) => self.cards.len() > most,
            Shown::OfEachKind(most) => of_kind.count() > most,
        };
        too_many || self.bytes > self.most_bytes
    }

    /// The card that leaves: of the rightly judged images, or else of the mistakes, the least instructive image of the most frequent
    /// kind. With a limit for each kind, it is of the newest image's kind.
    fn least(&self, newest: &str) -> Option<usize> {
        let is_candidate = |card: &Card| match self.shown {
            Shown::OfEachKind(_) if self.bytes <= self.most_bytes => card.kind == newest,
            _ => true,
        };
        let mut alike: BTreeMap<(bool, &str), usize> = BTreeMap::new();
        for card in &self.cards {
            *alike.entry((card.interest.0, &card.kind)).or_default() += 1;
        }
        let rank = |card: &Card| (!card.interest.0, alike[&(card.interest.0, &*card.kind)]);
        let cards = self.cards.iter().enumerate();
        let least = cards
            .filter(|(_, card)| is_candidate(card))
            .max_by(|(_, a), (_, b)| {
                let interest = b.interest.1.total_cmp(&a.interest.1);
                rank(a).cmp(&rank(b)).then(interest)
            });
        least.map(|(index, _)| index)
    }

    fn card(
        &self,
        image: &ReportImage<'_>,
        index: usize,
        judged: &Judged,
    ) -> Result<Card, ReportError> {
        let wrong = |source| ReportError::Picture {
            image: image.name.to_owned(),
            source,
        };
        let picture = fit(heatmap::to_rgb8(image.image), SIDE);
        let heat = layer::of_map(self.heatmap, image.map);
        let found = &image.verdict.regions;
        let drawn = found.iter().take(OUTLINES);
        let drawn: Vec<Region> = drawn.map(|found| found.region.clone()).collect();
        let outlines = outline::paths(&drawn).into_iter().zip(&drawn);
        Ok(Card {
            index,
            kind: judged.kind.clone(),
            interest: judged.interest(self.threshold),
            why: image.verdict.why.clone(),
            regions: found
                .iter()
                .take(LISTED)
                .map(|found| Listed {
                    bounds: found.region.bounds,
                    area: found.region.area,
                    peak: found.region.peak,
                    mean: found.region.mean,
                    why: found.why.clone(),
                })
                .collect(),
            size: [image.image.width(), image.image.height()],
            image: thumbnail::jpeg(&picture, QUALITY).map_err(wrong)?,
            heat: thumbnail::png(&heat).map_err(wrong)?,
            truth: image.mask.map(outline::of_mask).unwrap_or_default(),
            outlines: outlines
                .map(|(path, region)| Outline {
                    path,
                    bounds: region.bounds,
                })
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Label, Truth};
    use super::*;
    use crate::image::Image;
    use crate::map::anomaly_map::AnomalyMap;
    use crate::verdict::Verdict;

    #[test]
    fn pictures_are_left_out_before_a_page_grows_too_large() {
        let scale = Heatmap {
            low: 0.0,
            high: 1.0,
        };
        for shown in [Shown::Most(100), Shown::OfEachKind(100)] {
            let mut gallery = Gallery::new(scale, shown, 0.5);
            for index in 0..10 {
                let score = index as f32 / 10.0;
                let image = ReportImage {
                    name: "x",
                    label: Label::Unknown,
                    image: &Image::new(20, 20, vec![score; 1200]),
                    mask: None,
                    map: &AnomalyMap::new(20, 20, vec![score; 400]),
                    verdict: &Verdict {
                        score,
                        defective: score > 0.5,
                        why: None,
                        regions: Vec::new(),
                    },
                };
                let judged = Judged {
                    name: String::new(),
                    truth: Truth::Unknown,
                    kind: String::new(),
                    score,
                    decisive: score,
                    regions: 0,
                    largest: 0,
                };
                if index == 1 {
                    gallery.most_bytes = 3 * gallery.bytes;
                }
                gallery.add(&image, index, &judged).unwrap();
            }
            let bytes: usize = gallery.cards.iter().map(Card::bytes).sum();
            assert_eq!(bytes, gallery.bytes);
            assert!(bytes <= gallery.most_bytes);
            let shown: Vec<usize> = gallery.cards.iter().map(|card| card.index).collect();
            assert!(shown.len() >= 2 && shown.ends_with(&[8, 9]), "{shown:?}");
        }
    }
}
