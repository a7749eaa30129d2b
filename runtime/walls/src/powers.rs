//! What a process holds beside its files: capabilities, limits, and being looked into.

use caps::CapSet;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

use crate::WallsError;

pub(crate) fn give_up(descriptors: u64) -> Result<(), WallsError> {
    fn or<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> WallsError {
        move |error| WallsError::Powers { what, message: error.to_string() }
    }
    for (what, resource, limit) in [
        ("dumps of its memory", Resource::Core, 0),
        ("open files", Resource::Nofile, descriptors),
        ("message queues", Resource::Msgqueue, 0),
    ] {
        // Nobody may have more than before.
        let limit = Some(getrlimit(resource).maximum.map_or(limit, |before| before.min(limit)));
        setrlimit(resource, Rlimit { current: limit, maximum: limit }).map_err(or(what))?;
    }
    // What is not dumpable belongs to root in /proc: no other process of the same user looks into it or traces it.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(or("dumps of its memory"))?;
    // Kernels without ambient capabilities have none to clear.
    caps::clear(None, CapSet::Ambient).ok();
    // What is permitted goes last: the others are within it.
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set).map_err(or("capabilities"))?;
    }
    Ok(())
}
