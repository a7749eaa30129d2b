//! The `vivarium` that runs the nodes of this test program: started with the first question, asked by all threads at once,
//! gone when this process is.

use std::{
    collections::HashMap,
    env,
    ffi::OsString,
    io::{BufReader, Read},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    DType, Tensor, TestkitError,
    wire::{
        Blob, Greeting, Question, Reply, ToProgram, ToTest,
        frame::{self, Frame},
    },
};

/// What says which program it is.
const VARIABLE: &str = "VIVARIUM";
/// What is looked for in `PATH` otherwise.
const NAME: &str = "vivarium";
/// What hung up is about to end, and then says how.
const ENDING: Duration = Duration::from_secs(2);

static CHOSEN: OnceLock<PathBuf> = OnceLock::new();
static PROGRAM: OnceLock<Result<Program, TestkitError>> = OnceLock::new();

/// Says which `vivarium` runs the nodes, in place of the environment variable `VIVARIUM` and of `PATH`. For who builds the
/// program and tests nodes with it in the same breath. Called before anything else; the first call counts.
pub fn use_program(path: impl Into<PathBuf>) {
    CHOSEN.get_or_init(|| path.into());
}

/// What the program answers.
///
/// # Errors
/// When there is no program, when it is gone, or when it refuses.
pub(crate) fn ask(question: Question) -> Result<Reply, TestkitError> {
    match PROGRAM.get_or_init(start) {
        Ok(program) => program.ask(question),
        // Every test hears it: somebody may look at one only.
        Err(error) => Err(TestkitError::Unavailable(error.to_string())),
    }
}

/// The first picture of an image file.
pub(crate) fn decode(file: Vec<u8>) -> Result<Tensor, TestkitError> {
    tensor_of(ask(Question::Decode { file: Blob(file) })?)
}

/// A tensor with elements of another type.
pub(crate) fn cast(tensor: &Tensor, dtype: DType) -> Result<Tensor, TestkitError> {
    tensor_of(ask(Question::Cast { tensor: tensor.clone(), dtype })?)
}

fn tensor_of(reply: Reply) -> Result<Tensor, TestkitError> {
    match reply {
        Reply::Tensor(tensor) => Ok(tensor),
        _ => Err(TestkitError::OffTopic),
    }
}

/// Lets the program forget an object.
pub(crate) fn release(object: u64) {
    if let Some(Ok(program)) = PROGRAM.get() {
        // A program that is gone has forgotten it.
        Frame::of(&ToProgram::Release { object }).and_then(|frame| program.send(&frame)).ok();
    }
}

fn start() -> Result<Program, TestkitError> {
    let named = env::var_os(VARIABLE).filter(|path| !path.is_empty());
    let path = CHOSEN.get().map(|path| path.clone().into_os_string()).or(named);
    let path = path.unwrap_or_else(|| OsString::from(NAME));
    let mut command = Command::new(&path);
    command.args(["pack", "sandbox"]);
    // Compiled components are kept beside the test program, where cargo keeps what it built: the next run finds them there.
    let own = env::current_exe().ok();
    if let Some(folder) = own.as_deref().and_then(|own| own.parent()) {
        command.arg("--compiled").arg(folder.join("vivarium-testkit"));
    }
    Program::start(&mut command)
}

/// A program that runs.
struct Program {
    name: String,
    stdin: Mutex<ChildStdin>,
    asked: Arc<Mutex<Asked>>,
    ids: AtomicU64,
}

/// Who waits for an answer.
enum Asked {
    /// By the numbers of their questions.
    Waiting(HashMap<u64, Sender<Result<Reply, String>>>),
    /// Nobody any more: the program ended so.
    Gone(String),
}

