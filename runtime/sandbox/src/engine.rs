//! The wasmtime engine: its settings, the host functions it links, the clock that interrupts guests.

use std::{
    path::{Path, PathBuf},
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
    aot::AotCache,
    bindings::{Pack, PackPre},
    compile::Compiler,
    component::PackComponent,
    error::SandboxError,
    host::{self, HostState},
    limits::Limits,
};

/// How often a running guest is looked at: the precision of timeouts and interrupts.
pub(crate) const EPOCH: Duration = Duration::from_millis(5);

/// Where the code of components comes from in a process that has no folder of it: from one that has, and that checked it.
pub trait CodeSource: std::fmt::Debug + Send + Sync {
    /// Native code of the component with this digest, made for an engine of the same settings by this same program.
    ///
    /// # Errors
    /// In words, when there is none.
    fn code(&self, digest: &str) -> Result<Vec<u8>, String>;
}

/// Settings of an engine.
#[derive(Clone, Debug, Default)]
pub struct EngineConfig {
    /// Limits on guests.
    pub limits: Limits,
    /// Where compiled components are kept; nowhere when absent.
    pub aot_folder: Option<PathBuf>,
    /// The process that compiles. Without one, components are compiled here and without limits: for tests, whose components
    /// are their own.
    pub compiler: Option<Compiler>,
    /// Hands over code, in a process that has neither of the two.
    pub code: Option<Arc<dyn CodeSource>>,
}

/// Compiles components and runs them. One per process.
pub struct SandboxEngine {
    engine: Engine,
    linker: Linker<HostState>,
    limits: Arc<Limits>,
    aot: Option<AotCache>,
    compiler: Option<Compiler>,
    source: Option<Arc<dyn CodeSource>>,
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
        let (limits, compiler, source) = (Arc::new(config.limits), config.compiler, config.code);
        Ok(Arc::new(Self { engine, linker, limits, aot, compiler, source, engine_hash, stop_ticker }))
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
    /// Too large, not a component, imports something unknown, takes too much to compile, or describes itself wrongly.
    pub fn load(self: &Arc<Self>, bytes: &[u8]) -> Result<Arc<PackComponent>, SandboxError> {
        let digest = self.examine(bytes)?;
        if let Some(description) = self.kept_description(&digest)
            && let Some(pre) = self.kept_code(&digest)
        {
            return PackComponent::described(self.clone(), digest, &description, Some(pre), None);
        }
        self.compile_and_describe(bytes, digest, None)
    }

    /// As [`SandboxEngine::load`], but when the component was compiled before, its code is loaded with the first call. `file`
    /// is where `bytes` were read: should the code be gone by then, it is compiled from there again.
    ///
    /// # Errors
    /// As [`SandboxEngine::load`].
    pub fn load_later(self: &Arc<Self>, bytes: &[u8], file: &Path) -> Result<Arc<PackComponent>, SandboxError> {
        let digest = self.examine(bytes)?;
        match self.kept_description(&digest) {
            Some(description) => {
                PackComponent::described(self.clone(), digest, &description, None, Some(file.to_owned()))
            }
            None => self.compile_and_describe(bytes, digest, Some(file.to_owned())),
        }
    }

    /// Takes a component that another process has loaded; its code is asked of [`EngineConfig::code`] with the first call.
    ///
    /// # Errors
    /// [`SandboxError::InvalidDescription`].
    pub fn described(self: &Arc<Self>, digest: String, description: &str) -> Result<Arc<PackComponent>, SandboxError> {
        PackComponent::described(self.clone(), digest, description, None, None)
    }

    /// The code of a component that was described before.
    pub(crate) fn code(&self, digest: &str, file: Option<&Path>) -> Result<PackPre<HostState>, SandboxError> {
        if let Some(pre) = self.kept_code(digest) {
            return Ok(pre);
        }
        self.prepare(&self.deserialize(&self.native_code(digest, file)?)?)
    }

    /// The same, not loaded.
    pub(crate) fn native_code(&self, digest: &str, file: Option<&Path>) -> Result<Vec<u8>, SandboxError> {
        if let Some(code) = self.aot.as_ref().and_then(|aot| aot.code(&self.engine_hash, digest)) {
            return Ok(code);
        }
        if let Some(source) = &self.source {
            return source.code(digest).map_err(|message| SandboxError::Engine { message });
        }
        let gone = |message: String| SandboxError::Engine { message };
        let file = file.ok_or_else(|| gone("the compiled component is gone".into()))?;
        let bytes = std::fs::read(file).map_err(|error| gone(format!("cannot read {}: {error}", file.display())))?;
        if self.examine(&bytes)? != digest {
            return Err(gone(format!("{} was changed; the server has to load it again", file.display())));
        }
        self.compile(&bytes)
    }

