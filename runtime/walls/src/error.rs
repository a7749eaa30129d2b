//! Why there are no walls, in words for whoever runs the server.

/// Everything that can go wrong in this crate. Texts, since they cross from the worker's process to its parent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WallsError {
    /// Landlock and seccomp are Linux's.
    #[error("worker processes are confined by landlock and seccomp, which only Linux has")]
    NotLinux,
    /// The kernel was built without landlock.
    #[error("this kernel has no landlock: it takes Linux 5.13 or newer, built with CONFIG_SECURITY_LANDLOCK")]
    NoLandlock,
    /// The kernel has landlock and does not use it.
    #[error("landlock is not enabled in this kernel: add `landlock` to the list in its boot parameter `lsm=`")]
    LandlockOff,
    /// Landlock did not do what was asked.
    #[error("landlock refuses: {message}; a container's own seccomp profile may be in the way")]
    Landlock {
        /// Its words.
        message: String,
    },
    /// No filters of system calls.
    #[error(
        "system calls cannot be filtered: {message}; it takes a kernel built with CONFIG_SECCOMP_FILTER, on x86-64 or aarch64"
    )]
    Seccomp {
        /// The kernel's words.
        message: String,
    },
    /// A resource limit, a capability or the like was not given up.
    #[error("the process cannot give up {what}: {message}")]
    Powers {
        /// What.
        what: &'static str,
        /// The kernel's words.
        message: String,
    },
    /// The walls would stand around one thread of several.
    #[error("the process has {threads} threads; walls can be put up around one that has not started any")]
    Threads {
        /// How many.
        threads: usize,
    },
    /// No thread to try it on.
    #[error("the system refuses a thread to try it on")]
    Thread,
}
