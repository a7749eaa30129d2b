//! PTX text as declarations, labels and statements. The compiler writes one of them per line or per `;`.

/// A statement of a function's body: `@guard opcode operands;`
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    /// A predicate, and whether it must be false.
    pub(crate) guard: Option<(String, bool)>,
    pub(crate) opcode: String,
    pub(crate) operands: Vec<String>,
    pub(crate) text: String,
}

/// A variable with a state space: `.shared .align 4 .b8 name[64]`, perhaps with contents.
#[derive(Debug, Clone)]
pub(crate) struct Variable {
    pub(crate) space: String,
    pub(crate) name: String,
    pub(crate) align: usize,
    pub(crate) bytes: usize,
    pub(crate) contents: Vec<u8>,
}

#[derive(Debug, Clone)]
pub(crate) enum Line {
    Label(String),
    Statement(Statement),
    Variable(Variable),
    /// The targets of a jump table, under the label before it.
    Targets(Vec<String>),
}

/// A kernel or a function.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) entry: bool,
    pub(crate) name: String,
    pub(crate) params: Vec<Variable>,
    /// Threads of a block that it was compiled for, at most, if it says so.
    pub(crate) most_threads: Option<u32>,
    pub(crate) body: Vec<Line>,
}

#[derive(Debug)]
pub(crate) struct Unit {
    /// Of the language, such as `8.7`.
    pub(crate) version: String,
    pub(crate) target: String,
    pub(crate) variables: Vec<Variable>,
    pub(crate) functions: Vec<Function>,
}

pub(crate) fn parse(text: &str) -> Result<Unit, String> {
    let text = without_comments(text);
    let mut unit = Unit { version: String::new(), target: String::new(), variables: Vec::new(), functions: Vec::new() };
    let mut rest = text.as_str();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(unit);
        }
        let line_end = rest.find('\n').unwrap_or(rest.len());
        let word = rest.split_whitespace().next().unwrap_or_default();
        match word {
            ".address_size" | ".file" => rest = &rest[line_end..],
            ".version" => {
                unit.version = rest[..line_end].trim_start_matches(".version").trim().to_owned();
                rest = &rest[line_end..];
            }
            ".target" => {
                unit.target = rest[..line_end].trim_start_matches(".target").trim().to_owned();
                rest = &rest[line_end..];
            }
            _ => {
                let stop = rest.find([';', '{', '=']).ok_or("a declaration that does not end")?;
                if rest[..stop].contains(".entry") || rest[..stop].contains(".func") {
                    let open = rest.find('{').ok_or("a function without a body")?;
                    let close = matching_brace(rest, open)?;
                    unit.functions.push(function(&rest[..open], &rest[open + 1..close])?);
                    rest = &rest[close + 1..];
                } else {
                    let end = rest.find(';').ok_or("a variable that does not end")?;
                    unit.variables.push(variable(&rest[..end])?);
                    rest = &rest[end + 1..];
                }
            }
        }
    }
}

fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("/*") {
        out.push_str(&rest[..at]);
        rest = rest[at..].split_once("*/").map_or("", |(_, after)| after);
    }
    out.push_str(rest);
    out.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn matching_brace(text: &str, open: usize) -> Result<usize, String> {
    let mut depth = 0usize;
    for (at, byte) in text.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Ok(at);
                }
            }
            _ => {}
        }
    }
    Err("a brace that is not closed".to_owned())
}

fn function(head: &str, body: &str) -> Result<Function, String> {
    let entry = head.contains(".entry");
    let keyword = if entry { ".entry" } else { ".func" };
    let after = head.split_once(keyword).map_or("", |(_, after)| after);
    let name = after.trim_start().split(['(', ' ', '\n', '\t']).next().unwrap_or_default().to_owned();
    let params = after.split_once('(').and_then(|(_, list)| list.split_once(')')).map_or("", |(list, _)| list);
    let params = params.split(',').filter(|param| !param.trim().is_empty()).map(variable).collect::<Result<_, _>>()?;
    let most_threads = after.split_once(".maxntid").map(|(_, list)| product(list)).transpose()?;
    Ok(Function { entry, name, params, most_threads, body: lines(body)? })
}

/// The product of numbers with commas between them, at the end of a line.
fn product(list: &str) -> Result<u32, String> {
    let numbers = list.lines().next().unwrap_or_default().split(',').map(|number| number.trim().parse::<u32>());
    numbers.product::<Result<u32, _>>().map_err(|error| format!("a number of threads: {error}"))
}

