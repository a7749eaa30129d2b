//! What a node does beside answering: reports, lines, files, requests, findings.

use serde::{Deserialize, Serialize};

use crate::{Image, program};

/// One report of a node's progress.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// How far.
    pub value: f64,
    /// Of how much.
    pub max: f64,
    /// What it showed.
    pub preview: Option<Image>,
}

/// A line that a node logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// How important.
    pub level: LogLevel,
    /// What it says.
    pub message: String,
}

/// Importance of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Finest.
    Trace,
    /// For developers.
    Debug,
    /// Normal.
    Info,
    /// Something is odd.
    Warn,
    /// Something failed.
    Error,
}

/// An image that a node saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    /// The prefix that it asked for, with its `%variables%`.
    pub prefix: String,
    /// Where to.
    pub folder: OutputFolder,
    /// The file: a PNG.
    #[serde(with = "crate::wire::tail")]
    pub png: Vec<u8>,
}

/// Where saved images go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputFolder {
    /// Kept.
    Output,
    /// Emptied at start.
    Temp,
}

/// An HTTP request that a node sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// `GET`, `HEAD`, `POST`, `PUT`, `PATCH`, `DELETE` or `OPTIONS`.
    pub method: String,
    /// `https://…` or `http://…`.
    pub url: String,
    /// In this order.
    pub headers: Vec<(String, String)>,
    /// Empty but for `POST`, `PUT` and `PATCH`.
    #[serde(with = "crate::wire::tail")]
    pub body: Vec<u8>,
}

/// One finding of a node's own check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The input it concerns, if one.
    pub input: Option<String>,
    /// For people.
    pub message: String,
}

impl Saved {
    /// The picture in it.
    ///
    /// # Panics
    /// When the host wrote no PNG.
    #[must_use]
    #[track_caller]
    pub fn image(&self) -> Image {
        match program::decode(self.png.clone()) {
            Ok(pixels) => Image::of(pixels),
            Err(error) => panic!("{error}"),
        }
    }
}
