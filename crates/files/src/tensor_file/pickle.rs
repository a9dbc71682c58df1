//! A reader of pickles that hold a state dict and nothing else.
//!
//! A pickle is a program for a stack machine, and Python's own reader lets it import and call any function. This reader follows the
//! operations that `torch.save` (protocol 2) writes for a state dict and knows the calls that describe a tensor; it never calls
//! anything. All containers live in flat lists and refer to each other by index, so that no nesting, cycle or repeated reference in a
//! hostile pickle costs more than its own length.

use std::collections::{HashMap, HashSet};

use super::Number;
use crate::foreign_text::shown;

/// A state dict of a thousand tensors has a fifth of it.
pub(super) const MAX_PICKLE_BYTES: usize = 1 << 20;

/// Dimensions that a tensor may have.
const MAX_DIMENSIONS: usize = 8;

/// What to do about a pickle that is more than a state dict.
const ADVICE: &str = "save the state dict alone: torch.save(model.state_dict(), …)";

/// A pickle that is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PickleError {
    /// It names a class or function that has no place in a state dict. Nothing was executed.
    #[error(
        "its pickle wants to use {name}, which is no part of a state dict (nothing was executed); {ADVICE}"
    )]
    Global {
        /// `module.name`, as the pickle has it, its first hundred characters.
        name: String,
    },
    /// It holds a thing that no state dict holds.
    #[error(
        "its pickle holds {what} (operation 0x{operation:02x} at byte {at}), not tensors alone; {ADVICE}"
    )]
    Operation {
        /// The thing, as far as the operation tells.
        what: &'static str,
        /// The operation.
        operation: u8,
        /// Where it stands.
        at: usize,
    },
    /// An entry is not a tensor.
    #[error("its entry {key} is {what}, not a tensor; {ADVICE}")]
    Entry {
        /// The entry's name.
        key: String,
        /// What it is.
        what: &'static str,
    },
    /// It does not make sense.
    #[error("its pickle is damaged at byte {at}: {reason}")]
    Damaged {
        /// Where.
        at: usize,
        /// What is wrong.
        reason: String,
    },
    /// It is longer than the description of any network.
    #[error(
        "its pickle has {bytes} bytes, more than the {MAX_PICKLE_BYTES} a state dict takes; {ADVICE}"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// A tensor as the pickle describes it; every element lies within the storage's `elements`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PickledTensor {
    pub storage: Storage,
    /// First element in the storage.
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// A run of numbers that lies beside the pickle under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Storage {
    pub key: String,
    pub number: Number,
    pub elements: usize,
}

/// The classes and functions that may be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Number),
}

impl Global {
    fn find(module: &[u8], name: &[u8]) -> Option<Self> {
        Some(match (module, name) {
            (b"collections", b"OrderedDict") => Self::OrderedDict,
            (b"torch._utils", b"_rebuild_tensor_v2") => Self::RebuildTensor,
            (b"torch._utils", b"_rebuild_parameter") => Self::RebuildParameter,
            (b"torch", b"FloatStorage") => Self::Storage(Number::F32),
            (b"torch", b"HalfStorage") => Self::Storage(Number::F16),
            (b"torch", b"BFloat16Storage") => Self::Storage(Number::Bf16),
            (b"torch", b"DoubleStorage") => Self::Storage(Number::F64),
            (b"torch", b"LongStorage") => Self::Storage(Number::Other(8)),
            (b"torch", b"IntStorage") => Self::Storage(Number::Other(4)),
            (b"torch", b"ShortStorage") => Self::Storage(Number::Other(2)),
            (b"torch", b"CharStorage" | b"ByteStorage" | b"BoolStorage") => {
                Self::Storage(Number::Other(1))
            }
            _ => return None,
        })
    }
}

/// What stands on the stack; containers by their index.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Text(&'a str),
    Global(Global),
    Tuple(usize),
    Dict(usize),
    List(usize),
    Storage(usize),
    Tensor(usize),
}

