//! Follows an ONNX file as it streams by and says where the bytes of its large tensors start and end. ONNX is protobuf
//! (<https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>): messages in messages, each with its length before it. What
//! cannot hold a large tensor is passed over unread, so a graph of any size costs a few steps for each tensor.

use std::mem;

/// Tensors of fewer bytes get no chunk of their own: they lie between others and are fetched with them.
pub const MIN_TENSOR: u64 = 64 << 10;
/// Graphs in attributes of nodes in graphs: real ones have two or three levels of them.
const MAX_DEPTH: usize = 64;
/// Names and places of tensors that are kept; longer ones are passed over.
const MAX_TEXT: u64 = 4 << 10;
/// References to other files that are kept.
const MAX_EXTERNAL: usize = 1 << 16;

/// A tensor whose bytes lie in another file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct External {
    /// The other file, relative to this one's folder, as written.
    pub location: String,
    /// Where it starts there, in bytes.
    pub offset: u64,
    /// How many bytes it has; `None` = up to the end.
    pub length: Option<u64>,
    /// The tensor's name.
    pub tensor: String,
}

/// Walks through one file.
#[derive(Debug)]
pub struct Walker {
    /// Messages that are open, the innermost last.
    open: Vec<Open>,
    at: u64,
    state: State,
    border: bool,
    tensor: Tensor,
    external: Vec<External>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    kind: Kind,
    end: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Model,
    Function,
    Graph,
    Node,
    Attribute,
    Sparse,
    Tensor,
    /// A pair of texts that says where a tensor's bytes lie.
    Place,
}

/// What is known of the tensor that is open.
#[derive(Debug, Default)]
struct Tensor {
    name: String,
    key: String,
    place: External,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    Name,
    Key,
    Value,
}

#[derive(Debug)]
enum State {
    Tag(Varint),
    Number(Varint),
    Length(u64, Varint),
    Skip(u64),
    Data(u64),
    Text(Text, u64, Vec<u8>),
    Broken,
}

#[derive(Clone, Copy, Debug, Default)]
struct Varint {
    value: u64,
    bits: u32,
}

impl Default for Walker {
    fn default() -> Self {
        Self {
            open: vec![Open { kind: Kind::Model, end: u64::MAX }],
            at: 0,
            state: State::Tag(Varint::default()),
            border: false,
            tensor: Tensor::default(),
            external: Vec::new(),
        }
    }
}

impl Walker {
    /// Nothing changes before this offset in the file.
    pub fn horizon(&self) -> u64 {
        match self.state {
            State::Tag(_) | State::Number(_) | State::Length(..) => self.at + 1,
            State::Skip(until) | State::Data(until) | State::Text(_, until, _) => until,
            State::Broken => u64::MAX,
        }
    }

    /// True if it turned out not to be ONNX.
    pub const fn is_broken(&self) -> bool {
        matches!(self.state, State::Broken)
    }

    /// True once for each start and end of a large tensor, when the walker is there.
    pub fn take_border(&mut self) -> bool {
        mem::take(&mut self.border)
    }

    /// The name of the large tensor whose bytes come now.
    pub fn tensor(&self) -> Option<&str> {
        matches!(self.state, State::Data(_)).then_some(self.tensor.name.as_str())
    }

    /// The references to other files that were seen.
    pub fn into_external(self) -> Vec<External> {
        self.external
    }

    /// Sees the next bytes.
    pub fn read(&mut self, mut bytes: &[u8]) {
        while let Some((&first, rest)) = bytes.split_first() {
            match &mut self.state {
                State::Tag(varint) | State::Number(varint) | State::Length(_, varint) => {
                    let done = varint.push(first);
                    let value = varint.value;
                    bytes = rest;
                    self.at += 1;
                    match done {
                        None => self.state = State::Broken,
                        Some(false) => {}
                        Some(true) => self.number(value),
                    }
                    if self.innermost().is_none_or(|open| self.at > open.end) {
                        self.state = State::Broken;
                    }
                }
                State::Skip(until) | State::Data(until) | State::Text(_, until, _) => {
                    let left = usize::try_from(*until - self.at).unwrap_or(usize::MAX);
                    let (seen, rest) = bytes.split_at(left.min(bytes.len()));
                    if let State::Text(_, _, text) = &mut self.state {
                        text.extend_from_slice(seen);
                    }
                    self.at += seen.len() as u64;
                    bytes = rest;
                }
                State::Broken => return,
            }
            self.settle();
        }
    }

