//! What `run` and `submit` say at the end.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vivarium_protocol::error::{Invalid, NodeErrors};

use crate::{
    failure::{Exit, Failure, Outcome, fail},
    output::say,
    text::printable,
};

/// How a prompt ended.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    /// Everything ran.
    Success,
    /// Nothing ran: the prompt is not valid.
    Refused(Invalid),
    /// A node failed; the text names it and says why.
    Failed(String),
    /// Somebody stopped it.
    Interrupted,
}

/// What matters of the status in a history entry.
#[derive(Debug, Deserialize)]
pub(crate) struct HistoryStatus {
    pub(crate) status_str: String,
    #[serde(default)]
    pub(crate) messages: Vec<(String, Value)>,
}

impl Ended {
    /// Reads the end of a prompt out of its history entry.
    pub(crate) fn from_history(status: &HistoryStatus) -> Self {
        if status.status_str == "success" {
            return Self::Success;
        }
        let message = |name: &str| status.messages.iter().find(|(event, _)| event == name).map(|(_, data)| data);
        if message("execution_interrupted").is_some() {
            return Self::Interrupted;
        }
        Self::Failed(message("execution_error").map_or_else(|| "the prompt failed".to_owned(), describe))
    }
}

fn describe(error: &Value) -> String {
    let text = |key: &str| error[key].as_str().unwrap_or_default().trim();
    let (id, class) = (text("node_id"), text("node_type"));
    format!("node {id} ({class}) failed: {}: {}", text("exception_type"), text("exception_message"))
}

/// A result that is now a file here.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SavedFile {
    /// The node that made it.
    pub(crate) node: String,
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What the server or worker calls it.
    pub(crate) filename: String,
    /// The folder inside the output folder there.
    pub(crate) subfolder: String,
    /// `output` or `temp`.
    pub(crate) r#type: String,
}

/// The end of a prompt.
pub(crate) struct Report {
    /// Absent when the prompt was refused.
    pub(crate) prompt_id: Option<String>,
    pub(crate) ended: Ended,
    pub(crate) files: Vec<SavedFile>,
    /// From the start of the command.
    pub(crate) seconds: f64,
}

impl Report {
    /// Prints the saved paths, or everything as JSON, to stdout.
    ///
    /// # Errors
    /// When the prompt did not end well; the message says how.
    pub(crate) fn print(&self, as_json: bool) -> Outcome<()> {
        let result = self.result();
        if as_json {
            say!("{}", self.to_json(result.as_ref().err()));
        } else {
            self.files.iter().for_each(|file| say!("{}", file.path.display()));
            if result.is_ok() && self.files.is_empty() {
                eprintln!("the workflow ran, but saved nothing; PreviewImage makes previews only (see --previews)");
            }
        }
        result
    }

    fn result(&self) -> Outcome<()> {
        match &self.ended {
            Ended::Success => Ok(()),
            Ended::Failed(reason) => fail!(Exit::Work, "{}", printable(reason)),
            Ended::Interrupted => fail!(Exit::Interrupted, "the prompt was interrupted"),
            Ended::Refused(invalid) => {
                let mut message = format!("the workflow was refused: {}", printable(&invalid.error.to_string()));
                for line in node_error_lines(&invalid.node_errors) {
                    message.push_str("\n  ");
                    message.push_str(&printable(&line));
                }
                fail!(Exit::Work, "{message}")
            }
        }
    }

    fn to_json(&self, failure: Option<&Failure>) -> Value {
        let (status, invalid) = match &self.ended {
            Ended::Success => ("success", None),
            Ended::Failed(_) => ("error", None),
            Ended::Interrupted => ("interrupted", None),
            Ended::Refused(invalid) => ("refused", Some(invalid)),
        };
        json!({
            "prompt_id": self.prompt_id,
            "status": status,
            "error": failure.map(ToString::to_string),
            "node_errors": invalid.map(|invalid| &invalid.node_errors),
            "files": self.files,
            "seconds": self.seconds,
        })
    }
}

/// One line for every finding about a node.
pub(crate) fn node_error_lines(node_errors: &NodeErrors) -> impl Iterator<Item = String> {
    node_errors.iter().flat_map(|(id, report)| {
        report.errors.iter().map(move |error| format!("node {id} ({}): {error}", report.class_type))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused() -> Report {
        let invalid = json!({
            "error": {"type": "t", "message": "Prompt outputs failed validation", "details": "", "extra_info": {}},
            "node_errors": {"4": {"class_type": "ImageScale", "dependent_outputs": ["9"], "errors": [
                {"type": "value_smaller_than_min", "message": "Value -1 smaller than min of 0", "details": "width"},
            ]}},
        });
        let ended = Ended::Refused(serde_json::from_value(invalid).unwrap());
        Report { prompt_id: None, ended, files: Vec::new(), seconds: 0.5 }
    }

    #[test]
    fn a_refusal_names_every_node_and_input() {
        let failure = refused().result().unwrap_err();
        assert_eq!(failure.exit, Exit::Work);
        let expected = "the workflow was refused: Prompt outputs failed validation\n  \
                        node 4 (ImageScale): Value -1 smaller than min of 0: width";
        assert_eq!(failure.to_string(), expected);
    }

    #[test]
    fn the_json_report_keeps_the_findings_for_scripts() {
        let report = refused();
        let json = report.to_json(report.result().err().as_ref());
        assert_eq!(json["status"], "refused");
        assert_eq!(json["node_errors"]["4"]["errors"][0]["details"], "width");
        assert_eq!(json["files"], json!([]));
    }

    fn ended_with(status_str: &str, messages: Value) -> Ended {
        Ended::from_history(&serde_json::from_value(json!({"status_str": status_str, "messages": messages})).unwrap())
    }

    #[test]
    fn an_error_in_the_history_names_node_class_and_cause() {
        let data = json!({
            "node_id": "4", "node_type": "ImageScale", "exception_type": "ValueError", "exception_message": "too big\n",
        });
        let Ended::Failed(reason) = ended_with("error", json!([["execution_error", data]])) else { unreachable!() };
        assert_eq!(reason, "node 4 (ImageScale) failed: ValueError: too big");
    }

    #[test]
    fn an_interrupt_is_not_an_error() {
        assert!(matches!(ended_with("error", json!([["execution_interrupted", {}]])), Ended::Interrupted));
        assert!(matches!(ended_with("success", json!([])), Ended::Success));
    }
}
