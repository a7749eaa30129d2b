//! How long operations take, beside PyTorch in the same run: `cargo xtask bench tensor [--python PATH] [--threads N]
//! [--processor-time] [--rounds N] [FILTER…]`. Both sides take turns, each round some runs; the least time of all counts, since the machine
//! may have other work.
//!
//! A case is named `KIND NUMBERS… [last|f16|bf16]`; `tests/pytorch/timings.py` makes the same of the name.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;
use vivarium_tensor::{
    BinaryOp, Budget, ConvGeometry, DType, Generator, InterpolateMode, OpContext, Operand, ReduceOp, Tensor,
    TensorError, UnaryOp,
};

/// That of the server, which keeps freed memory for longer.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Name, and the ratio to PyTorch's time that is aimed at.
const CASES: &[(&str, f64)] = &[
    ("conv 320 320 64 3 1", 0.45),
    ("conv 320 320 64 3 1 last", 0.45),
    ("conv 640 640 32 3 1", 0.45),
    ("conv 1280 1280 16 3 1", 0.45),
    ("conv 1280 1280 8 3 1", 0.45),
    ("conv 512 512 64 3 1", 0.45),
    ("conv 256 256 128 3 1", 0.45),
    ("conv 128 128 256 3 1", 0.45),
    ("conv 128 128 512 3 1", 0.45),
    ("conv 320 4 64 3 1", 0.45),
    ("conv 4 320 64 3 1", 0.45),
    ("conv 320 320 64 3 1 f16", 0.45),
    ("conv 320 320 64 3 1 bf16", 0.45),
    ("conv 320 320 64 3 2", 0.95),
    ("conv 128 128 257 3 2", 0.95),
    ("conv 320 320 64 1 1", 0.95),
    ("conv 320 320 64 1 1 last", 0.95),
    ("conv 1280 1280 16 1 1", 0.95),
    ("attention 8 4096 4096 40", 0.65),
    ("attention 8 1024 1024 80", 0.65),
    ("attention 10 4096 4096 64", 0.65),
    ("attention 8 4096 77 40", 0.65),
    ("attention 1 4096 4096 512", 0.65),
    ("matmul 1024 1024 1024", 0.95),
    ("matmul 77 768 768", 0.95),
    ("matmul 2048 2048 2048", 0.95),
    ("linear 4096 320 1280", 0.95),
    ("linear 4096 320 320", 0.95),
    ("linear 4096 1280 320", 0.95),
    ("linear 77 768 3072", 0.95),
    ("linear 1 1280 1280", 0.95),
    ("linear 4096 320 1280 f16", 0.95),
    ("linear 4096 320 1280 bf16", 0.95),
    ("group_norm", 0.8),
    ("group_norm last", 0.8),
    ("group_norm silu", 0.8),
    ("group_norm silu last", 0.8),
    ("layer_norm", 0.8),
    ("layer_norm modulate", 0.8),
    ("rms_norm", 0.8),
    ("softmax 8 1024 1024", 0.8),
    ("latent silu", 0.8),
    ("latent gelu", 0.8),
    ("latent sigmoid", 0.8),
    ("latent tanh", 0.8),
    ("latent add", 1.0),
    ("picture exp", 1.0),
    ("picture log", 1.0),
    ("picture sin", 1.0),
    ("picture pow", 1.0),
    ("picture add", 1.0),
    ("picture scale", 1.0),
    ("picture clamp", 1.0),
    ("picture lerp", 1.0),
    ("picture where", 1.0),
    ("picture sum", 1.0),
    ("picture mean", 1.0),
    ("picture amax", 1.0),
    ("picture half", 1.0),
    ("picture bytes", 1.0),
    ("picture planar", 1.0),
    ("picture cat", 1.0),
    ("resize bilinear 1024 1536", 0.35),
    ("resize bicubic 1024 1536", 0.35),
    ("resize bilinear 2048 1024", 0.35),
    ("resize bicubic 2048 1024", 0.35),
    ("resize area 2048 1024", 0.35),
    ("resize nearest-exact 2048 1024", 0.35),
    ("lanczos 1024 1536", 0.15),
    ("lanczos 2048 1024", 0.15),
    ("sort", 1.0),
    ("cumsum", 1.0),
    ("randn", 1.0),
];

type Work<'a> = Box<dyn Fn() -> Result<Tensor, TensorError> + 'a>;

