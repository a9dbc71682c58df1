//! A cache of a pretrained network's maps of the training images, as far as memory allows: a run shows the network the same images
//! again and again.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::backbone::FeatureMaps;

/// The most bytes of maps that are kept; the maps of later images are computed each time.
pub(super) const MOST_BYTES: usize = 512 << 20;

/// Maps by the index of their image.
#[derive(Debug, Default)]
pub(super) struct SeenImages {
    maps: BTreeMap<usize, Arc<FeatureMaps>>,
    bytes: usize,
}

impl SeenImages {
    /// The maps of an image, from `compute` if they are not kept.
    ///
    /// # Errors
    /// Those of `compute`.
    pub fn maps<Error>(
        &mut self,
        image: usize,
        compute: impl FnOnce() -> Result<FeatureMaps, Error>,
    ) -> Result<Arc<FeatureMaps>, Error> {
        if let Some(maps) = self.maps.get(&image) {
            return Ok(Arc::clone(maps));
        }
        let maps = Arc::new(compute()?);
        if self.bytes + maps.bytes() <= MOST_BYTES {
            self.bytes += maps.bytes();
            self.maps.insert(image, Arc::clone(&maps));
        }
        Ok(maps)
    }
}
