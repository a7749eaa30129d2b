//! What this process logs becomes the server's log.

use std::{
    fmt::{self, Write},
    sync::Arc,
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, filter::LevelFilter, layer::Context, prelude::*};

use super::{
    super::message::{Level, ToServer},
    link::Link,
};

/// From now on. The server decides what it shows.
pub(super) fn to(link: &Arc<Link>) {
    let layer = ToLog(link.clone()).with_filter(LevelFilter::INFO);
    // A second time would be a defect that the log can't tell of.
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).ok();
}

struct ToLog(Arc<Link>);

impl<S: Subscriber> Layer<S> for ToLog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = match *event.metadata().level() {
            tracing::Level::TRACE => Level::Trace,
            tracing::Level::DEBUG => Level::Debug,
            tracing::Level::INFO => Level::Info,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::ERROR => Level::Error,
        };
        let mut text = Text::default();
        event.record(&mut text);
        self.0.send(&ToServer::Log { level, message: text.message + &text.fields }).ok();
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        match field.name() {
            "message" => write!(self.message, "{value:?}").ok(),
            name => write!(self.fields, " {name}={value:?}").ok(),
        };
    }
}
