//! Seccomp: the system calls that computing takes. Every other fails with "operation not permitted".
//!
//! The list was made by running the test suites behind it, and then leaving out what could reach beyond the process: there is
//! no call in it that makes a socket, a process or a file system object, or that sends a signal to another process. Opening
//! files is in it, since landlock decides about paths.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter, apply_filter_all_threads,
};

use crate::WallsError;

/// Whatever their arguments are.
const ALLOWED: &[i64] = &[
    // Memory, also that of compiled code.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_memfd_create,
    libc::SYS_membarrier,
    // Descriptors that are there, and files that landlock lets be opened.
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readv,
    // The parent hands over open files with its answers.
    libc::SYS_recvmsg,
    libc::SYS_statx,
    libc::SYS_write,
    libc::SYS_writev,
    // Waiting for one's own events: what guests wait with has a reactor, which has nothing to watch here but itself.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    // Threads, and waiting for them. The first filter answers this one; without it here the later filter would.
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_get_robust_list,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    // Signals of its own: traps of guests are some.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // Time, chance, and looking at itself.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getcpu,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

/// The same in older words.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[i64] =
    &[libc::SYS_open, libc::SYS_poll, libc::SYS_stat, libc::SYS_lstat, libc::SYS_time, libc::SYS_epoll_wait];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[i64] = &[];

/// A thread, as the C library makes one; a process has none of these.
const THREAD: u64 = (libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD) as u64;
/// Namespaces of its own, in which it would have powers again.
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP) as u64;

/// Confines all threads of this process.
pub(crate) fn confine() -> Result<(), WallsError> {
    for filter in [without_clone3()?, list(std::process::id())?] {
        apply_filter_all_threads(&filter).map_err(failed)?;
    }
    Ok(())
}

/// Whether there are filters at all: puts one around this thread that refuses nothing.
pub(crate) fn probe() -> Result<(), WallsError> {
    let all = filter(BTreeMap::from([(libc::SYS_getpid, Vec::new())]), SeccompAction::Allow, SeccompAction::Log)?;
    apply_filter(&all).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> WallsError {
    WallsError::Seccomp { message: error.to_string() }
}

fn filter(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    others: SeccompAction,
    these: SeccompAction,
) -> Result<BpfProgram, WallsError> {
    let here = TargetArch::try_from(std::env::consts::ARCH).map_err(failed)?;
    SeccompFilter::new(rules, others, these, here).and_then(BpfProgram::try_from).map_err(failed)
}

/// What `clone3` shall make stands in memory, where a filter can't look. Told that there is no such call, the C library makes
/// threads with the older one.
fn without_clone3() -> Result<BpfProgram, WallsError> {
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    filter(rules, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32))
}

fn list(own_pid: u32) -> Result<BpfProgram, WallsError> {
    let argument = |index, length, op, value| SeccompCondition::new(index, length, op, value).map_err(failed);
    let when = |conditions| SeccompRule::new(conditions).map(|rule| vec![rule]).map_err(failed);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().chain(ALLOWED_HERE).map(|call| (*call, Vec::new())).collect();
    rules.insert(
        libc::SYS_clone,
        when(vec![
            argument(0, Len::Qword, Op::MaskedEq(THREAD), THREAD)?,
            argument(0, Len::Qword, Op::MaskedEq(NAMESPACES), 0)?,
        ])?,
    );
    // Aborting is a signal to oneself.
    rules.insert(libc::SYS_tgkill, when(vec![argument(0, Len::Dword, Op::Eq, own_pid.into())?])?);
    // Names of threads and of memory, which help whoever debugs.
    let names =
        [libc::PR_SET_NAME, libc::PR_SET_VMA].map(|option| when(vec![argument(0, Len::Dword, Op::Eq, option as u64)?]));
    rules.insert(libc::SYS_prctl, names.into_iter().collect::<Result<Vec<_>, _>>()?.concat());
    // Its own limits may be looked at, not changed: the new one is absent.
    rules.insert(
        libc::SYS_prlimit64,
        when(vec![argument(0, Len::Dword, Op::Eq, 0)?, argument(2, Len::Qword, Op::Eq, 0)?])?,
    );
    filter(rules, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow)
}