fn main() -> Result<(), String> {
    let options = Options::parse()?;
    rayon::ThreadPoolBuilder::new().num_threads(options.threads).build_global().map_err(|error| error.to_string())?;
    let mut peer = options.python.as_deref().map(|python| Peer::start(python, &options)).transpose()?;
    let cx = &OpContext::new(Budget::root(16 << 30));
    println!("{:34} {:>10} {:>10} {:>7} {:>6}", "milliseconds", "here", "PyTorch", "ratio", "aim");
    for (name, aim) in CASES {
        if !options.filters.is_empty() && !options.filters.iter().any(|filter| name.starts_with(filter.as_str())) {
            continue;
        }
        let make = make(name, cx).map_err(|error| format!("{name}: {error}"))?;
        // Elementwise results would wait for somebody who needs them.
        let work = || make().and_then(|result| result.settle(cx).map(|()| result));
        work().map_err(|error| format!("{name}: {error}"))?;
        let (mut own, mut other) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..options.rounds {
            let runs = runs(own);
            // The other side's threads wait for more work for a while, on the same cores.
            std::thread::sleep(PAUSE);
            for _ in 0..runs {
                let start = options.clock.now();
                let result = work();
                own = own.min((options.clock.now() - start).as_secs_f64() * 1e3);
                result.map_err(|error| format!("{name}: {error}"))?;
            }
            if let Some(peer) = &mut peer {
                std::thread::sleep(PAUSE);
                other = other.min(peer.time(name, runs)?);
            }
        }
        match peer {
            None => println!("{name:34} {own:10.3}"),
            Some(_) => {
                let ratio = own / other;
                let verdict = if ratio <= *aim { "" } else { "  missed" };
                println!("{name:34} {own:10.3} {other:10.3} {ratio:7.2} {aim:6.2}{verdict}");
            }
        }
    }
    Ok(())
}

const PAUSE: Duration = Duration::from_millis(20);

/// Runs per round: more of what is quick.
fn runs(milliseconds: f64) -> usize {
    match milliseconds {
        ..2.0 => 10,
        ..20.0 => 5,
        _ => 2,
    }
}

/// What is measured.
#[derive(Clone, Copy)]
enum Clock {
    Wall,
    /// What the process used of processors: says more than the wall where others use the machine. For one thread, as
    /// waiting threads count.
    Processor,
}

impl Clock {
    fn name(self) -> &'static str {
        match self {
            Clock::Wall => "wall",
            Clock::Processor => "processor",
        }
    }

    #[allow(unsafe_code)]
    fn now(self) -> Duration {
        let clock = match self {
            Clock::Wall => libc::CLOCK_MONOTONIC,
            Clock::Processor => libc::CLOCK_PROCESS_CPUTIME_ID,
        };
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a live `timespec`, which the call fills.
        unsafe { libc::clock_gettime(clock, &mut time) };
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}

struct Options {
    clock: Clock,
    python: Option<String>,
    threads: usize,
    rounds: usize,
    filters: Vec<String>,
}

impl Options {
    fn parse() -> Result<Options, String> {
        let mut options = Options {
            python: std::env::var("VIVARIUM_PEER_PYTHON").ok(),
            clock: Clock::Wall,
            threads: 2,
            rounds: 7,
            filters: Vec::new(),
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            let number = |text: String| text.parse::<usize>().map_err(|error| format!("{text}: {error}"));
            match argument.as_str() {
                "--python" => options.python = Some(value()?),
                "--threads" => options.threads = number(value()?)?,
                "--processor-time" => (options.clock, options.threads) = (Clock::Processor, 1),
                "--rounds" => options.rounds = number(value()?)?.max(1),
                _ => options.filters.push(argument),
            }
        }
        Ok(options)
    }
}

