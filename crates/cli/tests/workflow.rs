//! The main job: train, inspect, eval, info; and that the numbers they give agree.

use std::path::Path;
use std::process::Output;

use pupilla::backbone::{BackboneConfig, ResNet18Config};
use pupilla_core::map::map_file;
use serde_json::Value;

use crate::backbone::weights;
use crate::data::{
    SHORT, assert_failure, assert_success, dataset, good, listing, model, run, stderr, stdout, text,
};

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn inspect_and_eval_agree_on_every_score() {
    let (folder, parts) = dataset();
    let model = text(model());
    let (maps, found, results) = (
        folder.path().join("maps"),
        folder.path().join("found.json"),
        folder.path().join("results.json"),
    );
    let pictures = folder.path().join("pictures");
    assert_success(&run(&[
        "eval",
        model,
        text(&parts),
        "--maps",
        text(&maps),
        "--pictures",
        text(&pictures),
        "--json",
        text(&results),
    ]));
    let results = json(&results);
    assert_eq!(results["images"], 4);
    assert_eq!(results["regions"], 2);
    assert_eq!(results["per_defect"]["square"]["images"], 2);
    assert_eq!(results["image_auroc"], 1.0);
    assert!(results["au_pro"].as_f64().unwrap() > 0.5, "{results}");
    assert!(results["seconds_per_image"].as_f64().unwrap() > 0.0);
    assert_eq!(listing(&pictures), ["index.html", "sheet.png"]);
    assert_eq!(listing(&maps.join("parts/test")), ["good", "square"]);

    let heatmaps = folder.path().join("heatmaps");
    let square = parts.join("test/square");
    assert_success(&run(&[
        "inspect",
        model,
        text(&square),
        "--out",
        text(&heatmaps),
        "--json",
        text(&found),
    ]));
    let found = json(&found);
    assert_eq!(
        listing(&heatmaps),
        [
            "000_heatmap.png",
            "000_map.tiff",
            "001_heatmap.png",
            "001_map.tiff"
        ]
    );
    for (index, image) in found["images"].as_array().unwrap().iter().enumerate() {
        assert_eq!(image["defective"], true);
        let name = format!("square/00{index}.png");
        let per_image = results["per_image"].as_array().unwrap();
        let same = per_image
            .iter()
            .find(|other| other["path"] == *name)
            .unwrap();
        assert_eq!(same["score"], image["score"]);
        let raw = heatmaps.join(format!("00{index}_map.tiff"));
        let written = maps.join(format!("parts/test/square/00{index}.tiff"));
        let raw = map_file::read(&raw).unwrap();
        assert_eq!(raw, map_file::read(&written).unwrap());
        // JSON has the shortest digits that give the same f32 back.
        assert_eq!(raw.image_score(), image["score"].as_f64().unwrap() as f32);
    }
}

#[test]
fn scores_do_not_depend_on_the_number_of_threads() {
    let (_folder, parts) = dataset();
    let square = parts.join("test/square");
    let of = |threads: &str| {
        let output = run(&[
            "inspect",
            text(model()),
            text(&square),
            "--threads",
            threads,
        ]);
        assert_success(&output);
        stdout(&output)
    };
    assert_eq!(of("1"), of("2"));
    assert_eq!(of("1"), of("3"));
}

