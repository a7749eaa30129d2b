//! What a PTX text declares, ready to run.

use crate::decode::{Instruction, MODULE, Register, Scope, Special};
use crate::syntax::{self, Function, Line, Unit, Variable};
use std::collections::HashMap;

/// Why a text cannot be run here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("PTX: {0}")]
pub struct LoadError(pub(crate) String);

/// A module: its kernels and the tables they read.
#[derive(Debug)]
pub struct Module {
    /// Version of the language, such as `8.7`.
    pub version: String,
    /// The architecture it was compiled for, such as `sm_89`.
    pub target: String,
    kernels: HashMap<String, Kernel>,
    pub(crate) constants: Vec<u8>,
}

/// A kernel.
#[derive(Debug)]
pub struct Kernel {
    /// Offset and bytes of each parameter.
    pub params: Vec<(usize, usize)>,
    /// Bytes of shared memory besides what a launch asks for.
    pub shared_bytes: usize,
    /// Threads of a block, at most.
    pub most_threads: u32,
    pub(crate) name: String,
    pub(crate) instructions: Vec<Instruction>,
    pub(crate) registers: usize,
    pub(crate) initial: Vec<(Register, u64)>,
    pub(crate) specials: Vec<(Register, Special)>,
    pub(crate) local_bytes: usize,
}

/// Of 65536 registers, which a multiprocessor has, so many threads get 255 each, the most that the assembler gives one. It gives fewer
/// only where a kernel says that it is started with more threads.
const THREADS_OF_ANY_KERNEL: u32 = 256;

impl Kernel {
    /// Bytes of all parameters together.
    pub fn param_bytes(&self) -> usize {
        self.params.last().map_or(0, |(offset, bytes)| offset + bytes)
    }
}

impl Module {
    /// Reads a PTX text. Anything in it that could not be executed is an error here, not later.
    pub fn parse(text: &str) -> Result<Module, LoadError> {
        let unit = syntax::parse(text).map_err(LoadError)?;
        let mut constants = Vec::new();
        let mut symbols = HashMap::new();
        let mut shared = Vec::new();
        for variable in &unit.variables {
            if variable.space == "shared" {
                shared.push(variable.clone());
                continue;
            }
            let at = place(constants.len(), variable);
            symbols.insert(variable.name.clone(), MODULE + at as u64);
            constants.resize(at, 0);
            constants.extend_from_slice(&variable.contents);
            constants.resize(at + variable.bytes, 0);
        }
        let mut kernels = HashMap::new();
        for function in &unit.functions {
            if !function.entry {
                return Err(LoadError(format!("a function that is no kernel: {}", function.name)));
            }
            let kernel = kernel(function, &symbols, &shared).map_err(LoadError)?;
            kernels.insert(function.name.clone(), kernel);
        }
        let Unit { version, target, .. } = unit;
        Ok(Module { version, target, kernels, constants })
    }

    /// A kernel by its name.
    pub fn kernel(&self, name: &str) -> Option<&Kernel> {
        self.kernels.get(name)
    }
}

fn place(end: usize, variable: &Variable) -> usize {
    end.next_multiple_of(variable.align.max(1))
}

fn kernel(function: &Function, symbols: &HashMap<String, u64>, shared: &[Variable]) -> Result<Kernel, String> {
    let mut scope = Scope::default();
    scope.symbols.clone_from(symbols);
    let mut params = Vec::new();
    let mut end = 0;
    for param in &function.params {
        let at = place(end, param);
        scope.symbols.insert(param.name.clone(), at as u64);
        params.push((at, param.bytes));
        end = at + param.bytes;
    }
    let (mut shared_bytes, mut local_bytes) = (0, 0);
    let local_variables = function.body.iter().filter_map(|line| match line {
        Line::Variable(variable) => Some(variable),
        _ => None,
    });
    // Arrays without a length begin where the launch's own shared memory does: at the end.
    let mut open_ended = Vec::new();
    for variable in shared.iter().chain(local_variables) {
        let end = if variable.space == "shared" { &mut shared_bytes } else { &mut local_bytes };
        if variable.bytes == 0 {
            open_ended.push(variable.name.clone());
            continue;
        }
        let at = place(*end, variable);
        *end = at + variable.bytes;
        scope.symbols.insert(variable.name.clone(), at as u64);
    }
    shared_bytes = shared_bytes.next_multiple_of(16);
    for name in open_ended {
        scope.symbols.insert(name, shared_bytes as u64);
    }
    let mut index = 0;
    let mut last_label = None;
    for line in &function.body {
        match line {
            Line::Label(name) => {
                scope.labels.insert(name.clone(), index);
                last_label = Some(name.clone());
            }
            Line::Targets(names) => {
                let name = last_label.clone().ok_or("a jump table without a label")?;
                scope.tables.insert(name, names.clone());
            }
            Line::Statement(_) => index += 1,
            Line::Variable(_) => {}
        }
    }
    let mut instructions = Vec::new();
    for line in &function.body {
        if let Line::Statement(statement) = line {
            instructions.push(scope.instruction(statement)?);
        }
    }
    Ok(Kernel {
        params,
        shared_bytes,
        most_threads: function.most_threads.unwrap_or(THREADS_OF_ANY_KERNEL),
        name: function.name.clone(),
        instructions,
        registers: scope.count as usize,
        initial: scope.constants(),
        specials: scope.specials.iter().map(|(register, special)| (*register, *special)).collect(),
        local_bytes,
    })
}
