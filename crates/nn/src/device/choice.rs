//! The device that a user asks for.

use std::fmt;
use std::str::FromStr;

/// Where networks shall run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// On the processor.
    #[default]
    Cpu,
    /// On the GPU of this number, or on the first; software renderers come last.
    Gpu(Option<usize>),
    /// On the first GPU that works, else on the processor.
    Auto,
}

/// A word that names no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no device: write cpu, gpu, gpu:1 (the second) or auto")]
pub struct UnknownDevice(String);

impl FromStr for DeviceChoice {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownDevice(text.to_string());
        match text {
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu(None)),
            "auto" => Ok(Self::Auto),
            _ => {
                let index = text.strip_prefix("gpu:").ok_or_else(unknown)?;
                // A sign is none of a number's digits.
                if !index.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(unknown());
                }
                Ok(Self::Gpu(Some(index.parse().map_err(|_| unknown())?)))
            }
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => formatter.pad("cpu"),
            Self::Gpu(None) => formatter.pad("gpu"),
            Self::Gpu(Some(index)) => formatter.pad(&format!("gpu:{index}")),
            Self::Auto => formatter.pad("auto"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_written_as_they_are_read() {
        for text in ["cpu", "gpu", "gpu:0", "gpu:12", "auto"] {
            let choice: DeviceChoice = text.parse().unwrap();
            assert_eq!(choice.to_string(), text);
        }
        for wrong in [
            "",
            "CPU",
            "gpu:",
            "gpu:-1",
            "gpu:+1",
            "gpu:1.5",
            "gpu1",
            "cuda",
            "gpu:99999999999999999999",
        ] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong}");
        }
    }
}