impl Value<'_> {
    fn kind(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a truth value",
            Self::Int(_) => "a number",
            Self::Text(_) => "a text",
            Self::Global(_) => "a class",
            Self::Tuple(_) => "a tuple",
            Self::Dict(_) => "a dictionary",
            Self::List(_) => "a list",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
        }
    }
}

/// The tensors of a pickled state dict by name, in the order of the pickle.
pub(super) fn state_dict(pickle: &[u8]) -> Result<Vec<(String, PickledTensor)>, PickleError> {
    if pickle.len() > MAX_PICKLE_BYTES {
        return Err(PickleError::TooLarge {
            bytes: pickle.len(),
        });
    }
    let mut machine = Machine::new(pickle, 0);
    let root = machine.run()?;
    machine.named_tensors(root)
}

/// What the older format of `torch.save` has between its magic number and the raw numbers.
#[derive(Debug)]
pub(super) struct OldHeader {
    /// Tensors by name, in the order of the pickle.
    pub tensors: Vec<(String, PickledTensor)>,
    /// All storages, in the order in which their numbers follow.
    pub storages: Vec<Storage>,
    /// Where the numbers begin.
    pub end: usize,
}

/// Reads the four pickles from `start` on: the format's version, the machine that wrote the file, the state dict, the keys of the
/// storages.
pub(super) fn old_header(file: &[u8], start: usize) -> Result<OldHeader, PickleError> {
    const VERSION: i64 = 1001;
    let mut machine = Machine::new(file, start);
    if machine.run()? != Value::Int(VERSION) {
        return Err(machine.damaged("the format has another version than 1001"));
    }
    let mut machine = Machine::new(file, machine.at);
    let system = machine.run()?;
    let Value::Dict(system) = system else {
        return Err(machine.damaged(format!(
            "the machine that wrote it is {}, not a dictionary",
            system.kind()
        )));
    };
    let little_endian = (Value::Text("little_endian"), Value::Bool(true));
    if !machine.dicts[system].contains(&little_endian) {
        return Err(
            machine.damaged("numbers are not little-endian: save it on an ordinary machine")
        );
    }
    let mut machine = Machine::new(file, machine.at);
    let root = machine.run()?;
    let tensors = machine.named_tensors(root)?;
    let mut described: HashMap<String, Storage> = HashMap::new();
    for storage in std::mem::take(&mut machine.storages) {
        match described.get(&storage.key) {
            None => {
                described.insert(storage.key.clone(), storage);
            }
            Some(before) if *before == storage => {}
            Some(_) => {
                let key = shown(&storage.key);
                return Err(machine.damaged(format!("the storage {key} is described twice")));
            }
        }
    }
    let mut machine = Machine::new(file, machine.at);
    machine.with_lists = true;
    let keys = machine.run()?;
    let Value::List(keys) = keys else {
        return Err(machine.damaged(format!(
            "the keys of the storages are {}, not a list",
            keys.kind()
        )));
    };
    let mut storages = Vec::new();
    for key in &machine.lists[keys] {
        let Value::Text(key) = key else {
            return Err(machine.damaged(format!("the key of a storage is {}", key.kind())));
        };
        // Taken out: a key that comes again is unknown.
        let Some(storage) = described.remove(*key) else {
            let key = shown(key);
            return Err(machine.damaged(format!("no tensor needs the storage {key}, or not twice")));
        };
        storages.push(storage);
    }
    if let Some(key) = described.keys().min() {
        return Err(machine.damaged(format!("the storage {} is missing", shown(key))));
    }
    Ok(OldHeader {
        tensors,
        storages,
        end: machine.at,
    })
}

struct Machine<'a> {
    /// The file up to the end of the pickle, or up to the length that a pickle may have.
    pickle: &'a [u8],
    /// Whether the file continues after `pickle`.
    cut: bool,
    /// Whether lists may stand in it.
    with_lists: bool,
    at: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    tuples: Vec<Vec<Value<'a>>>,
    dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    lists: Vec<Vec<Value<'a>>>,
    storages: Vec<Storage>,
    tensors: Vec<PickledTensor>,
}

