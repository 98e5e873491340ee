//! A projecting JSON scanner: finds the wanted fields of an object in one pass over its bytes, and checks the rest.
//!
//! It makes no tree and allocates nothing. [`Scan`] walks; a [`Token`] says where a value stands and what it is; a
//! [`Shape`] knows the wanted names and guesses that fields come in the order of the last message, so that a name costs
//! one comparison of 16 bytes.
//!
//! All of the text is checked, skipped parts too: what is accepted here is what `serde_json` accepts as a `Value` (its
//! grammar, its escapes and surrogates, UTF-8, at most 127 levels), save that a number may be larger than a double. The
//! check costs a few percent: control characters are found by the search for the quote, and UTF-8 is only checked when
//! a byte above 0x7f was met. This file owns the syntax; what values mean is `convert`'s.

use std::collections::HashMap;

/// Levels of arrays and objects that are read, as in `serde_json`.
const DEPTH_MAX: u32 = 127;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// There was no such field.
    Missing,
    Null,
    True,
    False,
    /// A number without fraction and exponent.
    Integer,
    /// A number with fraction or exponent.
    Number,
    /// A string without escapes; the token is what stands between the quotes.
    Text,
    /// A string with escapes, see [`unescape`].
    Escaped,
    Object,
    Array,
}

/// Where a value stands in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    start: u32,
    end: u32,
}

impl Token {
    pub const MISSING: Token = Token { kind: Kind::Missing, start: 0, end: 0 };

