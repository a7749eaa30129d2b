//! What one stream knows of another: a vector clock.

use std::collections::HashMap;

/// A stream, by its handle; 0 is the host.
pub type Stream = u64;

/// Work of a stream, counted from 1.
pub type Step = (Stream, u64);

/// The last step of every stream that is known to have happened before.
pub type Knowledge = HashMap<Stream, u64>;

/// The clocks of all streams.
#[derive(Debug, Default)]
pub struct Order {
    clocks: HashMap<Stream, Knowledge>,
}

impl Order {
    /// The next step of a stream.
    pub fn step(&mut self, stream: Stream) -> Step {
        let own = self.clocks.entry(stream).or_default();
        let count = own.entry(stream).or_insert(0);
        *count += 1;
        (stream, *count)
    }

    /// What a stream knows now, for an event.
    pub fn snapshot(&self, stream: Stream) -> Knowledge {
        self.clocks.get(&stream).cloned().unwrap_or_default()
    }

    /// A stream waits for an event, or the host for a stream.
    pub fn learn(&mut self, stream: Stream, knowledge: &Knowledge) {
        join(self.clocks.entry(stream).or_default(), knowledge);
    }

    /// A stream that is no more.
    pub fn forget(&mut self, stream: Stream) {
        self.clocks.remove(&stream);
    }

    /// The last step of a stream.
    pub fn last(&self, stream: Stream) -> Step {
        (stream, self.clocks.get(&stream).and_then(|clock| clock.get(&stream)).copied().unwrap_or(0))
    }

    /// True when the host knows that the step is done.
    pub fn knows_as_host(&self, (of, count): Step) -> bool {
        self.clocks.get(&0).and_then(|clock| clock.get(&of)).copied().unwrap_or(0) >= count
    }

    /// True when the stream knows that the step is done, or the host, which starts what comes next.
    pub fn knows(&self, stream: Stream, (of, count): Step) -> bool {
        let known = |by: Stream| self.clocks.get(&by).and_then(|clock| clock.get(&of)).copied().unwrap_or(0);
        stream == of || known(stream) >= count || known(0) >= count
    }
}

fn join(own: &mut Knowledge, other: &Knowledge) {
    for (stream, count) in other {
        let known = own.entry(*stream).or_insert(0);
        *known = (*known).max(*count);
    }
}
