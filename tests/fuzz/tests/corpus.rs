//! Everything that the fuzzers kept, played once: a finding stays found.

use std::path::Path;

#[test]
fn every_input_of_the_corpus_is_survived() {
    for (name, target) in lineside_fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let inputs =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut count = 0;
        for input in inputs.flatten() {
            let bytes = std::fs::read(input.path()).expect("a file");
            if std::panic::catch_unwind(|| target(&bytes)).is_err() {
                panic!("{} is not survived", input.path().display());
            }
            count += 1;
        }
        assert!(count > 3, "{name} has {count} inputs");
    }
}