    fn examine(&self, bytes: &[u8]) -> Result<String, SandboxError> {
        let (size, limit) = (bytes.len() as u64, self.limits.component_bytes);
        if size > limit {
            return Err(SandboxError::ComponentTooLarge { bytes: size, limit });
        }
        check_header(bytes)?;
        Ok(hex::encode(Sha256::digest(bytes)))
    }

    fn kept_description(&self, digest: &str) -> Option<String> {
        self.aot.as_ref()?.description(&self.engine_hash, digest)
    }

    fn kept_code(&self, digest: &str) -> Option<PackPre<HostState>> {
        let code = self.aot.as_ref()?.code(&self.engine_hash, digest)?;
        self.prepare(&self.deserialize(&code).ok()?).ok()
    }

    fn compile_and_describe(
        self: &Arc<Self>,
        bytes: &[u8],
        digest: String,
        file: Option<PathBuf>,
    ) -> Result<Arc<PackComponent>, SandboxError> {
        let code = self.compile(bytes)?;
        let component = self.deserialize(&code)?;
        let pre = self.prepare(&component)?;
        let description = PackComponent::ask_description(self, &component, &pre)?;
        let pack = PackComponent::described(self.clone(), digest.clone(), &description, Some(pre), file)?;
        if let Some(aot) = &self.aot
            && let Err(error) = aot.store(&self.engine_hash, &digest, &description, &code)
        {
            tracing::warn!(%error, "a compiled component is not kept; it will be compiled again at the next start");
        }
        Ok(pack)
    }

    fn prepare(&self, component: &Component) -> Result<PackPre<HostState>, SandboxError> {
        let wrong = |error: wasmtime::Error| SandboxError::WrongWorld { message: one_line(&format!("{error:#}")) };
        PackPre::new(self.linker.instantiate_pre(component).map_err(wrong)?).map_err(wrong)
    }

    fn compile(&self, bytes: &[u8]) -> Result<Vec<u8>, SandboxError> {
        match &self.compiler {
            Some(compiler) => compiler.compile(bytes, &self.limits),
            None => compile_here(&self.engine, bytes),
        }
    }

    #[allow(unsafe_code)]
    fn deserialize(&self, code: &[u8]) -> Result<Component, SandboxError> {
        // SAFETY: the bytes are the output of `Engine::precompile_component`, made by this program: in this process, in a
        // child process that is this same executable, or earlier, and then `AotCache::code` checked a MAC over code, engine
        // configuration and component digest. In a worker process they come from the process that started it, which is this
        // same executable and did all that (`CodeSource`).
        let component = unsafe { Component::deserialize(&self.engine, code) };
        component.map_err(|error| SandboxError::Engine { message: one_line(&format!("{error:#}")) })
    }
}

/// Compiles without limits of its own: in the compiling process, or in tests.
pub(crate) fn compile_here(engine: &Engine, bytes: &[u8]) -> Result<Vec<u8>, SandboxError> {
    engine
        .precompile_component(bytes)
        .map_err(|error| SandboxError::InvalidComponent { message: one_line(&format!("{error:#}")) })
}

/// An engine that only compiles. Its code runs in a [`SandboxEngine`] of the same limits.
pub(crate) fn compiling_engine() -> Result<Engine, SandboxError> {
    let mut config = wasmtime_config(&Limits::default());
    // Where instances would live changes nothing about code, and a pool takes address space that this process has not.
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    Engine::new(&config).map_err(|error| SandboxError::Engine { message: format!("{error:#}") })
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
///
/// # Errors
/// [`SandboxError::InvalidComponent`] when the bytes do not begin as a component does.
pub fn check_header(bytes: &[u8]) -> Result<(), SandboxError> {
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
        // Rust needs 3 or 4, an interpreter that is linked when it is loaded (CPython) 38.
        .total_core_instances(instances.saturating_mul(16).max(core_instances))
        .total_memories(instances.saturating_mul(2))
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
        // Components made of components need it: what copies between their memories sees both.
        .wasm_multi_memory(true)
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
    fn a_process_that_only_compiles_makes_code_for_the_sandbox() {
        let engine = SandboxEngine::new(EngineConfig::default()).unwrap();
        assert_eq!(engine_hash(&compiling_engine().unwrap()), engine.engine_hash);
        let code = compile_here(&compiling_engine().unwrap(), b"\0asm\x0d\0\x01\0").unwrap();
        engine.deserialize(&code).unwrap();
    }

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
