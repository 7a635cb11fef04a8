//! What is known of a version before it is compared: its manifest, and which tensors its files hold.

use nave_manifest::{Manifest, safetensors::Tensor};

/// The tensors of one file, in file order, and where their bytes begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensors {
    /// Offset in the file that the tensors' own offsets count from.
    pub data: u64,
    /// Sorted by offset.
    pub tensors: Vec<Tensor>,
}

/// One version.
#[derive(Clone, Debug)]
pub struct Layout {
    manifest: Manifest,
    tensors: Vec<Option<Tensors>>,
}

impl Layout {
    /// A version whose files are opaque so far.
    pub fn new(manifest: Manifest) -> Self {
        let tensors = vec![None; manifest.files().len()];
        Self { manifest, tensors }
    }

    /// Notes the tensors of a file by its position in the manifest. Tensors that reach past the file's end are no
    /// tensors of this file, and are left out.
    pub fn set_tensors(&mut self, file: usize, mut tensors: Tensors) {
        let Some(entry) = self.manifest.files().get(file) else { return };
        let inside =
            |tensor: &Tensor| tensors.data.checked_add(tensor.end).is_some_and(|end| end <= entry.size);
        if tensors.tensors.iter().all(inside) {
            tensors.tensors.retain(|tensor| tensor.begin < tensor.end);
            self.tensors[file] = Some(tensors);
        }
    }

    /// What the version consists of.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The tensors of a file, if it has any that are known.
    pub fn tensors(&self, file: usize) -> Option<&Tensors> {
        self.tensors.get(file)?.as_ref()
    }
}