impl<'a> Machine<'a> {
    /// For the pickle that begins at `start`.
    fn new(file: &'a [u8], start: usize) -> Self {
        let end = file.len().min(start.saturating_add(MAX_PICKLE_BYTES));
        Self {
            pickle: &file[..end],
            cut: end < file.len(),
            with_lists: false,
            at: start,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            tuples: Vec::new(),
            dicts: Vec::new(),
            lists: Vec::new(),
            storages: Vec::new(),
            tensors: Vec::new(),
        }
    }

    fn damaged(&self, reason: impl Into<String>) -> PickleError {
        PickleError::Damaged {
            at: self.at,
            reason: reason.into(),
        }
    }

    /// Where it ends before it should.
    fn ended(&self) -> PickleError {
        if self.cut {
            self.damaged(format!(
                "it has more than the {MAX_PICKLE_BYTES} bytes that a state dict takes"
            ))
        } else {
            self.damaged("it ends in the middle")
        }
    }

    /// The tensors of a dictionary by name.
    fn named_tensors(&self, root: Value<'a>) -> Result<Vec<(String, PickledTensor)>, PickleError> {
        let Value::Dict(root) = root else {
            return Err(PickleError::Entry {
                key: "(the whole)".to_string(),
                what: root.kind(),
            });
        };
        let mut tensors: Vec<(String, PickledTensor)> = Vec::new();
        let mut seen = HashSet::new();
        for &(key, value) in &self.dicts[root] {
            let Value::Text(key) = key else {
                return Err(self.damaged(format!("an entry's name is {}", key.kind())));
            };
            let Value::Tensor(tensor) = value else {
                return Err(PickleError::Entry {
                    key: shown(key),
                    what: value.kind(),
                });
            };
            if !seen.insert(key) {
                return Err(self.damaged(format!("{} stands twice", shown(key))));
            }
            tensors.push((key.to_string(), self.tensors[tensor].clone()));
        }
        Ok(tensors)
    }

