//! Puts the calling process behind walls that it can't take down again: what it may ask of the kernel afterwards is what a
//! worker needs to compute, and no more.
//!
//! The sandbox of WebAssembly is the first wall around a stranger's node. This is the second: should a node break out of the
//! first and run native code in the worker, it holds what the worker's process holds, which is its memory and the descriptors
//! that it was started with. It opens no file, makes none, opens no socket, starts no program, and looks into no other process.
//!
//! Not here: which process is a worker and what it is handed (worker). Nothing here knows of nodes or tenants.
//!
//! # Layout
//! - [`files`]: landlock: files, TCP, signals and abstract sockets
//! - [`calls`]: seccomp: the list of system calls
//! - [`powers`]: capabilities, resource limits, dumps
//! - [`error`](WallsError): what the kernel lacks, and what to do about it

#![forbid(unsafe_code)]

#[cfg(target_os = "linux")]
mod calls;
mod error;
#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
mod powers;

use std::path::PathBuf;

pub use error::WallsError;

/// What may still be done behind the walls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walls {
    /// Files, or folders with all that is in them, that may be opened for reading. What does not exist is left out.
    pub readable: Vec<PathBuf>,
    /// Descriptors that may be open at a time.
    pub descriptors: u64,
}

/// What this kernel has walls of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The version of landlock's interface.
    pub landlock: Result<u32, WallsError>,
    /// Whether it filters system calls.
    pub seccomp: Result<(), WallsError>,
}

impl Kernel {
    /// Tries it, on a thread that ends with the try.
    #[must_use]
    pub fn probe() -> Self {
        #[cfg(target_os = "linux")]
        {
            let thread = std::thread::Builder::new().name("walls".to_owned()).spawn(|| {
                let landlock = files::confine(&[]);
                let seccomp = calls::probe();
                Self { landlock, seccomp }
            });
            let failed = || Self { landlock: Err(WallsError::Thread), seccomp: Err(WallsError::Thread) };
            thread.map_or_else(|_| failed(), |thread| thread.join().unwrap_or_else(|_| failed()))
        }
        #[cfg(not(target_os = "linux"))]
        {
            Self { landlock: Err(WallsError::NotLinux), seccomp: Err(WallsError::NotLinux) }
        }
    }

    /// What it lacks, if something.
    ///
    /// # Errors
    /// The first that it lacks.
    pub fn check(&self) -> Result<u32, WallsError> {
        self.seccomp.clone()?;
        self.landlock.clone()
    }
}

impl Walls {
    /// Puts up the walls around this process, which must not have started a thread yet: they would stand around some of its
    /// threads only. Answers the version of landlock's interface.
    ///
    /// # Errors
    /// What the kernel lacks or refuses. Some of the walls may stand then; end the process.
    #[cfg(target_os = "linux")]
    pub fn enter(&self) -> Result<u32, WallsError> {
        let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
        if threads != 1 {
            return Err(WallsError::Threads { threads });
        }
        powers::give_up(self.descriptors)?;
        let landlock = files::confine(&self.readable)?;
        calls::confine()?;
        Ok(landlock)
    }

    /// There are none to put up here.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(target_os = "linux"))]
    pub fn enter(&self) -> Result<u32, WallsError> {
        Err(WallsError::NotLinux)
    }
}
