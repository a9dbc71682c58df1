//! Bytes as a model of any kind: what can be read describes a small image.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use pupilla::model::Model;
use pupilla_core::detector::Detector;
use pupilla_core::image::Image;

fuzz_target!(|bytes: &[u8]| {
    match Model::from_bytes(Path::new("model"), bytes.to_vec()) {
        Ok(model) => {
            let pixels = (0..24 * 24 * 3).map(|at| (at % 97) as f32 / 97.0);
            let image = Image::new(24, 24, pixels.collect());
            if let Ok(map) = model.anomaly_map(&image) {
                assert!(map.scores().iter().all(|score| score.is_finite()));
            }
        }
        Err(error) => assert!(error.to_string().contains("model")),
    }
});
