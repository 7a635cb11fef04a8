//! One request on its way through the proxy: refused without asking the server where a fault says so, else passed on,
//! with a head that lies where a fault says so.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use jiff::{SignedDuration, Timestamp, civil::DateTime, fmt::rfc2822, tz::TimeZone};

use super::{Connection, Fault, Passed, Shared, body};

/// As S3 has it.
const CLOCKS_MAY_DIFFER: SignedDuration = SignedDuration::from_mins(15);
const SLOW_DOWN: &str = "<Error><Code>SlowDown</Code><Message>ordered by the test</Message></Error>";
const EXPIRED: &str = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>";
const SKEWED: &str = "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and the \
                      server's time is too large.</Message></Error>";
const ORDERED: &str = "<Error><Code>Ordered</Code><Message>ordered by the test</Message></Error>";

pub(super) async fn forward(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    let path = request.uri().path().to_owned();
    let presigned = request.uri().query().is_some_and(|query| query.contains("X-Amz-Signature="));
    let fault = if request.method() == Method::GET { shared.next_fault(&path) } else { None };
    let (latency, clock_off) = {
        let orders = shared.orders();
        (orders.latency, orders.clock_off)
    };
    tokio::time::sleep(latency + if let Some(Fault::Delay(time)) = fault { time } else { Duration::ZERO })
        .await;
    let mut response = match refusal(&request, fault, clock_off) {
        Some((status, document)) => (status, document).into_response(),
        None => match ask(&shared, request).await {
            Ok(answer) => {
                let (connection, begin) = (connection.0, begin(&answer));
                pass_on(shared, Passed { connection, path, presigned, begin, bytes: 0, fault }, answer)
            }
            Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
        },
    };
    if !clock_off.is_zero()
        && let Ok(date) =
            rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&(Timestamp::now() + clock_off))
        && let Ok(date) = HeaderValue::from_str(&date)
    {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

/// What is answered without asking the server.
fn refusal(
    request: &Request,
    fault: Option<Fault>,
    clock_off: SignedDuration,
) -> Option<(StatusCode, &'static str)> {
    match fault {
        Some(Fault::Unavailable) => return Some((StatusCode::SERVICE_UNAVAILABLE, SLOW_DOWN)),
        Some(Fault::Forbidden) => return Some((StatusCode::FORBIDDEN, EXPIRED)),
        Some(Fault::Status(code)) => {
            return Some((StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), ORDERED));
        }
        Some(
            Fault::WrongLength
            | Fault::WrongRange
            | Fault::Delay(_)
            | Fault::CutAfter(_)
            | Fault::FlipAt(_)
            | Fault::StallAfter(_),
        )
        | None => {}
    }
    let away = (signed_at(request)?.duration_since(Timestamp::now() + clock_off)).abs();
    (away > CLOCKS_MAY_DIFFER).then_some((StatusCode::FORBIDDEN, SKEWED))
}

/// When the sender says that it signed: in the query of a presigned URL, in a header otherwise.
fn signed_at(request: &Request) -> Option<Timestamp> {
    let in_query = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .find_map(|pair| pair.strip_prefix("X-Amz-Date="));
    let in_header = || request.headers().get("x-amz-date")?.to_str().ok();
    let time = DateTime::strptime("%Y%m%dT%H%M%SZ", in_query.or_else(in_header)?).ok()?;
    time.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

async fn ask(shared: &Shared, request: Request) -> anyhow::Result<reqwest::Response> {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().context("a request without a path")?;
    let mut asked = shared.client.request(parts.method.clone(), format!("{}{target}", shared.upstream));
    asked = asked.headers(parts.headers);
    // A GET with a body of unknown length would be sent in chunks, which no signature foresees.
    if parts.method != Method::GET && parts.method != Method::HEAD {
        asked = asked.body(reqwest::Body::wrap_stream(body.into_data_stream()));
    }
    asked.send().await.with_context(|| format!("asking {}", shared.upstream))
}

/// The object's first byte in an answer.
fn begin(answer: &reqwest::Response) -> u64 {
    let range = answer.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let first = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
    first.unwrap_or(0)
}

fn pass_on(shared: Arc<Shared>, passed: Passed, answer: reqwest::Response) -> Response {
    let mut response = Response::builder().status(answer.status());
    let length = answer.content_length().unwrap_or_default();
    for (name, value) in answer.headers() {
        // They are about the hop, not about the object.
        if name == header::CONNECTION || name == header::TRANSFER_ENCODING {
            continue;
        }
        response = match (name, passed.fault) {
            (&header::CONTENT_LENGTH, Some(Fault::WrongLength)) => {
                response.header(name, length.saturating_sub(1))
            }
            (&header::CONTENT_RANGE, Some(Fault::WrongRange)) => {
                response.header(name, value.to_str().unwrap_or_default().replacen("bytes ", "bytes 1", 1))
            }
            _ => response.header(name, value),
        };
    }
    let body = Body::from_stream(body::relay(shared, passed, length, answer));
    response.body(body).unwrap_or_else(|error| (StatusCode::BAD_GATEWAY, error.to_string()).into_response())
}
