//! Maps that other tools wrote (`oracle/make_maps.py`) are read to the bit.

use std::path::Path;

use pupilla_core::map::map_file;

#[test]
fn every_way_to_store_floats_gives_the_same_map() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/maps");
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    assert_eq!(names.len(), 8);
    for path in names {
        let map = map_file::read(&path).unwrap();
        assert_eq!((map.width(), map.height()), (37, 21), "{}", path.display());
        for (at, &score) in map.scores().iter().enumerate() {
            let expected = (at / 37) as f32 / 8.0 - (at % 37) as f32 / 16.0;
            assert_eq!(score, expected, "{} at {at}", path.display());
        }
    }
}
