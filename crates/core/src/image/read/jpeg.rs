//! Whether a JPEG is complete: every scan is walked, code by code, until all blocks of the image are there.
//!
//! The decoder fills what is missing with grey and says nothing: a defect that is not there. An end marker proves nothing, since
//! thumbnails and other data have end markers too. The walk computes no pixel; it reads the Huffman codes and steps over the bits of
//! the coefficients (ITU-T T.81, annexes F and G).

/// Why a JPEG cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A kind that cannot be decoded, with its article.
    Unsupported(&'static str),
    /// The file, or a scan in it, ends before the last block.
    CutShort,
    /// The content contradicts itself.
    Damaged(&'static str),
}

/// The frame header.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub width: u16,
    pub height: u16,
    pub components: Vec<Component>,
    progressive: bool,
}

/// A component of the frame: one of the colours.
#[derive(Clone, Debug)]
pub(super) struct Component {
    id: u8,
    /// How many blocks of it lie beside and below each other in a minimum coded unit.
    across: usize,
    down: usize,
    /// The bits of each coefficient that are still to come; [`UNSEEN`] before the first scan.
    missing: [u8; 64],
    /// Which coefficients of each block are not 0: later scans of a progressive image have further bits of these.
    known: Vec<u64>,
}

const UNSEEN: u8 = u8::MAX;

/// As many scans as the decoder takes.
const MOST_SCANS: usize = 100;

/// Reads the frame header, which stands before the first scan.
pub(super) fn frame(bytes: &[u8]) -> Result<Frame, Fault> {
    let mut at = 2;
    loop {
        let segment = segment(bytes, at)?;
        match segment.marker {
            0xD9 | 0xDA => return Err(Fault::Damaged("it has no frame header")),
            marker if is_frame(marker) => return parse_frame(marker, segment.content),
            _ => at = segment.end,
        }
    }
}

/// Walks a JPEG to the last of its blocks; gives the place of the marker behind it.
///
/// Whoever calls it has checked the sides that [`frame`] gives: the walk takes 8 bytes for each block of a progressive image.
pub(super) fn complete(bytes: &[u8]) -> Result<usize, Fault> {
    let mut frame = frame(bytes)?;
    let mut tables = Tables::default();
    let mut restart = 0;
    let mut scans = 0;
    let mut at = 2;
    loop {
        let segment = segment(bytes, at)?;
        at = segment.end;
        match segment.marker {
            0xC4 => tables.add(segment.content)?,
            0xDD => match segment.content {
                &[high, low] => restart = usize::from(u16::from_be_bytes([high, low])),
                _ => return Err(Fault::Damaged("its restart interval is false")),
            },
            0xDA => {
                scans += 1;
                if scans > MOST_SCANS {
                    return Err(Fault::Damaged("it has too many scans"));
                }
                let scan = Scan::parse(segment.content, &frame)?;
                at = scan.walk(bytes, at, &mut frame, &tables, restart)?;
                if frame.components.iter().all(Component::is_complete) {
                    return Ok(next_marker(bytes, at));
                }
            }
            0xD9 => return Err(Fault::CutShort),
            _ => {}
        }
    }
}

struct Segment<'a> {
    marker: u8,
    content: &'a [u8],
    end: usize,
}

/// The next marker from `at` on, with its segment. What stands before a marker is stepped over, as decoders do.
fn segment(bytes: &[u8], at: usize) -> Result<Segment<'_>, Fault> {
    let at = next_marker(bytes, at);
    let Some(&marker) = bytes.get(at + 1) else {
        return Err(Fault::CutShort);
    };
    let at = at + 2;
    if matches!(marker, 0x01 | 0xD0..=0xD9) {
        return Ok(Segment {
            marker,
            content: &[],
            end: at,
        });
    }
    let Some(&[high, low]) = bytes.get(at..at + 2) else {
        return Err(Fault::CutShort);
    };
    let end = at + usize::from(u16::from_be_bytes([high, low]));
    if end < at + 2 {
        return Err(Fault::Damaged("a segment has a false length"));
    }
    let content = bytes.get(at + 2..end).ok_or(Fault::CutShort)?;
    Ok(Segment {
        marker,
        content,
        end,
    })
}

