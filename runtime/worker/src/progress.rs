//! What clients see of a running prompt: `progress_state`, `progress`, previews, texts. One tracker per prompt.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use indexmap::IndexMap;
use parking_lot::Mutex;
use vivarium_image_codec::encode_jpeg;
use vivarium_protocol::{
    event::{Event, NodeState, ProgressNode},
    frame::{ImageType, PreviewMetadata},
    tenant::TenantId,
};
use vivarium_sandbox::PreviewPixels;

use crate::{
    config::PreviewSettings,
    events::{EventSink, Message, Target},
};

/// ComfyUI sends every node so far with each message, at the start and at the end of each node, which is quadratic. Up to this
/// many nodes so do we. Beyond it, messages leave out finished nodes and such that wait for their expansions, and the end of
/// one node is told with the beginning of the next.
const FULL_STATE_NODES: usize = 32;
/// A node that reports faster than this is heard at this rate; its last report of 100 % always gets through.
const REPORT_INTERVAL: Duration = Duration::from_millis(20);
/// As ComfyUI encodes previews.
const PREVIEW_QUALITY: u8 = 95;
const PREVIEW_INTERVAL: Duration = Duration::from_millis(100);

/// Where a node stands in its prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodePlace {
    pub(crate) node_id: String,
    pub(crate) display_id: String,
    pub(crate) parent_id: Option<String>,
    pub(crate) real_id: String,
}

pub(crate) struct ProgressTracker {
    tenant: TenantId,
    prompt_id: String,
    client_id: Option<String>,
    sink: Arc<dyn EventSink>,
    preview: PreviewSettings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    nodes: IndexMap<String, ProgressNode>,
    /// What runs, by id; the last one is what started last.
    running: IndexMap<String, RunningNode>,
    last_preview: Option<Instant>,
    /// There were more than [`FULL_STATE_NODES`] nodes.
    lean: bool,
    /// Ends of nodes that were not sent yet.
    untold: Vec<String>,
    /// What runs last in another process, as clients see it.
    elsewhere: Option<String>,
}

struct RunningNode {
    place: NodePlace,
    last_report: Option<Instant>,
    last_text: Option<Instant>,
    /// The newest text that came too early; told at the node's end if none comes after it.
    kept_text: Option<String>,
}

impl ProgressTracker {
    pub(crate) fn new(
        tenant: TenantId,
        prompt_id: String,
        client_id: Option<String>,
        sink: Arc<dyn EventSink>,
        preview: PreviewSettings,
    ) -> Self {
        Self { tenant, prompt_id, client_id, sink, preview, state: Mutex::default() }
    }

    /// Sends to the prompt's client; nobody gets it when the prompt has none.
    pub(crate) fn to_client(&self, event: Event) {
        if let Some(client) = &self.client_id {
            self.sink.send(&self.tenant, Target::Client(client.clone()), Message::Event(event));
        }
    }

    /// Sends to the prompt's client, or to every socket of the tenant when the prompt has none.
    pub(crate) fn to_client_or_tenant(&self, event: Event) {
        self.sink.send(&self.tenant, self.target(), Message::Event(event));
    }

    fn target(&self) -> Target {
        self.client_id.clone().map_or(Target::Tenant, Target::Client)
    }

    /// What runs now, as clients see it.
    pub(crate) fn current_display(&self) -> Option<String> {
        let state = self.state.lock();
        state.running.last().map(|(_, node)| node.place.display_id.clone()).or_else(|| state.elsewhere.clone())
    }

    /// Sends what the tracker of another process would have sent.
    pub(crate) fn relay(&self, to_client: bool, message: Message) {
        if let Message::Event(Event::ProgressState { nodes, .. }) = &message {
            let last = nodes.values().rev().find(|node| node.state == NodeState::Running);
            self.state.lock().elsewhere = last.map(|node| node.display_node_id.clone());
        }
        match (to_client, &self.client_id) {
            (true, Some(client)) => self.sink.send(&self.tenant, Target::Client(client.clone()), message),
            (true, None) => {}
            (false, _) => self.sink.send(&self.tenant, self.target(), message),
        }
    }

    pub(crate) fn start(&self, place: &NodePlace) {
        let mut state = self.state.lock();
        state.running.shift_remove(&place.node_id);
        state.running.insert(
            place.node_id.clone(),
            RunningNode { place: place.clone(), last_report: None, last_text: None, kept_text: None },
        );
        let known = state.nodes.get(&place.node_id).is_some_and(|node| node.state == NodeState::Running);
        if !known {
            state.nodes.insert(place.node_id.clone(), self.node(place, 0.0, 1.0, NodeState::Running));
        }
        self.send_state(&mut state, &place.node_id);
    }

