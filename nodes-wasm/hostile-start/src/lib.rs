//! A pack that attacks before any of its nodes runs: when it is instantiated, when it is asked what it is, and when it is
//! thanked for the answer. Which of them, tests write over the word [`ATTACK`] in the compiled file.
//!
//! Not for users: the pack is never shipped.
// Initialisers, an allocator and exports by hand: safe code has no words for them.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    hint::black_box,
};

use vivarium_node::{
    Dtype, Pack, Tensor,
    bindings::{
        exports::vivarium::node::nodes::{Error, Finding, Guest, Outcome, Value},
        vivarium::node::types::ErrorKind,
    },
    files, folders, http, scratch, secrets,
};

/// `nothing`, `start`, `describe`, `thanks` or `reach`, each filled up with dots.
#[used]
static ATTACK: [u8; 16] = *b"attack:nothing..";

static PACK: Pack = Pack {
    name: "hostile-start",
    version: env!("CARGO_PKG_VERSION"),
    publisher: "Nobody",
    description: "Attacks on whoever loads it, for the host's tests.",
    license: "Apache-2.0",
    permissions: &[],
    nodes: &[],
    objects: &[],
};

fn attacks(when: &str) -> bool {
    // SAFETY: a reference is valid to read. Volatile, since the compiler knows only the word that stands here.
    let attack = unsafe { std::ptr::read_volatile(&raw const ATTACK) };
    attack.strip_prefix(b"attack:").is_some_and(|attack| attack.starts_with(when.as_bytes()))
}

fn loop_forever() -> ! {
    let mut rounds = 0_u64;
    loop {
        rounds = black_box(rounds.wrapping_add(1));
    }
}

/// Runs while the instance is made.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = at_start;

extern "C" fn at_start() {
    if attacks("start") {
        loop_forever();
    }
}

thread_local! {
    static HAS_ANSWERED: Cell<bool> = const { Cell::new(false) };
}

/// Gives memory back like any other, until the answer of `describe` comes back to be freed (its post-return).
struct Ungrateful;

// SAFETY: all of it is the system's allocator.
unsafe impl GlobalAlloc for Ungrateful {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as our caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if HAS_ANSWERED.get() && attacks("thanks") && layout.size() > 64 {
            loop_forever();
        }
        // SAFETY: as our caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Ungrateful = Ungrateful;

/// Tries everything that has an effect, and tells what had one in the only way there is: by failing.
fn reach() {
    let effects = [
        ("tensor", Tensor::zeros([1], Dtype::Uint8).check().is_ok()),
        ("image file", files::load("example.png").is_ok()),
        ("scratch", scratch::write("mark", b"was here").is_ok()),
        ("input folder", folders::list("photos", "").is_ok()),
        ("secret", secrets::get("key").is_ok()),
        ("request", http::Request::get("http://127.0.0.1/").send().is_ok()),
        ("file", std::fs::write("/tmp/mark", "was here").is_ok()),
        ("environment", std::env::vars_os().next().is_some()),
        ("connection", std::net::TcpStream::connect("127.0.0.1:80").is_ok()),
    ];
    let through: Vec<&str> = effects.into_iter().filter(|(_, worked)| *worked).map(|(name, _)| name).collect();
    assert!(through.is_empty(), "GOT THROUGH: {through:?}");
}

struct Component;

fn nothing<T>() -> Result<T, Error> {
    Err(Error { kind: ErrorKind::Unsupported, message: "this pack has no nodes".to_owned() })
}

impl Guest for Component {
    fn describe() -> String {
        if attacks("describe") {
            loop_forever();
        }
        if attacks("reach") {
            reach();
        }
        let answer = PACK.describe();
        HAS_ANSWERED.set(true);
        answer
    }

    fn validate(_: String, _: Value, _: String) -> Result<Vec<Finding>, Error> {
        nothing()
    }

    fn fingerprint(_: String, _: Value) -> Result<String, Error> {
        nothing()
    }

    fn needed_inputs(_: String, _: Value) -> Result<Vec<String>, Error> {
        nothing()
    }

    fn execute(_: String, _: Value) -> Result<Outcome, Error> {
        nothing()
    }

    fn call(_: String, _: String, _: Value, _: Value) -> Result<Value, Error> {
        nothing()
    }
}

vivarium_node::bindings::export_pack!(Component with_types_in vivarium_node::bindings);