/// Where the next marker begins: its last 0xFF, if fill bytes stand before it. The end of the bytes if there is none.
fn next_marker(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(&byte) = bytes.get(at) {
        if byte == 0xFF && !matches!(bytes.get(at + 1), None | Some(0 | 0xFF)) {
            return at;
        }
        at += 1;
    }
    bytes.len()
}

fn is_frame(marker: u8) -> bool {
    matches!(marker, 0xC0..=0xCF | 0xF7) && !matches!(marker, 0xC4 | 0xC8 | 0xCC)
}

fn parse_frame(marker: u8, content: &[u8]) -> Result<Frame, Fault> {
    let &[precision, h1, h0, w1, w0, count, ref components @ ..] = content else {
        return Err(Fault::Damaged("its frame header is too short"));
    };
    match (marker, precision) {
        (0xC3, _) => return Err(Fault::Unsupported("a lossless JPEG")),
        (0xC5..=0xC7, _) => return Err(Fault::Unsupported("a hierarchical JPEG")),
        (0xC9..=0xCF, _) => return Err(Fault::Unsupported("a JPEG with arithmetic coding")),
        (0xF7, _) => return Err(Fault::Unsupported("a JPEG-LS image")),
        (_, 12) => return Err(Fault::Unsupported("a 12-bit JPEG")),
        (_, 8) => {}
        _ => return Err(Fault::Damaged("its frame header has a false precision")),
    }
    if count == 0 || count > 4 || components.len() != 3 * usize::from(count) {
        return Err(Fault::Damaged("its frame header has a false length"));
    }
    let components = components.chunks_exact(3).map(|component| Component {
        id: component[0],
        across: usize::from(component[1] >> 4),
        down: usize::from(component[1] & 15),
        missing: [UNSEEN; 64],
        known: Vec::new(),
    });
    let components: Vec<_> = components.collect();
    if !components
        .iter()
        .all(|own| (1..=4).contains(&own.across) && (1..=4).contains(&own.down))
    {
        return Err(Fault::Damaged(
            "its frame header has false sampling factors",
        ));
    }
    Ok(Frame {
        width: u16::from_be_bytes([w1, w0]),
        height: u16::from_be_bytes([h1, h0]),
        components,
        progressive: marker == 0xC2,
    })
}

impl Frame {
    /// The largest sampling factors of the components, across and down.
    fn sampling(&self) -> (usize, usize) {
        let across = self.components.iter().map(|own| own.across).max();
        let down = self.components.iter().map(|own| own.down).max();
        (across.unwrap_or(1), down.unwrap_or(1))
    }

    /// Minimum coded units across and down.
    fn units(&self) -> (usize, usize) {
        let (across, down) = self.sampling();
        (
            usize::from(self.width).div_ceil(8 * across),
            usize::from(self.height).div_ceil(8 * down),
        )
    }

    /// Blocks across and down of a component, without the padding of its last unit.
    fn blocks(&self, component: &Component) -> (usize, usize) {
        let (across, down) = self.sampling();
        (
            (usize::from(self.width) * component.across).div_ceil(8 * across),
            (usize::from(self.height) * component.down).div_ceil(8 * down),
        )
    }
}

impl Component {
    fn is_complete(&self) -> bool {
        self.missing == [0; 64]
    }
}

/// The Huffman tables in force: four for the first coefficient, four for the others.
#[derive(Default)]
struct Tables {
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
}