    /// Its bytes; of a string those between the quotes.
    #[inline(always)]
    pub fn of(self, message: &[u8]) -> &[u8] {
        message.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// The sixteen bytes from its start, if the message has as many.
    #[inline(always)]
    pub fn chunk(self, message: &[u8]) -> Option<&[u8; 16]> {
        message.get(self.start as usize..).and_then(|rest| rest.first_chunk())
    }

    /// A value that is neither lacking nor null?
    #[inline(always)]
    pub fn is_value(self) -> bool {
        !matches!(self.kind, Kind::Missing | Kind::Null)
    }
}

/// The scan ended at a fault, which [`Scan::fault`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop;

/// A place in a message.
#[derive(Debug)]
pub struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: u32,
    /// Has its highest bit of some byte set when a string had a byte above 0x7f (or may have had one).
    high: u64,
    fault: (usize, &'static str),
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

impl<'a> Scan<'a> {
    #[inline(always)]
    pub fn new(bytes: &'a [u8]) -> Self {
        Scan { bytes, at: 0, depth: 0, high: 0, fault: (0, "") }
    }

    /// What was wrong, for people: the byte and what was expected there.
    pub fn fault(&self) -> String {
        let (at, expected) = self.fault;
        match self.bytes.get(at) {
            None => format!("the message ends at byte {at}, where {expected} was expected"),
            Some(b) if b.is_ascii_graphic() => format!("byte {at} is `{}`, where {expected} was expected", *b as char),
            Some(b) => format!("byte {at} is 0x{b:02x}, where {expected} was expected"),
        }
    }

    /// A fault that the caller found.
    pub fn expected(&mut self, at: usize, what: &'static str) -> Stop {
        self.fail(at, what)
    }

    #[cold]
    fn fail(&mut self, at: usize, expected: &'static str) -> Stop {
        self.fault = (at.min(self.bytes.len()), expected);
        Stop
    }

    #[inline(always)]
    fn byte(&self, at: usize) -> u8 {
        // A NUL stands nowhere in JSON, so it can mean the end.
        self.bytes.get(at).copied().unwrap_or(0)
    }

    /// Eight bytes as a number, the first one lowest; zeros behind the end.
    #[inline(always)]
    fn eight(&self, at: usize) -> u64 {
        match self.bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
            Some(chunk) => u64::from_le_bytes(*chunk),
            None => self.last_bytes(at),
        }
    }

    #[cold]
    fn last_bytes(&self, at: usize) -> u64 {
        let mut chunk = [0u8; 8];
        if let Some(rest) = self.bytes.get(at..) {
            for (to, from) in chunk.iter_mut().zip(rest) {
                *to = *from;
            }
        }
        u64::from_le_bytes(chunk)
    }

    /// The byte at which the next value (or mark) starts.
    #[inline(always)]
    pub fn peek(&mut self) -> u8 {
        let b = self.byte(self.at);
        if b > b' ' { b } else { self.peek_far() }
    }

    fn peek_far(&mut self) -> u8 {
        while matches!(self.byte(self.at), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        self.byte(self.at)
    }

    /// The bytes from here.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Steps over bytes that are known to be a whole value.
    pub fn step_over(&mut self, len: usize) {
        self.at += len;
    }

    /// After the value: nothing may follow, and the text must have been UTF-8.
    ///
    /// # Errors
    /// Something follows, or some byte is not UTF-8.
    #[inline]
    pub fn finish(&mut self) -> Result<(), Stop> {
        if self.peek() != 0 || self.at < self.bytes.len() {
            return Err(self.fail(self.at, "the end of the message"));
        }
        if self.high & HIGHS != 0 {
            return self.check_utf8();
        }
        Ok(())
    }

    #[cold]
    fn check_utf8(&mut self) -> Result<(), Stop> {
        std::str::from_utf8(self.bytes).map(|_| ()).map_err(|e| self.fail(e.valid_up_to(), "UTF-8"))
    }

    /// Reads any value.
    ///
    /// # Errors
    /// It is not JSON.
    #[inline(always)]
    pub fn value(&mut self) -> Result<Token, Stop> {
        match self.peek() {
            b'"' => self.string(),
            b'0'..=b'9' | b'-' => self.number(),
            b'n' => self.word(Kind::Null, b"null"),
            b't' => self.word(Kind::True, b"true"),
            b'f' => self.word(Kind::False, b"false"),
            b'{' | b'[' => self.container(),
            _ => Err(self.fail(self.at, "a value")),
        }
    }

    #[inline(always)]
    fn word(&mut self, kind: Kind, word: &'static [u8]) -> Result<Token, Stop> {
        let start = self.at;
        self.at += word.len();
        if self.bytes.get(start..self.at) == Some(word) {
            return Ok(self.token(kind, start));
        }
        Err(self.fail(start, "null, true or false"))
    }

    #[inline(always)]
    fn token(&self, kind: Kind, start: usize) -> Token {
        Token { kind, start: start as u32, end: self.at as u32 }
    }

    /// Reads a string; `at` is at its opening quote.
    #[inline(always)]
    fn string(&mut self) -> Result<Token, Stop> {
        let start = self.at + 1;
        let mut at = start;
        loop {
            let chunk = self.eight(at);
            let (quote, slash) = (chunk ^ (ONES * 0x22), chunk ^ (ONES * 0x5c));
            let stops = ((quote.wrapping_sub(ONES) & !quote) | (slash.wrapping_sub(ONES) & !slash) | (chunk.wrapping_sub(ONES * 0x20) & !chunk)) & HIGHS;
            self.high |= chunk;
            if stops == 0 {
                at += 8;
                continue;
            }
            // The lowest stop is exact; those above it may be a borrow's.
            at += stops.trailing_zeros() as usize / 8;
            if self.byte(at) == b'"' {
                let token = Token { kind: Kind::Text, start: start as u32, end: at as u32 };
                self.at = at + 1;
                return Ok(token);
            }
            return self.string_escaped(start, at);
        }
    }

    /// The rest of a string that has an escape (or a fault) at `at`.
    #[cold]
    fn string_escaped(&mut self, start: usize, mut at: usize) -> Result<Token, Stop> {
        loop {
            match self.byte(at) {
                b'"' => {
                    self.at = at + 1;
                    return Ok(Token { kind: Kind::Escaped, start: start as u32, end: at as u32 });
                }
                b'\\' => match self.byte(at + 1) {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at += 2,
                    b'u' => {
                        let unit = hex4(self.bytes, at + 2).ok_or_else(|| self.fail(at + 2, "four hexadecimal digits"))?;
                        at += 6;
                        match unit {
                            0xd800..=0xdbff => {
                                let low = if self.byte(at) == b'\\' && self.byte(at + 1) == b'u' { hex4(self.bytes, at + 2) } else { None };
                                if !matches!(low, Some(0xdc00..=0xdfff)) {
                                    return Err(self.fail(at, "the second half of a surrogate pair"));
                                }
                                at += 6;
                            }
                            0xdc00..=0xdfff => return Err(self.fail(at - 6, "a character, not half of a surrogate pair,")),
                            _ => {}
                        }
                    }
                    _ => return Err(self.fail(at + 1, "an escaped character")),
                },
                0..=0x1f => return Err(self.fail(at, if at < self.bytes.len() { "an escape for a control character" } else { "the end of a string" })),
                b => {
                    self.high |= u64::from(b);
                    at += 1;
                }
            }
        }
    }

    /// Moves over digits and says whether there were any.
    #[inline(always)]
    fn digits(&mut self) -> bool {
        let start = self.at;
        loop {
            let chunk = self.eight(self.at) ^ (ONES * 0x30);
            let stops = (chunk.wrapping_add(ONES * 0x76) | chunk) & HIGHS;
            if stops != 0 {
                self.at += stops.trailing_zeros() as usize / 8;
                return self.at > start;
            }
            self.at += 8;
        }
    }

    #[inline(always)]
    fn number(&mut self) -> Result<Token, Stop> {
        let start = self.at;
        if self.byte(start) == b'-' {
            self.at += 1;
        }
        let first = self.at;
        if !self.digits() {
            return Err(self.fail(self.at, "a digit"));
        }
        if self.byte(first) == b'0' && self.at > first + 1 {
            return Err(self.fail(first + 1, "no digit after a leading zero"));
        }
        if matches!(self.byte(self.at), b'.' | b'e' | b'E') {
            return self.number_fraction(start);
        }
        Ok(self.token(Kind::Integer, start))
    }

    fn number_fraction(&mut self, start: usize) -> Result<Token, Stop> {
        if self.byte(self.at) == b'.' {
            self.at += 1;
            if !self.digits() {
                return Err(self.fail(self.at, "a digit"));
            }
        }
        if matches!(self.byte(self.at), b'e' | b'E') {
            self.at += 1;
            if matches!(self.byte(self.at), b'+' | b'-') {
                self.at += 1;
            }
            if !self.digits() {
                return Err(self.fail(self.at, "a digit"));
            }
        }
        Ok(self.token(Kind::Number, start))
    }

    /// Reads an array or object without looking for anything in it; `at` is at its opening bracket.
    fn container(&mut self) -> Result<Token, Stop> {
        let start = self.at;
        let kind = if self.byte(start) == b'{' { Kind::Object } else { Kind::Array };
        // One bit for each open level, the innermost lowest: 1 for an object.
        let (mut open, mut levels) = (0u128, 0u32);
        'value: loop {
            match self.peek() {
                b @ (b'{' | b'[') => {
                    let object = b == b'{';
                    levels += 1;
                    if self.depth + levels > DEPTH_MAX {
                        return Err(self.fail(self.at, "less nesting (127 levels are the most)"));
                    }
                    open = open << 1 | u128::from(object);
                    self.at += 1;
                    match (object, self.peek()) {
                        (true, b'}') | (false, b']') => {
                            self.at += 1;
                            open >>= 1;
                            levels -= 1;
                        }
                        (true, _) => {
                            self.name()?;
                            continue 'value;
                        }
                        (false, _) => continue 'value,
                    }
                }
                _ => {
                    self.value_flat()?;
                }
            }
            loop {
                if levels == 0 {
                    return Ok(self.token(kind, start));
                }
                let object = open & 1 == 1;
                match (self.peek(), object) {
                    (b',', _) => {
                        self.at += 1;
                        if object {
                            self.name()?;
                        }
                        continue 'value;
                    }
                    (b'}', true) | (b']', false) => {
                        self.at += 1;
                        open >>= 1;
                        levels -= 1;
                    }
                    (_, true) => return Err(self.fail(self.at, "`,` or `}`")),
                    (_, false) => return Err(self.fail(self.at, "`,` or `]`")),
                }
            }
        }
    }

    #[inline(always)]
    fn value_flat(&mut self) -> Result<Token, Stop> {
        match self.peek() {
            b'"' => self.string(),
            b'0'..=b'9' | b'-' => self.number(),
            b'n' => self.word(Kind::Null, b"null"),
            b't' => self.word(Kind::True, b"true"),
            b'f' => self.word(Kind::False, b"false"),
            _ => Err(self.fail(self.at, "a value")),
        }
    }

    /// Reads a field's name and the colon.
    #[inline]
    fn name(&mut self) -> Result<Token, Stop> {
        if self.peek() != b'"' {
            return Err(self.fail(self.at, "the name of a field"));
        }
        let name = self.string()?;
        if self.peek() != b':' {
            return Err(self.fail(self.at, "`:`"));
        }
        self.at += 1;
        Ok(name)
    }

    /// Steps into an object; false if it is empty (it is then left behind). `at` is at its `{`.
    ///
    /// # Errors
    /// It is nested too deeply.
    #[inline(always)]
    pub fn enter(&mut self) -> Result<bool, Stop> {
        self.at += 1;
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.fail(self.at - 1, "less nesting (127 levels are the most)"));
        }
        if self.peek() == b'}' {
            self.at += 1;
            self.depth -= 1;
            return Ok(false);
        }
        Ok(true)
    }

    /// After a field's value: true if another field follows, false if the object ended.
    ///
    /// # Errors
    /// Neither.
    #[inline(always)]
    pub fn more(&mut self) -> Result<bool, Stop> {
        match self.peek() {
            b',' => {
                self.at += 1;
                Ok(true)
            }
            b'}' => {
                self.at += 1;
                self.depth -= 1;
                Ok(false)
            }
            _ => Err(self.fail(self.at, "`,` or `}`")),
        }
    }

    /// Reads an object's wanted fields into `tokens`; `at` is at its `{`. A name that comes twice counts the last time.
    ///
    /// # Errors
    /// It is not JSON.
    #[inline(always)]
    pub fn object(&mut self, shape: &mut Shape, tokens: &mut [Token]) -> Result<Token, Stop> {
        let start = self.at;
        tokens.fill(Token::MISSING);
        let mut place = 0;
        let mut more = self.enter()?;
        while more {
            let target = shape.field(self, &mut place)?;
            let token = self.value()?;
            if let Some(slot) = tokens.get_mut(target) {
                *slot = token;
            }
            more = self.more()?;
        }
        Ok(self.token(Kind::Object, start))
    }

    /// Where a token that ends here would have started.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The token of an object that started at `start` and ends here.
    pub fn object_from(&self, start: usize) -> Token {
        self.token(Kind::Object, start)
    }

    /// Walks an object field by field without learning its shape. `field` gets the name and must read the value.
    ///
    /// # Errors
    /// It is not JSON, or `field` stopped.
    pub fn walk(&mut self, mut field: impl FnMut(&mut Self, &[u8]) -> Result<(), Stop>) -> Result<(), Stop> {
        if self.peek() != b'{' {
            return Err(self.fail(self.at, "an object"));
        }
        let mut unescaped = Vec::new();
        let mut more = self.enter()?;
        while more {
            let name = self.name()?;
            let name = text_of(name, self.bytes, &mut unescaped);
            field(self, name)?;
            more = self.more()?;
        }
        Ok(())
    }
}

