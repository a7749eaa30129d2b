//! Shows how far a prompt is: a bar on a terminal, plain lines elsewhere. Everything goes to stderr, results go to stdout.

use std::{
    collections::HashSet,
    io::{IsTerminal, stderr},
};

use indicatif::{ProgressBar, ProgressStyle};
use vivarium_protocol::event::{Event, NodeState};

use crate::workflow::Workflow;

/// Follows the events of one prompt.
pub(crate) struct Progress {
    view: View,
    workflow: Workflow,
    finished: HashSet<String>,
    current: Option<String>,
    /// The last quarter of the current node that was printed as a line.
    quarter: u32,
}

enum View {
    Bar(ProgressBar),
    Lines,
    Silent,
}

impl Progress {
    /// A display for a prompt of these nodes; none at all if `quiet`.
    pub(crate) fn new(workflow: &Workflow, quiet: bool) -> Self {
        let view = match (quiet, stderr().is_terminal()) {
            (true, _) => View::Silent,
            (false, true) => View::Bar(bar(workflow.nodes.len())),
            (false, false) => View::Lines,
        };
        Self { view, workflow: workflow.clone(), finished: HashSet::new(), current: None, quarter: 0 }
    }

    /// Prints a line for people, above the bar if there is one.
    pub(crate) fn note(&self, text: &str) {
        let text = crate::text::printable(text);
        match &self.view {
            View::Bar(bar) => bar.suspend(|| eprintln!("{text}")),
            View::Lines => eprintln!("{text}"),
            View::Silent => {}
        }
    }

    /// Takes in what the worker or server reports about the prompt.
    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::Status(status) if self.finished.is_empty() && self.current.is_none() => {
                let queued = status.status.exec_info.queue_remaining;
                if queued > 1 {
                    self.message(&format!("waiting, {queued} prompts in the queue"));
                }
            }
            Event::ExecutionCached { nodes, .. } if !nodes.is_empty() => {
                nodes.iter().for_each(|node| self.finish(node));
                self.note(&format!("{} of {} nodes are cached", nodes.len(), self.workflow.nodes.len()));
            }
            Event::Executing(executing) => self.begin(executing.display_node.as_ref().or(executing.node.as_ref())),
            Event::Progress { value, max, node, .. } => self.node_progress(node, *value, *max),
            Event::ProgressState { nodes, .. } => {
                let finished = nodes.values().filter(|node| node.state == NodeState::Finished);
                finished.for_each(|node| self.finish(&node.node_id));
            }
            _ => {}
        }
    }

    /// Removes the bar, so that what follows starts on a clean line.
    pub(crate) fn end(&self) {
        if let View::Bar(bar) = &self.view {
            bar.finish_and_clear();
        }
    }

    fn begin(&mut self, node: Option<&String>) {
        if let Some(previous) = self.current.take() {
            self.finish(&previous);
        }
        let Some(node) = node else { return };
        self.current = Some(node.clone());
        self.quarter = 0;
        let label = self.workflow.label(node);
        match &self.view {
            View::Bar(bar) => bar.set_message(label),
            View::Lines => eprintln!("[{}/{}] {label}", self.finished.len() + 1, self.workflow.nodes.len()),
            View::Silent => {}
        }
    }

    fn node_progress(&mut self, node: &str, value: f64, max: f64) {
        let share = if max > 0.0 { (value / max).clamp(0.0, 1.0) } else { 0.0 };
        let label = self.workflow.label(node);
        match &self.view {
            View::Bar(bar) => bar.set_message(format!("{label}: {value} of {max}")),
            View::Lines => {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 4")]
                let quarter = (share * 4.0) as u32;
                if quarter > self.quarter {
                    self.quarter = quarter;
                    eprintln!("      {label}: {}%", quarter * 25);
                }
            }
            View::Silent => {}
        }
    }

    fn finish(&mut self, node: &str) {
        // Nodes that an expansion made are not part of the total.
        let is_new = self.workflow.nodes.contains_key(node) && self.finished.insert(node.to_owned());
        if let View::Bar(bar) = &self.view
            && is_new
        {
            bar.set_position(self.finished.len() as u64);
        }
    }

    fn message(&self, text: &str) {
        match &self.view {
            View::Bar(bar) => bar.set_message(text.to_owned()),
            View::Lines => eprintln!("{text}"),
            View::Silent => {}
        }
    }
}

fn bar(nodes: usize) -> ProgressBar {
    let bar = ProgressBar::new(nodes as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} nodes  {elapsed}  {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar
}
