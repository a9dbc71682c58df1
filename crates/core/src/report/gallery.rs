//! The images of a report: which are shown, and their thumbnails.

use super::thumbnail::{self, fit};
use super::{Outcome, ReportError, ReportImage};
use crate::map::heatmap::{self, Heatmap};
use crate::verdict::Verdict;
use crate::verdict::region::{Region, draw_regions};

/// The longer side of a thumbnail, in pixels.
const THUMBNAIL: u32 = 256;

/// The quality of their JPEGs.
const QUALITY: u8 = 82;

/// The regions that are listed for an image.
const REGIONS: usize = 8;

/// One image as it is shown.
#[derive(Clone, Debug)]
pub(super) struct Card {
    pub name: String,
    pub defect: Option<String>,
    pub outcome: Outcome,
    /// Score, verdict and shares; of the regions only the first few, without their outlines.
    pub verdict: Verdict,
    /// All regions of the image.
    pub regions: usize,
    /// Width and height of the thumbnails.
    pub size: [u32; 2],
    /// Data URIs.
    pub image: String,
    pub mask: String,
    pub heatmap: String,
}

/// Images by the order of their coming.
#[derive(Clone, Debug)]
pub(super) struct Gallery {
    heatmap: Heatmap,
    most: usize,
    pub cards: Vec<Card>,
    pub seen: usize,
}

impl Gallery {
    pub fn new(heatmap: Heatmap, most: usize) -> Self {
        Self {
            heatmap,
            most,
            cards: Vec::new(),
            seen: 0,
        }
    }

    pub fn heatmap(&self) -> Heatmap {
        self.heatmap
    }

    /// Adds an image if it is to be shown; another may have to go.
    pub fn add(&mut self, image: &ReportImage<'_>) -> Result<(), ReportError> {
        let (mask, map) = (image.mask, image.map);
        heatmap::same_size(image.image, "mask", mask.size())?;
        heatmap::same_size(image.image, "anomaly map", map.size())?;
        self.seen += 1;
        let outcome = Outcome::of(image);
        if self.cards.len() >= self.most {
            match self.to_go(outcome, image.defect) {
                None => return Ok(()),
                Some(index) => {
                    self.cards.remove(index);
                }
            }
        }
        let card = self.card(image, outcome)?;
        self.cards.push(card);
        Ok(())
    }

    /// The card that leaves for a new card: the last card of the most frequent kind, among rightly judged images before mistakes.
    /// `None` if the new image's kind is shown as often, or if only mistakes are left and the new image is not a mistake.
    fn to_go(&self, outcome: Outcome, defect: Option<&str>) -> Option<usize> {
        let crowded = |mistakes: bool| {
            let alike = |card: &&Card| card.outcome.is_mistake() == mistakes;
            let shown = |kind: Option<&str>| {
                let of_kind = |card: &&Card| card.defect.as_deref() == kind;
                self.cards.iter().filter(alike).filter(of_kind).count()
            };
            let cards = self.cards.iter().enumerate();
            let (index, card) = cards
                .filter(|(_, card)| alike(card))
                .max_by_key(|(_, card)| shown(card.defect.as_deref()))?;
            let is_rarer = shown(card.defect.as_deref()) > shown(defect) + 1;
            Some((index, is_rarer))
        };
        let of_right = crowded(false);
        if !outcome.is_mistake() {
            return of_right
                .filter(|(_, is_rarer)| *is_rarer)
                .map(|found| found.0);
        }
        let of_mistakes = || crowded(true).filter(|(_, is_rarer)| *is_rarer);
        of_right.or_else(of_mistakes).map(|found| found.0)
    }

    fn card(&self, image: &ReportImage<'_>, outcome: Outcome) -> Result<Card, ReportError> {
        let wrong = |source| ReportError::Thumbnail {
            image: image.name.to_owned(),
            source,
        };
        let picture = fit(heatmap::to_rgb8(image.image), THUMBNAIL);
        let mask = fit(thumbnail::mask(image.mask), THUMBNAIL);
        let mut colours = fit(self.heatmap.overlay(image.image, image.map)?, THUMBNAIL);
        let scale = f64::from(colours.width()) / image.map.width() as f64;
        let found = image.verdict.regions.iter();
        let regions: Vec<Region> = found.map(|found| found.region.clone()).collect();
        draw_regions(&mut colours, &regions, scale);
        let mut verdict = image.verdict.clone();
        verdict.regions.truncate(REGIONS);
        for found in &mut verdict.regions {
            found.region.contour = Vec::new();
        }
        Ok(Card {
            name: image.name.to_owned(),
            defect: image.defect.map(str::to_owned),
            outcome,
            verdict,
            regions: regions.len(),
            size: [picture.width(), picture.height()],
            image: thumbnail::jpeg(&picture, QUALITY).map_err(wrong)?,
            mask: thumbnail::png(&mask).map_err(wrong)?,
            heatmap: thumbnail::jpeg(&colours, QUALITY).map_err(wrong)?,
        })
    }
}