/// The names of an object's wanted fields, and the order in which fields came last.
#[derive(Clone, Debug)]
pub struct Shape {
    names: HashMap<Box<[u8]>, usize>,
    /// The target of names that are not wanted.
    other: usize,
    slots: Vec<Slot>,
}

/// A field of the last message: `"name":` as bytes.
#[derive(Clone, Debug)]
struct Slot {
    head: u128,
    mask: u128,
    text: Box<[u8]>,
    target: usize,
}

/// Fields whose order is remembered; the others are looked up.
const SLOTS_MAX: usize = 2048;

impl Shape {
    /// The wanted names with their targets; all other names have the target `other`.
    pub fn new<'n>(names: impl IntoIterator<Item = (&'n str, usize)>, other: usize) -> Self {
        let names = names.into_iter().map(|(name, target)| (name.as_bytes().into(), target)).collect();
        Shape { names, other, slots: Vec::new() }
    }

    /// Reads the name of the next field, of which `place` is the expected slot, and says its target.
    ///
    /// # Errors
    /// There is no name, or no colon after it.
    #[inline(always)]
    pub fn field(&mut self, scan: &mut Scan, place: &mut usize) -> Result<usize, Stop> {
        if let Some(slot) = self.slots.get(*place)
            && let Some(window) = scan.bytes.get(scan.at..).and_then(|rest| rest.first_chunk::<16>())
            && u128::from_le_bytes(*window) & slot.mask == slot.head
            && (slot.text.len() <= 16 || scan.bytes.get(scan.at + 16..scan.at + slot.text.len()) == slot.text.get(16..))
        {
            scan.at += slot.text.len();
            *place += 1;
            return Ok(slot.target);
        }
        self.field_unexpected(scan, place)
    }

    #[cold]
    fn field_unexpected(&mut self, scan: &mut Scan, place: &mut usize) -> Result<usize, Stop> {
        scan.peek();
        let start = scan.at;
        let name = scan.name()?;
        let mut unescaped = Vec::new();
        let target = self.names.get(text_of(name, scan.bytes, &mut unescaped)).copied().unwrap_or(self.other);
        let text = scan.bytes.get(start..scan.at).unwrap_or_default();
        if let Some(ahead) = self.slots.iter().skip(*place).position(|slot| *slot.text == *text) {
            // Fields were left out; the order still holds.
            *place += ahead + 1;
        } else if *place < SLOTS_MAX && name.kind == Kind::Text && text.len() == name.of(scan.bytes).len() + 3 && text.is_ascii() {
            let mut head = [0u8; 16];
            let mut mask = [0u8; 16];
            for ((h, m), b) in head.iter_mut().zip(&mut mask).zip(text) {
                (*h, *m) = (*b, 0xff);
            }
            let slot = Slot { head: u128::from_le_bytes(head), mask: u128::from_le_bytes(mask), text: text.into(), target };
            match self.slots.get_mut(*place) {
                Some(old) => *old = slot,
                None => self.slots.push(slot),
            }
            *place += 1;
        } else {
            *place += 1;
        }
        Ok(target)
    }
}

