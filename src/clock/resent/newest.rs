//! The newest position of each partition in its database's log, and whether what comes stands before it.

use std::cmp::Ordering;

use crate::{
    engine::Upstream,
    format::upstream::{Position, Stands},
};

/// Databases that write into one partition, of which positions are kept; what others send passes.
const ORIGINS_MAX: usize = 64;

/// How a change stands to what came before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is new.
    New,
    /// It came before.
    Copy,
    /// It stands before the newest, and yet is later than everything that came: positions began again.
    Restarted,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Newest {
    partitions: Vec<(i32, Vec<Origin>)>,
    /// Origins that are behind.
    behind: usize,
}

/// What came of one database in one partition.
#[derive(Clone, Debug)]
struct Origin {
    name: Box<[u8]>,
    position: Position,
    /// Changes at that position.
    count: u32,
    /// The greatest time of a change, in milliseconds.
    time: i64,
    behind: Option<Behind>,
}

/// A range is sent again.
#[derive(Clone, Copy, Debug)]
struct Behind {
    last: Position,
    /// Changes at the newest position that have come again.
    reached: u32,
}

impl Newest {
    fn of(&mut self, partition: i32) -> &mut Vec<Origin> {
        let at = self.partitions.iter().position(|(p, _)| *p == partition).unwrap_or_else(|| {
            self.partitions.push((partition, Vec::new()));
            self.partitions.len() - 1
        });
        &mut self.partitions[at].1
    }

    /// Has a change of the partition come?
    pub fn knows(&self, partition: i32) -> bool {
        self.partitions.iter().any(|(p, origins)| *p == partition && !origins.is_empty())
    }

    /// Takes a change.
    pub fn see(&mut self, partition: i32, stands: &Stands) -> Seen {
        let origins = self.of(partition);
        let Some(origin) = origins.iter_mut().find(|origin| *origin.name == *stands.origin) else {
            if origins.len() < ORIGINS_MAX {
                origins.push(Origin { name: stands.origin.into(), position: stands.position, count: 1, time: stands.time.unwrap_or(i64::MIN), behind: None });
            }
            return Seen::New;
        };
        let (was_behind, time) = (origin.behind.is_some(), stands.time.unwrap_or(i64::MIN));
        let (order, position) = stands.position.against(origin.position);
        let seen = match (order, &mut origin.behind) {
            (Ordering::Greater, behind) => {
                (origin.position, origin.count, *behind) = (position, 1, None);
                Seen::New
            }
            // It is that very change.
            (Ordering::Equal, None) if position.place > 0 => Seen::Copy,
            (Ordering::Equal, None) => {
                origin.count = origin.count.saturating_add(1);
                Seen::New
            }
            (Ordering::Equal, Some(behind)) => {
                (behind.last, behind.reached) = (stands.position, behind.reached + 1);
                if behind.reached >= origin.count {
                    origin.behind = None;
                }
                Seen::Copy
            }
            // A copy says the time that the change said when it came first.
            (Ordering::Less, behind) if origin.time > i64::MIN && time > origin.time => {
                (origin.position, origin.count, *behind) = (stands.position, 1, None);
                Seen::Restarted
            }
            (Ordering::Less, behind) => {
                *behind = Some(Behind { last: stands.position, reached: 0 });
                Seen::Copy
            }
        };
        origin.time = origin.time.max(time);
        let is_behind = origin.behind.is_some();
        self.behind = self.behind + usize::from(is_behind) - usize::from(was_behind);
        seen
    }

    /// Takes the last change of a run, and how many at its end have that position, in place of the whole run. False: the
    /// whole run must be looked at.
    pub fn see_last(&mut self, partition: i32, stands: &Stands, count: u32) -> bool {
        let [origin] = self.of(partition).as_mut_slice() else { return false };
        if *origin.name != *stands.origin || origin.behind.is_some() {
            return false;
        }
        let (order, position) = stands.position.against(origin.position);
        match order {
            Ordering::Less => return false,
            Ordering::Equal => origin.count = origin.count.saturating_add(count),
            Ordering::Greater => (origin.position, origin.count) = (position, count),
        }
        origin.time = origin.time.max(stands.time.unwrap_or(i64::MIN));
        true
    }

    /// Is a range being sent again, whose end has not come?
    pub fn is_behind(&self) -> bool {
        self.behind > 0
    }

    /// Ends the ranges of which the newest position has come again, though fewer changes of it than came first, if that ends
    /// all: what began right at the newest position was counted twice. False: there is another one, or none.
    pub fn settle(&mut self) -> bool {
        let mut behind = self.partitions.iter_mut().flat_map(|(_, origins)| origins).filter_map(|origin| origin.behind.as_ref());
        if self.behind == 0 || behind.any(|behind| behind.reached == 0) {
            return false;
        }
        self.close();
        true
    }

    /// Ends all ranges; the newest positions stay.
    pub fn close(&mut self) {
        self.partitions.iter_mut().flat_map(|(_, origins)| origins).for_each(|origin| origin.behind = None);
        self.behind = 0;
    }

    /// Takes where ranges are as the newest positions: their ends are not waited for any longer.
    pub fn adopt(&mut self) {
        for origin in self.partitions.iter_mut().flat_map(|(_, origins)| origins) {
            if let Some(behind) = origin.behind.take() {
                (origin.position, origin.count) = (behind.last, 1);
            }
        }
        self.behind = 0;
    }

    /// What a checkpoint keeps.
    pub fn saved(&self) -> Vec<Upstream> {
        let one = |partition: i32, origin: &Origin| Upstream {
            partition,
            origin: String::from_utf8_lossy(&origin.name).into_owned(),
            position: origin.position,
            count: origin.count,
            time: origin.time,
        };
        self.partitions.iter().flat_map(|(partition, origins)| origins.iter().map(move |origin| one(*partition, origin))).collect()
    }

    /// Goes on with what [`Newest::saved`] gave.
    pub fn resume(&mut self, saved: &[Upstream]) {
        for one in saved {
            let origin = Origin { name: one.origin.as_bytes().into(), position: one.position, count: one.count, time: one.time, behind: None };
            self.of(one.partition).push(origin);
        }
    }
}
