//! `limits.toml`: limits for the whole server, for tenants, for packs, and for packs when they work for a tenant.
//!
//! ```toml
//! http_requests = 100                 # everybody
//!
//! [packs.some-pack]
//! execute_time = "30m"
//!
//! [tenants.alice]
//! tenant_tensor_bytes = "2G"
//!
//! [tenants.alice.packs.some-pack]
//! http_requests = 1000
//! ```
//!
//! What is said of a pack for a tenant holds. Otherwise, where the tenant and the pack both have a value, the lower one does:
//! what an operator wants to keep a tenant or a pack to is not undone by what was meant for the other.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use serde::{Deserialize, Serialize};
use vivarium_protocol::tenant::TenantId;

use crate::{
    error::SandboxError,
    limits::{Limits, Scope},
};

/// The largest file that is read.
const FILE_BYTES: u64 = 1 << 20;
/// How old what is in force may be after the file was changed.
const FRESH: Duration = Duration::from_millis(500);

/// Limits by name.
type Named = BTreeMap<String, u64>;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitFile {
    server: Named,
    packs: BTreeMap<String, Named>,
    tenants: BTreeMap<TenantId, OfTenant>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct OfTenant {
    all: Named,
    packs: BTreeMap<String, Named>,
}

/// A value as people write it.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

#[derive(Debug, Default, Deserialize)]
struct WrittenFile {
    #[serde(default)]
    packs: BTreeMap<String, BTreeMap<String, Written>>,
    #[serde(default)]
    tenants: BTreeMap<String, WrittenTenant>,
    #[serde(flatten)]
    server: BTreeMap<String, Written>,
}

#[derive(Debug, Default, Deserialize)]
struct WrittenTenant {
    #[serde(default)]
    packs: BTreeMap<String, BTreeMap<String, Written>>,
    #[serde(flatten)]
    all: BTreeMap<String, Written>,
}

impl LimitFile {
    /// Reads a file. Without one nothing is set.
    ///
    /// # Errors
    /// [`SandboxError::LimitFile`] names what cannot be.
    pub fn read(path: &Path) -> Result<Self, SandboxError> {
        let wrong = |message: String| SandboxError::LimitFile { path: path.to_owned(), message };
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(wrong(error.to_string())),
            Ok(metadata) if metadata.len() > FILE_BYTES => {
                return Err(wrong(format!("it has {} bytes, more than {FILE_BYTES}", metadata.len())));
            }
            Ok(_) => {}
        }
        let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        Self::parse(&text).map_err(wrong)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let written: WrittenFile = toml::from_str(text).map_err(|error| error.to_string())?;
        let server = named("", written.server, |_| true)?;
        let of_call = |scope: Scope| matches!(scope, Scope::Call | Scope::CallLower);
        let packs = of_packs("packs", written.packs, of_call)?;
        let mut tenants = BTreeMap::new();
        for (name, tenant) in written.tenants {
            let at = format!("tenants.{name}");
            let id = name.parse().map_err(|error| format!("[{at}]: {error}"))?;
            let all = named(&at, tenant.all, |scope| scope != Scope::Server)?;
            let packs = of_packs(&format!("{at}.packs"), tenant.packs, of_call)?;
            tenants.insert(id, OfTenant { all, packs });
        }
        Ok(Self { server, packs, tenants })
    }

    /// What is said of the whole server, over the defaults.
    #[must_use]
    pub fn server(&self) -> Limits {
        let mut limits = Limits::default();
        for (name, value) in &self.server {
            limits.set(name, *value);
        }
        limits
    }

    /// What is said of tenants and packs, as `where`, limit, value.
    #[must_use]
    pub fn exceptions(&self) -> Vec<(String, &str, u64)> {
        let packs = self.packs.iter().map(|(pack, named)| (format!("pack {pack}"), named));
        let tenants = self.tenants.iter().flat_map(|(tenant, of)| {
            let packs = of.packs.iter().map(move |(pack, named)| (format!("tenant {tenant}, pack {pack}"), named));
            [(format!("tenant {tenant}"), &of.all)].into_iter().chain(packs)
        });
        packs.chain(tenants).flat_map(|(whose, named)| flat(whose, named)).collect()
    }

    /// What holds for a tenant, and for a pack if one is meant, over the server's.
    #[must_use]
    pub fn over(&self, server: &Limits, tenant: &TenantId, pack: Option<&str>) -> Limits {
        let of_tenant = self.tenants.get(tenant);
        let of_pack = pack.and_then(|pack| self.packs.get(pack));
        let of_both = pack.and_then(|pack| of_tenant?.packs.get(pack));
        let mut limits = server.clone();
        for entry in server.entries() {
            let said = |named: Option<&Named>| named.and_then(|named| named.get(entry.name).copied());
            let both = [said(of_tenant.map(|of| &of.all)), said(of_pack)].into_iter().flatten().min();
            let Some(mut value) = said(of_both).or(both) else { continue };
            if matches!(Limits::about(entry.name), Some((Scope::CallLower, _))) {
                value = value.min(entry.value);
            }
            limits.set(entry.name, value);
        }
        limits
    }
}