    /// Follows the operations to the end; the names are those of Python's `pickletools`.
    fn run(&mut self) -> Result<Value<'a>, PickleError> {
        loop {
            let at = self.at;
            let [operation] = self.bytes()?;
            match operation {
                0x80 => self.protocol()?,                                 // PROTO
                b'.' => return self.pop(),                                // STOP
                b'N' => self.push(Value::None),                           // NONE
                0x88 | 0x89 => self.push(Value::Bool(operation == 0x88)), // NEWTRUE, NEWFALSE
                b'K' => {
                    let [number] = self.bytes()?; // BININT1
                    self.push(Value::Int(number.into()));
                }
                b'M' => {
                    let number = u16::from_le_bytes(self.bytes()?); // BININT2
                    self.push(Value::Int(number.into()));
                }
                b'J' => {
                    let number = i32::from_le_bytes(self.bytes()?); // BININT
                    self.push(Value::Int(number.into()));
                }
                0x8a => self.long()?,                      // LONG1
                b'X' => self.text()?,                      // BINUNICODE
                b'c' => self.global()?,                    // GLOBAL
                b'(' => self.marks.push(self.stack.len()), // MARK
                b')' => self.tuple(Vec::new()),            // EMPTY_TUPLE
                0x85..=0x87 => {
                    let count = usize::from(operation - 0x84); // TUPLE1, TUPLE2, TUPLE3
                    let items = self.take(count)?;
                    self.tuple(items);
                }
                b't' => {
                    let items = self.marked()?; // TUPLE
                    self.tuple(items);
                }
                b'}' => self.dict(), // EMPTY_DICT
                b's' => {
                    let items = self.take(2)?; // SETITEM
                    self.set(&items)?;
                }
                b'u' => {
                    let items = self.marked()?; // SETITEMS
                    self.set(&items)?;
                }
                b']' if self.with_lists => {
                    self.lists.push(Vec::new()); // EMPTY_LIST
                    self.push(Value::List(self.lists.len() - 1));
                }
                b'a' if self.with_lists => {
                    let items = self.take(1)?; // APPEND
                    self.append(&items)?;
                }
                b'e' if self.with_lists => {
                    let items = self.marked()?; // APPENDS
                    self.append(&items)?;
                }
                b'q' => {
                    let [index] = self.bytes()?; // BINPUT
                    self.remember(index.into())?;
                }
                b'r' => {
                    let index = u32::from_le_bytes(self.bytes()?); // LONG_BINPUT
                    self.remember(index)?;
                }
                b'h' => {
                    let [index] = self.bytes()?; // BINGET
                    self.recall(index.into())?;
                }
                b'j' => {
                    let index = u32::from_le_bytes(self.bytes()?); // LONG_BINGET
                    self.recall(index)?;
                }
                b'Q' => self.storage()?, // BINPERSID
                b'R' => self.call()?,    // REDUCE
                b'b' => self.build()?,   // BUILD
                _ => {
                    return Err(PickleError::Operation {
                        what: match operation {
                            b'G' | b'F' => "a decimal number",
                            b']' | b'l' | b'a' | b'e' => "a list",
                            b'T' | b'U' | b'B' | b'C' => "bytes",
                            0x81 | b'o' | b'i' => "an object",
                            _ => "something unknown",
                        },
                        operation,
                        at,
                    });
                }
            }
        }
    }

    fn slice(&mut self, count: usize) -> Result<&'a [u8], PickleError> {
        match self.pickle[self.at..].get(..count) {
            Some(bytes) => {
                self.at += count;
                Ok(bytes)
            }
            None => Err(self.ended()),
        }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.slice(N)?);
        Ok(bytes)
    }

    /// Up to the end of the line.
    fn line(&mut self) -> Result<&'a [u8], PickleError> {
        let rest = &self.pickle[self.at..];
        let Some(length) = rest.iter().position(|byte| *byte == b'\n') else {
            return Err(self.ended());
        };
        self.at += length + 1;
        Ok(&rest[..length])
    }

    fn push(&mut self, value: Value<'a>) {
        self.stack.push(value);
    }

    fn pop(&mut self) -> Result<Value<'a>, PickleError> {
        // What stands below an open mark is out of reach.
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.pop() {
            Some(value) if self.stack.len() >= floor => Ok(value),
            _ => Err(self.damaged("it takes more than it has")),
        }
    }

    /// The last `count` values, in their order.
    fn take(&mut self, count: usize) -> Result<Vec<Value<'a>>, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(count) {
            Some(rest) if rest >= floor => Ok(self.stack.split_off(rest)),
            _ => Err(self.damaged("it takes more than it has")),
        }
    }

    /// The values since the last mark.
    fn marked(&mut self) -> Result<Vec<Value<'a>>, PickleError> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => Err(self.damaged("a mark is missing")),
        }
    }

    fn protocol(&mut self) -> Result<(), PickleError> {
        let [version] = self.bytes()?;
        if version == 2 {
            Ok(())
        } else {
            Err(self.damaged(format!(
                "protocol {version} instead of torch.save's own, 2: save it without pickle_protocol"
            )))
        }
    }

    /// An integer of any length, of which only those of 64 bits can be a size.
    fn long(&mut self) -> Result<(), PickleError> {
        let [length] = self.bytes()?;
        let bytes = self.slice(length.into())?;
        let Some(unused) = 8usize.checked_sub(bytes.len()) else {
            return Err(self.damaged("a number of more than 64 bits"));
        };
        let mut whole = [0; 8];
        whole[unused..].copy_from_slice(bytes);
        // Shifted down, the sign comes along.
        let number = i64::from_le_bytes(whole)
            .checked_shr(8 * unused as u32)
            .unwrap_or(0);
        self.push(Value::Int(number));
        Ok(())
    }

    fn text(&mut self) -> Result<(), PickleError> {
        let length = u32::from_le_bytes(self.bytes()?);
        let bytes = self.slice(length as usize)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                self.push(Value::Text(text));
                Ok(())
            }
            Err(_) => Err(self.damaged("a text is not UTF-8")),
        }
    }

    fn global(&mut self) -> Result<(), PickleError> {
        let (module, name) = (self.line()?, self.line()?);
        match Global::find(module, name) {
            Some(global) => {
                self.push(Value::Global(global));
                Ok(())
            }
            None => Err(PickleError::Global {
                name: shown(&String::from_utf8_lossy(&[module, b".", name].concat())),
            }),
        }
    }

    fn tuple(&mut self, items: Vec<Value<'a>>) {
        self.tuples.push(items);
        self.push(Value::Tuple(self.tuples.len() - 1));
    }

    fn dict(&mut self) {
        self.dicts.push(Vec::new());
        self.push(Value::Dict(self.dicts.len() - 1));
    }

    /// Adds keys and values, by turns, to the dictionary on top of the stack.
    fn set(&mut self, items: &[Value<'a>]) -> Result<(), PickleError> {
        let Some(&Value::Dict(dict)) = self.stack.last() else {
            return Err(self.damaged("entries for what is no dictionary"));
        };
        let (pairs, []) = items.as_chunks::<2>() else {
            return Err(self.damaged("a name without an entry"));
        };
        self.dicts[dict].extend(pairs.iter().map(|&[key, value]| (key, value)));
        Ok(())
    }

    /// Adds to the list on top of the stack.
    fn append(&mut self, items: &[Value<'a>]) -> Result<(), PickleError> {
        let Some(&Value::List(list)) = self.stack.last() else {
            return Err(self.damaged("items for what is no list"));
        };
        self.lists[list].extend(items);
        Ok(())
    }

    fn remember(&mut self, index: u32) -> Result<(), PickleError> {
        match self.stack.last() {
            Some(&value) => {
                self.memo.insert(index, value);
                Ok(())
            }
            None => Err(self.damaged("nothing to remember")),
        }
    }

    fn recall(&mut self, index: u32) -> Result<(), PickleError> {
        match self.memo.get(&index) {
            Some(&value) => {
                self.push(value);
                Ok(())
            }
            None => Err(self.damaged(format!("nothing is remembered as {index}"))),
        }
    }

    /// `('storage', torch.FloatStorage, key, device, number of elements)`, in the older format with a sixth entry, what part of another
    /// storage it is: none.
    fn storage(&mut self) -> Result<(), PickleError> {
        let reference = self.pop()?;
        if let Value::Tuple(items) = reference
            && let [
                Value::Text("storage"),
                Value::Global(Global::Storage(number)),
                Value::Text(key),
                _,
                Value::Int(elements),
                ref view @ ..,
            ] = self.tuples[items][..]
            && matches!(view, [] | [Value::None])
            && let Ok(elements) = usize::try_from(elements)
        {
            self.storages.push(Storage {
                key: key.to_string(),
                number,
                elements,
            });
            self.push(Value::Storage(self.storages.len() - 1));
            return Ok(());
        }
        Err(self.damaged("a storage is not described as torch.save does it"))
    }

    /// A function, applied: one of three, and nothing happens but that a description is noted.
    fn call(&mut self) -> Result<(), PickleError> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let (Value::Tuple(arguments), Value::Global(function)) = (arguments, function) else {
            return Err(self.damaged("a call of what is no function"));
        };
        match (function, &self.tuples[arguments][..]) {
            (Global::OrderedDict, []) => self.dict(),
            (Global::RebuildParameter, [tensor @ Value::Tensor(_), ..]) => {
                let tensor = *tensor;
                self.push(tensor);
            }
            (
                Global::RebuildTensor,
                &[
                    Value::Storage(storage),
                    Value::Int(offset),
                    Value::Tuple(shape),
                    Value::Tuple(strides),
                    ..,
                ],
            ) => {
                let tensor = self.tensor(storage, offset, shape, strides)?;
                self.tensors.push(tensor);
                self.push(Value::Tensor(self.tensors.len() - 1));
            }
            _ => return Err(self.damaged("a call with arguments that torch.save does not write")),
        }
        Ok(())
    }

    /// A tensor, once it is clear that all of it lies within its storage.
    fn tensor(
        &self,
        storage: usize,
        offset: i64,
        shape: usize,
        strides: usize,
    ) -> Result<PickledTensor, PickleError> {
        let sizes = |tuple: usize| -> Option<Vec<usize>> {
            self.tuples[tuple]
                .iter()
                .map(|size| match size {
                    Value::Int(size) => usize::try_from(*size).ok(),
                    _ => None,
                })
                .collect()
        };
        let storage = &self.storages[storage];
        if let (Ok(offset), Some(shape), Some(strides)) =
            (usize::try_from(offset), sizes(shape), sizes(strides))
            && shape.len() == strides.len()
            && shape.len() <= MAX_DIMENSIONS
            && shape
                .iter()
                .try_fold(1usize, |count, size| count.checked_mul(*size))
                .is_some()
            && let Some(end) = end(offset, &shape, &strides)
            && end <= storage.elements
        {
            return Ok(PickledTensor {
                storage: storage.clone(),
                offset,
                shape,
                strides,
            });
        }
        Err(self.damaged("a tensor does not lie within its storage"))
    }

    /// The state of an object: a state dict's versions, which mean nothing here.
    fn build(&mut self) -> Result<(), PickleError> {
        let (_state, object) = (self.pop()?, self.pop()?);
        let Value::Dict(_) = object else {
            return Err(self.damaged("a state for what has none"));
        };
        self.push(object);
        Ok(())
    }
}

