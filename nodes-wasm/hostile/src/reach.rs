//! Reaching for what was not given.

use vivarium_node::files;
use vivarium_node::prelude::*;

/// Tries to read image files that nobody gave it. Shows one line per attempt: `refused` or `GOT THROUGH`.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileReadFile {
    /// A file that exists, but whose name this call gets only reversed, so that it is not among the inputs.
    #[input(optional, default = "")]
    reversed_name: String,
}

impl Run for HostileReadFile {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let other: String = self.reversed_name.chars().rev().collect();
        let names = [
            "../../etc/passwd",
            "../../etc/passwd [output]",
            "/etc/passwd",
            "..\\..\\etc\\passwd",
            "%2e%2e/%2e%2e/etc/passwd",
            "a\0b.png",
            "",
            ".",
            "C:\\Windows\\win.ini",
            "\\\\server\\share\\x.png",
            &other,
        ];
        let attempts = names.iter().map(|name| {
            let exists = if files::exists(name) { "GOT THROUGH: it exists" } else { "refused" };
            let print = outcome(files::fingerprint(name));
            let load = outcome(files::load(name));
            format!("{name:?} exists: {exists}; fingerprint: {print}; load: {load}")
        });
        Ok(Ui::new().entry("text", attempts))
    }
}

fn outcome<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => "GOT THROUGH".to_owned(),
        Err(error) => format!("refused ({:?}: {error})", error.kind),
    }
}

/// An object whose methods misbehave.
#[derive(ValueType)]
#[value_type("HOSTILE_OBJECT")]
pub(crate) struct Recursive {}

impl Methods for Recursive {
    fn call(self, method: &str, mut arguments: Arguments) -> Result<Value> {
        match method {
            "again" => {
                let object: Object = arguments.take("object")?;
                again(&object)
            }
            "loop" => loop {
                std::hint::black_box(&arguments);
            },
            "panic" => panic!("a method panicked on purpose"),
            other => Err(Error::invalid(format!("no method `{other}`; it has again, loop and panic"))),
        }
    }
}

fn again(object: &Object) -> Result<Value> {
    let arguments = Value::Dict([("object".to_owned(), object.clone().into())].into());
    object.call("again", arguments)
}

/// Makes an object whose method calls itself without end, and calls it.
#[derive(Node)]
#[node(category = "testing/hostile", output_node, output_types("HOSTILE_OBJECT"))]
pub(crate) struct HostileObject {
    /// When off, the object is only handed out, for another pack to call.
    #[input(optional, default = true)]
    recurse: bool,
}

impl Run for HostileObject {
    type Output = Object;

    fn run(self) -> Result<Object> {
        let object = Object::create(Recursive {})?;
        if self.recurse {
            again(&object)?;
        }
        Ok(object)
    }
}
