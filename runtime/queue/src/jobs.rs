//! A prompt as the newer job list (`GET /jobs`) shows it. Pure: made from a queue item or a history entry.
//!
//! The summary of an ended prompt is made once, when it ends, and stored beside it, so that a list of sixty jobs does not
//! read sixty workflows.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use vivarium_protocol::history::{HistoryEntry, Status, WireNumber};

/// Kinds of output that a list can show a picture or player for.
const PREVIEWABLE: [&str; 6] = ["images", "gifs", "video", "videos", "audio", "3d"];

/// Where a prompt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptState {
    /// It waits.
    Pending,
    /// It runs.
    InProgress,
    /// It ended well.
    Completed,
    /// It ended with an error.
    Failed,
    /// It was interrupted.
    Cancelled,
}

impl PromptState {
    /// All states.
    pub const ALL: [Self; 5] = [Self::Pending, Self::InProgress, Self::Completed, Self::Failed, Self::Cancelled];

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// How an ended prompt ended.
    #[must_use]
    pub fn of_entry(entry: &HistoryEntry) -> Self {
        let Some(status) = &entry.status else { return Self::Failed };
        if status.messages.iter().any(|(name, _)| name == "execution_interrupted") {
            Self::Cancelled
        } else if status.status_str == "success" && status.completed {
            Self::Completed
        } else {
            Self::Failed
        }
    }
}

/// A line of the job list. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The prompt's id.
    pub id: String,
    /// Where it stands.
    pub status: PromptState,
    /// When it was queued.
    pub create_time: i64,
    /// When it was last begun.
    pub execution_start_time: Option<i64>,
    /// When it ended.
    pub execution_end_time: Option<i64>,
    /// The data of its `execution_error`.
    pub execution_error: Option<Value>,
    /// How many files its nodes made.
    pub outputs_count: u64,
    /// How many of them can be previewed.
    pub previewable_outputs_count: u64,
    /// The file to show, with `nodeId` and `mediaType`: a saved one rather than a temporary one.
    pub preview_output: Option<Value>,
    /// The id inside the workflow that came along.
    pub workflow_id: Option<String>,
    /// Its number in the queue.
    pub priority: WireNumber,
}

/// Everything about one job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobDetail {
    /// What the list shows.
    #[serde(flatten)]
    pub job: Job,
    /// `ui` by node.
    pub outputs: Map<String, Value>,
    /// `{prompt, extra_data}`, without secrets.
    pub workflow: Value,
    /// How it ended, with messages.
    pub execution_status: Option<Status>,
}

/// Which jobs to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only these states; empty means all.
    pub states: Vec<PromptState>,
    /// Only jobs of this workflow.
    pub workflow_id: Option<String>,
    /// At most so many.
    pub limit: Option<u64>,
    /// Pass over so many first.
    pub offset: u64,
    /// By creation time upwards instead of the newest first.
    pub oldest_first: bool,
}

impl JobFilter {
    pub(crate) fn wants(&self, state: PromptState) -> bool {
        self.states.is_empty() || self.states.contains(&state)
    }
}

/// Some jobs out of many.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// Which ones they are.
    pub pagination: Pagination,
}

/// Which part of a list this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pagination {
    /// Jobs passed over.
    pub offset: u64,
    /// The limit asked for.
    pub limit: Option<u64>,
    /// Jobs that match.
    pub total: u64,
    /// Whether more follow.
    pub has_more: bool,
}

impl Job {
    /// The line of an ended prompt.
    #[must_use]
    pub fn of_entry(entry: &HistoryEntry, create_time: i64) -> Self {
        let messages = entry.status.as_ref().map_or(&[][..], |status| &status.messages);
        let message = |name: &str| messages.iter().find(|(event, _)| event == name).map(|(_, data)| data);
        let time = |data: Option<&Value>| data.and_then(|data| data.get("timestamp")).and_then(Value::as_i64);
        let ends = ["execution_success", "execution_error", "execution_interrupted"];
        let outputs = OutputsSummary::of(&entry.outputs);
        Self {
            id: entry.prompt.prompt_id.clone(),
            status: PromptState::of_entry(entry),
            create_time,
            execution_start_time: time(message("execution_start")),
            execution_end_time: ends.into_iter().find_map(|name| time(message(name))),
            execution_error: message("execution_error").cloned(),
            outputs_count: outputs.count,
            previewable_outputs_count: outputs.previewable,
            preview_output: outputs.preview,
            workflow_id: workflow_id(&entry.prompt.extra_data),
            priority: WireNumber(entry.prompt.number),
        }
    }
}

