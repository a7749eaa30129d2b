//! `vivarium pack sandbox`: runs the nodes that unit tests call. `vivarium-testkit` starts it, beside every test program, and
//! speaks to it over standard input and output as the testkit's `wire` says.
//!
//! Whoever speaks is the same user as this process, so nothing here keeps them out of anything; what they get wrong is
//! answered in words.
//!
//! # Layout
//! - [`desk`]: answers questions
//! - [`powers`]: what a node is lent in a test, all of it made up; [`outside`]: its network and its files
//! - [`values`]: between the testkit's values and the sandbox's; [`terms`]: between their words for one thing

mod desk;
mod outside;
mod powers;
mod terms;
mod values;

use std::{
    io::{self, Stdout},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process::exit,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use clap::Args;
use vivarium_sandbox::Limits;
use vivarium_testkit::{
    TestkitError,
    wire::{
        Greeting, ToProgram, ToTest,
        frame::{self, Frame},
    },
};

use self::desk::Desk;
use crate::{
    failure::{Exit, OrFail, Outcome, fail},
    host,
};

/// As much as the threads have that run prompts: a node that calls an object that calls an object takes its share.
const STACK_BYTES: usize = 64 << 20;

/// Run the nodes that unit tests call. The tests start it.
#[derive(Args, Debug)]
#[command(hide = true)]
pub(crate) struct Sandbox {
    /// Where compiled components are kept [default: nowhere]
    #[arg(long, value_name = "DIR")]
    compiled: Option<PathBuf>,
}

impl Sandbox {
    pub(crate) fn run(self) -> Outcome<()> {
        let mut stdin = io::stdin().lock();
        let mut next = || frame::read(&mut stdin).or_fail(Exit::Usage, || "could not read from the test program");
        let answers = Answers(Mutex::new(io::stdout()));
        match next()? {
            Some(ToProgram::Hello(hello)) => {
                answers.send(&ToTest::Welcome(Greeting::own()));
                hello.meets("this program", "the test program").or_fail(Exit::Usage, || "could not run tests")?;
            }
            Some(_) => fail!(Exit::Usage, "a test program says first which version it is of"),
            None => return Ok(()),
        }
        let desk = Desk::new(host::sandbox(Limits::default(), self.compiled)?);
        let (desk, answers) = (Arc::new(desk), Arc::new(answers));
        while let Some(message) = next()? {
            match message {
                ToProgram::Hello(_) => fail!(Exit::Usage, "the test program introduces itself twice"),
                ToProgram::Release { object } => desk.values.release(object),
                ToProgram::Ask { id, question } => {
                    let (desk, answers) = (desk.clone(), answers.clone());
                    let answer = move || {
                        let reply = catch_unwind(AssertUnwindSafe(|| desk.answer(question)));
                        let panicked = |_| Err("the program that runs nodes panicked, as it says above".to_owned());
                        answers.send(&ToTest::Answer { id, reply: reply.unwrap_or_else(panicked) });
                    };
                    let thread = thread::Builder::new().name("question".to_owned()).stack_size(STACK_BYTES);
                    thread.spawn(answer).or_fail(Exit::Machine, || "could not start a thread")?;
                }
            }
        }
        // The test program is gone. What still runs ends with this process.
        Ok(())
    }
}

/// To the test program, from any thread.
struct Answers(Mutex<Stdout>);

impl Answers {
    fn send(&self, message: &ToTest) {
        let frame = Frame::of(message).or_else(|error: TestkitError| match message {
            ToTest::Answer { id, .. } => Frame::of(&ToTest::Answer { id: *id, reply: Err(error.to_string()) }),
            ToTest::Welcome(_) => Err(error),
        });
        // A panic while it was held cut a frame in two, and the test program will say so.
        let mut stdout = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = frame.map_err(io::Error::other).and_then(|frame| frame.write(&mut *stdout));
        if sent.is_err() {
            // Nobody is there to be told.
            exit(0);
        }
    }
}