fn flat(whose: String, named: &Named) -> impl Iterator<Item = (String, &str, u64)> {
    named.iter().map(move |(name, value)| (whose.clone(), name.as_str(), *value))
}

fn of_packs(
    at: &str,
    packs: BTreeMap<String, BTreeMap<String, Written>>,
    fits: impl Fn(Scope) -> bool + Copy,
) -> Result<BTreeMap<String, Named>, String> {
    packs
        .into_iter()
        .map(|(pack, written)| Ok((pack.clone(), named(&format!("{at}.{pack}"), written, fits)?)))
        .collect()
}

fn named(at: &str, written: BTreeMap<String, Written>, fits: impl Fn(Scope) -> bool) -> Result<Named, String> {
    let place = |name: &str| if at.is_empty() { name.to_owned() } else { format!("[{at}] {name}") };
    let one = |(name, value): (String, Written)| {
        let Some((scope, unit)) = Limits::about(&name) else {
            return Err(format!("{}: there is no limit of this name; `vivarium doctor` lists them", place(&name)));
        };
        if !fits(scope) {
            return Err(match scope {
                Scope::Tenant => format!("{}: this can be set for the server and for tenants only", place(&name)),
                _ => format!("{}: this can be set for the whole server only, above all tables", place(&name)),
            });
        }
        match value_in(unit, &value) {
            Some(number) if number > 0 => Ok((name, number)),
            _ => Err(format!("{}: write {}", place(&name), wanted(unit))),
        }
    };
    written.into_iter().map(one).collect()
}

fn wanted(unit: &str) -> &'static str {
    match unit {
        "bytes" => "a number of bytes, or \"512M\", \"4G\"",
        "ms" => "a number of milliseconds, or \"500ms\", \"30s\", \"10m\", \"2h\"",
        _ => "a number above 0",
    }
}

fn value_in(unit: &str, written: &Written) -> Option<u64> {
    let text = match written {
        Written::Number(number) => return Some(*number),
        Written::Text(text) => text.trim(),
    };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    let factor = match (unit, &text[digits.len()..]) {
        (_, "") => 1,
        ("bytes", "K" | "k" | "KiB") => 1 << 10,
        ("bytes", "M" | "MiB") => 1 << 20,
        ("bytes", "G" | "GiB") => 1 << 30,
        ("ms", "ms") => 1,
        ("ms", "s") => 1000,
        ("ms", "m") => 60_000,
        ("ms", "h") => 3_600_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// The limits in force, which follow the file.
#[derive(Debug)]
pub struct LimitTable {
    server: Arc<Limits>,
    /// Absent where nothing is said, or somebody else reads the file and tells.
    file: Option<PathBuf>,
    read: Mutex<Read>,
}

#[derive(Debug, Default)]
struct Read {
    looked: Option<Instant>,
    stamp: Option<SystemTime>,
    said: LimitFile,
    /// What was worked out since the file was read.
    known: HashMap<(TenantId, Option<String>), Arc<Limits>>,
}

impl LimitTable {
    /// The same for everybody.
    #[must_use]
    pub fn of_server(server: Arc<Limits>) -> Self {
        Self { server, file: None, read: Mutex::default() }
    }

    /// The server's, and what a file says of tenants and packs. What it says of the whole server is not looked at: that needs
    /// a new start.
    ///
    /// # Errors
    /// [`SandboxError::LimitFile`].
    pub fn following(server: Arc<Limits>, file: PathBuf) -> Result<Self, SandboxError> {
        let said = LimitFile::read(&file)?;
        let read = Read { looked: Some(Instant::now()), stamp: stamp(&file), said, known: HashMap::new() };
        Ok(Self { server, file: Some(file), read: Mutex::new(read) })
    }

    /// Those of the whole server.
    #[must_use]
    pub fn server(&self) -> &Arc<Limits> {
        &self.server
    }

    /// Those of a tenant, or of a pack when it works for it.
    #[must_use]
    pub fn of(&self, tenant: &TenantId, pack: Option<&str>) -> Arc<Limits> {
        let mut read = self.read();
        let key = (tenant.clone(), pack.map(str::to_owned));
        if let Some(known) = read.known.get(&key) {
            return known.clone();
        }
        let limits = Arc::new(read.said.over(&self.server, tenant, pack));
        read.known.insert(key, limits.clone());
        limits
    }

    /// What is said of tenants and packs now: for [`LimitTable::tell`] in another process.
    #[must_use]
    pub fn said(&self) -> LimitFile {
        self.read().said.clone()
    }

    /// Takes over what another process has read.
    pub fn tell(&self, said: LimitFile) {
        let mut read = self.read();
        (read.said, read.known) = (said, HashMap::new());
    }

    fn read(&self) -> MutexGuard<'_, Read> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &self.file {
            read.refresh(file);
        }
        read
    }

    /// Packs for which a limit differs from the tenant's, with their values.
    #[must_use]
    pub fn packs(&self, tenant: &TenantId, name: &str) -> BTreeMap<String, u64> {
        let of_tenant = self.of(tenant, None);
        let packs: Vec<String> = {
            let read = self.read();
            let own = read.said.tenants.get(tenant).into_iter().flat_map(|of| of.packs.keys());
            read.said.packs.keys().chain(own).cloned().collect()
        };
        let differs = |pack: String| {
            let value = self.of(tenant, Some(&pack)).get(name)?;
            (of_tenant.get(name) != Some(value)).then_some((pack, value))
        };
        packs.into_iter().filter_map(differs).collect()
    }
}

