//! The list of a version's deltas: changed only where nobody else changed it meanwhile.

use anyhow::{Context as _, bail};
use nave_delta::{Catalog, Offer, catalog_path};
use object_store::{Error as StoreError, ObjectStoreExt as _, PutMode, PutOptions, UpdateVersion};

use super::upload::Destination;

/// How often someone else may have been faster.
const MOST_ATTEMPTS: u32 = 5;

/// Adds a delta to the list.
pub(super) async fn add(destination: &Destination, offer: Offer) -> anyhow::Result<()> {
    let path = catalog_path();
    let key = destination.key(path.as_str())?;
    for _ in 0..MOST_ATTEMPTS {
        let (mut catalog, mode) = match destination.store.get(&key).await {
            Ok(found) => {
                let version =
                    UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
                let bytes = found.bytes().await.map_err(|error| destination.failed("reading", &error))?;
                let catalog = Catalog::parse(&bytes).with_context(|| {
                    format!("reading {}{path}; delete it and publish again", destination.url())
                })?;
                (catalog, PutMode::Update(version))
            }
            Err(StoreError::NotFound { .. }) => (Catalog::default(), PutMode::Create),
            Err(error) => return Err(destination.failed("reading the list of deltas of", &error)),
        };
        catalog.insert(offer.clone());
        let options = PutOptions { mode, ..PutOptions::default() };
        match destination.store.put_opts(&key, catalog.to_bytes().into(), options).await {
            Ok(_) => return Ok(()),
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {}
            Err(error) => return Err(destination.failed("uploading the list of deltas to", &error)),
        }
    }
    bail!("{}{path} is changed by others all the time: publish again", destination.url())
}