    /// A number is whole: a tag, a value, or the length of what follows.
    fn number(&mut self, value: u64) {
        self.state = match mem::replace(&mut self.state, State::Broken) {
            State::Tag(_) => match (value >> 3, value & 7) {
                (0, _) => State::Broken,
                (_, 0) => State::Number(Varint::default()),
                (_, 1) => State::Skip(self.at.saturating_add(8)),
                (field, 2) => State::Length(field, Varint::default()),
                (_, 5) => State::Skip(self.at.saturating_add(4)),
                _ => State::Broken,
            },
            State::Number(_) => State::Tag(Varint::default()),
            State::Length(field, _) => self.begin(field, value),
            state @ (State::Skip(_) | State::Data(_) | State::Text(..) | State::Broken) => state,
        };
        if let State::Skip(until) = self.state
            && self.innermost().is_none_or(|open| until > open.end)
        {
            self.state = State::Broken;
        }
    }

    fn begin(&mut self, field: u64, length: u64) -> State {
        let Some(open) = self.innermost() else { return State::Broken };
        let Some(until) = self.at.checked_add(length).filter(|until| *until <= open.end) else {
            return State::Broken;
        };
        let short = length <= MAX_TEXT;
        match (open.kind, field) {
            // raw_data, and the lists of numbers that may stand in its place.
            (Kind::Tensor, 4 | 5 | 7 | 9 | 10 | 11) if length >= MIN_TENSOR => {
                self.border = true;
                State::Data(until)
            }
            (Kind::Tensor, 8) if short => State::Text(Text::Name, until, Vec::new()),
            (Kind::Place, 1) if short => State::Text(Text::Key, until, Vec::new()),
            (Kind::Place, 2) if short => State::Text(Text::Value, until, Vec::new()),
            (kind, field) => match kind.child(field) {
                // An initialiser may be a reference, which is short, as a graph of such; of anything else only what is
                // large matters.
                Some(child)
                    if length >= MIN_TENSOR
                        || kind == Kind::Model
                        || matches!(child, Kind::Tensor | Kind::Place) =>
                {
                    self.enter(child, until)
                }
                Some(_) | None => State::Skip(until),
            },
        }
    }

    fn enter(&mut self, kind: Kind, end: u64) -> State {
        if self.open.len() >= MAX_DEPTH {
            return State::Broken;
        }
        if kind == Kind::Tensor {
            self.tensor = Tensor::default();
        }
        self.open.push(Open { kind, end });
        State::Tag(Varint::default())
    }

    /// Ends what has come to its end.
    fn settle(&mut self) {
        match &mut self.state {
            State::Skip(until) if *until == self.at => self.state = State::Tag(Varint::default()),
            State::Data(until) if *until == self.at => {
                self.border = true;
                self.state = State::Tag(Varint::default());
            }
            State::Text(what, until, bytes) if *until == self.at => {
                let (what, text) = (*what, String::from_utf8_lossy(bytes).into_owned());
                self.tensor.hear(what, text);
                self.state = State::Tag(Varint::default());
            }
            State::Tag(_)
            | State::Number(_)
            | State::Length(..)
            | State::Skip(_)
            | State::Data(_)
            | State::Text(..)
            | State::Broken => {}
        }
        while matches!(self.state, State::Tag(Varint { bits: 0, .. }))
            && let Some(open) = self.innermost().filter(|open| open.end == self.at)
        {
            self.open.pop();
            let place = &mut self.tensor.place;
            if open.kind == Kind::Tensor && !place.location.is_empty() && self.external.len() < MAX_EXTERNAL {
                place.tensor.clone_from(&self.tensor.name);
                self.external.push(mem::take(place));
            }
        }
    }

    fn innermost(&self) -> Option<Open> {
        self.open.last().copied()
    }
}

impl Kind {
    /// What a field of this message holds, where it can lead to a tensor.
    const fn child(self, field: u64) -> Option<Self> {
        match (self, field) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Some(Self::Graph),
            (Self::Model, 25) => Some(Self::Function),
            (Self::Graph, 1) | (Self::Function, 7) => Some(Self::Node),
            (Self::Node, 5) => Some(Self::Attribute),
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Some(Self::Sparse),
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::Sparse, 1 | 2) => Some(Self::Tensor),
            (Self::Tensor, 13) => Some(Self::Place),
            _ => None,
        }
    }
}

impl Tensor {
    fn hear(&mut self, what: Text, text: String) {
        match (what, self.key.as_str()) {
            (Text::Name, _) => self.name = text,
            (Text::Key, _) => self.key = text,
            (Text::Value, "location") => self.place.location = text,
            (Text::Value, "offset") => self.place.offset = text.parse().unwrap_or(0),
            (Text::Value, "length") => self.place.length = text.parse().ok(),
            (Text::Value, _) => {}
        }
    }
}

impl Varint {
    /// True = whole, false = goes on, `None` = longer than 64 bits.
    fn push(&mut self, byte: u8) -> Option<bool> {
        if self.bits > 63 || (self.bits == 63 && byte > 1) {
            return None;
        }
        self.value |= u64::from(byte & 0x7f) << self.bits;
        self.bits += 7;
        Some(byte < 0x80)
    }
}