impl Tables {
    fn add(&mut self, mut content: &[u8]) -> Result<(), Fault> {
        const FALSE: Fault = Fault::Damaged("a Huffman table is false");
        while let Some((&place, rest)) = content.split_first() {
            let (counts, rest) = rest.split_at_checked(16).ok_or(FALSE)?;
            let values = counts.iter().map(|&count| usize::from(count)).sum();
            let (values, rest) = rest.split_at_checked(values).ok_or(FALSE)?;
            let tables = match place >> 4 {
                0 => &mut self.dc,
                1 => &mut self.ac,
                _ => return Err(FALSE),
            };
            let table = tables.get_mut(usize::from(place & 15)).ok_or(FALSE)?;
            *table = Some(Table::new(counts, values).ok_or(FALSE)?);
            content = rest;
        }
        Ok(())
    }
}

/// Codes of at most this many bits are looked up; longer codes are compared length by length.
const SHORT: u32 = 9;

struct Table {
    /// For the next [`SHORT`] bits: the value and the length of their code; length 0 for a longer code.
    short: Vec<(u8, u8)>,
    /// For each length: one above its largest code, aligned to 16 bits.
    above: [u32; 17],
    /// For each length: what is added to a code to give the place of its value.
    place: [i32; 17],
    values: Vec<u8>,
}

