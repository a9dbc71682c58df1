//! Values of options that need a parser.

use std::any::type_name;
use std::error::Error;
use std::ffi::OsStr;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command};
use pupilla::DetectorKind;

/// A value that the library names and understands; help and shells know its names.
#[derive(Clone)]
pub struct Named<T> {
    names: Vec<String>,
    /// Names that are understood too, and stand in no help.
    aliases: Vec<String>,
    value: PhantomData<T>,
}

/// A parser for a type of the library, from the names that it has.
pub fn named<T: FromStr>(names: impl IntoIterator<Item: ToString>) -> Named<T> {
    let names: Vec<String> = names.into_iter().map(|name| name.to_string()).collect();
    debug_assert!(
        names.iter().all(|name| name.parse::<T>().is_ok()),
        "{names:?} are not all names of a {}",
        type_name::<T>()
    );
    Named {
        names,
        aliases: Vec::new(),
        value: PhantomData,
    }
}

/// A parser for detectors, from their own names and those of the field.
pub fn detector() -> Named<DetectorKind> {
    Named {
        aliases: DetectorKind::ALIASES
            .map(|(alias, _)| alias.to_string())
            .to_vec(),
        ..named(DetectorKind::ALL)
    }
}

impl<T> Named<T> {
    /// The name that a wrong name is most like, if it is like one: Jaro's similarity, with clap's own limit.
    fn like(&self, wrong: &str) -> Option<&str> {
        const ALIKE: f64 = 0.7;
        let names = self.names.iter().chain(&self.aliases);
        let rated = names.map(|name| (strsim::jaro(&wrong.to_lowercase(), name), name));
        let near = rated.filter(|(alike, _)| *alike > ALIKE);
        let nearest = near.max_by(|one, other| one.0.total_cmp(&other.0));
        nearest.map(|(_, name)| name.as_str())
    }
}

impl<T> TypedValueParser for Named<T>
where
    T: FromStr<Err: Into<Box<dyn Error + Send + Sync>>> + Clone + Send + Sync + 'static,
{
    type Value = T;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<T, clap::Error> {
        let parsed = TypedValueParser::parse_ref(&str::parse::<T>, command, arg, value);
        parsed.map_err(|mut error| {
            if let Some(name) = self.like(&value.to_string_lossy()) {
                let name = ContextValue::String(name.to_owned());
                error.insert(ContextKind::SuggestedValue, name);
            }
            error
        })
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.names.iter().map(PossibleValue::new)))
    }
}

/// A time budget in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget(pub u64);

/// A number with a unit after it. `None` if it is not written so; the largest number if it is too large.
fn amount(text: &str, units: &[(char, u64)]) -> Option<u64> {
    let unit = text.chars().last()?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    Some(number.saturating_mul(*factor))
}

impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match amount(text, &[('s', 1), ('m', 60), ('h', 3600)]) {
            Some(seconds @ 1..=31_536_000) => Ok(Self(seconds)),
            Some(_) => Err(format!("{text:?} is out of range: from 1s to a year")),
            None => Err(format!(
                "{text:?} is not a time: write it as 90s, 10m or 1h"
            )),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}s", self.0)
    }
}

/// An amount of memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory(pub usize);

impl FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match amount(text, &[('M', 1 << 20), ('G', 1 << 30)]).map(usize::try_from) {
            Some(Ok(bytes @ 1..usize::MAX)) => Ok(Self(bytes)),
            Some(_) => Err(format!("{text:?} is out of range")),
            None => Err(format!(
                "{text:?} is not an amount of memory: write it as 500M or 2G"
            )),
        }
    }
}

pub fn sides(text: &str) -> Result<[usize; 2], String> {
    let numbers = text
        .split_once(',')
        .map(|(from, to)| (from.trim().parse(), to.trim().parse()));
    match numbers {
        Some((Ok(from), Ok(to))) => Ok([from, to]),
        _ => Err("write it as two numbers, 132,528".to_string()),
    }
}

/// A number that fits, or what is wrong with others.
fn number<N: FromStr>(text: &str, fits: fn(&N) -> bool, wrong: &str) -> Result<N, String> {
    text.parse()
        .ok()
        .filter(fits)
        .ok_or_else(|| wrong.to_string())
}

/// What becomes a setting of the library: JSON, through which it goes there, has no other numbers.
pub fn real(text: &str) -> Result<f64, String> {
    number(
        text,
        |number: &f64| number.is_finite(),
        "it is not a finite number",
    )
}

pub fn finite(text: &str) -> Result<f32, String> {
    number(
        text,
        |number: &f32| number.is_finite(),
        "a threshold is a number",
    )
}

pub fn spacing(text: &str) -> Result<f64, String> {
    number(
        text,
        |spacing| (0.0..=1.0).contains(spacing),
        "a spacing lies between 0 and 1",
    )
}

pub fn rate(text: &str) -> Result<f64, String> {
    let fits = |rate: &f64| *rate > 0.0 && *rate <= 1.0;
    number(
        text,
        fits,
        "a false-positive rate lies above 0 and is at most 1",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_a_unit_and_a_range() {
        assert_eq!("500M".parse(), Ok(Memory(500 << 20)));
        assert_eq!("2G".parse(), Ok(Memory(2 << 30)));
        for wrong in [
            "",
            "5",
            "M",
            "0M",
            "-1G",
            "1.5G",
            "1T",
            "99999999999999999999G",
            "99999999999G",
            "1é",
        ] {
            assert!(wrong.parse::<Memory>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn budgets_have_a_unit_and_a_range() {
        assert_eq!("90s".parse(), Ok(Budget(90)));
        assert_eq!("10m".parse(), Ok(Budget(600)));
        assert_eq!("1h".parse(), Ok(Budget(3600)));
        for wrong in [
            "",
            "10",
            "m",
            "-1m",
            "0s",
            "1d",
            "99999999999999999999h",
            "9999999h",
            "1é",
        ] {
            assert!(wrong.parse::<Budget>().is_err(), "{wrong}");
        }
    }
}
