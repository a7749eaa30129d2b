//! The memory allocator of the binary: mimalloc, which keeps freed memory for a while and gives it back when nobody works.
//!
//! Memory that comes fresh from the system has to be cleared by it, page by page; for a node on a large picture that is a
//! third of its time. So what one node frees is kept for the next one, at most [`KEPT_WHILE_BUSY`], and once no large block
//! was freed for [`IDLE`], all of it goes back: an idle server holds no memory that it does not use. What is kept is never more
//! than what was in use at once; it belongs to no tenant and counts against no account.

use std::{
    alloc::{GlobalAlloc, Layout},
    ffi::c_long,
    io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use libmimalloc_sys::{mi_collect, mi_option_get, mi_option_set_default, mi_option_t};
use mimalloc::MiMalloc;

/// How long freed memory is kept while more is freed all the time.
pub const KEPT_WHILE_BUSY: Duration = Duration::from_secs(30);
/// All of it goes back when no large block was freed for about so long.
pub const IDLE: Duration = Duration::from_secs(10);

/// Freeing less is no work that needs memory to be kept, or given back.
const LARGE: usize = 1 << 20;
/// `mi_option_purge_delay` of mimalloc.h, in milliseconds; the crate has no name for it.
const PURGE_DELAY: mi_option_t = 15;

/// Whether a large block was freed since somebody looked.
static FREED: AtomicBool = AtomicBool::new(false);

/// mimalloc, and a note when large blocks are freed.
#[derive(Debug)]
pub struct Allocator;

// SAFETY: every call is passed on as it is to mimalloc, which keeps the contract.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as asked of the caller.
        unsafe { MiMalloc.alloc(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if layout.size() >= LARGE {
            FREED.store(true, Ordering::Relaxed);
        }
        // SAFETY: as asked of the caller.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as asked of the caller.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.size() >= LARGE {
            FREED.store(true, Ordering::Relaxed);
        }
        // SAFETY: as asked of the caller.
        unsafe { MiMalloc.realloc(pointer, layout, size) }
    }
}

/// From now on freed memory is kept while the process works, and a thread that ends with it gives it back when it does not.
/// For processes that go on for long, whose `#[global_allocator]` is [`Allocator`].
///
/// # Errors
/// When the system refuses the thread. Then memory goes back as mimalloc does by itself.
pub fn keep_freed_memory() -> io::Result<()> {
    let thread = thread::Builder::new().name("memory".to_owned()).stack_size(64 << 10);
    thread.spawn(give_back_when_idle)?;
    set_purge_delay(KEPT_WHILE_BUSY);
    Ok(())
}

fn give_back_when_idle() {
    let mut holds_memory = false;
    loop {
        thread::sleep(IDLE);
        if FREED.swap(false, Ordering::Relaxed) {
            holds_memory = true;
        } else if holds_memory {
            give_back();
            holds_memory = false;
        }
    }
}

fn set_purge_delay(delay: Duration) {
    let milliseconds = c_long::try_from(delay.as_millis()).unwrap_or(c_long::MAX);
    // SAFETY: an option of the library, whose number is one that exists; it may be changed at any time. What the environment
    // says (`MIMALLOC_PURGE_DELAY`) stays.
    #[allow(unsafe_code)]
    unsafe {
        mi_option_set_default(PURGE_DELAY, milliseconds);
    }
}

/// How long mimalloc is told to keep what is freed.
#[must_use]
pub fn purge_delay() -> Duration {
    // SAFETY: only reads an option.
    #[allow(unsafe_code)]
    let milliseconds = unsafe { mi_option_get(PURGE_DELAY) };
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or_default())
}

/// Gives all memory back that nobody uses: for whoever finds that the machine lacks some.
pub fn give_back() {
    // SAFETY: may be called on any thread at any time; memory in use stays as it is.
    #[allow(unsafe_code)]
    unsafe {
        mi_collect(true);
    }
}
