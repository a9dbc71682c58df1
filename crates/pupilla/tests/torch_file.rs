//! Writes `.pth` files as `torch.save` does, sound ones and others.

/// A zip archive of stored entries.
pub fn archive(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut directory = Vec::new();
    let half = |number: usize| u16::try_from(number).unwrap().to_le_bytes();
    let word = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    for (name, content) in entries {
        let mut fields = Vec::new();
        fields.extend(half(0)); // version
        fields.extend(half(0x808)); // flags
        fields.extend(half(0)); // stored
        fields.extend([0; 4]); // time and date
        fields.extend(crc32fast::hash(content).to_le_bytes());
        fields.extend(word(content.len()));
        fields.extend(word(content.len()));
        fields.extend(half(name.len()));
        // `torch.save` fills the extra field so that numbers begin at multiples of 64.
        let extra = vec![0; 64 - (file.len() + 30 + name.len()) % 64];
        directory.extend(b"PK\x01\x02\0\0");
        directory.extend(&fields);
        directory.extend(half(0));
        directory.extend([0; 10]);
        directory.extend(word(file.len()));
        directory.extend(name.as_bytes());
        file.extend(b"PK\x03\x04");
        file.extend(&fields);
        file.extend(half(extra.len()));
        file.extend(name.as_bytes());
        file.extend(extra);
        file.extend(content);
    }
    let (start, size) = (file.len(), directory.len());
    file.extend(directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend(half(entries.len()));
    file.extend(half(entries.len()));
    file.extend(word(size));
    file.extend(word(start));
    file.extend(half(0));
    file
}

/// A pickle in the making; every method appends what its name says.
pub struct Pickle(pub Vec<u8>);

impl Pickle {
    pub fn new() -> Self {
        Self(vec![0x80, 2])
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    pub fn text(self, text: &str) -> Self {
        let length = (text.len() as u32).to_le_bytes();
        self.raw(b"X").raw(&length).raw(text.as_bytes())
    }

    /// `LONG1` of eight bytes, which holds any.
    pub fn number(self, number: i64) -> Self {
        self.raw(&[0x8a, 8]).raw(&number.to_le_bytes())
    }

    pub fn numbers(self, numbers: &[i64]) -> Self {
        let mut pickle = self.raw(b"(");
        for number in numbers {
            pickle = pickle.number(*number);
        }
        pickle.raw(b"t")
    }

    pub fn ordered_dict(self) -> Self {
        self.global("collections", "OrderedDict").raw(b")R")
    }

    /// A tensor in a storage of `elements` numbers under `key`.
    pub fn tensor(
        self,
        key: &str,
        elements: i64,
        offset: i64,
        shape: &[i64],
        strides: &[i64],
    ) -> Self {
        self.global("torch._utils", "_rebuild_tensor_v2")
            .raw(b"((")
            .text("storage")
            .global("torch", "FloatStorage")
            .text(key)
            .text("cpu")
            .number(elements)
            .raw(b"tQ")
            .number(offset)
            .numbers(shape)
            .numbers(strides)
            .raw(b"\x89")
            .ordered_dict()
            .raw(b"tR")
    }

    pub fn end(self) -> Vec<u8> {
        self.raw(b".").0
    }
}

/// A `.pth` file of a pickle and some storages.
pub fn file(pickle: Vec<u8>, storages: &[(&str, Vec<f32>)]) -> Vec<u8> {
    let mut entries = vec![
        ("weights/data.pkl".to_string(), pickle),
        ("weights/byteorder".to_string(), b"little".to_vec()),
    ];
    for (key, values) in storages {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        entries.push((format!("weights/data/{key}"), bytes.collect()));
    }
    entries.push(("weights/version".to_string(), b"3\n".to_vec()));
    archive(&entries)
}

/// A `.pth` file of a state dict.
pub fn state_dict(tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Vec<u8> {
    let storages: Vec<(String, Vec<f32>)> = storages(tensors).collect();
    let storages = storages
        .iter()
        .map(|(key, values)| (key.as_str(), values.clone()));
    file(pickled(tensors), &storages.collect::<Vec<_>>())
}

/// The same in the format from before PyTorch 1.6.
pub fn old_state_dict(tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Vec<u8> {
    let mut file = vec![0x80, 2, 0x8a, 10];
    file.extend(b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.");
    file.extend(Pickle::new().number(1001).end());
    let system = Pickle::new().raw(b"}(");
    let system = system.text("protocol_version").number(1001);
    file.extend(system.text("little_endian").raw(b"\x88u").end());
    file.extend(pickled(tensors));
    let mut keys = Pickle::new().raw(b"](");
    for (key, _) in storages(tensors) {
        keys = keys.text(&key);
    }
    file.extend(keys.raw(b"e").end());
    for (_, values) in storages(tensors) {
        file.extend((values.len() as i64).to_le_bytes());
        file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    file
}

/// A state dict, each tensor in a storage of its own.
fn pickled(tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Vec<u8> {
    let mut pickle = Pickle::new().ordered_dict().raw(b"(");
    for (index, (name, shape, values)) in tensors.iter().enumerate() {
        let shape: Vec<i64> = shape.iter().map(|size| *size as i64).collect();
        let strides: Vec<i64> = (0..shape.len())
            .map(|axis| shape[axis + 1..].iter().product())
            .collect();
        let key = index.to_string();
        pickle = pickle
            .text(name)
            .tensor(&key, values.len() as i64, 0, &shape, &strides);
    }
    pickle.raw(b"u").end()
}

/// Key and numbers of each.
fn storages(
    tensors: &[(String, Vec<usize>, Vec<f32>)],
) -> impl Iterator<Item = (String, Vec<f32>)> {
    let numbered = tensors.iter().enumerate();
    numbered.map(|(index, (.., values))| (index.to_string(), values.clone()))
}
