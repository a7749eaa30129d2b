//! Calls that run beside the rest of their prompt, for nodes that mostly wait: each on a thread of its own, a bounded number
//! at a time. Everything else of a prompt stays on its one thread, which takes the answers in when it gets to them.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
};

use vivarium_sandbox::{CallContext, CallError, CallErrorKind, NodeValue, Outcome, PackComponent};

use crate::worker::STACK_BYTES;

/// One call of a node.
pub(crate) struct Call {
    pub(crate) node: String,
    /// Which of the node's calls, when it runs once per element of a list.
    pub(crate) index: usize,
    pub(crate) component: Arc<PackComponent>,
    pub(crate) class: String,
    pub(crate) context: CallContext,
    /// A map from input name to value.
    pub(crate) inputs: NodeValue,
    /// It ran out of memory before.
    pub(crate) is_second_try: bool,
}

impl Call {
    pub(crate) fn run(&self) -> Result<Outcome, CallError> {
        self.component.execute(self.context.clone(), &self.class, &self.inputs)
    }
}

/// A call that ended.
pub(crate) struct Answer {
    pub(crate) call: Arc<Call>,
    pub(crate) outcome: Result<Outcome, CallError>,
}

/// The calls of one prompt that run beside it.
pub(crate) struct Beside {
    limit: usize,
    running: usize,
    queued: VecDeque<Arc<Call>>,
    sender: Sender<Answer>,
    answers: Receiver<Answer>,
    /// Stops whatever runs.
    interrupt: Arc<AtomicBool>,
}

impl Beside {
    /// At most `limit` calls run at once; `interrupt` must be the flag in the calls' contexts.
    pub(crate) fn new(limit: usize, interrupt: Arc<AtomicBool>) -> Self {
        let (sender, answers) = channel();
        Self { limit: limit.max(1), running: 0, queued: VecDeque::new(), sender, answers, interrupt }
    }

    /// Starts a call now, or as soon as there is room.
    pub(crate) fn start(&mut self, call: Call) {
        self.queued.push_back(Arc::new(call));
        self.fill();
    }

    /// A call that has ended, if there is one.
    pub(crate) fn ended(&mut self) -> Option<Answer> {
        let answer = self.answers.try_recv().ok()?;
        self.left();
        Some(answer)
    }

    /// Waits for a call to end; `None` when none runs.
    pub(crate) fn wait(&mut self) -> Option<Answer> {
        if self.running == 0 {
            return None;
        }
        let answer = self.answers.recv().ok()?;
        self.left();
        Some(answer)
    }

    /// Stops every call and waits until it has stopped. Their answers are lost.
    pub(crate) fn stop(&mut self) {
        self.queued.clear();
        if self.running > 0 {
            self.interrupt.store(true, Ordering::Relaxed);
        }
        while self.wait().is_some() {}
    }

    fn left(&mut self) {
        self.running -= 1;
        self.fill();
    }

    fn fill(&mut self) {
        while self.running < self.limit {
            let Some(call) = self.queued.pop_front() else { return };
            self.running += 1;
            let (sender, moved) = (self.sender.clone(), call.clone());
            let thread = std::thread::Builder::new().name(format!("node-{}", call.class)).stack_size(STACK_BYTES);
            let spawned = thread.spawn(move || {
                // A defect of ours must cost one prompt, not leave it waiting for ever.
                let outcome = catch_unwind(AssertUnwindSafe(|| moved.run()));
                let outcome = outcome.unwrap_or_else(|_| Err(internal("the server failed; see its log")));
                // Nobody listens when the prompt is gone already.
                let _ = sender.send(Answer { call: moved, outcome });
            });
            if let Err(error) = spawned {
                let outcome = Err(internal(format!("the system refuses a thread for the node: {error}")));
                let _ = self.sender.send(Answer { call, outcome });
            }
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.stop();
    }
}

fn internal(message: impl Into<String>) -> CallError {
    CallError::new(CallErrorKind::Internal, message)
}
