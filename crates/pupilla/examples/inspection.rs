//! Times inspection, from image to anomaly map, of a made-up image by a teacher and three students, for scripts that compare it with
//! others: `inspection [DEVICE]`.
//!
//! Reads lines `RECEPTIVE_FIELD SIDE grid|dense REPETITIONS` from standard input and answers each with one line of times in
//! milliseconds.

use pupilla::Config;
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::time::Instant;

use pupilla::student_teacher::{Quick, Settings, Training};
use pupilla::{
    Length, ReceptiveField, Sampling, StudentTeacher, StudentTeacherConfig, Teacher, device,
};
use pupilla_core::detector::Detector;
use pupilla_core::image::Image;
use pupilla_core::image::resize::Resize;
use pupilla_core::observer::Silent;

fn main() {
    pupilla_conv::keep_freed_memory();
    if let Some(word) = std::env::args().nth(1) {
        let choice = word.parse().expect("a device");
        device::choose(choice).unwrap_or_else(|error| panic!("{error}"));
    }
    let mut models = BTreeMap::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("standard input is readable");
        let words: Vec<&str> = line.split_whitespace().collect();
        let [field, side, sampling, repetitions] = words[..] else {
            panic!("RECEPTIVE_FIELD SIDE grid|dense REPETITIONS are needed");
        };
        let number = |word: &str| word.parse::<usize>().expect("a number is needed");
        let sampling = match sampling {
            "grid" => Sampling::Grid,
            "dense" => Sampling::Dense,
            _ => panic!("grid or dense is needed"),
        };
        let model: &StudentTeacher = models
            .entry(number(field))
            .or_insert_with(|| untrained(number(field)));
        let model = model.clone().with_sampling(sampling);
        let image = image(number(side));
        let times: Vec<String> = (0..number(repetitions))
            .map(|_| {
                let start = Instant::now();
                let map = model
                    .anomaly_map(&image)
                    .expect("the image is large enough");
                assert!(map.image_score().is_finite());
                format!("{:.4}", start.elapsed().as_secs_f64() * 1e3)
            })
            .collect();
        println!("{}", times.join(" "));
        std::io::stdout()
            .flush()
            .expect("standard output is writable");
    }
}

/// The built-in teacher with three students after one step: what they say costs as much as after all.
fn untrained(field: usize) -> StudentTeacher {
    let field = ReceptiveField::try_from(field).expect("a receptive field");
    let teacher = Teacher::built_in(field).expect("a built-in teacher");
    let mut config = StudentTeacherConfig::new(vec![teacher.into()]);
    config.settings = Settings {
        resize: Resize::None,
        training: Training::Quick(Quick {
            length: Length::Steps(1),
            window: Some(field.side() + 2 * field.pooling_stride()),
            ..Quick::default()
        }),
        ..config.settings
    };
    let images = vec![image(96)];
    config
        .fit(&images, &images, &mut Silent)
        .expect("one step can be trained")
}

fn image(side: usize) -> Image {
    let value = |i: usize| ((i * 7919) % 1999) as f32 / 1999.0;
    Image::new(side, side, (0..3 * side * side).map(value).collect())
}
