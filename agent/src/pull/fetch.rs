//! One GET: sent, its answer checked against what was asked for, its body handed on piece by piece.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use nave_names::RelativePath;
use reqwest::{Client, Response, StatusCode, header};
use tokio::time::timeout;

use nave_runtime::error_text::chain;

use super::{
    PullError,
    limiter::{Limiter, Rank},
    meter::Meter,
    trouble::{Failure, Trouble, classify},
    urls::Urls,
};

/// The answer's first byte may take so many times as long as any other: the server may have to read from a slow tier.
const FIRST_BYTE: u32 = 2;
/// How much of an error document is read.
const ERROR_DOCUMENT: usize = 4 << 10;

/// What bytes are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The whole object, which has this size.
    Whole(u64),
    /// From `begin` to before `end`, of an object of this size.
    Range { begin: u64, end: u64, size: u64 },
    /// The whole object, whatever its size up to this.
    AtMost(u64),
}

/// An answer whose head is as it should be.
pub(super) struct Body<'a> {
    stream: BoxStream<'static, reqwest::Result<Bytes>>,
    /// The server sent the whole object, from its first byte.
    pub(super) whole: bool,
    /// Bytes to come; `None` = until the end.
    left: Option<u64>,
    limiter: &'a Limiter,
    meter: &'a Meter,
    rank: Rank,
    stall: Duration,
}

/// What every request of a pull needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fetcher<'a> {
    pub(super) urls: &'a Urls,
    pub(super) limiter: &'a Limiter,
    pub(super) meter: &'a Meter,
    pub(super) rank: Rank,
    /// Without a byte for this long, a connection is given up.
    pub(super) stall: Duration,
}

impl<'a> Fetcher<'a> {
    /// Sends the request and checks the head of the answer.
    pub(super) async fn get(
        &self,
        client: &Client,
        path: &RelativePath,
        part: Part,
    ) -> Result<Body<'a>, Failure> {
        self.get_if(client, path, part, None).await
    }

    /// The same, of an object that has to have this ETag.
    pub(super) async fn get_if(
        &self,
        client: &Client,
        path: &RelativePath,
        part: Part,
        e_tag: Option<&str>,
    ) -> Result<Body<'a>, Failure> {
        let url = self.urls.get(path).await?;
        let mut request = client.get(url);
        if let Some(e_tag) = e_tag {
            request = request.header(header::IF_MATCH, format!("\"{}\"", bare(e_tag)));
        }
        if let Part::Range { begin, end, .. } = part {
            request = request.header(header::RANGE, format!("bytes={begin}-{}", end - 1));
        }
        let patience = self.stall * FIRST_BYTE;
        let response = tokio::select! {
            response = timeout(patience, request.send()) => response,
            () = self.limiter.closed() => return Err(Trouble::WindowClosed.into()),
        };
        let response = response.map_err(|_| Trouble::Stalled(patience))?.map_err(failed_connection)?;
        let (whole, left) = match response.status() {
            StatusCode::OK => (true, check_whole(path, &response, part)?),
            StatusCode::PARTIAL_CONTENT => (false, Some(check_range(path, &response, part)?)),
            status => return Err(refusal(path, response, status, self.stall).await),
        };
        // Not every server heeds If-Match.
        let sent = response.headers().get(header::ETAG).and_then(|value| value.to_str().ok());
        if let (Some(e_tag), Some(sent)) = (e_tag, sent)
            && bare(e_tag) != bare(sent)
        {
            return Err(broken(
                path,
                format!("was changed while it was pulled: its ETag is {sent}, and was {e_tag}"),
            ));
        }
        let Self { limiter, meter, rank, stall, .. } = *self;
        Ok(Body { stream: response.bytes_stream().boxed(), whole, left, limiter, meter, rank, stall })
    }
}

impl Body<'_> {
    /// The next piece, or `None` after the last one. Waits as the site's bandwidth asks.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Trouble> {
        if self.left == Some(0) {
            return Ok(None);
        }
        let next = tokio::select! {
            biased;
            () = self.limiter.closed() => return Err(Trouble::WindowClosed),
            next = timeout(self.stall, self.stream.next()) => next.map_err(|_| Trouble::Stalled(self.stall))?,
        };
        let piece = match next {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return Err(failed_connection(error)),
            None => return self.left.map_or(Ok(None), |missing| Err(Trouble::Short { missing })),
        };
        let length = piece.len() as u64;
        self.meter.fetched(length, !self.whole);
        if let Some(left) = &mut self.left {
            *left = left
                .checked_sub(length)
                .ok_or_else(|| Trouble::Wrong("more bytes than announced".to_owned()))?;
        }
        tokio::select! {
            () = self.limiter.spend(self.rank, length) => {}
            // This piece is here; the connection ends before the next one.
            () = self.limiter.closed() => {}
        }
        Ok(Some(piece))
    }
}

