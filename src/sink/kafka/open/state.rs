//! The records of the topic `__transaction_state`: what a coordinator knows of one transactional id.
//!
//! Kafka describes them in `TransactionLogKey.json` and `TransactionLogValue.json`: versions 0, and 1 with compact lengths
//! and tagged fields. A later version is not read.

/// What a coordinator knows of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub state: State,
    pub producer: i64,
    pub epoch: i16,
    /// After so long without an end the coordinator aborts a transaction by itself.
    pub timeout_ms: i32,
    /// The partitions of the transaction that is open, or being ended.
    pub partitions: Vec<(String, Vec<i32>)>,
    pub updated_ms: i64,
    /// When the newest transaction began.
    pub began_ms: Option<i64>,
}

/// The state of a transaction, as Kafka names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Empty,
    Ongoing,
    PrepareCommit,
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
    Dead,
    PrepareEpochFence,
}

impl State {
    const ALL: [State; 8] = [
        State::Empty,
        State::Ongoing,
        State::PrepareCommit,
        State::PrepareAbort,
        State::CompleteCommit,
        State::CompleteAbort,
        State::Dead,
        State::PrepareEpochFence,
    ];

    /// Readers of what is committed wait for the end of it.
    pub fn open(self) -> bool {
        matches!(self, State::Ongoing | State::PrepareCommit | State::PrepareAbort | State::PrepareEpochFence)
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

/// The partition of the topic that has an id, of so many.
pub fn partition(id: &str, partitions: i32) -> i32 {
    let hash = id.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}

/// The transactional id that a record is of.
pub fn id(key: &[u8]) -> Option<&[u8]> {
    let mut from = Bytes { rest: key, compact: false };
    (from.i16()? == 0).then_some(())?;
    from.text()
}

impl Known {
    /// Reads the value of a record; `None`: it is in a form that is not known.
    pub fn from_bytes(value: &[u8]) -> Option<Known> {
        let mut from = Bytes { rest: value, compact: false };
        let version = from.i16()?;
        from.compact = match version {
            0 => false,
            1 => true,
            _ => return None,
        };
        let (producer, epoch, timeout_ms) = (from.i64()?, from.i16()?, from.i32()?);
        let state = *State::ALL.get(usize::from(from.u8()?))?;
        let mut partitions = Vec::new();
        for _ in 0..from.length()? {
            let topic = String::from_utf8_lossy(from.text()?).into_owned();
            let numbers = (0..from.length()?).map(|_| from.i32()).collect::<Option<Vec<i32>>>()?;
            from.tagged()?;
            partitions.push((topic, numbers));
        }
        let (updated_ms, began_ms) = (from.i64()?, from.i64()?);
        Some(Known { state, producer, epoch, timeout_ms, partitions, updated_ms, began_ms: (began_ms >= 0).then_some(began_ms) })
    }
}

/// What is left of a record in Kafka's own encoding.
struct Bytes<'a> {
    rest: &'a [u8],
    /// Lengths are variable, and one more than they say; 0 is null.
    compact: bool,
}

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    fn i16(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn i32(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn i64(&mut self) -> Option<i64> {
        Some(i64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    fn varint(&mut self) -> Option<usize> {
        let mut value = 0;
        for shift in (0..28).step_by(7) {
            let byte = self.u8()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// Of a list; null has none. No longer than what is left.
    fn length(&mut self) -> Option<usize> {
        let length = if self.compact { self.varint()?.saturating_sub(1) } else { self.i32()?.max(0) as usize };
        (length <= self.rest.len()).then_some(length)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = if self.compact { self.varint()?.checked_sub(1)? } else { usize::try_from(self.i16()?).ok()? };
        self.take(length)
    }

    /// Fields that an older reader may skip.
    fn tagged(&mut self) -> Option<()> {
        if self.compact {
            for _ in 0..self.varint()? {
                self.varint()?;
                let length = self.varint()?;
                self.take(length)?;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests;