#[test]
fn a_dry_run_says_what_training_takes_and_writes_nothing() {
    let (folder, parts) = dataset();
    let before = listing(folder.path());
    let mut arguments = vec!["train", text(&parts)];
    arguments.extend(SHORT);
    arguments.extend(["--dry-run", "--json"]);
    let output = run(&arguments);
    assert_success(&output);
    let plan: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(plan["scales"][0]["receptive_field"], 33);
    assert_eq!(plan["scales"][0]["steps"], 8);
    assert!(plan["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(plan["training_images"], 5);
    assert_eq!(plan["validation_images"], 1);
    assert_eq!(listing(folder.path()), before);
    assert_failure(&run(&["train", text(&parts)]), 2, &["--out"]);

    // Patch sizes of 33 and 65 unless others are asked for.
    let words = ["train", text(&parts), "--dry-run", "--json", "--steps", "1"];
    let usual = |resize| run(&[&words[..], &["--students", "1", "--resize", resize]].concat());
    let output = usual("70");
    assert_success(&output);
    let plan: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let scales = plan["scales"].as_array().unwrap();
    let fields: Vec<_> = scales
        .iter()
        .map(|scale| &scale["receptive_field"])
        .collect();
    assert_eq!(fields, [33, 65]);
    assert_failure(&usual("none"), 1, &["40×40", "65", "a smaller scale"]);
}

#[test]
fn memory_changes_no_score_or_is_refused() {
    let (folder, _) = dataset();
    let large = folder.path().join("large.png");
    image::imageops::resize(&good(3), 300, 90, image::imageops::FilterType::Triangle)
        .save(&large)
        .unwrap();
    let inspect = |memory: &[&str]| {
        let mut arguments = vec!["inspect", text(model()), text(&large)];
        arguments.extend(memory);
        run(&arguments)
    };
    let free = inspect(&[]);
    assert_success(&free);
    assert!(stderr(&free).contains("images of 300×90 take about"));
    let limited = inspect(&["--memory", "110M"]);
    assert_success(&limited);
    assert_eq!(stdout(&free), stdout(&limited));
    assert_failure(
        &inspect(&["--memory", "9M"]),
        1,
        &["large.png", "9 MiB are allowed"],
    );
    assert_failure(&inspect(&["--memory", "much"]), 2, &["500M or 2G"]);
}

#[test]
fn scales_that_a_model_lacks_are_named() {
    let (_folder, parts) = dataset();
    let eval = |scales: &str| run(&["eval", text(model()), text(&parts), "--scales", scales]);
    let all = run(&["eval", text(model()), text(&parts)]);
    assert_success(&all);
    let alone = eval("33");
    assert_success(&alone);
    let figures = |output: &Output| {
        let text = stdout(output);
        let lines = text.lines().filter(|line| !line.contains("an image"));
        lines.map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(figures(&all), figures(&alone));
    assert_failure(
        &eval("17,33"),
        1,
        &["no scale p = 17", "the model has p = 33"],
    );
    assert_failure(&eval("18"), 2, &["18"]);
}

#[test]
fn the_same_command_writes_the_same_bytes() {
    let (folder, parts) = dataset();
    let train = |name: &str| {
        let path = folder.path().join(name);
        let mut arguments = vec![
            "train",
            text(&parts),
            "--out",
            text(&path),
            "--threads",
            "2",
        ];
        arguments.extend(SHORT);
        assert_success(&run(&arguments));
        std::fs::read(path).unwrap()
    };
    assert!(train("one") == train("two"));
}

#[test]
fn a_plain_folder_trains_and_tells_what_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    std::fs::create_dir(&images).unwrap();
    for index in 0..4 {
        good(index)
            .save(images.join(format!("{index}.jpg")))
            .unwrap();
    }
    let out = folder.path().join("m.pupilla");
    let output = run(&[
        "train",
        text(&images),
        "--out",
        text(&out),
        "--resize",
        "keep:36",
        "--scales",
        "33",
        "--steps",
        "2",
        "--seed",
        "7",
        "--progress",
        "json",
        "--json",
    ]);
    assert_success(&output);
    let manifest: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(manifest["settings"]["seed"], 7);
    assert_eq!(manifest["settings"]["resize"], "keep:36");
    assert_eq!(manifest["data"]["name"], "images");
    assert_eq!(manifest["training_images"], 3);
    for line in stderr(&output).lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
    let info = run(&["info", text(&out), "--json"]);
    assert_success(&info);
    assert_eq!(
        serde_json::from_str::<Value>(&stdout(&info)).unwrap(),
        manifest
    );
    let info = stdout(&run(&["info", text(&out), "--full"]));
    assert!(
        info.contains("kind: student-teacher") && info.contains("seed: 7"),
        "{info}"
    );

    // Errors are judged as published where the published procedure is asked for, unless it is said otherwise.
    let scoring = |more: &[&str]| {
        let mut arguments = vec!["train", text(&images), "--out", text(&out), "--json"];
        arguments.extend([
            "--force",
            "--resize",
            "keep:36",
            "--scales",
            "33",
            "--students",
            "1",
        ]);
        arguments.extend(more);
        let output = run(&arguments);
        assert_success(&output);
        let manifest: Value = serde_json::from_str(&stdout(&output)).unwrap();
        manifest["settings"]["scoring"].clone()
    };
    assert_eq!(manifest["settings"]["scoring"], "mahalanobis");
    let paper = ["--preset", "paper", "--epochs", "1"];
    assert_eq!(scoring(&paper), "published");
    let judged = [&paper[..], &["--scoring", "mahalanobis"]].concat();
    assert_eq!(scoring(&judged), "mahalanobis");
    assert_eq!(
        scoring(&["--steps", "1", "--scoring", "published"]),
        "published"
    );
}

#[test]
fn a_teacher_of_ones_own_trains_students() {
    let (folder, parts) = dataset();
    let images = parts.join("train/good");
    let teacher = folder.path().join("teacher-17.safetensors");
    assert_success(&run(&[
        "teacher",
        "train",
        text(&images),
        "--scale",
        "17",
        "--out",
        text(&teacher),
        "--steps",
        "2",
        "--images-per-step",
        "2",
        "--window",
        "17",
        "--data-terms",
        "our own photographs",
    ]));
    let info = stdout(&run(&["info", text(&teacher)]));
    assert!(info.contains("our own photographs"), "{info}");
    let out = folder.path().join("m.pupilla");
    assert_success(&run(&[
        "train",
        text(&images),
        "--out",
        text(&out),
        "--scales",
        "17,33",
        "--teacher",
        text(&teacher),
        "--resize",
        "none",
        "--steps",
        "2",
        "--students",
        "1",
    ]));
    let output = run(&[
        "inspect",
        text(&out),
        text(&parts.join("test/good")),
        "--dense",
    ]);
    assert_success(&output);
    assert_eq!(stdout(&output).lines().count(), 3);

    // Without patch sizes, the teachers' own.
    let words = ["train", text(&images), "--out", text(&out), "--json"];
    let options = [
        "--force",
        "--resize",
        "none",
        "--steps",
        "1",
        "--students",
        "1",
    ];
    let given = ["--teacher", text(&teacher)];
    let output = run(&[&words[..], &options, &given].concat());
    assert_success(&output);
    let manifest: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let scales = manifest["scales"].as_array().unwrap();
    assert_eq!(scales.len(), 1);
    assert_eq!(scales[0]["network"]["receptive_field"], 17);
}

/// `teacher train` on the data set's good images with a few options for a short run, and more.
fn teach(images: &Path, out: &Path, more: &[&str]) -> Output {
    let by_itself = !more.contains(&"--backbone");
    let without = by_itself.then_some("--without-backbone");
    let common = [
        "teacher",
        "train",
        text(images),
        "--scale",
        "33",
        "--out",
        text(out),
        "--images-per-step",
        "2",
    ];
    let words: Vec<&str> = common
        .into_iter()
        .chain(without)
        .chain(more.iter().copied())
        .collect();
    run(&words)
}

#[test]
fn a_teacher_learns_from_a_pretrained_network() {
    let (folder, parts) = dataset();
    let images = parts.join("train/good");
    let file = |name: &str| folder.path().join(name);
    let [maps, whole] = [(2, None), (4, Some(10))].map(|(stages, classes)| {
        let path = file(&format!("resnet18-{stages}.safetensors"));
        let config = ResNet18Config { stages, classes };
        weights(&path, BackboneConfig::ResNet18(config));
        path
    });
    let (out, log) = (file("teacher.safetensors"), file("losses.csv"));
    let output = teach(
        &images,
        &out,
        &[
            "--backbone",
            text(&maps),
            "--targets",
            "layer1,layer2",
            "--zoom",
            "1",
            "--steps",
            "3",
            "--window",
            "41",
            "--held-out",
            "0.5",
            "--checkpoint-every",
            "1",
            "--log",
            text(&log),
        ],
    );
    assert_success(&output);
    assert!(
        stdout(&output).contains("variance unexplained"),
        "{}",
        stdout(&output)
    );
    let losses = std::fs::read_to_string(&log).unwrap();
    assert_eq!(losses.lines().count(), 4);
    assert!(losses.starts_with("step,distillation,triplet,compactness,total\n1,"));
    assert!(!file("teacher.safetensors.checkpoint").exists());

    // A report on the folder that it was trained on takes the images that were held out.
    let picture = file("report.png");
    let output = run(&[
        "teacher",
        "report",
        text(&out),
        text(&images),
        "--backbone",
        text(&maps),
        "--out",
        text(&picture),
        "--json",
        text(&file("report.json")),
    ]);
    assert_success(&output);
    assert!(
        stdout(&output).contains("held-out images"),
        "{}",
        stdout(&output)
    );
    assert!(image::open(&picture).unwrap().width() > 800);
    let json = std::fs::read_to_string(file("report.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["held_out"]["distillation"]["unexplained"].is_number());
    let measured = json["measured_on"].as_str().unwrap();
    assert!(measured.starts_with("the held-out images"), "{measured}");
    assert_eq!(json["images"], 3);
    let matrix = json["correlation"].as_array().unwrap();
    assert_eq!(matrix.len(), 128);
    for (at, row) in matrix.iter().enumerate() {
        assert_eq!(row.as_array().unwrap().len(), 128);
        assert!((row[at].as_f64().unwrap() - 1.0).abs() < 1e-3, "{row}");
    }
    let output = run(&[
        "teacher",
        "report",
        text(&out),
        text(&parts.join("test/good")),
    ]);
    assert_success(&output);
    assert!(
        stdout(&output).contains("all images of the folder"),
        "{}",
        stdout(&output)
    );

    let before = std::fs::read(&out).unwrap();
    let onto_itself = [
        "teacher",
        "report",
        text(&out),
        text(&images),
        "--out",
        text(&out),
    ];
    assert_failure(&run(&onto_itself), 2, &["name the same file"]);
    assert!(std::fs::read(&out).unwrap() == before);

    // Of several temperatures each is tried.
    let sweep = [
        "--backbone",
        text(&whole),
        "--distill",
        "logits",
        "--patch-side",
        "33",
        "--temperature",
        "1,4",
        "--held-out",
        "0.5",
        "--steps",
        "2",
        "--force",
    ];
    let output = teach(&images, &out, &sweep);
    assert_success(&output);
    for words in ["temperature 1:", "temperature 4:", "the same class"] {
        assert!(stdout(&output).contains(words), "{}", stdout(&output));
    }

    for (options, words) in [
        (
            &["--distill", "features", "--zoom", "2"][..],
            "--zoom belongs to --distill dense",
        ),
        (
            &["--temperature", "2"],
            "--temperature belongs to --distill logits",
        ),
        (
            &["--patch-side", "40"],
            "--patch-side belongs to --distill features or logits",
        ),
        (
            &["--distill", "logits", "--temperature", "0.2"],
            "temperature: must be 1 to 1000",
        ),
        (&["--zoom", "9"], "zoom: must be 1 to 8"),
        (&["--log", text(&out)], "--log and --out name the same file"),
        (
            &[
                "--log",
                text(&images.join("../good/../../../teacher.safetensors")),
            ],
            "--log and --out name the same file",
        ),
        (
            &["--log", text(&file("teacher.safetensors.checkpoint"))],
            "--log and the checkpoint name the same file",
        ),
        (&["--signed-compactness"], "--signed-compactness belongs to"),
        (
            &["--distillation-weight", "0", "--triplet-weight", "1"],
            "distillation weight: must be above 0",
        ),
        (
            &[
                "--distill",
                "logits",
                "--temperature",
                "1,2",
                "--held-out",
                "0",
            ],
            "several temperatures are compared on held-out images",
        ),
        (
            &["--distill", "logits", "--temperature", "2,3,2"],
            "--temperature names 2 twice",
        ),
        (
            &["--resized", "20,60"],
            "resized sides: must be from the window",
        ),
    ] {
        let output = teach(
            &images,
            &out,
            &[&["--force", "--backbone", text(&whole)][..], options].concat(),
        );
        assert_failure(&output, 2, &[words]);
    }
    let output = teach(
        &images,
        &out,
        &[
            "--force",
            "--backbone",
            text(&maps),
            "--distill",
            "features",
        ],
    );
    assert_failure(
        &output,
        1,
        &["no output \"features\"", "use a complete one"],
    );
    let output = teach(&images, &out, &["--distill", "logits"]);
    assert_failure(&output, 2, &["--without-backbone", "--distill"]);
    // The built-in network ends before its classes.
    let built_in = ["--force", "--backbone", "built-in", "--distill", "logits"];
    let output = teach(&images, &out, &built_in);
    assert_failure(&output, 1, &["no output \"logits\"", "use a complete one"]);
}

#[test]
fn nothing_that_is_read_is_written_over() {
    let (folder, parts) = dataset();
    let images = parts.join("train/good");
    let file = |name: &str| folder.path().join(name);
    let (pretrained, teacher) = (file("resnet18.safetensors"), file("t.safetensors"));
    let config = ResNet18Config {
        stages: 2,
        classes: None,
    };
    weights(&pretrained, BackboneConfig::ResNet18(config));
    let short = ["--steps", "1", "--window", "33"];
    assert_success(&teach(&images, &teacher, &short));
    let (part, photograph) = (images.join("000.png"), images.join("001.png"));
    let all = [&pretrained, &teacher, &part, &photograph];
    let before = all.map(|path| std::fs::read(path).unwrap());

    let train = |out: &Path, more: &[&str]| {
        let words = ["train", text(&parts), "--out", text(out), "--steps", "1"];
        run(&[&words[..], more].concat())
    };
    let report = |out: &Path| {
        let words = ["teacher", "report", text(&teacher), text(&images)];
        run(&[&words[..], &["--out", text(out)]].concat())
    };
    let from_pretrained = ["--teacher-backbone", text(&pretrained)];
    for (output, words) in [
        (
            teach(&images, &pretrained, &["--backbone", text(&pretrained)]),
            "resnet18.safetensors, which is not a teacher",
        ),
        (
            train(&pretrained, &from_pretrained),
            "resnet18.safetensors, which is not a model",
        ),
        (
            train(&teacher, &["--teacher", text(&teacher)]),
            "t.safetensors, which is not a model",
        ),
        (
            teach(&images, &part, &short),
            "000.png, which is not a teacher",
        ),
        (train(&part, &[]), "000.png, which is not a model"),
        (
            teach(&images, &teacher, &["--force", "--log", text(&photograph)]),
            "001.png, which is not a table of losses",
        ),
        (report(&photograph), "001.png, one of the images"),
        (
            report(&file("parts/../resnet18.safetensors")),
            "which is not a PNG",
        ),
    ] {
        assert_failure(&output, 2, &["would replace", words]);
    }
    assert!(all.map(|path| std::fs::read(path).unwrap()) == before);
    // What is of its own kind is replaced if that is wanted.
    assert_success(&teach(
        &images,
        &teacher,
        &[&short[..], &["--seed", "1", "--force"]].concat(),
    ));
    assert!(std::fs::read(&teacher).unwrap() != before[1]);
}

#[test]
fn the_built_in_teachers_say_their_terms() {
    let short = stdout(&run(&["info"]));
    assert_eq!(
        short.matches("non-commercial research").count(),
        3,
        "{short}"
    );
    assert!(short.lines().count() < 20, "{short}");
    let said = stdout(&run(&["info", "--full"]));
    for scale in [17, 33, 65] {
        for words in [
            format!("built-in teacher for p = {scale}"),
            format!("pupilla teacher train IMAGES --scale {scale}"),
        ] {
            assert!(said.contains(&words), "{words} is not in: {said}");
        }
    }
    assert_eq!(said.matches("non-commercial research").count(), 6, "{said}");
    let json: serde_json::Value = serde_json::from_str(&stdout(&run(&["info", "--json"]))).unwrap();
    let teachers = json.as_array().unwrap();
    assert!(teachers.iter().all(|teacher| teacher["kind"] == "teacher"));
    assert_eq!(teachers.len(), 3);
}

#[test]
fn the_threshold_is_the_models_unless_one_is_given() {
    let (_folder, parts) = dataset();
    let square = parts.join("test/square");
    let output = run(&[
        "inspect",
        text(model()),
        text(&square),
        "--threshold",
        "1e9",
    ]);
    assert_success(&output);
    assert!(!stdout(&output).contains("DEFECTIVE"));
    let output = run(&[
        "inspect",
        text(model()),
        text(&square),
        "--threshold",
        "-1e9",
    ]);
    assert_eq!(stdout(&output).matches("DEFECTIVE").count(), 2);
}

#[test]
fn maps_of_images_that_differ_in_their_extension_alone_are_kept_apart() {
    let (folder, parts) = dataset();
    good(70).save(parts.join("test/good/000.bmp")).unwrap();
    let maps = folder.path().join("maps");
    assert_success(&run(&[
        "eval",
        text(model()),
        text(&parts),
        "--maps",
        text(&maps),
    ]));
    assert_eq!(
        listing(&maps.join("parts/test/good")),
        ["000.bmp.tiff", "000.png.tiff", "001.tiff"]
    );
}

#[test]
fn folders_below_are_inspected_and_keep_their_places() {
    let (folder, parts) = dataset();
    good(71).save(parts.join("test/good/000.bmp")).unwrap();
    // Results within what is inspected, twice: they are not inspected themselves.
    let test = parts.join("test");
    let out = test.join("heatmaps");
    let words = ["inspect", text(model()), text(&test), "--out"];
    for _ in 0..2 {
        let output = run(&[&words[..], &[text(&out)]].concat());
        assert_success(&output);
        assert!(stdout(&output).contains("of 5 images"), "{output:?}");
        assert_eq!(listing(&out), ["good", "square"]);
        assert_eq!(
            listing(&out.join("good")),
            [
                "000.bmp_heatmap.png",
                "000.bmp_map.tiff",
                "000.png_heatmap.png",
                "000.png_map.tiff",
                "001_heatmap.png",
                "001_map.tiff",
            ]
        );
    }
    // Of a whole data set the masks are left out, which is said.
    std::fs::remove_dir_all(&out).unwrap();
    let output = run(&["inspect", text(model()), text(&parts)]);
    assert_success(&output);
    assert!(stdout(&output).contains("of 11 images"), "{output:?}");
    assert!(stderr(&output).contains("ground_truth/square holds masks"));
    // Two folders with equal names in them cannot share one for results.
    let twins = [parts.join("train/good"), parts.join("test/good")];
    let out = folder.path().join("out");
    let words = ["inspect", text(model()), text(&twins[0]), text(&twins[1])];
    let output = run(&[&words[..], &["--out", text(&out)]].concat());
    assert_failure(&output, 1, &["000.png", "the same files"]);
    assert!(!out.exists());
}

#[test]
fn help_speaks_of_every_verb() {
    let help = stdout(&run(&["--help"]));
    for verb in [
        "train", "inspect", "eval", "score", "check", "teacher", "info", "demo",
    ] {
        assert!(help.contains(verb), "{help}");
        let of_verb = run(&[verb, "--help"]);
        assert_success(&of_verb);
        assert!(stdout(&of_verb).len() > 100);
    }
}
