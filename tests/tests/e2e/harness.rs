//! The harness itself: a fault proxy that did nothing would make every test behind it pass.

use std::time::Duration;

use anyhow::Result;
use nave_tests::{Fault, FaultProxy, S3Server, Tools};
use object_store::signer::Signer as _;

#[tokio::test]
async fn e2e_faults_are_what_they_say() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let s3 = S3Server::shared_or_start(&Tools::load()?, folder.path()).await?;
    let content: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    let bucket = format!("faults-{}", std::process::id());
    s3.put(&bucket, "weights.bin", content.clone()).await?;

    let proxy = FaultProxy::start(s3.endpoint()).await?;
    let through = s3.bucket_at(&proxy.endpoint(), &bucket)?;
    let url = through.signed_url(http::Method::GET, &"weights.bin".into(), Duration::from_secs(600)).await?;
    let get = || async {
        let answer = reqwest::get(url.clone()).await?;
        let status = answer.status().as_u16();
        Ok::<_, anyhow::Error>((status, answer.bytes().await))
    };

    let (status, body) = get().await?;
    assert_eq!((status, body?.to_vec()), (200, content.clone()), "a signed URL passes as it is");
    let again = reqwest::Client::new().get(url.clone()).header("range", "bytes=1000-1999").send().await?;
    assert_eq!((again.status().as_u16(), again.bytes().await?.to_vec()), (206, content[1000..2000].to_vec()));
    let tampered = reqwest::get(url.as_str().replace("weights", "w3ights")).await?;
    assert_eq!(tampered.status().as_u16(), 403);

    proxy.inject(Fault::Unavailable, 2, "weights");
    assert_eq!([get().await?.0, get().await?.0, get().await?.0], [503, 503, 200]);

    proxy.inject(Fault::CutAfter(100_000), 1, "weights");
    let (status, body) = get().await?;
    assert!(status == 200 && body.is_err(), "a body that was promised whole ends early");

    proxy.inject(Fault::FlipAt(150_000), 1, "weights");
    let body = get().await?.1?;
    let wrong: Vec<usize> = (0..content.len()).filter(|at| body[*at] != content[*at]).collect();
    assert_eq!(wrong, [150_000]);

    proxy.inject(Fault::StallAfter(10_000), 1, "weights");
    assert!(
        tokio::time::timeout(Duration::from_secs(1), async { get().await?.1.map_err(anyhow::Error::from) })
            .await
            .is_err()
    );

    proxy.limit(Some(200_000));
    let began = std::time::Instant::now();
    get().await?.1?;
    assert!(began.elapsed() >= Duration::from_millis(900), "200,000 bytes at 200,000 a second");

    let traffic = proxy.traffic("weights.bin");
    assert_eq!((traffic.requests, traffic.faults), (9, 5));
    Ok(())
}

/// As many as a whole run of the tests makes, and more than a small disk has GiB free.
#[tokio::test]
async fn e2e_the_s3_server_takes_fifty_buckets_on_any_disk() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let s3 = S3Server::shared_or_start(&Tools::load()?, folder.path()).await?;
    let buckets: Vec<_> = (0..50).map(|n| format!("many-{}-{n}", std::process::id())).collect();
    futures::future::try_join_all(buckets.iter().map(|bucket| s3.put(bucket, "object", "content")))
        .await
        .map(drop)
}
