//! The wasmtime engine: its settings, the host functions it links, the clock that interrupts guests.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sha2::{Digest, Sha256};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Strategy,
    component::{Component, HasSelf, Linker},
};

use crate::{
    aot::{AotCache, AotEntry},
    bindings::{Pack, PackPre},
    component::PackComponent,
    error::SandboxError,
    host::{self, HostState},
    limits::Limits,
};

/// How often a running guest is looked at: the precision of timeouts and interrupts.
pub(crate) const EPOCH: Duration = Duration::from_millis(5);

/// Settings of an engine.
#[derive(Clone, Debug, Default)]
pub struct EngineConfig {
    /// Limits on guests.
    pub limits: Limits,
    /// Where compiled components are kept; nowhere when absent.
    pub aot_folder: Option<PathBuf>,
}

/// Compiles components and runs them. One per process.
pub struct SandboxEngine {
    engine: Engine,
    linker: Linker<HostState>,
    limits: Arc<Limits>,
    aot: Option<AotCache>,
    engine_hash: String,
    stop_ticker: Arc<AtomicBool>,
}

impl std::fmt::Debug for SandboxEngine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SandboxEngine").field("engine_hash", &self.engine_hash).finish_non_exhaustive()
    }
}

impl SandboxEngine {
    /// Sets up wasmtime.
    ///
    /// # Errors
    /// When this machine cannot run it, for example for want of address space, or when the AOT folder is not usable.
    pub fn new(config: EngineConfig) -> Result<Arc<Self>, SandboxError> {
        let failed = |error: wasmtime::Error| SandboxError::Engine { message: format!("{error:#}") };
        let engine = Engine::new(&wasmtime_config(&config.limits)).map_err(failed)?;
        let linker = link_host(&engine).map_err(failed)?;
        let aot = config.aot_folder.as_deref().map(AotCache::open).transpose()?;
        let engine_hash = engine_hash(&engine);
        let stop_ticker = Arc::new(AtomicBool::new(false));
        start_ticker(engine.clone(), stop_ticker.clone()).map_err(|error| SandboxError::Engine {
            message: format!("cannot start the thread that times guests: {error}"),
        })?;
        Ok(Arc::new(Self { engine, linker, limits: Arc::new(config.limits), aot, engine_hash, stop_ticker }))
    }

    /// Limits in force.
    #[must_use]
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    pub(crate) fn wasmtime(&self) -> &Engine {
        &self.engine
    }

    /// Makes a component ready to run: from the cache of compiled ones, or by compiling it and asking it to describe
    /// itself. `bytes` is what a stranger sent.
    ///
    /// # Errors
    /// Too large, not a component, imports something unknown, or describes itself wrongly.
    pub fn load(self: &Arc<Self>, bytes: &[u8]) -> Result<Arc<PackComponent>, SandboxError> {
        if bytes.len() as u64 > self.limits.component_bytes {
            return Err(SandboxError::ComponentTooLarge {
                bytes: bytes.len() as u64,
                limit: self.limits.component_bytes,
            });
        }
        let digest = hex::encode(Sha256::digest(bytes));
        if let Some(entry) = self.aot.as_ref().and_then(|aot| aot.load(&self.engine_hash, &digest))
            && let Some(component) = self.deserialize(&entry)
        {
            return PackComponent::from_description(
                self.clone(),
                digest,
                self.prepare(&component)?,
                &entry.description,
            );
        }
        check_header(bytes)?;
        let component = Component::from_binary(&self.engine, bytes)
            .map_err(|error| SandboxError::InvalidComponent { message: one_line(&format!("{error:#}")) })?;
        let pre = self.prepare(&component)?;
        let (pack, description) = PackComponent::describe(self.clone(), digest.clone(), pre)?;
        self.keep(&component, &digest, description);
        Ok(pack)
    }

    fn prepare(&self, component: &Component) -> Result<PackPre<HostState>, SandboxError> {
        let wrong = |error: wasmtime::Error| SandboxError::WrongWorld { message: one_line(&format!("{error:#}")) };
        PackPre::new(self.linker.instantiate_pre(component).map_err(wrong)?).map_err(wrong)
    }

    fn keep(&self, component: &Component, digest: &str, description: String) {
        let Some(aot) = &self.aot else { return };
        let stored = component
            .serialize()
            .map_err(|error| SandboxError::Engine { message: format!("{error:#}") })
            .and_then(|code| aot.store(&self.engine_hash, digest, &AotEntry { code, description }));
        if let Err(error) = stored {
            tracing::warn!(%error, "a compiled component is not kept; it will be compiled again at the next start");
        }
    }

