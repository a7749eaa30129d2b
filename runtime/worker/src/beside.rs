//! Calls that run beside the thread of their prompt, each on a thread of its own. Everything else of a prompt stays on its
//! one thread, which takes the answers in when it gets to them.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use vivarium_sandbox::{CallContext, CallError, CallErrorKind, NodeValue, Outcome, PackComponent};

use crate::worker::STACK_BYTES;

/// Why a call runs beside its prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// It mostly waits. Many of them may; more are queued.
    Waiting,
    /// It computes. Whoever starts it counts how many do.
    Computing,
}

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
    pub(crate) lane: Lane,
    /// It ran out of memory before.
    pub(crate) is_second_try: bool,
}

impl Call {
    /// Runs on this thread.
    pub(crate) fn run(self: Arc<Self>) -> Answer {
        let start = Instant::now();
        let outcome = self.component.execute(self.context.clone(), &self.class, &self.inputs);
        Answer { took: start.elapsed(), call: self, outcome }
    }

    fn fail(self: Arc<Self>, message: impl Into<String>) -> Answer {
        let outcome = Err(CallError::new(CallErrorKind::Internal, message));
        Answer { took: Duration::ZERO, call: self, outcome }
    }
}

/// A call that ended.
pub(crate) struct Answer {
    pub(crate) call: Arc<Call>,
    pub(crate) outcome: Result<Outcome, CallError>,
    pub(crate) took: Duration,
}

/// The calls of one prompt that run beside it.
pub(crate) struct Beside {
    /// How many may wait at once.
    limit: usize,
    waiting: usize,
    computing: usize,
    queued: VecDeque<Arc<Call>>,
    sender: Sender<Answer>,
    answers: Receiver<Answer>,
    /// Stops whatever runs.
    interrupt: Arc<AtomicBool>,
}

impl Beside {
    /// At most `limit` calls wait at once; `interrupt` must be the flag in the calls' contexts.
    pub(crate) fn new(limit: usize, interrupt: Arc<AtomicBool>) -> Self {
        let (sender, answers) = channel();
        Self { limit: limit.max(1), waiting: 0, computing: 0, queued: VecDeque::new(), sender, answers, interrupt }
    }

    /// Starts a call: now, or when it waits and many do, as soon as there is room.
    pub(crate) fn start(&mut self, call: Arc<Call>) {
        match call.lane {
            Lane::Waiting => {
                self.queued.push_back(call);
                self.fill();
            }
            Lane::Computing => self.spawn(call),
        }
    }

    /// Calls that compute now.
    pub(crate) fn computing(&self) -> usize {
        self.computing
    }

    /// A call that has ended, if there is one.
    pub(crate) fn ended(&mut self) -> Option<Answer> {
        let answer = self.answers.try_recv().ok()?;
        self.left(&answer);
        Some(answer)
    }

    /// Waits for a call to end; `None` when none runs.
    pub(crate) fn wait(&mut self) -> Option<Answer> {
        if self.waiting + self.computing == 0 {
            return None;
        }
        let answer = self.answers.recv().ok()?;
        self.left(&answer);
        Some(answer)
    }

    /// Waits for a call to end, but not for longer than `patience`.
    pub(crate) fn wait_at_most(&mut self, patience: Duration) -> Option<Answer> {
        let answer = self.answers.recv_timeout(patience).ok()?;
        self.left(&answer);
        Some(answer)
    }

    /// Stops every call and waits until it has stopped. Their answers are lost.
    pub(crate) fn stop(&mut self) {
        self.queued.clear();
        if self.waiting + self.computing > 0 {
            self.interrupt.store(true, Ordering::Relaxed);
        }
        while self.wait().is_some() {}
    }

    fn left(&mut self, answer: &Answer) {
        match answer.call.lane {
            Lane::Waiting => self.waiting -= 1,
            Lane::Computing => self.computing -= 1,
        }
        self.fill();
    }

    fn fill(&mut self) {
        while self.waiting < self.limit {
            let Some(call) = self.queued.pop_front() else { return };
            self.spawn(call);
        }
    }

    fn spawn(&mut self, call: Arc<Call>) {
        match call.lane {
            Lane::Waiting => self.waiting += 1,
            Lane::Computing => self.computing += 1,
        }
        let (sender, moved) = (self.sender.clone(), call.clone());
        let thread = std::thread::Builder::new().name(format!("node-{}", call.class)).stack_size(STACK_BYTES);
        let spawned = thread.spawn(move || {
            // A defect of ours must cost one prompt, not leave it waiting for ever.
            let answer = catch_unwind(AssertUnwindSafe(|| moved.clone().run()));
            // Nobody listens when the prompt is gone already.
            let _ = sender.send(answer.unwrap_or_else(|_| moved.fail("the server failed; see its log")));
        });
        if let Err(error) = spawned {
            let _ = self.sender.send(call.fail(format!("the system refuses a thread for the node: {error}")));
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.stop();
    }
}
