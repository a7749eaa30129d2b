//! Which process runs what. One per trust group; the group's first prompt starts it, and it stays until it has been idle for a
//! while, or another group needs its place.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use serde_json::{Map, Value};
use vivarium_graph::{HookError, ValidateHook};
use vivarium_packs::Snapshot;
use vivarium_protocol::tenant::TenantId;
use vivarium_queue::Lease;
use vivarium_walls::Kernel;

use super::{
    ProcessError, ProcessSettings,
    child::{Begun, Child},
    message::{Question, Told},
};
use crate::{
    ending::Ended,
    place::{Place, Used},
    progress::ProgressTracker,
    shared::{Reach, Shared},
};

/// How often processes are told of packs and limits that changed, and looked at for idleness.
const TEND: Duration = Duration::from_millis(500);
/// How often a wait looks whether it is still wanted.
const TICK: Duration = Duration::from_millis(100);
/// A prompt that was told to stop, or whose time is up, has this long until its process is killed.
const GRACE: Duration = Duration::from_secs(30);
/// How long the check of a prompt waits for a place.
const VALIDATION: Duration = Duration::from_secs(30);
/// How long a figure may take.
const FIGURE: Duration = Duration::from_secs(2);

/// What clients see as `exception_type` when a process dies, and when there is none.
const DIED: &str = "WorkerProcessDied";
const UNAVAILABLE: &str = "WorkerProcessError";

/// The processes, as a place for prompts.
pub(crate) struct Processes {
    settings: Arc<ProcessSettings>,
    shared: Arc<Shared>,
    reach: Reach,
    slots: Mutex<HashMap<String, Slot>>,
    /// A slot has become free, or idle.
    changed: Condvar,
    closed: AtomicBool,
}

enum Slot {
    Starting,
    Alive(Alive),
}

struct Alive {
    child: Arc<Child>,
    users: usize,
    last_used: Instant,
}

/// A process that stays as long as this does.
struct InUse<'a> {
    pool: &'a Processes,
    child: Arc<Child>,
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        if let Some(Slot::Alive(alive)) = self.pool.slots.lock().get_mut(&self.child.group)
            && Arc::ptr_eq(&alive.child, &self.child)
        {
            alive.users -= 1;
            alive.last_used = Instant::now();
        }
        self.pool.changed.notify_all();
    }
}

/// What to do next to get a process.
enum Step {
    Take(Arc<Child>),
    Start,
    Wait,
}

impl Processes {
    /// Starts nothing yet.
    pub(crate) fn open(
        settings: ProcessSettings,
        shared: Arc<Shared>,
        reach: Reach,
    ) -> Result<Arc<Self>, ProcessError> {
        if !settings.unsandboxed {
            Kernel::probe().check()?;
        }
        let pool = Arc::new(Self {
            settings: Arc::new(settings),
            shared,
            reach,
            slots: Mutex::default(),
            changed: Condvar::new(),
            closed: AtomicBool::new(false),
        });
        let tended = Arc::downgrade(&pool);
        std::thread::Builder::new()
            .name("worker-processes".to_owned())
            .spawn(move || tend(&tended))
            .map_err(|source| ProcessError::Thread { source })?;
        Ok(pool)
    }