/// PyTorch, in a process of its own.
struct Peer {
    process: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    fn start(python: &str, options: &Options) -> Result<Peer, String> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pytorch/timings.py");
        let mut command = Command::new(python);
        command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().map_err(|error| format!("{python}: {error}"))?;
        let (Some(ask), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("the peer has no pipes".into());
        };
        let mut peer = Peer { process, ask, answers: BufReader::new(answers) };
        let (threads, clock) = (options.threads, options.clock.name());
        let version = peer.answer(&format!("threads {threads} {clock}"))?;
        println!("PyTorch {version}, {threads} threads each, {clock} time");
        Ok(peer)
    }

    fn answer(&mut self, question: &str) -> Result<String, String> {
        writeln!(self.ask, "{question}").and_then(|()| self.ask.flush()).map_err(|error| error.to_string())?;
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(|error| error.to_string())?;
        Ok(line.trim().to_owned())
    }

    /// The least time of some runs; infinite where PyTorch has no such case.
    fn time(&mut self, name: &str, runs: usize) -> Result<f64, String> {
        let answer = self.answer(&format!("{name}\t{runs}"))?;
        if answer.is_empty() {
            return Err("the peer has ended".into());
        }
        let times = answer.split(' ').map(str::parse::<f64>).collect::<Result<Vec<_>, _>>();
        times.map(|times| times.into_iter().fold(f64::INFINITY, f64::min)).map_err(|_| format!("{name}: {answer}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn make<'a>(name: &str, cx: &'a OpContext) -> Result<Work<'a>, TensorError> {
    let parts: Vec<&str> = name.split(' ').collect();
    let numbers: Vec<u64> = parts.iter().filter_map(|part| part.parse().ok()).collect();
    let noise = |shape: &[u64]| Tensor::randn(shape, 1, Generator::Philox, cx);
    let dtype = match parts.last() {
        Some(&"f16") => DType::Float16,
        Some(&"bf16") => DType::Bfloat16,
        _ => DType::Float32,
    };
    let typed = |shape: &[u64]| noise(shape)?.cast(dtype, cx);
    let last = |tensor: &Tensor| tensor.permute(&[0, 2, 3, 1], cx)?.contiguous(cx)?.permute(&[0, 3, 1, 2], cx);
    let image = |side: u64| Tensor::rand(&[1, side, side, 3], 1, Generator::Philox, cx);
    let is_last = parts.contains(&"last");
    Ok(match parts[0] {
        "conv" => {
            let [inputs, outputs, side, window, stride] = numbers[..] else { unreachable!("{name}") };
            let x = typed(&[1, inputs, side, side])?;
            let x = if is_last { last(&x)? } else { x };
            let (w, b) = (typed(&[outputs, inputs, window, window])?, typed(&[outputs])?);
            let padding = [window / 2; 2];
            let geometry = ConvGeometry { padding, stride: [stride; 2], ..ConvGeometry::default() };
            Box::new(move || x.conv2d(&w, Some(&b), &geometry, cx))
        }
        "attention" => {
            let [heads, queries, keys, width] = numbers[..] else { unreachable!("{name}") };
            let q = noise(&[1, heads, queries, width])?;
            let (k, v) = (noise(&[1, heads, keys, width])?, noise(&[1, heads, keys, width])?);
            Box::new(move || q.scaled_dot_product_attention(&k, &v, None, false, None, cx))
        }
        "linear" => {
            let [rows, inputs, outputs] = numbers[..] else { unreachable!("{name}") };
            let (x, w, b) = (typed(&[rows, inputs])?, typed(&[outputs, inputs])?, typed(&[outputs])?);
            Box::new(move || x.linear(&w, Some(&b), cx))
        }
        "matmul" => {
            let (a, b) = (noise(&[numbers[0], numbers[1]])?, noise(&[numbers[1], numbers[2]])?);
            Box::new(move || a.matmul(&b, cx))
        }
        "group_norm" => {
            let (x, w, b) = (noise(&[1, 320, 64, 64])?, noise(&[320])?, noise(&[320])?);
            let x = if is_last { last(&x)? } else { x };
            let activate = parts.contains(&"silu");
            Box::new(move || {
                let normalized = x.group_norm(32, Some(&w), Some(&b), 1e-5, cx)?;
                if activate { normalized.unary(UnaryOp::Silu, cx) } else { Ok(normalized) }
            })
        }
        "layer_norm" => {
            let (x, w, b) = (noise(&[4096, 320])?, noise(&[320])?, noise(&[320])?);
            let modulate = parts.contains(&"modulate");
            Box::new(move || {
                let normalized = x.layer_norm(1, Some(&w), Some(&b), 1e-5, cx)?;
                if !modulate {
                    return Ok(normalized);
                }
                let scaled = normalized.binary(BinaryOp::Mul, Operand::Tensor(&w), cx)?;
                scaled.binary(BinaryOp::Add, Operand::Tensor(&b), cx)
            })
        }
        "rms_norm" => {
            let (x, w) = (noise(&[4096, 320])?, noise(&[320])?);
            Box::new(move || x.rms_norm(1, Some(&w), 1e-5, cx))
        }
        "softmax" => {
            let x = noise(&numbers)?;
            Box::new(move || x.softmax(-1, cx))
        }
        "latent" => elementwise(parts[1], noise(&[1, 320, 64, 64])?, noise(&[1, 320, 64, 64])?, cx),
        "picture" => elementwise(parts[1], noise(&[1, 2048, 2048, 3])?, noise(&[1, 2048, 2048, 3])?, cx),
        "resize" => {
            let x = image(numbers[0])?.permute(&[0, 3, 1, 2], cx)?;
            let (side, mode) = (numbers[1], parts[1].to_owned());
            let mode = match mode.as_str() {
                "bilinear" => InterpolateMode::Bilinear,
                "bicubic" => InterpolateMode::Bicubic,
                "area" => InterpolateMode::Area,
                _ => InterpolateMode::NearestExact,
            };
            Box::new(move || x.interpolate(side, side, mode, cx))
        }
        "lanczos" => {
            let x = image(numbers[0])?.permute(&[0, 3, 1, 2], cx)?;
            let side = numbers[1];
            Box::new(move || x.interpolate(side, side, InterpolateMode::Lanczos, cx))
        }
        "sort" => {
            let x = noise(&[64, 8192])?;
            Box::new(move || x.sort(-1, false, cx).map(|sorted| sorted.0))
        }
        "cumsum" => {
            let x = noise(&[64, 8192])?;
            Box::new(move || x.cumsum(-1, cx))
        }
        "randn" => Box::new(move || Tensor::randn(&[1, 4, 128, 128], 1, Generator::Pytorch, cx)),
        _ => unreachable!("{name}"),
    })
}

fn elementwise<'a>(name: &str, x: Tensor, y: Tensor, cx: &'a OpContext) -> Work<'a> {
    let unary = |op: UnaryOp| -> Work<'a> {
        let x = x.clone();
        Box::new(move || x.unary(op, cx))
    };
    match name {
        "silu" => unary(UnaryOp::Silu),
        "gelu" => unary(UnaryOp::Gelu),
        "sigmoid" => unary(UnaryOp::Sigmoid),
        "tanh" => unary(UnaryOp::Tanh),
        "exp" => unary(UnaryOp::Exp),
        "sin" => unary(UnaryOp::Sin),
        "log" => Box::new(move || x.unary(UnaryOp::Abs, cx)?.unary(UnaryOp::Log, cx)),
        "pow" => Box::new(move || x.unary(UnaryOp::Abs, cx)?.binary(BinaryOp::Pow, Operand::Scalar(2.2), cx)),
        "add" => Box::new(move || x.binary(BinaryOp::Add, Operand::Tensor(&y), cx)),
        "mul" => Box::new(move || x.binary(BinaryOp::Mul, Operand::Tensor(&y), cx)),
        "scale" => Box::new(move || x.binary(BinaryOp::Mul, Operand::Scalar(0.5), cx)),
        "clamp" => Box::new(move || x.clamp(Some(0.0), Some(1.0), cx)),
        "lerp" => Box::new(move || x.lerp(&y, Operand::Scalar(0.25), cx)),
        "where" => Box::new(move || {
            let larger = x.binary(BinaryOp::Gt, Operand::Tensor(&y), cx)?;
            x.where_(&larger, Operand::Tensor(&y), cx)
        }),
        "sum" => Box::new(move || x.reduce(ReduceOp::Sum, &[], false, cx)),
        "mean" => Box::new(move || x.reduce(ReduceOp::Mean, &[-1], false, cx)),
        "amax" => Box::new(move || x.reduce(ReduceOp::Amax, &[1, 2], false, cx)),
        "half" => Box::new(move || x.cast(DType::Float16, cx)),
        "bytes" => Box::new(move || x.clamp(Some(0.0), Some(255.0), cx)?.cast(DType::Uint8, cx)),
        "planar" => Box::new(move || x.permute(&[0, 3, 1, 2], cx)?.contiguous(cx)),
        _ => Box::new(move || Tensor::cat(&[&x, &y], 0, cx)),
    }
}
