//! The committed code is what the .proto file says.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_in_result, clippy::unwrap_used)] // Helpers of tests are not seen as tests.

use std::{fs, path::Path};

#[test]
fn generated_code_is_in_step_with_the_proto_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors = protox::compile([root.join("nave/v1/nave.proto")], [root]).unwrap();
    let out = tempfile::tempdir().unwrap();
    tonic_prost_build::configure().out_dir(out.path()).btree_map(".").compile_fds(descriptors).unwrap();
    let fresh = fs::read_to_string(out.path().join("nave.v1.rs")).unwrap();
    let committed = root.join("src/generated/nave.v1.rs");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&committed, &fresh).unwrap();
    }
    assert_eq!(
        fs::read_to_string(&committed).unwrap_or_default(),
        fresh,
        "run UPDATE=1 cargo test -p nave-proto --test generated"
    );
}