    /// The process of a tenant's group, started if there is none.
    fn of(
        &self,
        tenant: &TenantId,
        patience: Option<Duration>,
        interrupt: &AtomicBool,
    ) -> Result<InUse<'_>, ProcessError> {
        let group = self.settings.group_of(tenant);
        let deadline = patience.map(|patience| Instant::now() + patience);
        let mut slots = self.slots.lock();
        loop {
            if self.closed.load(Ordering::Relaxed) {
                return Err(ProcessError::Stopping);
            }
            if interrupt.load(Ordering::Relaxed) {
                return Err(ProcessError::Interrupted);
            }
            match self.step(&mut slots, &group) {
                Step::Take(child) => return Ok(InUse { pool: self, child }),
                Step::Start => break,
                Step::Wait if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                    return Err(ProcessError::Busy { most: self.settings.most });
                }
                Step::Wait => {
                    self.changed.wait_for(&mut slots, TICK);
                }
            }
        }
        slots.insert(group.clone(), Slot::Starting);
        drop(slots);
        let started = Child::start(group.clone(), &self.settings, &self.shared, self.reach.clone());
        let mut slots = self.slots.lock();
        slots.remove(&group);
        self.changed.notify_all();
        let child = started?;
        if self.closed.load(Ordering::Relaxed) {
            child.dismiss();
            return Err(ProcessError::Stopping);
        }
        slots.insert(group, Slot::Alive(Alive { child: child.clone(), users: 1, last_used: Instant::now() }));
        Ok(InUse { pool: self, child })
    }

    fn step(&self, slots: &mut HashMap<String, Slot>, group: &str) -> Step {
        slots.retain(|_, slot| !matches!(slot, Slot::Alive(alive) if alive.child.death().is_some()));
        match slots.get_mut(group) {
            Some(Slot::Alive(alive)) => {
                alive.users += 1;
                return Step::Take(alive.child.clone());
            }
            Some(Slot::Starting) => return Step::Wait,
            None => {}
        }
        if slots.len() < self.settings.most.max(1) {
            return Step::Start;
        }
        let idle = |(name, slot): (&String, &Slot)| match slot {
            Slot::Alive(alive) if alive.users == 0 => Some((alive.last_used, name.clone())),
            _ => None,
        };
        match slots.iter().filter_map(idle).min() {
            Some((_, longest)) => {
                dismiss(slots, &longest);
                Step::Start
            }
            None => Step::Wait,
        }
    }

    /// Of a tenant, if it was started.
    fn existing(&self, tenant: &TenantId) -> Option<Arc<Child>> {
        match self.slots.lock().get(&self.settings.group_of(tenant)) {
            Some(Slot::Alive(alive)) if alive.child.death().is_none() => Some(alive.child.clone()),
            _ => None,
        }
    }

    fn all(&self) -> Vec<Arc<Child>> {
        let slots = self.slots.lock();
        slots
            .values()
            .filter_map(|slot| if let Slot::Alive(alive) = slot { Some(alive.child.clone()) } else { None })
            .collect()
    }

    fn refresh(&self, child: &Child) -> io::Result<()> {
        child.refresh(&self.shared.catalog.snapshot(), self.shared.limits.said())
    }

    /// Gives the place of a process to the next one, whether or not its death has been noticed.
    fn give_up(&self, child: &Arc<Child>) {
        let mut slots = self.slots.lock();
        if matches!(slots.get(&child.group), Some(Slot::Alive(alive)) if Arc::ptr_eq(&alive.child, child)) {
            slots.remove(&child.group);
        }
    }

    /// How a prompt ended in a process, or why that process did not end it; and whether the process said anything about it.
    fn run_in(
        &self,
        child: &Child,
        lease: &Lease,
        interrupt: &AtomicBool,
        progress: &Arc<ProgressTracker>,
    ) -> (Result<Ended, String>, bool) {
        match self.refresh(child).and_then(|()| child.run(lease, progress)) {
            Ok(Begun { job, end, heard }) => {
                // Whoever set it meanwhile did not find the job.
                if interrupt.load(Ordering::Relaxed) {
                    child.interrupt(job);
                }
                let ended = self.wait(lease, interrupt, child, &end);
                (ended, heard.load(Ordering::Relaxed))
            }
            Err(error) => {
                let how = child.death().cloned();
                (Err(how.unwrap_or_else(|| format!("does not take the prompt: {error}"))), false)
            }
        }
    }

    /// Waits for the end of a prompt, and sees to it that there is one.
    fn wait(
        &self,
        lease: &Lease,
        interrupt: &AtomicBool,
        child: &Child,
        end: &Receiver<io::Result<Ended>>,
    ) -> Result<Ended, String> {
        let mut deadline = Instant::now().checked_add(self.shared.limits.of(&lease.tenant, None).prompt_time + GRACE);
        let mut is_told = false;
        loop {
            match end.recv_timeout(TICK) {
                Ok(Ok(ended)) => return Ok(ended),
                Ok(Err(error)) => return Err(format!("said something about its end that can't be read: {error}")),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(child.death().cloned().unwrap_or_else(|| "does not answer".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if interrupt.load(Ordering::Relaxed) && !is_told {
                is_told = true;
                deadline = Some(Instant::now() + GRACE);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                child.kill();
                return Err(format!("did not stop within {} s and was killed", GRACE.as_secs()));
            }
        }
    }
}

fn dismiss(slots: &mut HashMap<String, Slot>, group: &str) {
    if let Some(Slot::Alive(alive)) = slots.remove(group) {
        alive.child.dismiss();
    }
}

/// Until nobody has use for the processes any more.
fn tend(pool: &Weak<Processes>) {
    loop {
        std::thread::sleep(TEND);
        let Some(pool) = pool.upgrade().filter(|pool| !pool.closed.load(Ordering::Relaxed)) else { return };
        for child in pool.all() {
            // One that is gone needs no news.
            pool.refresh(&child).ok();
        }
        let mut slots = pool.slots.lock();
        let idle = |slot: &Slot| match slot {
            Slot::Alive(alive) => alive.users == 0 && alive.last_used.elapsed() >= pool.settings.idle,
            Slot::Starting => false,
        };
        let idle: Vec<String> = slots.iter().filter(|(_, slot)| idle(slot)).map(|(group, _)| group.clone()).collect();
        idle.iter().for_each(|group| dismiss(&mut slots, group));
    }
}

impl Place for Processes {
    fn validators<'a>(
        &'a self,
        tenant: &'a TenantId,
        snapshot: &'a Snapshot,
    ) -> Result<Box<dyn ValidateHook + 'a>, String> {
        Ok(Box::new(RemoteValidators { pool: self, tenant, snapshot }))
    }

    fn run(&self, lease: &Lease, _: usize, interrupt: &Arc<AtomicBool>, progress: &Arc<ProgressTracker>) -> Ended {
        let mut again = true;
        loop {
            let in_use = match self.of(&lease.tenant, None, interrupt) {
                Ok(in_use) => in_use,
                Err(ProcessError::Interrupted | ProcessError::Stopping) => return Ended::interrupted(lease, progress),
                Err(error) => {
                    tracing::error!(tenant = lease.tenant.as_str(), %error, "a prompt has no worker process");
                    return Ended::broken(lease, progress, UNAVAILABLE, &error.to_string());
                }
            };
            let (ended, heard) = self.run_in(&in_use.child, lease, interrupt, progress);
            match ended {
                Ok(ended) => return ended,
                // It was dying already: nothing of the prompt has begun, and no client has heard of it.
                Err(_) if again && !heard && !interrupt.load(Ordering::Relaxed) => {
                    again = false;
                    self.give_up(&in_use.child);
                }
                Err(how) => {
                    let message = format!(
                        "the worker process of {} {how}; this prompt was running in it and has failed. The next prompt gets \
                         a fresh process",
                        in_use.child.group
                    );
                    return Ended::broken(lease, progress, DIED, &message);
                }
            }
        }
    }

    fn interrupt(&self, tenant: &TenantId, prompt_id: &str) {
        if let Some(child) = self.existing(tenant) {
            child.interrupt_prompt(tenant, prompt_id);
        }
    }

    fn free(&self, tenant: &TenantId) {
        if let Some(child) = self.existing(tenant) {
            child.free(tenant);
        }
    }

    fn used(&self, tenant: &TenantId) -> Used {
        let ask = |child: &Arc<Child>| match child.ask(Question::Used { tenant: tenant.clone() }, &[], FIGURE) {
            Some(Told::Used(used)) => used,
            _ => Used::default(),
        };
        let own = self.existing(tenant).as_ref().map(ask).unwrap_or_default();
        Used { all: self.tensor_bytes(), ..own }
    }

    fn tensor_bytes(&self) -> u64 {
        let nobody = TenantId::default_tenant();
        let ask = |child: &Arc<Child>| match child.ask(Question::Used { tenant: nobody.clone() }, &[], FIGURE) {
            Some(Told::Used(used)) => used.all,
            _ => 0,
        };
        self.all().iter().map(ask).sum()
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        let mut slots = self.slots.lock();
        let groups: Vec<String> = slots.keys().cloned().collect();
        groups.iter().for_each(|group| dismiss(&mut slots, group));
        self.changed.notify_all();
    }
}