fn check_whole(path: &RelativePath, response: &Response, part: Part) -> Result<Option<u64>, Failure> {
    let announced = response.content_length();
    match part {
        Part::AtMost(limit) => match announced {
            Some(length) if length > limit => {
                Err(broken(path, format!("has {length} bytes, more than the {limit} it may have")))
            }
            announced => Ok(announced),
        },
        Part::Whole(size) | Part::Range { size, .. } => match announced {
            Some(length) if length != size => {
                Err(broken(path, format!("has {length} bytes instead of {size}: it was changed")))
            }
            _ => Ok(Some(size)),
        },
    }
}

fn check_range(path: &RelativePath, response: &Response, part: Part) -> Result<u64, Failure> {
    let Part::Range { begin, end, size } = part else {
        return Err(Trouble::Wrong("status 206 although no range was asked for".to_owned()).into());
    };
    let head = response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let Some((first, last, total)) = head.and_then(parse_content_range) else {
        return Err(Trouble::Wrong(format!("Content-Range {head:?}")).into());
    };
    if total != size {
        return Err(broken(path, format!("has {total} bytes instead of {size}: it was changed")));
    }
    if first != begin || last < first || last >= end {
        return Err(Trouble::Wrong(format!("bytes {first}-{last} instead of {begin}-{}", end - 1)).into());
    }
    let length = last + 1 - first;
    if response.content_length().is_some_and(|announced| announced != length) {
        return Err(Trouble::Wrong("Content-Length and Content-Range disagree".to_owned()).into());
    }
    Ok(length)
}

/// An ETag without its quotes, which some lists leave out.
fn bare(e_tag: &str) -> &str {
    e_tag.trim_start_matches("W/").trim_matches('"')
}

/// `bytes 0-9/100`
fn parse_content_range(value: &str) -> Option<(u64, u64, u64)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?, total.parse().ok()?))
}

fn broken(path: &RelativePath, what: String) -> Failure {
    Failure::Stop(PullError::VersionBroken { object: path.to_string(), what })
}

async fn refusal(path: &RelativePath, response: Response, status: StatusCode, stall: Duration) -> Failure {
    // The head decides; the body only adds words, so its own troubles are of no interest.
    let (head, mut body) = split(response);
    let mut document = Vec::new();
    while document.len() < ERROR_DOCUMENT
        && let Ok(Some(Ok(piece))) = timeout(stall, body.next()).await
    {
        document.extend_from_slice(&piece);
    }
    classify(path.as_str(), &head, status, &String::from_utf8_lossy(&document), jiff::Timestamp::now())
}

fn split(response: Response) -> (http::HeaderMap, BoxStream<'static, reqwest::Result<Bytes>>) {
    (response.headers().clone(), response.bytes_stream().boxed())
}

/// A connection that failed, with everything below it, and without the URL, which is a secret.
fn failed_connection(error: reqwest::Error) -> Trouble {
    let error = error.without_url();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        // An I/O error keeps what it wraps apart from its source.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = wrapped.map_or_else(|| error.downcast_ref(), |wrapped| wrapped.downcast_ref());
        if let Some(rustls::Error::InvalidCertificate(why)) = tls {
            return Trouble::Untrusted(why.to_string());
        }
        cause = error.source();
    }
    Trouble::Connection(chain(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_or_refused() {
        assert_eq!(parse_content_range("bytes 0-9/100"), Some((0, 9, 100)));
        for bad in ["bytes */100", "bytes 0-9/*", "0-9/100", "bytes 9/100", "bytes -1-9/100"] {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
    }

    fn body<'a>(limiter: &'a Limiter, meter: &'a Meter, left: u64) -> Body<'a> {
        let stream = futures::stream::iter([Ok(Bytes::from_static(b"12345"))]).boxed();
        let rank = Rank { priority: crate::pull::Priority::Serve, size: 1 };
        Body { stream, whole: false, left: Some(left), limiter, meter, rank, stall: Duration::from_secs(15) }
    }

    #[tokio::test]
    async fn a_body_ends_where_it_should_and_when_the_window_does() {
        let limiter = Limiter::new(8);
        let meter = Meter::new(tokio::sync::watch::channel(crate::pull::Progress::default()).0);
        let mut right = body(&limiter, &meter, 5);
        assert_eq!(right.next().await, Ok(Some(Bytes::from_static(b"12345"))));
        assert_eq!(right.next().await, Ok(None));
        let more = body(&limiter, &meter, 4).next().await;
        assert!(matches!(&more, Err(Trouble::Wrong(what)) if what.contains("more bytes")), "{more:?}");
        let mut less = body(&limiter, &meter, 7);
        less.next().await.unwrap();
        assert_eq!(less.next().await, Err(Trouble::Short { missing: 2 }));
        limiter.set_limits(&crate::pull::recovery::tests::closed());
        assert_eq!(body(&limiter, &meter, 5).next().await, Err(Trouble::WindowClosed));
    }

    #[tokio::test]
    async fn the_signature_in_a_url_is_in_no_words() {
        rustls::crypto::ring::default_provider().install_default().ok();
        let failed = Client::new().get("http://127.0.0.1:1/model.bin?X-Amz-Signature=secret").send().await;
        let trouble = failed_connection(failed.unwrap_err());
        let words = format!("{trouble} {trouble:?}");
        assert!(words.contains("onnect") && !words.contains("secret"), "{words}");
    }
}
