//! The testkit's words for what the sandbox has words for, too: the testkit knows no sandbox. Each list is complete, or the
//! compiler says so.

use vivarium_sandbox::CallErrorKind;
use vivarium_tensor::DType as HostDType;
use vivarium_testkit::{DType, FailureKind, LogLevel, OutputFolder};

pub(super) fn failure(kind: CallErrorKind) -> FailureKind {
    match kind {
        CallErrorKind::Failed => FailureKind::Failed,
        CallErrorKind::InvalidArgument => FailureKind::InvalidArgument,
        CallErrorKind::NotFound => FailureKind::NotFound,
        CallErrorKind::PermissionDenied => FailureKind::PermissionDenied,
        CallErrorKind::Unsupported => FailureKind::Unsupported,
        CallErrorKind::Timeout => FailureKind::Timeout,
        CallErrorKind::OutOfGuestMemory => FailureKind::OutOfGuestMemory,
        CallErrorKind::OutOfTensorMemory => FailureKind::OutOfTensorMemory,
        CallErrorKind::StackOverflow => FailureKind::StackOverflow,
        CallErrorKind::LimitExceeded => FailureKind::LimitExceeded,
        CallErrorKind::Interrupted => FailureKind::Interrupted,
        CallErrorKind::Trap => FailureKind::Trap,
        CallErrorKind::Internal => FailureKind::Internal,
    }
}

pub(super) fn level(level: vivarium_sandbox::LogLevel) -> LogLevel {
    match level {
        vivarium_sandbox::LogLevel::Trace => LogLevel::Trace,
        vivarium_sandbox::LogLevel::Debug => LogLevel::Debug,
        vivarium_sandbox::LogLevel::Info => LogLevel::Info,
        vivarium_sandbox::LogLevel::Warn => LogLevel::Warn,
        vivarium_sandbox::LogLevel::Error => LogLevel::Error,
    }
}

pub(super) fn folder(folder: vivarium_sandbox::OutputFolder) -> OutputFolder {
    match folder {
        vivarium_sandbox::OutputFolder::Output => OutputFolder::Output,
        vivarium_sandbox::OutputFolder::Temp => OutputFolder::Temp,
    }
}

pub(super) fn dtype(dtype: DType) -> HostDType {
    match dtype {
        DType::Float32 => HostDType::Float32,
        DType::Float16 => HostDType::Float16,
        DType::Bfloat16 => HostDType::Bfloat16,
        DType::Uint8 => HostDType::Uint8,
        DType::Int32 => HostDType::Int32,
        DType::Int64 => HostDType::Int64,
        DType::Boolean => HostDType::Boolean,
        DType::Float8E4m3 => HostDType::Float8E4m3,
        DType::Float8E5m2 => HostDType::Float8E5m2,
    }
}

pub(super) fn dtype_of(dtype: HostDType) -> DType {
    match dtype {
        HostDType::Float32 => DType::Float32,
        HostDType::Float16 => DType::Float16,
        HostDType::Bfloat16 => DType::Bfloat16,
        HostDType::Uint8 => DType::Uint8,
        HostDType::Int32 => DType::Int32,
        HostDType::Int64 => DType::Int64,
        HostDType::Boolean => DType::Boolean,
        HostDType::Float8E4m3 => DType::Float8E4m3,
        HostDType::Float8E5m2 => DType::Float8E5m2,
    }
}

/// In a safetensors file.
pub(super) fn stored(dtype: DType) -> safetensors::Dtype {
    match dtype {
        DType::Float32 => safetensors::Dtype::F32,
        DType::Float16 => safetensors::Dtype::F16,
        DType::Bfloat16 => safetensors::Dtype::BF16,
        DType::Uint8 => safetensors::Dtype::U8,
        DType::Int32 => safetensors::Dtype::I32,
        DType::Int64 => safetensors::Dtype::I64,
        DType::Boolean => safetensors::Dtype::BOOL,
        DType::Float8E4m3 => safetensors::Dtype::F8_E4M3,
        DType::Float8E5m2 => safetensors::Dtype::F8_E5M2,
    }
}