/// `extra_data.extra_pnginfo.workflow.id`.
pub(crate) fn workflow_id(extra_data: &Map<String, Value>) -> Option<String> {
    Some(extra_data.get("extra_pnginfo")?.get("workflow")?.get("id")?.as_str()?.to_owned())
}

/// `extra_data.create_time`, if it is a usable number.
pub(crate) fn create_time(extra_data: &Map<String, Value>) -> Option<i64> {
    let value = extra_data.get("create_time")?;
    value.as_i64().or_else(|| value.as_f64().filter(|time| time.abs() < 1e15).map(|time| time as i64))
}

#[derive(Default)]
struct OutputsSummary {
    count: u64,
    previewable: u64,
    preview: Option<Value>,
}

impl OutputsSummary {
    fn of(outputs: &Map<String, Value>) -> Self {
        let mut summary = Self::default();
        let mut preview_is_saved = false;
        for (node, ui) in outputs {
            for (media, files) in ui.as_object().into_iter().flatten() {
                for file in files.as_array().into_iter().flatten().filter_map(Value::as_object) {
                    if !file.contains_key("filename") {
                        continue;
                    }
                    summary.count += 1;
                    if !PREVIEWABLE.contains(&media.as_str()) {
                        continue;
                    }
                    summary.previewable += 1;
                    let is_saved = file.get("type").and_then(Value::as_str) == Some("output");
                    if summary.preview.is_none() || (is_saved && !preview_is_saved) {
                        preview_is_saved = is_saved;
                        let mut preview = file.clone();
                        preview.insert("nodeId".to_owned(), json!(node));
                        preview.insert("mediaType".to_owned(), json!(media));
                        summary.preview = Some(Value::Object(preview));
                    }
                }
            }
        }
        summary
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use vivarium_protocol::history::QueueItem;

    use super::*;

    fn entry(status_str: &str, messages: Vec<(&str, Value)>, outputs: Value) -> HistoryEntry {
        let extra_data = json!({"extra_pnginfo": {"workflow": {"id": "w"}}});
        HistoryEntry {
            prompt: QueueItem {
                number: 2.0,
                prompt_id: "p".to_owned(),
                prompt: json!({}),
                extra_data: extra_data.as_object().unwrap().clone(),
                outputs: vec![],
            },
            outputs: outputs.as_object().unwrap().clone(),
            status: Some(Status {
                status_str: status_str.to_owned(),
                completed: status_str == "success",
                messages: messages.into_iter().map(|(name, data)| (name.to_owned(), data)).collect(),
            }),
            meta: Map::new(),
        }
    }

    #[test]
    fn the_preview_is_a_saved_image_rather_than_a_temporary_one() {
        let outputs = json!({
            "1": {"images": [{"filename": "t.png", "subfolder": "", "type": "temp"}], "animated": [false], "text": ["x"]},
            "2": {"images": [{"filename": "o.png", "subfolder": "", "type": "output"}]},
            "3": {"latents": [{"filename": "l.latent", "subfolder": "", "type": "output"}]},
        });
        let messages =
            vec![("execution_start", json!({"timestamp": 5})), ("execution_success", json!({"timestamp": 9}))];
        let job = Job::of_entry(&entry("success", messages, outputs), 1);
        assert_eq!((job.outputs_count, job.previewable_outputs_count), (3, 2));
        assert_eq!((job.execution_start_time, job.execution_end_time), (Some(5), Some(9)));
        let shown = serde_json::to_value(&job).unwrap();
        assert_eq!(
            shown["preview_output"],
            json!({"filename": "o.png", "subfolder": "", "type": "output", "nodeId": "2", "mediaType": "images"})
        );
        assert_eq!(
            (&shown["status"], &shown["priority"], &shown["workflow_id"]),
            (&json!("completed"), &json!(2), &json!("w"))
        );
        assert_eq!(serde_json::from_value::<Job>(shown).unwrap(), job);
    }

    #[test]
    fn an_interrupt_is_a_cancel_and_an_error_keeps_its_data() {
        let interrupted = entry("error", vec![("execution_interrupted", json!({"timestamp": 3}))], json!({}));
        assert_eq!(Job::of_entry(&interrupted, 0).status, PromptState::Cancelled);
        let failed = entry("error", vec![("execution_error", json!({"node_id": "4"}))], json!({}));
        let job = Job::of_entry(&failed, 0);
        assert_eq!((job.status, job.execution_error), (PromptState::Failed, Some(json!({"node_id": "4"}))));
    }
}