/// One past the last element of a tensor in its storage; `None` if there is no such number.
fn end(offset: usize, shape: &[usize], strides: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(offset);
    }
    let last = shape
        .iter()
        .zip(strides)
        .try_fold(offset, |at, (size, stride)| {
            at.checked_add((size - 1).checked_mul(*stride)?)
        })?;
    last.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Any operations in any order: a dictionary of tensors or an error.
        #[test]
        fn no_pickle_breaks_the_reader(
            parts in proptest::collection::vec(
                prop_oneof![
                    proptest::sample::select(&b".N\x88K\x01M\x8a\x01(t)}su]ae\x85\x86\x87q\0h\0Q\x52b"[..])
                        .prop_map(|byte| vec![byte]),
                    Just(b"ccollections\nOrderedDict\n".to_vec()),
                    Just(b"ctorch._utils\n_rebuild_tensor_v2\n".to_vec()),
                    Just(b"ctorch._utils\n_rebuild_parameter\n".to_vec()),
                    Just(b"ctorch\nFloatStorage\n".to_vec()),
                    Just(b"X\x07\0\0\0storage".to_vec()),
                    Just(b"X\x01\0\0\x000".to_vec()),
                    Just(b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000NK\x04tQ".to_vec()),
                ],
                0..60,
            )
        ) {
            let mut pickle = vec![0x80, 2];
            pickle.extend(parts.concat());
            pickle.push(b'.');
            let _ = state_dict(&pickle);
            // As each of the last two pickles of the older format, before or after a sound one.
            let header = b"\x80\x02M\xe9\x03.\x80\x02}X\x0d\0\0\0little_endian\x88s.";
            for end in [[&pickle[..], b"\x80\x02]."], [b"\x80\x02}.", &pickle]] {
                let file = [&header[..], &end.concat()].concat();
                if let Ok(header) = old_header(&file, 0) {
                    prop_assert!(header.end <= file.len());
                }
            }
        }
    }

    #[test]
    fn long_numbers_keep_their_sign() {
        for (bytes, expected) in [
            (&[][..], 0),
            (&[0x7f], 127),
            (&[0xff], -1),
            (&[0x00, 0x80], -32768),
            (&[1, 0, 0, 0, 0, 0, 0, 0x80], i64::MIN + 1),
        ] {
            let mut pickle = vec![0x8a, bytes.len() as u8];
            pickle.extend(bytes);
            pickle.push(b'.');
            assert_eq!(Machine::new(&pickle, 0).run(), Ok(Value::Int(expected)));
        }
    }
}