impl Table {
    /// The table of a segment: how many codes have 1 to 16 bits, and their values. `None` if there are not so many codes.
    fn new(counts: &[u8], values: &[u8]) -> Option<Self> {
        let mut short = vec![(0, 0); 1 << SHORT];
        let mut above = [0; 17];
        let mut place = [0; 17];
        let mut code = 0u32;
        let mut first = 0usize;
        for (length, &count) in (1u32..).zip(counts) {
            place[length as usize] = first as i32 - code as i32;
            for &value in &values[first..first + usize::from(count)] {
                if code >= 1 << length {
                    return None;
                }
                if length <= SHORT {
                    let from = (code << (SHORT - length)) as usize;
                    short[from..from + (1 << (SHORT - length))].fill((value, length as u8));
                }
                code += 1;
            }
            first += usize::from(count);
            above[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Some(Self {
            short,
            above,
            place,
            values: values.to_vec(),
        })
    }

    /// The value and the length of the code that the 16 bits begin with.
    fn look_up(&self, bits: u32) -> Option<(u8, u32)> {
        let (value, length) = self.short[(bits >> (16 - SHORT)) as usize];
        if length > 0 {
            return Some((value, length.into()));
        }
        let length = (SHORT + 1..=16).find(|&length| bits < self.above[length as usize])?;
        let at = (bits >> (16 - length)) as i32 + self.place[length as usize];
        let value = usize::try_from(at).ok().and_then(|at| self.values.get(at));
        value.map(|&value| (value, length))
    }
}

/// The bits of a scan, up to its next marker.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, from the highest on.
    next: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8], at: usize) -> Self {
        Self {
            bytes,
            at,
            next: 0,
            count: 0,
        }
    }

    /// Takes bytes until there are at least 57 bits, or the marker is reached.
    fn fill(&mut self) {
        while self.count <= 56 {
            let Some(&byte) = self.bytes.get(self.at) else {
                return;
            };
            if byte == 0xFF {
                match self.bytes.get(self.at + 1) {
                    Some(0) => self.at += 1,
                    // A fill byte.
                    Some(0xFF) => {
                        self.at += 1;
                        continue;
                    }
                    _ => return,
                }
            }
            self.at += 1;
            self.next |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    fn symbol(&mut self, table: &Table) -> Result<u8, Fault> {
        if self.count < 16 {
            self.fill();
        }
        match table.look_up((self.next >> 48) as u32) {
            Some((value, length)) if length <= self.count => {
                self.next <<= length;
                self.count -= length;
                Ok(value)
            }
            None if self.count >= 16 => Err(Fault::Damaged("it has a code that its tables lack")),
            _ => Err(self.ended()),
        }
    }

    /// The next 0 to 16 bits as a number.
    fn take(&mut self, bits: u32) -> Result<u32, Fault> {
        if self.count < bits {
            self.fill();
        }
        if bits == 0 {
            return Ok(0);
        }
        if bits > self.count {
            return Err(self.ended());
        }
        let value = (self.next >> (64 - bits)) as u32;
        self.next <<= bits;
        self.count -= bits;
        Ok(value)
    }

    /// What it means that the bits end here.
    fn ended(&self) -> Fault {
        match self.bytes.get(self.at + 1) {
            None | Some(0xD9) => Fault::CutShort,
            Some(_) => Fault::Damaged("a scan ends before its last block"),
        }
    }

    /// Goes to the data behind the restart marker of this number.
    fn restart(&mut self, number: usize) -> Result<(), Fault> {
        let at = next_marker(self.bytes, self.at);
        match self.bytes.get(at + 1) {
            Some(&marker) if usize::from(marker) == 0xD0 + number % 8 => {
                *self = Self::new(self.bytes, at + 2);
                Ok(())
            }
            None | Some(0xD9) => Err(Fault::CutShort),
            Some(_) => Err(Fault::Damaged("a restart marker is missing")),
        }
    }
}

/// The header of a scan.
struct Scan {
    /// For each component: its index in the frame, its tables for the first coefficient and for the others.
    components: Vec<(usize, usize, usize)>,
    /// The first and the last coefficient.
    from: usize,
    to: usize,
    /// The bits that were missing before the scan (0 in the first scan of a coefficient), and that are missing after it.
    before: u8,
    after: u8,
}

impl Scan {
    fn parse(content: &[u8], frame: &Frame) -> Result<Self, Fault> {
        const FALSE: Fault = Fault::Damaged("the header of a scan is false");
        let (&count, rest) = content.split_first().ok_or(FALSE)?;
        let (chosen, rest) = rest.split_at_checked(2 * usize::from(count)).ok_or(FALSE)?;
        let &[from, to, bits, ..] = rest else {
            return Err(FALSE);
        };
        let mut components: Vec<(usize, usize, usize)> = Vec::with_capacity(4);
        for chosen in chosen.chunks_exact(2) {
            let index = frame.components.iter().position(|own| own.id == chosen[0]);
            let index = index.ok_or(FALSE)?;
            if components.iter().any(|&(other, ..)| other == index) {
                return Err(FALSE);
            }
            let (dc, ac) = (usize::from(chosen[1] >> 4), usize::from(chosen[1] & 15));
            components.push((index, dc, ac));
        }
        let (from, to, before, after) = if frame.progressive {
            (usize::from(from), usize::from(to), bits >> 4, bits & 15)
        } else {
            (0, 63, 0, 0)
        };
        let alone = components.len() == 1;
        let ranges_are_true = !frame.progressive || (from == 0 && to == 0) || (from > 0 && alone);
        if components.is_empty() || from > to || to > 63 || after > 13 || !ranges_are_true {
            return Err(FALSE);
        }
        Ok(Self {
            components,
            from,
            to,
            before,
            after,
        })
    }

    /// Walks the data of the scan, which begin at `at`; gives the place where they end.
    fn walk(
        &self,
        bytes: &[u8],
        at: usize,
        frame: &mut Frame,
        tables: &Tables,
        restart: usize,
    ) -> Result<usize, Fault> {
        let (units_across, units_down) = frame.units();
        let single = match self.components[..] {
            [(index, ..)] => Some(frame.blocks(&frame.components[index])),
            _ => None,
        };
        // A scan of one component has no padding: its units are its blocks.
        let (across, down) = single.unwrap_or((units_across, units_down));
        let progressive = frame.progressive;
        let mut walk = Walk {
            scan: self,
            bits: Bits::new(bytes, at),
            to_end: 0,
        };
        let tables: Vec<_> = (self.components.iter())
            .map(|&(_, dc, ac)| {
                let dc = tables.dc.get(dc).and_then(Option::as_ref);
                (dc, tables.ac.get(ac).and_then(Option::as_ref))
            })
            .collect();
        if progressive && self.from > 0 {
            // Such a scan has one component: its units are its blocks.
            for &(index, ..) in &self.components {
                frame.components[index].known.resize(across * down, 0);
            }
        }
        for unit in 0..across * down {
            if restart > 0 && unit > 0 && unit % restart == 0 {
                walk.bits.restart(unit / restart - 1)?;
                walk.to_end = 0;
            }
            for (&(index, ..), &(dc, ac)) in self.components.iter().zip(&tables) {
                let component = &mut frame.components[index];
                let blocks = match single {
                    Some(_) => 1,
                    None => component.across * component.down,
                };
                for _ in 0..blocks {
                    if !progressive {
                        walk.sequential(dc.ok_or(NO_TABLE)?, ac.ok_or(NO_TABLE)?)?;
                    } else if self.from == 0 {
                        walk.first_coefficient(dc)?;
                    } else {
                        let known = &mut component.known[unit];
                        walk.other_coefficients(ac.ok_or(NO_TABLE)?, known)?;
                    }
                }
            }
        }
        for &(index, ..) in &self.components {
            frame.components[index].missing[self.from..=self.to].fill(self.after);
        }
        Ok(walk.bits.at)
    }
}

const NO_TABLE: Fault = Fault::Damaged("a Huffman table is missing");
const TOO_MANY: Fault = Fault::Damaged("a block has more than 64 coefficients");

struct Walk<'a> {
    scan: &'a Scan,
    bits: Bits<'a>,
    /// How many blocks from here on have nothing more in this scan.
    to_end: u32,
}

