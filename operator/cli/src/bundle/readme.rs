//! What a person at the site reads, who finds the folder on a disk and no network.

use std::fmt::Write as _;

use indicatif::HumanBytes;
use nave_bundle::{Bundle, Source};

/// The text of README.txt.
pub(super) fn text(bundle: &Bundle) -> String {
    let mut text = String::new();
    // Writing into memory has no error to give.
    write(&mut text, bundle).ok();
    text
}

fn write(text: &mut String, bundle: &Bundle) -> std::fmt::Result {
    let Bundle { source, generation, created_at, created_by, parts, versions } = bundle;
    writeln!(text, "This folder is a Nave bundle: model versions for a site without a network.\n")?;
    writeln!(text, "It holds {source}, generation {generation},")?;
    writeln!(text, "made {created_at} by {created_by}.\n")?;
    for version in versions {
        writeln!(text, "  {} {}", version.model, version.version)?;
        writeln!(text, "    {}", version.manifest_digest)?;
        write!(text, "    {}", HumanBytes(version.size_bytes))?;
        match &version.base {
            Some(base) => {
                writeln!(text, ", upon {} {} ({})", version.model, base.version, base.manifest_digest)?
            }
            None => writeln!(text)?,
        }
    }
    writeln!(text, "\nTo take it in, on the machine of the Nave agent:\n")?;
    writeln!(text, "  nave-agent import DIR\n")?;
    writeln!(text, "where DIR is this folder. The agent may run or not. Nothing of the site changes before")?;
    writeln!(text, "everything was verified; interrupted, the same command goes on where it stopped.\n")?;
    writeln!(text, "To check a copy of it without importing, bundle.json and all parts:\n")?;
    writeln!(text, "  nave-agent verify DIR --key PUBLIC_KEY.pem          (signed with a key)")?;
    writeln!(
        text,
        "  nave-agent verify DIR --certificate-chain CA.pem    (signed by the hub's authority)\n"
    )?;
    writeln!(text, "All of these have to be here, in one folder:\n")?;
    let mut names = vec!["bundle.json", "model.sig", "README.txt"];
    if matches!(source, Source::PlacementPolicy { .. }) {
        names.push("policy.yaml");
    }
    names.iter().try_for_each(|name| writeln!(text, "  {name}"))?;
    parts.iter().try_for_each(|part| writeln!(text, "  {}  {} bytes", part.name, part.size))
}