fn lines(body: &str) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    let mut rest = body;
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(lines);
        }
        // Scopes only limit names, and the compiler's names are unique per function, or we would miss their declaration.
        if let Some(inner) = rest.strip_prefix(['{', '}']) {
            rest = inner;
            continue;
        }
        if rest.starts_with(".loc\t") || rest.starts_with(".loc ") || rest.starts_with(".pragma") {
            let end = rest.find(['\n', ';']).unwrap_or(rest.len() - 1);
            rest = &rest[end + 1..];
            continue;
        }
        if let Some((label, after)) = label(rest) {
            lines.push(Line::Label(label.to_owned()));
            rest = after;
            continue;
        }
        let end = rest.find(';').ok_or_else(|| format!("a statement that does not end: {rest:.60}"))?;
        let text = rest[..end].split_whitespace().collect::<Vec<_>>().join(" ");
        rest = &rest[end + 1..];
        if text.starts_with(".reg") {
            continue;
        } else if let Some(targets) = text.strip_prefix(".branchtargets") {
            lines.push(Line::Targets(targets.split(',').map(|target| target.trim().to_owned()).collect()));
        } else if text.starts_with('.') {
            lines.push(Line::Variable(variable(&text)?));
        } else {
            lines.push(Line::Statement(statement(&text)?));
        }
    }
}

fn label(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'))?;
    let after = text[end..].trim_start().strip_prefix(':')?;
    (end > 0).then_some((&text[..end], after))
}

fn statement(text: &str) -> Result<Statement, String> {
    let (guard, rest) = match text.strip_prefix('@') {
        Some(after) => {
            let (guard, rest) = after.split_once(' ').ok_or_else(|| format!("a guard alone: {text}"))?;
            let name = guard.trim_start_matches('!');
            (Some((name.to_owned(), guard.starts_with('!'))), rest.trim_start())
        }
        None => (None, text),
    };
    let (opcode, operands) = rest.split_once(' ').unwrap_or((rest, ""));
    Ok(Statement { guard, opcode: opcode.to_owned(), operands: split_operands(operands), text: text.to_owned() })
}

/// At commas, but not inside `{}` or `[]`; `p|q` are two operands.
fn split_operands(text: &str) -> Vec<String> {
    let (mut operands, mut depth, mut current) = (Vec::new(), 0i32, String::new());
    for character in text.chars() {
        match character {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 && (character == ',' || character == '|') {
            operands.push(std::mem::take(&mut current).trim().to_owned());
        } else {
            current.push(character);
        }
    }
    if !current.trim().is_empty() {
        operands.push(current.trim().to_owned());
    }
    operands
}

fn variable(text: &str) -> Result<Variable, String> {
    let (declaration, contents) = text.split_once('=').unwrap_or((text, ""));
    let mut result = Variable { space: String::new(), name: String::new(), align: 1, bytes: 0, contents: Vec::new() };
    let mut width = 0usize;
    let mut words = declaration.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            ".visible" | ".extern" | ".weak" | ".ptr" => {}
            ".align" => {
                let align = words.next().unwrap_or_default().trim_end_matches(',');
                result.align = align.parse().map_err(|_| format!("an alignment of {align}"))?;
            }
            ".param" | ".shared" | ".global" | ".const" | ".local" => result.space = word[1..].to_owned(),
            _ if word.starts_with('.') => {
                width = type_bytes(&word[1..]).unwrap_or(width);
                result.align = result.align.max(width);
            }
            _ => {
                let (name, length) = word.split_once('[').unwrap_or((word, "1]"));
                result.name = name.to_owned();
                let length = length.trim_end_matches(']');
                let length =
                    if length.is_empty() { 0 } else { length.parse().map_err(|_| format!("a length of {length}"))? };
                result.bytes = width * length;
            }
        }
    }
    let numbers = contents.trim().trim_matches(['{', '}']).split(',').filter(|number| !number.trim().is_empty());
    for number in numbers {
        let value = crate::decode::immediate(number.trim()).ok_or_else(|| format!("an initial value of {number}"))?;
        result.contents.extend_from_slice(&value.to_le_bytes()[..width]);
    }
    Ok(result)
}

/// Bytes of a value of a type such as `u32`.
pub(crate) fn type_bytes(name: &str) -> Option<usize> {
    match name {
        "u8" | "s8" | "b8" | "pred" => Some(1),
        "u16" | "s16" | "b16" | "f16" | "bf16" => Some(2),
        "u32" | "s32" | "b32" | "f32" => Some(4),
        "u64" | "s64" | "b64" | "f64" => Some(8),
        _ => None,
    }
}
