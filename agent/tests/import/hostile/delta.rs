//! A delta from the base to the target, right but for what a case does to it.

use std::{fs, path::Path};

use nave_agent::store::Store;
use nave_delta::{Block, Encoder, IndexWriter, Layout, MAGIC, plan};

use super::World;
use crate::maker::{Load, Maker, Model};

/// Of the index, before its records.
pub(super) const HEAD: usize = 68;
/// Of a record.
pub(super) const RECORD: usize = 28;
const FOOTER: usize = 48;

/// A delta object on its way into a bundle.
pub(super) struct Forged {
    pub(super) blocks: Vec<u8>,
    pub(super) index: Vec<u8>,
}

impl Forged {
    /// From the world's base to its target. `change` may put another block in the place of each.
    pub(super) fn new(world: &World, change: impl Fn(usize, Block) -> Block) -> Self {
        let forged = Self::between(&world.base, &world.target, change);
        assert_eq!(forged.index.len(), HEAD + 2 * RECORD, "both chunks of the weights have changed");
        forged
    }

    fn between(base: &Model, target: &Model, change: impl Fn(usize, Block) -> Block) -> Self {
        let (from, to) = (Layout::new(base.manifest()), Layout::new(target.manifest()));
        let mut writer = IndexWriter::new(from.manifest().digest(), to.manifest().digest());
        let mut encoder = Encoder::new().unwrap();
        let mut blocks = MAGIC.to_vec();
        for (at, recipe) in plan(&from, &to).iter().enumerate() {
            let span = recipe.base.unwrap();
            let bytes = |model: &'_ Model, layout: &Layout, file: usize, begin: u64| {
                let path = layout.manifest().files()[file].path.as_str();
                model.files[path][begin as usize..][..recipe.length as usize].to_vec()
            };
            let chunk = bytes(target, &to, recipe.file, recipe.offset);
            let base = bytes(base, &from, span.file, span.offset);
            let block = encoder.encode(&chunk, Some(&base), recipe.width).unwrap().unwrap();
            let block = change(at, block);
            writer.push(recipe, &block);
            blocks.extend(&block.bytes);
        }
        let mut index = writer.finish();
        index.truncate(index.len() - FOOTER);
        Self { blocks, index }
    }

    /// The object with a footer that is right, and the length of its tail.
    fn finish(self) -> (Vec<u8>, usize) {
        let Self { blocks, index } = self;
        let tail =
            [&index[..], &(index.len() as u64).to_le_bytes(), blake3::hash(&index).as_bytes(), b"NAVEDLTE"]
                .concat();
        ([&blocks[..], &tail].concat(), tail.len())
    }

    /// A bundle with this delta; `change` may spoil the rest.
    pub(super) fn write(self, world: &World, to: &Path, change: impl FnOnce(&mut Load)) {
        let mut load = Load::of(&world.target, Some(&world.base), Default::default());
        (load.delta, load.index) = self.finish();
        change(&mut load);
        Maker::new(5).load(load).write(to, &world.site.key, |_| {});
    }
}

/// What a right delta from one version to another is in a bundle.
pub(crate) fn load(base: &Model, target: &Model) -> Load {
    let mut load = Load::of(target, Some(base), Default::default());
    (load.delta, load.index) = Forged::between(base, target, |_, block| block).finish();
    load
}

/// The forgery without a change is a good bundle: what is refused is what was changed.
#[test]
fn the_template_itself_passes() {
    let world = World::new();
    let to = world.site.path("bundle");
    Forged::new(&world, |_, block| block).write(&world, &to, |_| {});
    let imported = world.site.import_here(&to).unwrap();
    assert_eq!(imported.versions[0].bytes_rebuilt, world.target.files["model.bin"].len() as u64);
    world.site.assert_holds(&world.target);
}

/// A base that was spoiled on the spoke's disk makes wrong bytes as well; the bundle is not blamed for it.
#[test]
fn a_damaged_base_is_told_from_a_block_that_lies() {
    let world = World::new();
    let to = world.site.path("bundle");
    Forged::new(&world, |_, block| block).write(&world, &to, |_| {});
    let store = Store::open(world.site.path("state/store")).unwrap();
    let weights = world.base.manifest().files()[1].sha256;
    let blob = store.blob_path(&weights);
    drop(store);
    let mut bytes = fs::read(&blob).unwrap();
    bytes[7] ^= 1;
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, bytes).unwrap();
    let error = world.site.import_here(&to).unwrap_err();
    assert_eq!(error.reason(), "BaseDamaged", "{error}");
    assert!(error.to_string().contains("chunk 0 of model.bin"), "{error}");
}
