//! Streams and events of a device, what the host has waited for, and copies from and to its page-locked memory, which depend on that.

use crate::device::{Answer, Device, Event, ILLEGAL_ADDRESS, INVALID_HANDLE, INVALID_VALUE, NOT_READY, Registry};
use crate::order::{Knowledge, Stream};
use parking_lot::MutexGuard;
use std::time::Instant;

impl Device {
    pub fn new_stream(&self) -> Answer<Stream> {
        self.check()?;
        let handle = self.handle();
        self.registry.lock().streams.push(handle);
        Ok(handle)
    }

    /// Its work may still be under way, and is known no longer.
    pub fn drop_stream(&self, stream: Stream) -> Answer<()> {
        let mut registry = self.registry.lock();
        registry.streams.retain(|other| *other != stream);
        registry.order.forget(stream);
        Ok(())
    }

    /// The host has waited.
    fn host_learns(&self, mut registry: MutexGuard<'_, Registry>, knowledge: &Knowledge) {
        registry.waits += 1;
        registry.pool.trim_by_itself();
        registry.order.learn(0, knowledge);
        let Registry { pinned, order, .. } = &mut *registry;
        let problems = pinned.settle(order);
        drop(registry);
        self.mistakes(problems);
    }

    fn mistakes(&self, problems: Vec<String>) {
        problems.into_iter().for_each(|problem| self.mistake(ILLEGAL_ADDRESS, problem));
    }

    /// How often the host waited for the device.
    pub fn waits(&self) -> u64 {
        self.registry.lock().waits
    }

    /// Page-locked memory.
    pub fn allocate_pinned(&self, bytes: usize) -> Answer<u64> {
        self.check()?;
        if bytes == 0 { Err(INVALID_VALUE) } else { Ok(self.registry.lock().pinned.allocate(bytes)) }
    }

    pub fn free_pinned(&self, base: u64) -> Answer<()> {
        let mut registry = self.registry.lock();
        let Registry { pinned, order, .. } = &mut *registry;
        let problems = pinned.free(base, order).ok_or(INVALID_VALUE)?;
        drop(registry);
        self.mistakes(problems);
        Ok(())
    }

    /// Bytes at an address of the host are copied by the last step of a stream.
    pub fn leaves_host(&self, address: u64, length: usize, stream: Stream) {
        let mut registry = self.registry.lock();
        let Registry { pinned, order, .. } = &mut *registry;
        let problems = pinned.leaves(address, length, order.last(stream), order);
        drop(registry);
        self.mistakes(problems);
    }

    /// Takes bytes that the last step of a stream copies to an address of the host, if that is page-locked: they arrive later.
    pub fn arrives_later(&self, address: u64, data: &[u8], stream: Stream) -> bool {
        let mut registry = self.registry.lock();
        let Registry { pinned, order, .. } = &mut *registry;
        let Some(problems) = pinned.arrives(address, data, order.last(stream), order) else { return false };
        drop(registry);
        self.mistakes(problems);
        true
    }

    /// Whether the host knows that an event has passed. That it has, it learns by waiting only: so nothing relies on luck.
    pub fn passed(&self, event: u64) -> Answer<()> {
        self.check()?;
        let registry = self.registry.lock();
        let knowledge = &registry.events.get(&event).ok_or(INVALID_HANDLE)?.knowledge;
        let known = knowledge.iter().all(|(stream, count)| registry.order.knows_as_host((*stream, *count)));
        if known { Ok(()) } else { Err(NOT_READY) }
    }

    /// The host waits for a stream.
    pub fn synchronize(&self, stream: Stream) -> Answer<()> {
        let registry = self.registry.lock();
        let knowledge = registry.order.snapshot(stream);
        self.host_learns(registry, &knowledge);
        self.check()
    }

    pub fn synchronize_all(&self) -> Answer<()> {
        let streams = self.registry.lock().streams.clone();
        streams.into_iter().try_for_each(|stream| self.synchronize(stream))
    }

    pub fn new_event(&self, timed: bool) -> Answer<u64> {
        self.check()?;
        let handle = self.handle();
        self.registry.lock().events.insert(handle, Event { timed, ..Event::default() });
        Ok(handle)
    }

    pub fn drop_event(&self, event: u64) -> Answer<()> {
        self.registry.lock().events.remove(&event).map(drop).ok_or(INVALID_HANDLE)
    }

    pub fn record(&self, event: u64, stream: Stream) -> Answer<()> {
        self.check()?;
        let mut registry = self.registry.lock();
        registry.order.step(stream);
        let knowledge = registry.order.snapshot(stream);
        let event = registry.events.get_mut(&event).ok_or(INVALID_HANDLE)?;
        (event.knowledge, event.passed) = (knowledge, Some(Instant::now()));
        Ok(())
    }

    /// Milliseconds between two events that take the time, were recorded, and are known to have passed.
    pub fn elapsed(&self, from: u64, to: u64) -> Answer<f32> {
        for event in [from, to] {
            self.passed(event)?;
        }
        let registry = self.registry.lock();
        let timed = |event: u64| registry.events.get(&event).filter(|event| event.timed).ok_or(INVALID_HANDLE);
        let passed = |event: u64| timed(event)?.passed.ok_or(INVALID_HANDLE);
        Ok(passed(to)?.saturating_duration_since(passed(from)?).as_secs_f32() * 1000.0)
    }

    /// A stream, or the host (0), waits for an event.
    pub fn wait(&self, stream: Stream, event: u64) -> Answer<()> {
        self.check()?;
        let mut registry = self.registry.lock();
        let knowledge = registry.events.get(&event).ok_or(INVALID_HANDLE)?.knowledge.clone();
        match stream {
            0 => self.host_learns(registry, &knowledge),
            stream => registry.order.learn(stream, &knowledge),
        }
        Ok(())
    }
}