/// A panic while it was held leaves at most one who waits too long.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Program {
    fn start(command: &mut Command) -> Result<Self, TestkitError> {
        let name = command.get_program().to_string_lossy().into_owned();
        // What it says on standard error is for people.
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = started.map_err(|cause| match cause.kind() {
            std::io::ErrorKind::NotFound => TestkitError::NoProgram { program: name.clone() },
            _ => TestkitError::NotStarted { program: name.clone(), cause },
        })?;
        let (Some(stdin), Some(stdout)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(TestkitError::NotReady { program: name, how: "it has no pipes".to_owned() });
        };
        let mut stdout = BufReader::new(stdout);
        let asked = Arc::new(Mutex::new(Asked::Waiting(HashMap::new())));
        let program = Self { name, stdin: Mutex::new(stdin), asked: asked.clone(), ids: AtomicU64::new(0) };
        // When it can't be sent, the program has hung up, and the other pipe says so.
        program.send(&Frame::of(&ToProgram::Hello(Greeting::own()))?).ok();
        let welcome = match frame::read(&mut stdout) {
            Ok(Some(ToTest::Welcome(welcome))) => Ok(welcome),
            Ok(Some(_)) => Err("it does not say who it is".to_owned()),
            Ok(None) => Err(String::new()),
            Err(error) => Err(error.to_string()),
        };
        let not_ready = |process, said| {
            let how = how_it_ended(process, said);
            TestkitError::NotReady { program: program.name.clone(), how }
        };
        let welcome = match welcome {
            Ok(welcome) => welcome,
            Err(said) => return Err(not_ready(&mut process, said)),
        };
        if let Err(error) = welcome.meets("this test program", &program.name) {
            how_it_ended(&mut process, String::new());
            return Err(error);
        }
        let listening = thread::Builder::new().name("vivarium".to_owned());
        let listening = listening.spawn(move || listen(&mut stdout, process, &asked));
        listening.map_err(|cause| TestkitError::NotStarted { program: program.name.clone(), cause })?;
        Ok(program)
    }

    fn ask(&self, question: Question) -> Result<Reply, TestkitError> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        // Kept until the answer is there: with it would go the last clone of an object that it names.
        let question = ToProgram::Ask { id, question };
        let frame = Frame::of(&question)?;
        let (sender, answer) = channel();
        match &mut *lock(&self.asked) {
            Asked::Waiting(waiting) => waiting.insert(id, sender),
            Asked::Gone(how) => return Err(self.gone(how)),
        };
        // A program that can't be reached is gone, and then nobody waits long.
        self.send(&frame).ok();
        drop(frame);
        let answer = answer.recv();
        drop(question);
        match answer {
            Ok(Ok(mut reply)) => {
                reply.keep_objects();
                Ok(reply)
            }
            Ok(Err(refusal)) => Err(TestkitError::Refused(refusal)),
            Err(_) => match &*lock(&self.asked) {
                Asked::Gone(how) => Err(self.gone(how)),
                Asked::Waiting(_) => Err(self.gone("it lost the question")),
            },
        }
    }

    fn gone(&self, how: &str) -> TestkitError {
        TestkitError::Gone { program: self.name.clone(), how: how.to_owned() }
    }

    fn send(&self, frame: &Frame) -> Result<(), TestkitError> {
        frame.write(&mut *lock(&self.stdin)).map_err(TestkitError::Pipe)
    }
}

/// Hands out answers until there are no more.
fn listen(stdout: &mut impl Read, mut process: Child, asked: &Mutex<Asked>) {
    let said = loop {
        match frame::read(stdout) {
            Ok(Some(ToTest::Answer { id, reply })) => {
                let waits = match &mut *lock(asked) {
                    Asked::Waiting(waiting) => waiting.remove(&id),
                    Asked::Gone(_) => None,
                };
                if let Some(waits) = waits {
                    // It waits as long as there is hope.
                    waits.send(reply).ok();
                }
            }
            Ok(Some(ToTest::Welcome(_))) => break "it introduces itself twice".to_owned(),
            Ok(None) => break String::new(),
            Err(error) => break error.to_string(),
        }
    };
    let how = how_it_ended(&mut process, said);
    // Whoever waits hears that no answer comes.
    *lock(asked) = Asked::Gone(how);
}

