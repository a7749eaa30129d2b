//! `vivarium pack sandbox`, as a test program meets it that is broken, of another version, or careful with objects. What works
//! is tested where the testkit is (`guest-sdk/testkit/tests/nodes.rs`).

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    io::{BufReader, Write},
    path::Path,
    process::{Child, ChildStdout, Output, Stdio},
};

use support::vivarium;
use vivarium_testkit::wire::{
    Blob, Call, Datum, Greeting, Outcome, Question, Reply, ToProgram, ToTest,
    frame::{Frame, read},
};

fn bytes(messages: &[ToProgram]) -> Vec<u8> {
    let mut bytes = Vec::new();
    messages.iter().for_each(|message| Frame::of(message).unwrap().write(&mut bytes).unwrap());
    bytes
}

/// The exit code and the words of a sandbox that is told this and nothing more.
fn told(bytes: &[u8]) -> (Option<i32>, String) {
    let mut process = vivarium(&["pack", "sandbox"]);
    process.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = process.spawn().unwrap();
    // It may have heard enough before the end.
    process.stdin.take().unwrap().write_all(bytes).ok();
    let Output { status, stderr, .. } = process.wait_with_output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_test_program_that_ends_ends_it_quietly() {
    assert_eq!(told(&[]), (Some(0), String::new()));
    assert_eq!(told(&bytes(&[ToProgram::Hello(Greeting::own())])), (Some(0), String::new()));
}

#[test]
fn a_broken_frame_ends_it_with_a_sentence() {
    let hello = bytes(&[ToProgram::Hello(Greeting::own())]);
    for (rest, wanted) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "bytes of JSON, and may have"),
        (&hello[..hello.len() - 1], "ends too early"),
        (&[0; 12], "holds no message"),
        (&hello, "introduces itself twice"),
    ] {
        let (code, said) = told(&[&hello, rest].concat());
        assert!(code == Some(2) && said.contains(wanted) && !said.contains("panicked"), "{code:?} {said}");
    }
    let (code, said) = told(&bytes(&[ToProgram::Release { object: 1 }]));
    assert!(code == Some(2) && said.contains("says first which version it is of"), "{code:?} {said}");
}

#[test]
fn a_test_program_of_another_version_is_told_what_to_do() {
    let (code, said) = told(&bytes(&[ToProgram::Hello(Greeting { protocol: 77, release: "7.7.7".to_owned() })]));
    assert!(code == Some(2) && said.contains("Vivarium 7.7.7) speaks version 77"), "{code:?} {said}");
    assert!(said.contains("from the same version"), "{said}");
}

/// A sandbox that one thread speaks to.
struct Spoken {
    process: Child,
    stdout: BufReader<ChildStdout>,
    asked: u64,
}

impl Spoken {
    fn start() -> Self {
        let mut process = vivarium(&["pack", "sandbox"]);
        let mut process = process.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let mut spoken = Self { process, stdout, asked: 0 };
        spoken.say(ToProgram::Hello(Greeting::own()));
        assert!(matches!(read(&mut spoken.stdout).unwrap(), Some(ToTest::Welcome(_))));
        spoken
    }

    fn say(&mut self, message: ToProgram) {
        self.process.stdin.as_mut().unwrap().write_all(&bytes(&[message])).unwrap();
    }

    fn ask(&mut self, question: Question) -> Result<Reply, String> {
        self.asked += 1;
        self.say(ToProgram::Ask { id: self.asked, question });
        match read(&mut self.stdout).unwrap() {
            Some(ToTest::Answer { id, reply }) if id == self.asked => reply,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Spoken {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
fn an_object_is_kept_until_the_test_lets_go_of_it() {
    let target = Path::new(env!("CARGO_BIN_EXE_vivarium")).ancestors().nth(2).unwrap();
    let component = Blob(fs::read(target.join("test-packs/testing.wasm")).unwrap());
    let mut sandbox = Spoken::start();
    let Ok(Reply::Loaded { pack, definition }) = sandbox.ask(Question::Load { component }) else {
        panic!("it does not load")
    };
    assert_eq!(definition.name, "testing");
    let inputs = [("start".to_owned(), Datum::from_json(40.into()))].into_iter().collect();
    let call = Call { pack, class: "TestObjectMake".to_owned(), inputs, ..Call::default() };
    let Ok(Reply::Ran(ran)) = sandbox.ask(Question::Run(Box::new(call))) else { panic!("it does not run") };
    let Outcome::Outputs { slots, .. } = ran.outcome else { panic!("it has no outputs") };
    let [Datum::Object(object)] = slots.as_slice() else { panic!("it makes no object: {slots:?}") };
    let (object, arguments) = (object.id, Datum::from_json(serde_json::json!({"value": 2})));
    let add = || Question::Method { object, method: "add".to_owned(), arguments: arguments.clone() };
    assert!(matches!(sandbox.ask(add()), Ok(Reply::Value(Datum::Number(sum))) if sum.as_i64() == Some(42)));
    sandbox.say(ToProgram::Release { object });
    assert_eq!(sandbox.ask(add()).unwrap_err(), format!("there is no object {object}"));
    assert_eq!(
        sandbox.ask(Question::Run(Box::new(Call { pack: 9, ..Call::default() }))).unwrap_err(),
        "there is no pack 9"
    );
}
