//! What the operator asked for.

use std::str::FromStr;

/// Where tensors shall be computed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// All GPUs that can be used, or else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// All GPUs, or nothing.
    All,
    /// These GPUs, as the driver counts, or nothing. At least one, and none twice.
    Cuda(Vec<usize>),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            "cuda:all" => return Ok(Self::All),
            _ => {}
        }
        let mut ordinals = Vec::new();
        for name in text.split(',') {
            let ordinal = match name {
                "cuda" => Some(0),
                _ => name.strip_prefix("cuda:").and_then(|number| number.parse().ok()),
            };
            let wrong = || "is none of auto, cpu, cuda, cuda:N, cuda:N,cuda:M,… and cuda:all".to_owned();
            let ordinal = ordinal.ok_or_else(wrong)?;
            if ordinals.contains(&ordinal) {
                return Err(format!("names cuda:{ordinal} twice"));
            }
            ordinals.push(ordinal);
        }
        Ok(Self::Cuda(ordinals))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read() {
        let read = |text: &str| text.parse::<DeviceChoice>();
        assert_eq!(read("auto"), Ok(DeviceChoice::Auto));
        assert_eq!(read("cpu"), Ok(DeviceChoice::Cpu));
        assert_eq!(read("cuda"), Ok(DeviceChoice::Cuda(vec![0])));
        assert_eq!(read("cuda:3"), Ok(DeviceChoice::Cuda(vec![3])));
        assert_eq!(read("cuda:2,cuda:0"), Ok(DeviceChoice::Cuda(vec![2, 0])));
        assert_eq!(read("cuda:all"), Ok(DeviceChoice::All));
        for wrong in
            ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "CPU", "cuda:0,", "cuda:0,1", "cuda:0,cpu", "cuda,cuda:0"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