/// Waits for its end, or brings it about where it only stopped making sense: `said`.
fn how_it_ended(process: &mut Child, said: String) -> String {
    let patience = Instant::now() + if said.is_empty() { ENDING } else { Duration::ZERO };
    let mut status = process.try_wait();
    while matches!(status, Ok(None)) && Instant::now() < patience {
        thread::sleep(Duration::from_millis(5));
        status = process.try_wait();
    }
    match status {
        Ok(Some(status)) if said.is_empty() => status.to_string(),
        Ok(Some(status)) => format!("{said}; {status}"),
        _ => {
            // It is useless from here on, and may be gone already.
            process.kill().and_then(|()| process.wait()).ok();
            if said.is_empty() { "it hung up".to_owned() } else { said }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{fs, path::Path};

    use super::*;

    fn question() -> Question {
        Question::Load { component: Blob(vec![0; 1 << 20]) }
    }

    /// A program of a few lines, which finds a welcome in the file `$0`.
    fn shell(script: &str, welcome: &Path) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg(welcome);
        command
    }

    fn welcome(greeting: Greeting) -> tempfile::NamedTempFile {
        let mut bytes = Vec::new();
        Frame::of(&ToTest::Welcome(greeting)).unwrap().write(&mut bytes).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        file
    }

    fn refused(command: &mut Command) -> String {
        Program::start(command).err().unwrap().to_string()
    }

    #[test]
    fn who_has_no_program_hears_what_to_do() {
        let said = refused(&mut Command::new("/nowhere/vivarium"));
        assert!(said.starts_with("there is no program `/nowhere/vivarium`") && said.contains("VIVARIUM"), "{said}");
    }

    #[test]
    fn a_program_of_another_version_is_named_with_what_to_do() {
        let file = welcome(Greeting { protocol: 99, release: "9.9.9".to_owned() });
        let said = refused(&mut shell("cat \"$0\"", file.path()));
        assert!(
            said.contains("sh (Vivarium 9.9.9) speaks version 99") && said.contains("from the same version"),
            "{said}"
        );
    }

    #[test]
    fn a_program_that_is_no_vivarium_or_has_no_sandbox_is_not_waited_for() {
        let nothing = Path::new("/dev/null");
        let said = refused(&mut shell("echo Usage: something else", nothing));
        assert!(said.contains("ended before it was ready") && said.contains("bytes of JSON"), "{said}");
        let said = refused(&mut shell("exit 2", nothing));
        assert!(said.contains("exit status: 2") && said.contains("of the same version"), "{said}");
        let said = refused(&mut shell("cat", nothing));
        assert!(said.contains("holds no message"), "{said}");
    }

    #[test]
    fn who_waits_hears_how_the_program_died() {
        let file = welcome(Greeting::own());
        let program = Program::start(&mut shell("cat \"$0\"; sleep 0.3; kill -9 $$", file.path())).unwrap();
        thread::scope(|scope| {
            let asking: Vec<_> = (0..3).map(|_| scope.spawn(|| program.ask(question()))).collect();
            for asked in asking {
                let said = asked.join().unwrap().unwrap_err().to_string();
                assert!(said.contains("which runs the nodes, is gone: signal: 9"), "{said}");
            }
        });
        let said = program.ask(question()).unwrap_err().to_string();
        assert!(said.contains("signal: 9"), "who comes later hears it too: {said}");
    }

    #[test]
    fn a_program_that_talks_nonsense_is_ended() {
        let file = welcome(Greeting::own());
        let script = "cat \"$0\"; sleep 0.3; echo nonsense nonsense; exec sleep 60";
        let program = Program::start(&mut shell(script, file.path())).unwrap();
        let said = program.ask(Question::Decode { file: Blob(Vec::new()) }).unwrap_err().to_string();
        assert!(said.contains("bytes of JSON"), "{said}");
    }
}