    pub(crate) fn finish(&self, place: &NodePlace) {
        let mut state = self.state.lock();
        if let Some(text) = state.running.shift_remove(&place.node_id).and_then(|node| node.kept_text) {
            self.send_text(place, text);
        }
        let known = state.nodes.get(&place.node_id);
        if known.is_some_and(|node| node.state == NodeState::Finished) {
            // It ran ahead of its turn, and its end was told then.
            return;
        }
        let max = known.map_or(1.0, |node| node.max);
        state.nodes.insert(place.node_id.clone(), self.node(place, max, max, NodeState::Finished));
        if state.lean && state.untold.len() < FULL_STATE_NODES {
            state.untold.push(place.node_id.clone());
        } else {
            self.send_state(&mut state, &place.node_id);
        }
    }

    /// Tells what was kept back; before the prompt waits or ends.
    pub(crate) fn tell(&self) {
        let mut state = self.state.lock();
        if let Some(last) = state.untold.pop() {
            self.send_state(&mut state, &last);
        }
    }

    /// A node no longer runs but waits: for its inputs, or for the nodes it expanded into.
    pub(crate) fn park(&self, node_id: &str) {
        self.state.lock().running.shift_remove(node_id);
    }

    /// A guest's own report; the host knows which node it is.
    pub(crate) fn report(&self, node_id: &str, value: f64, max: f64, preview: Option<PreviewPixels>) {
        let mut state = self.state.lock();
        let Some(running) = state.running.get_mut(node_id) else { return };
        let early = running.last_report.is_some_and(|last| last.elapsed() < REPORT_INTERVAL);
        let is_told = !early || value >= max || preview.is_some();
        if is_told {
            running.last_report = Some(Instant::now());
        }
        let place = running.place.clone();
        if let Some(node) = state.nodes.get_mut(node_id) {
            node.value = value;
            node.max = max;
        }
        if !is_told {
            return;
        }
        self.send_state(&mut state, node_id);
        if let Some(pixels) = preview {
            state.last_preview = Some(Instant::now());
            self.send_preview(&place, pixels);
        }
        let event = Event::Progress { value, max, prompt_id: self.prompt_id.clone(), node: place.display_id };
        self.to_client_or_tenant(event);
    }

    /// A text beside a running node.
    pub(crate) fn report_text(&self, node_id: &str, text: String) {
        let mut state = self.state.lock();
        let Some(running) = state.running.get_mut(node_id) else { return };
        if running.last_text.is_some_and(|last| last.elapsed() < REPORT_INTERVAL) {
            running.kept_text = Some(text);
            return;
        }
        running.last_text = Some(Instant::now());
        running.kept_text = None;
        self.send_text(&running.place, text);
    }

    fn send_text(&self, place: &NodePlace, text: String) {
        let message = Message::Text { node_id: place.display_id.clone(), text };
        self.sink.send(&self.tenant, self.target(), message);
    }

    pub(crate) fn wants_preview(&self) -> bool {
        self.preview.enabled && self.state.lock().last_preview.is_none_or(|last| last.elapsed() >= PREVIEW_INTERVAL)
    }

    fn node(&self, place: &NodePlace, value: f64, max: f64, state: NodeState) -> ProgressNode {
        ProgressNode {
            value,
            max,
            state,
            node_id: place.node_id.clone(),
            prompt_id: self.prompt_id.clone(),
            display_node_id: place.display_id.clone(),
            parent_node_id: place.parent_id.clone(),
            real_node_id: place.real_id.clone(),
        }
    }

    fn send_state(&self, state: &mut State, changed: &str) {
        state.lean |= state.nodes.len() > FULL_STATE_NODES;
        if state.lean {
            let State { nodes, running, untold, .. } = state;
            nodes.retain(|id, _| id == changed || running.contains_key(id) || untold.contains(id));
        }
        state.untold.clear();
        let event = Event::ProgressState { prompt_id: self.prompt_id.clone(), nodes: state.nodes.clone() };
        self.to_client_or_tenant(event);
    }

    fn send_preview(&self, place: &NodePlace, pixels: PreviewPixels) {
        let encoded = vivarium_image_codec::preview(&pixels.rgb, pixels.width, pixels.height, 3, self.preview.max_size)
            .and_then(|scaled| encode_jpeg(&scaled.pixels, scaled.width, scaled.height, 3, PREVIEW_QUALITY));
        let image = match encoded {
            Ok(image) => image,
            Err(error) => {
                tracing::warn!(node = place.node_id, %error, "a preview cannot be encoded");
                return;
            }
        };
        let metadata = PreviewMetadata {
            node_id: place.node_id.clone(),
            prompt_id: self.prompt_id.clone(),
            display_node_id: place.display_id.clone(),
            parent_node_id: place.parent_id.clone(),
            real_node_id: place.real_id.clone(),
            image_type: ImageType::Jpeg,
        };
        let message = Message::Preview { image: image.into(), image_type: ImageType::Jpeg, metadata };
        self.sink.send(&self.tenant, self.target(), message);
    }
}