/// Asks validators in the process of the tenant's group. Prompts without any need none.
struct RemoteValidators<'a> {
    pool: &'a Processes,
    tenant: &'a TenantId,
    snapshot: &'a Snapshot,
}

impl ValidateHook for RemoteValidators<'_> {
    fn validate(
        &self,
        node_id: &str,
        class: &str,
        constants: &Map<String, Value>,
        input_types: &Map<String, Value>,
    ) -> Result<Vec<(Option<String>, String)>, HookError> {
        if self.snapshot.component(class).is_none() {
            return Ok(Vec::new());
        }
        let failed = |message: String| HookError { exception_type: UNAVAILABLE.to_owned(), message };
        let in_use = self.pool.of(self.tenant, Some(VALIDATION), &AtomicBool::new(false));
        let in_use = in_use.map_err(|error| failed(error.to_string()))?;
        let text = |map: &Map<String, Value>| serde_json::to_vec(map).map_err(|error| failed(error.to_string()));
        let (constants, types) = (text(constants)?, text(input_types)?);
        let question = Question::Validate {
            tenant: self.tenant.clone(),
            node_id: node_id.to_owned(),
            class: class.to_owned(),
            constants_length: constants.len() as u64,
        };
        let limits = self.pool.shared.limits.of(self.tenant, None);
        self.pool.refresh(&in_use.child).map_err(|error| failed(error.to_string()))?;
        match in_use.child.ask(question, &[&constants, &types], limits.query_time + GRACE) {
            Some(Told::Found(found)) => {
                found.map_err(|unasked| HookError { exception_type: unasked.exception_type, message: unasked.message })
            }
            _ => Err(failed(format!("the worker process of {} did not answer", in_use.child.group))),
        }
    }
}