    #[allow(unsafe_code)]
    fn deserialize(&self, entry: &AotEntry) -> Option<Component> {
        // SAFETY: the bytes came out of `AotCache::load`, which hands out only what this host itself wrote after
        // `Component::serialize`, checked by a MAC over code, engine configuration and component digest.
        unsafe { Component::deserialize(&self.engine, &entry.code) }.ok()
    }
}

impl Drop for SandboxEngine {
    fn drop(&mut self) {
        self.stop_ticker.store(true, Ordering::Relaxed);
    }
}

fn start_ticker(engine: Engine, stop: Arc<AtomicBool>) -> std::io::Result<()> {
    std::thread::Builder::new().name("epoch".into()).spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(EPOCH);
            engine.increment_epoch();
        }
    })?;
    Ok(())
}

/// Says in plain words what wasmtime's parser would say with bytes.
fn check_header(bytes: &[u8]) -> Result<(), SandboxError> {
    const MAGIC: &[u8] = b"\0asm";
    const CORE_MODULE: &[u8] = &[1, 0, 0, 0];
    let invalid = |message: &str| Err(SandboxError::InvalidComponent { message: message.into() });
    match bytes.strip_prefix(MAGIC) {
        None => {
            invalid("the file does not begin as WebAssembly does; is it another file with this name, or cut short?")
        }
        Some(rest) if rest.starts_with(CORE_MODULE) => {
            invalid("it is a core module, not a component; build it for the target wasm32-wasip2")
        }
        Some(_) => Ok(()),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn wasmtime_config(limits: &Limits) -> Config {
    let instances = u32::try_from(limits.instances).unwrap_or(u32::MAX);
    let core_instances = u32::try_from(limits.core_instances).unwrap_or(u32::MAX);
    // What one guest wrote is cleared before the next. Linux 6.7 tells which pages those are. Elsewhere it would be the
    // first so many bytes, and a guest's memory begins with a MiB of stack, most of it never touched.
    let tells_written_pages = PoolingAllocationConfig::is_pagemap_scan_available();
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(4).max(core_instances))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(4))
        .max_core_instances_per_component(core_instances)
        .max_memories_per_component(2)
        .max_tables_per_component(8)
        .max_memory_size(to_usize(limits.guest_memory))
        .table_elements(to_usize(limits.table_elements))
        .max_core_instance_size(1 << 20)
        .max_component_instance_size(1 << 20)
        .linear_memory_keep_resident(if tells_written_pages { 1 << 20 } else { 1 << 16 })
        .table_keep_resident(1 << 16)
        .pagemap_scan(Enabled::Auto)
        .max_unused_warm_slots(instances);
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .memory_init_cow(true)
        .epoch_interruption(true)
        .max_wasm_stack(to_usize(limits.guest_stack))
        .wasm_component_model(true)
        .concurrency_support(false)
        .wasm_simd(true)
        .wasm_relaxed_simd(true)
        .relaxed_simd_deterministic(true)
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        .wasm_custom_page_sizes(false)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(64));
    config
}

fn engine_hash(engine: &Engine) -> String {
    use std::hash::{Hash, Hasher};
    // `precompile_compatibility_hash` covers wasmtime's version, the target and every setting that changes code.
    struct Sha(Sha256);
    impl Hasher for Sha {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut hasher = Sha(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hex::encode(&hasher.0.finalize()[..8])
}

fn link_host(engine: &Engine) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
    linker.allow_shadowing(true);
    host::clocks::add_to_linker(&mut linker)?;
    linker.allow_shadowing(false);
    Pack::add_to_linker::<_, HasSelf<_>>(&mut linker, |state: &mut HostState| state)?;
    Ok(linker)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_no_component_is_refused_in_plain_words() {
        let engine = SandboxEngine::new(EngineConfig::default()).unwrap();
        let cases: [(&[u8], &str); 4] = [
            (b"garbage", "does not begin as WebAssembly does"),
            (b"", "does not begin as WebAssembly does"),
            (b"\0asm\x01\0\0\0", "wasm32-wasip2"),
            (b"\0asm\x0d\0\x01\0 broken on", "not a valid WebAssembly component"),
        ];
        for (bytes, said) in cases {
            let message = engine.load(bytes).unwrap_err().to_string();
            assert!(message.contains(said) && !message.contains('\n'), "{message}");
        }
        // A whole component that offers nothing of the world.
        let message = engine.load(b"\0asm\x0d\0\x01\0").unwrap_err().to_string();
        assert!(message.contains("vivarium:node/pack@1.0.0"), "{message}");
    }
}