fn hex4(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 4)?;
    digits.iter().try_fold(0, |n, b| Some(n << 4 | (*b as char).to_digit(16)?))
}

/// The text of a string token; `unescaped` holds it where the message spells it with escapes.
#[inline]
pub fn text_of<'b>(token: Token, message: &'b [u8], unescaped: &'b mut Vec<u8>) -> &'b [u8] {
    let raw = token.of(message);
    if token.kind != Kind::Escaped {
        return raw;
    }
    unescaped.clear();
    unescape(raw, unescaped);
    unescaped
}

/// Appends the text of a string, given what stands between its quotes, which a scan has checked.
pub fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some(slash) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..slash]);
        rest = &rest[slash + 1..];
        let (plain, len) = match rest.first() {
            Some(b'b') => (8, 1),
            Some(b'f') => (12, 1),
            Some(b'n') => (b'\n', 1),
            Some(b'r') => (b'\r', 1),
            Some(b't') => (b'\t', 1),
            Some(b'u') => {
                let unit = hex4(rest, 1).unwrap_or(0xfffd);
                let (code, len) = match unit {
                    0xd800..=0xdbff => (0x10000 + ((unit - 0xd800) << 10) + (hex4(rest, 7).unwrap_or(0xdc00).wrapping_sub(0xdc00) & 0x3ff), 11),
                    unit => (unit, 5),
                };
                let mut utf8 = [0; 4];
                out.extend_from_slice(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER).encode_utf8(&mut utf8).as_bytes());
                rest = rest.get(len..).unwrap_or_default();
                continue;
            }
            Some(other) => (*other, 1),
            None => return,
        };
        out.push(plain);
        rest = &rest[len..];
    }
    out.extend_from_slice(rest);
}

/// Appends checked JSON without the white space between its tokens.
pub fn compact(json: &[u8], out: &mut Vec<u8>) {
    let (mut quoted, mut escaped) = (false, false);
    for &b in json {
        if quoted {
            quoted = escaped || b != b'"';
            escaped = !escaped && b == b'\\';
        } else if matches!(b, b' ' | b'\t' | b'\n' | b'\r') {
            continue;
        } else {
            quoted = b == b'"';
        }
        out.push(b);
    }
}

/// Is this text one JSON value?
pub fn is_json(text: &[u8]) -> bool {
    let mut scan = Scan::new(text);
    scan.value().is_ok() && scan.finish().is_ok()
}

#[cfg(test)]
pub(super) mod tests;