impl Read {
    fn refresh(&mut self, file: &Path) {
        if self.looked.is_some_and(|looked| looked.elapsed() < FRESH) {
            return;
        }
        self.looked = Some(Instant::now());
        let stamp = stamp(file);
        if stamp == self.stamp {
            return;
        }
        self.stamp = stamp;
        match LimitFile::read(file) {
            Ok(said) => (self.said, self.known) = (said, HashMap::new()),
            Err(error) => tracing::error!(%error, "the limits stay as they were"),
        }
    }
}

fn stamp(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).ok()?.modified().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    const FILE: &str = r#"
        http_requests = 100
        guest_stack = "1M"
        [packs.slow]
        execute_time = "30m"
        handles = 500
        guest_memory = "100G"
        [tenants.alice]
        tenant_tensor_bytes = "2G"
        handles = 50
        [tenants.alice.packs.slow]
        http_requests = 1000
        guest_memory = "1M"
        [tenants.bob.packs.slow]
        handles = 9000
    "#;

    #[test]
    fn what_is_said_of_the_pair_holds_and_else_the_lower_one() {
        let file = LimitFile::parse(FILE).unwrap();
        let server = file.server();
        assert_eq!((server.http_requests, server.guest_stack), (100, 1 << 20));
        let of = |who: &str, pack: Option<&str>| file.over(&server, &tenant(who), pack);
        assert_eq!(of("carol", None), server);
        assert_eq!(of("carol", Some("other")), server);
        let slow = of("carol", Some("slow"));
        assert_eq!((slow.execute_time, slow.handles), (Duration::from_secs(1800), 500));
        assert_eq!(slow.guest_memory, server.guest_memory, "no more than there is");
        let alice = of("alice", None);
        assert_eq!((alice.tenant_tensor_bytes, alice.handles), (2 << 30, 50));
        let both = of("alice", Some("slow"));
        assert_eq!((both.handles, both.http_requests, both.guest_memory), (50, 1000, 1 << 20));
        assert_eq!(of("bob", Some("slow")).handles, 9000);
        assert_eq!(file.exceptions().len(), 8);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_place() {
        for (text, said) in [
            ("everything = 1", "everything: there is no limit of this name"),
            ("[packs.x]\ninstances = 1", "[packs.x] instances: this can be set for the whole server only"),
            ("[tenants.a]\ncomponent_bytes = 1", "whole server only"),
            ("[packs.x]\ntenant_tensor_bytes = 1", "for the server and for tenants only"),
            ("[tenants.a.packs.x]\nprompt_time = 1", "for the server and for tenants only"),
            ("[tenants.a]\nhandles = 0", "[tenants.a] handles: write a number above 0"),
            ("handles = \"1G\"", "a number above 0"),
            ("execute_time = \"1G\"", "\"30s\""),
            ("guest_memory = \"1s\"", "\"512M\""),
            ("guest_memory = \"99999999999G\"", "\"512M\""),
            ("[tenants.\"../a\"]\nhandles = 1", "tenants.../a"),
            ("handles = -1", ""),
            ("not toml", ""),
        ] {
            let error = LimitFile::parse(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
        assert_eq!(LimitFile::read(Path::new("/no/such/limits.toml")).unwrap(), LimitFile::default());
    }

    #[test]
    fn a_running_server_follows_the_file_and_not_a_broken_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("limits.toml");
        let server = Arc::new(Limits::default());
        let table = LimitTable::following(server.clone(), file.clone()).unwrap();
        let alice = tenant("alice");
        assert_eq!(table.of(&alice, Some("x")), server);
        let soon = |handles: u64| {
            let begun = Instant::now();
            while table.of(&alice, Some("x")).handles != handles {
                assert!(begun.elapsed() < Duration::from_secs(30));
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        fs::write(&file, "[packs.x]\nhandles = 7").unwrap();
        soon(7);
        assert_eq!(table.packs(&alice, "handles"), BTreeMap::from([("x".to_owned(), 7)]));
        assert!(table.packs(&alice, "log_bytes").is_empty());
        fs::write(&file, "[packs.x]\nhandles = no").unwrap();
        std::thread::sleep(FRESH * 2);
        soon(7);
        fs::remove_file(&file).unwrap();
        soon(server.handles);
        fs::write(&file, "broken").unwrap();
        assert!(LimitTable::following(server, file).is_err());
    }
}
