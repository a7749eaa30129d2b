//! HTTP's way with files: validators, 304, one byte range, streaming. What may be served, and as what, is decided elsewhere.

use std::{
    fs::File,
    io::SeekFrom,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

/// Bytes per read of a streamed file.
const CHUNK: usize = 64 * 1024;

/// Something that can be sent, wholly or in part.
#[derive(Debug)]
pub(crate) struct Content {
    source: Source,
    len: u64,
    /// A quoted entity tag.
    etag: String,
    modified: Option<SystemTime>,
}

#[derive(Debug)]
enum Source {
    File(File),
    Bytes(Bytes),
}

impl Content {
    /// An open file. Its tag is made of time and length, as aiohttp makes it.
    pub(crate) fn file(file: File, len: u64, modified: SystemTime) -> Self {
        let nanoseconds = modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Self { source: Source::File(file), len, etag: format!("\"{nanoseconds:x}-{len:x}\""), modified: Some(modified) }
    }

    /// Bytes in memory with a tag made by the caller, without quotes.
    pub(crate) fn bytes(bytes: Bytes, tag: &str) -> Self {
        let len = bytes.len() as u64;
        Self { source: Source::Bytes(bytes), len, etag: format!("\"{tag}\""), modified: None }
    }

    /// Answers a GET or HEAD with these request headers. `headers` are added to the answer.
    pub(crate) async fn respond(self, request: &HeaderMap, headers: HeaderMap) -> Response {
        let mut response = if self.is_unchanged(request) {
            (StatusCode::NOT_MODIFIED, self.validators()).into_response()
        } else {
            match self.range(request) {
                Wanted::All => {
                    let len = self.len;
                    self.send(0, len, StatusCode::OK).await
                }
                Wanted::Part(start, length) => self.send(start, length, StatusCode::PARTIAL_CONTENT).await,
                Wanted::Nothing => {
                    let range = [(header::CONTENT_RANGE, format!("bytes */{}", self.len))];
                    return (StatusCode::RANGE_NOT_SATISFIABLE, range).into_response();
                }
            }
        };
        response.headers_mut().extend(headers);
        response
    }

    fn is_unchanged(&self, request: &HeaderMap) -> bool {
        if let Some(tags) = text(request, &header::IF_NONE_MATCH) {
            let matches = |tag: &str| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.etag;
            return tags.split(',').any(|tag| matches(tag.trim()));
        }
        let since = text(request, &header::IF_MODIFIED_SINCE).and_then(|date| httpdate::parse_http_date(date).ok());
        matches!((since, self.modified), (Some(since), Some(modified)) if whole_seconds(modified) <= whole_seconds(since))
    }

    /// What a client may ask with the next time; a 304 has them like a 200.
    fn validators(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        insert(&mut headers, header::ETAG, &self.etag);
        if let Some(modified) = self.modified {
            insert(&mut headers, header::LAST_MODIFIED, &httpdate::fmt_http_date(modified));
        }
        headers
    }

    fn range(&self, request: &HeaderMap) -> Wanted {
        let Some(range) = text(request, &header::RANGE) else { return Wanted::All };
        if let Some(condition) = text(request, &header::IF_RANGE) {
            let same_date = || {
                let date = httpdate::parse_http_date(condition).ok();
                date.is_some_and(|date| self.modified.is_some_and(|time| whole_seconds(time) == whole_seconds(date)))
            };
            if condition != self.etag && !same_date() {
                return Wanted::All;
            }
        }
        parse_range(range, self.len)
    }

    async fn send(self, start: u64, length: u64, status: StatusCode) -> Response {
        let total = self.len;
        let mut headers = self.validators();
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        if status == StatusCode::PARTIAL_CONTENT {
            let last = start + length - 1;
            insert(&mut headers, header::CONTENT_RANGE, &format!("bytes {start}-{last}/{total}"));
        }
        let body = match self.source {
            Source::Bytes(bytes) => {
                let whole = |value: u64| usize::try_from(value).unwrap_or(usize::MAX).min(bytes.len());
                Body::from(bytes.slice(whole(start)..whole(start + length)))
            }
            Source::File(file) => {
                let mut file = tokio::fs::File::from_std(file);
                if let Err(error) = file.seek(SeekFrom::Start(start)).await {
                    tracing::error!(%error, "a file that was just opened cannot be read");
                    return StatusCode::INTERNAL_SERVER_ERROR.into_response();
                }
                Body::from_stream(ReaderStream::with_capacity(file.take(length), CHUNK))
            }
        };
        (status, headers, body).into_response()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    All,
    /// Start and length; the length is at least 1.
    Part(u64, u64),
    Nothing,
}

/// One range is served, several are answered with everything (as HTTP allows), anything else with 416 (as aiohttp does).
fn parse_range(range: &str, len: u64) -> Wanted {
    let Some(range) = range.trim().strip_prefix("bytes=") else { return Wanted::Nothing };
    if range.contains(',') {
        return Wanted::All;
    }
    let part = match range.trim().split_once('-') {
        Some(("", last)) => last.parse().ok().map(|last: u64| (len.saturating_sub(last), len)),
        Some((first, "")) => first.parse().ok().map(|first| (first, len)),
        Some((first, last)) => match (first.parse::<u64>(), last.parse::<u64>()) {
            (Ok(first), Ok(last)) if first <= last => Some((first, last.saturating_add(1).min(len))),
            _ => None,
        },
        None => None,
    };
    match part {
        Some((start, end)) if start < end => Wanted::Part(start, end - start),
        _ => Wanted::Nothing,
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn whole_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(parse_range("bytes=0-3", 10), Wanted::Part(0, 4));
        assert_eq!(parse_range("bytes=4-", 10), Wanted::Part(4, 6));
        assert_eq!(parse_range("bytes=-3", 10), Wanted::Part(7, 3));
        assert_eq!(parse_range("bytes=-30", 10), Wanted::Part(0, 10));
        assert_eq!(parse_range("bytes=5-99", 10), Wanted::Part(5, 5));
        assert_eq!(parse_range("bytes=0-1,3-4", 10), Wanted::All);
        for bad in ["bytes=10-", "bytes=5-4", "bytes=-0", "bytes=x-y", "bytes=", "lines=1-2", "bytes=0-3"] {
            let len = if bad == "bytes=0-3" { 0 } else { 10 };
            assert_eq!(parse_range(bad, len), Wanted::Nothing, "{bad}");
        }
        assert_eq!(parse_range("bytes=0-18446744073709551615", 10), Wanted::Part(0, 10));
    }

    async fn answer(content: Content, pairs: &[(HeaderName, &str)]) -> (StatusCode, Vec<u8>) {
        let request = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect();
        let response = content.respond(&request, HeaderMap::new()).await;
        let status = response.status();
        (status, response.into_body().collect().await.unwrap().to_bytes().to_vec())
    }

    #[tokio::test]
    async fn a_file_is_served_whole_in_part_and_not_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, b"0123456789").unwrap();
        let modified = UNIX_EPOCH + Duration::new(1_000_000, 5);
        let content = || Content::file(File::open(&path).unwrap(), 10, modified);
        let tag = content().etag;
        assert_eq!(answer(content(), &[]).await, (StatusCode::OK, b"0123456789".to_vec()));
        assert_eq!(
            answer(content(), &[(header::RANGE, "bytes=2-4")]).await,
            (StatusCode::PARTIAL_CONTENT, b"234".to_vec())
        );
        assert_eq!(answer(content(), &[(header::RANGE, "bytes=10-")]).await.0, StatusCode::RANGE_NOT_SATISFIABLE);
        assert_eq!(answer(content(), &[(header::IF_NONE_MATCH, &tag)]).await, (StatusCode::NOT_MODIFIED, vec![]));
        let date = httpdate::fmt_http_date(modified);
        assert_eq!(answer(content(), &[(header::IF_MODIFIED_SINCE, &date)]).await.0, StatusCode::NOT_MODIFIED);
        let stale = [(header::RANGE, "bytes=2-4"), (header::IF_RANGE, "\"other\"")];
        assert_eq!(answer(content(), &stale).await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn bytes_are_served_in_part() {
        let content = || Content::bytes(Bytes::from_static(b"abc"), "tag");
        assert_eq!(
            answer(content(), &[(header::RANGE, "bytes=-1")]).await,
            (StatusCode::PARTIAL_CONTENT, b"c".to_vec())
        );
        assert_eq!(answer(content(), &[(header::IF_NONE_MATCH, "W/\"tag\"")]).await.0, StatusCode::NOT_MODIFIED);
    }
}