impl Walk<'_> {
    fn sequential(&mut self, dc: &Table, ac: &Table) -> Result<(), Fault> {
        let size = self.bits.symbol(dc)?;
        self.bits.take(u32::from(size).min(16))?;
        let mut at = 1;
        while at < 64 {
            let code = self.bits.symbol(ac)?;
            let (zeros, size) = (usize::from(code >> 4), u32::from(code & 15));
            if size == 0 && zeros < 15 {
                break;
            }
            self.bits.take(size)?;
            at += zeros + 1;
        }
        if at > 64 { Err(TOO_MANY) } else { Ok(()) }
    }

    fn first_coefficient(&mut self, dc: Option<&Table>) -> Result<(), Fault> {
        let size = if self.scan.before == 0 {
            u32::from(self.bits.symbol(dc.ok_or(NO_TABLE)?)?).min(16)
        } else {
            1
        };
        self.bits.take(size).map(drop)
    }

    fn other_coefficients(&mut self, ac: &Table, known: &mut u64) -> Result<(), Fault> {
        let to = self.scan.to;
        let refining = self.scan.before > 0;
        let mut at = self.scan.from;
        if self.to_end == 0 {
            while at <= to {
                let code = self.bits.symbol(ac)?;
                let (mut zeros, size) = (usize::from(code >> 4), u32::from(code & 15));
                if size == 0 && zeros < 15 {
                    self.to_end = (1 << zeros) + self.bits.take(zeros as u32)?;
                    break;
                }
                self.bits.take(size)?;
                if refining {
                    while at <= to {
                        if *known >> at & 1 == 1 {
                            self.bits.take(1)?;
                        } else if zeros == 0 {
                            break;
                        } else {
                            zeros -= 1;
                        }
                        at += 1;
                    }
                } else {
                    at += zeros;
                }
                if size > 0 {
                    if at > to {
                        return Err(TOO_MANY);
                    }
                    *known |= 1 << at;
                }
                at += 1;
            }
        }
        if self.to_end > 0 {
            if refining {
                for at in at..=to {
                    if *known >> at & 1 == 1 {
                        self.bits.take(1)?;
                    }
                }
            }
            self.to_end -= 1;
        }
        Ok(())
    }
}
