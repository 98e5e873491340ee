//! A dataflow as the oracle sees it, drawn at random: sources, row-by-row targets out of the whole field grammar,
//! comparisons; and its YAML text, which is all that the engine gets.

use std::fmt::Write as _;

use super::{
    draw::Draw,
    value::{ALL, Cell, KEYS, T, V, dec},
};

#[derive(Clone, Debug)]
pub struct Col {
    pub name: String,
    pub ty: T,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fmt {
    Debezium,
    Upsert,
}

#[derive(Clone, Debug)]
pub struct Source {
    pub name: String,
    pub connection: usize,
    pub format: Fmt,
    pub cols: Vec<Col>,
    /// The first so many columns.
    pub keys: usize,
    /// Columns that somebody certainly reads.
    pub used: Vec<bool>,
    /// The comparison whose actual side this source is, if it is one: events are modelled on the expected side.
    pub actual_of: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    Source(usize),
    Target(usize),
}

#[derive(Clone, Debug)]
pub enum Pol {
    Pass,
    Default,
    Drop,
    Reject,
}

#[derive(Clone, Debug)]
pub enum Expr {
    /// `'X-' || column`
    Prefix(&'static str, usize),
    Lower(usize),
    Upper(usize),
    /// `a || '-' || b`
    Join(usize, usize),
    CoalesceText(usize, &'static str),
    CoalesceInt(usize, i64),
    Add(usize, i64),
    Times(usize, i64),
    Divide(usize, usize),
    AddDec(usize, usize),
    CastInt(usize),
    When(usize, i64),
    IsNull(usize),
}

#[derive(Clone, Debug)]
pub enum Def {
    Col(usize),
    Expr(Expr),
    Case { input: Result<usize, Expr>, input_ty: T, when: Vec<(V, Cell)>, other: Option<Cell> },
}

#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub ty: T,
    pub def: Def,
    /// Write the type down, as it is not that of the value.
    pub typed: bool,
    pub default: Option<V>,
    pub null: Pol,
    pub missing: Option<Pol>,
    pub empty: Option<Pol>,
}

#[derive(Clone, Debug)]
pub enum Pred {
    /// Column, operator, literal.
    Compare(usize, &'static str, V),
    /// `CAST(text AS bigint) > n`
    CastAbove(usize, i64),
    Null(usize, bool),
    And(Box<Pred>, Box<Pred>),
    Or(Box<Pred>, Box<Pred>),
    Not(Box<Pred>),
}

#[derive(Clone, Debug)]
pub struct Target {
    pub name: String,
    pub from: Table,
    pub filter: Option<Pred>,
    pub fields: Vec<Field>,
    /// The first so many fields.
    pub keys: usize,
    pub require: Vec<usize>,
    /// Row by row with a key that is one to one with the source's: a reject of the source is one of the target.
    pub fused: bool,
}

#[derive(Clone, Debug)]
pub struct Comparison {
    pub name: String,
    pub expected: Table,
    pub actual: usize,
    /// Compared fields, as places in the columns of both sides.
    pub fields: Vec<(usize, usize)>,
    pub all_fields: bool,
    pub grace_ms: i64,
}

#[derive(Clone, Debug)]
pub struct Model {
    pub sources: Vec<Source>,
    pub targets: Vec<Target>,
    pub comparisons: Vec<Comparison>,
    pub workers: usize,
    /// Events may lack what the connector does not send (unchanged TOAST values).
    pub toast: bool,
}

impl Expr {
    pub fn columns(&self) -> Vec<usize> {
        match *self {
            Expr::Join(a, b) | Expr::Divide(a, b) | Expr::AddDec(a, b) => vec![a, b],
            Expr::Prefix(_, c)
            | Expr::Lower(c)
            | Expr::Upper(c)
            | Expr::CoalesceText(c, _)
            | Expr::CoalesceInt(c, _)
            | Expr::Add(c, _)
            | Expr::Times(c, _)
            | Expr::CastInt(c)
            | Expr::When(c, _)
            | Expr::IsNull(c) => vec![c],
        }
    }

    fn ty(&self, cols: &[Col]) -> T {
        match self {
            Expr::Prefix(..) | Expr::Lower(_) | Expr::Upper(_) | Expr::Join(..) | Expr::CoalesceText(..) | Expr::When(..) => T::Text(0),
            Expr::CoalesceInt(..) | Expr::Add(..) | Expr::Times(..) | Expr::Divide(..) | Expr::CastInt(_) => T::Int(64),
            Expr::AddDec(a, _) => match cols[*a].ty {
                T::Dec(_, s) => T::Dec(38, s),
                _ => unreachable!(),
            },
            Expr::IsNull(_) => T::Bool,
        }
    }

    fn sql(&self, cols: &[Col]) -> String {
        let n = |c: &usize| cols[*c].name.clone();
        match self {
            Expr::Prefix(lit, c) => format!("'{lit}' || {}", n(c)),
            Expr::Lower(c) => format!("lower({})", n(c)),
            Expr::Upper(c) => format!("upper({})", n(c)),
            Expr::Join(a, b) => format!("{} || '-' || {}", n(a), n(b)),
            Expr::CoalesceText(c, lit) => format!("coalesce({}, '{lit}')", n(c)),
            Expr::CoalesceInt(c, k) => format!("coalesce({}, {k})", n(c)),
            Expr::Add(c, k) => format!("CAST({} AS bigint) + {k}", n(c)),
            Expr::Times(c, k) => format!("CAST({} AS bigint) * {k}", n(c)),
            Expr::Divide(a, b) => format!("CAST({} AS bigint) / CAST({} AS bigint)", n(a), n(b)),
            Expr::AddDec(a, b) => format!("{} + {}", n(a), n(b)),
            Expr::CastInt(c) => format!("CAST({} AS bigint)", n(c)),
            Expr::When(c, k) => format!("CASE WHEN {} > {k} THEN 'hi' WHEN {} IS NULL THEN 'none' ELSE 'lo' END", n(c), n(c)),
            Expr::IsNull(c) => format!("{} IS NULL", n(c)),
        }
    }

    /// The value; `Err`: it has none. An unknown input makes it unknown.
    fn eval(&self, row: &[Cell]) -> Result<Cell, ()> {
        if self.columns().iter().any(|c| row[*c] == Cell::Unknown) {
            return Ok(Cell::Unknown);
        }
        let text = |c: usize| match row[c].value() {
            Some(V::Text(t)) => Some(t.clone()),
            Some(V::Int(n)) => Some(n.to_string()),
            _ => None,
        };
        let int = |c: usize| match row[c].value() {
            Some(V::Int(n)) => Some(*n),
            _ => None,
        };
        let of_text = |t: Option<String>| Ok(t.map_or(Cell::Null, |t| Cell::Is(V::Text(t))));
        let of_int = |n: Option<i128>| match n {
            None => Ok(Cell::Null),
            Some(n) => i64::try_from(n).map(|n| Cell::Is(V::Int(n.into()))).map_err(|_| ()),
        };
        match self {
            Expr::Prefix(lit, c) => of_text(text(*c).map(|t| format!("{lit}{t}"))),
            Expr::Lower(c) => of_text(text(*c).map(|t| t.to_lowercase())),
            Expr::Upper(c) => of_text(text(*c).map(|t| t.to_uppercase())),
            Expr::Join(a, b) => of_text(text(*a).and_then(|a| Some(format!("{a}-{}", text(*b)?)))),
            Expr::CoalesceText(c, lit) => of_text(Some(text(*c).unwrap_or(lit.to_string()))),
            Expr::CoalesceInt(c, k) => of_int(Some(int(*c).unwrap_or((*k).into()))),
            Expr::Add(c, k) => of_int(int(*c).map(|n| n + i128::from(*k))),
            Expr::Times(c, k) => of_int(int(*c).map(|n| n * i128::from(*k))),
            Expr::Divide(a, b) => match (int(*a), int(*b)) {
                (Some(_), Some(0)) => Err(()),
                (Some(a), Some(b)) => of_int(Some(a / b)),
                _ => Ok(Cell::Null),
            },
            Expr::AddDec(a, b) => match (row[*a].value(), row[*b].value()) {
                (Some(V::Dec(a, s)), Some(V::Dec(b, t))) => {
                    let scale = *s.max(t);
                    Ok(Cell::Is(dec(a * 10i128.pow(u32::from(scale - s)) + b * 10i128.pow(u32::from(scale - t)), scale)))
                }
                _ => Ok(Cell::Null),
            },
            Expr::CastInt(c) => match text(*c) {
                None => Ok(Cell::Null),
                Some(t) => t.parse::<i64>().map(|n| Cell::Is(V::Int(n.into()))).map_err(|_| ()),
            },
            Expr::When(c, k) => of_text(Some(
                match int(*c) {
                    Some(n) if n > i128::from(*k) => "hi",
                    None => "none",
                    _ => "lo",
                }
                .into(),
            )),
            Expr::IsNull(c) => Ok(Cell::Is(V::Bool(row[*c].value().is_none()))),
        }
    }
}

impl Pred {
    pub fn columns(&self) -> Vec<usize> {
        match self {
            Pred::Compare(c, ..) | Pred::CastAbove(c, _) | Pred::Null(c, _) => vec![*c],
            Pred::And(a, b) | Pred::Or(a, b) => [a.columns(), b.columns()].concat(),
            Pred::Not(a) => a.columns(),
        }
    }

    fn sql(&self, cols: &[Col]) -> String {
        match self {
            Pred::Compare(c, op, v) => {
                let literal = match v {
                    V::Text(t) => format!("'{}'", t.replace('\'', "''")),
                    v => cols[*c].ty.text(v),
                };
                format!("{} {op} {literal}", cols[*c].name)
            }
            Pred::CastAbove(c, n) => format!("CAST({} AS bigint) > {n}", cols[*c].name),
            Pred::Null(c, is) => format!("{} IS {}NULL", cols[*c].name, if *is { "" } else { "NOT " }),
            Pred::And(a, b) => format!("({} AND {})", a.sql(cols), b.sql(cols)),
            Pred::Or(a, b) => format!("({} OR {})", a.sql(cols), b.sql(cols)),
            Pred::Not(a) => format!("NOT ({})", a.sql(cols)),
        }
    }

    /// True, false, or NULL; `Err`: it has no value.
    fn eval(&self, row: &[Cell]) -> Result<Option<bool>, ()> {
        Ok(match self {
            Pred::Compare(c, op, v) => row[*c].value().map(|x| {
                let order = match (x, v) {
                    (V::Dec(a, s), V::Dec(b, t)) => (a * 10i128.pow(u32::from(10 - s))).partial_cmp(&(b * 10i128.pow(u32::from(10 - t)))),
                    (a, b) => a.partial_cmp(b),
                }
                .unwrap();
                match *op {
                    "=" => order.is_eq(),
                    "<>" => order.is_ne(),
                    ">" => order.is_gt(),
                    _ => order.is_le(),
                }
            }),
            Pred::CastAbove(c, n) => match row[*c].value() {
                Some(V::Text(t)) => Some(t.parse::<i64>().map_err(|_| ())? > *n),
                _ => None,
            },
            Pred::Null(c, is) => Some(row[*c].value().is_none() == *is),
            Pred::And(a, b) => match (a.eval(row)?, b.eval(row)?) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Pred::Or(a, b) => match (a.eval(row)?, b.eval(row)?) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Pred::Not(a) => a.eval(row)?.map(|b| !b),
        })
    }
}

/// What a row becomes in a target.
#[derive(Clone, Debug, PartialEq)]
pub enum Mapped {
    Row(Vec<Cell>),
    Dropped,
    /// With the code, and the row's key in the target, if that can be told.
    Rejected(&'static str),
}

impl Field {
    fn eval(&self, row: &[Cell], required: bool) -> Result<Cell, Mapped> {
        let fail = |_| Mapped::Rejected("EVALUATION_FAILED");
        let value = match &self.def {
            Def::Col(c) => row[*c].clone(),
            Def::Expr(e) => e.eval(row).map_err(fail)?,
            Def::Case { input, when, other, .. } => {
                let value = match input {
                    Ok(c) => row[*c].clone().settled(),
                    Err(e) => e.eval(row).map_err(fail)?,
                };
                match &value {
                    Cell::Is(v) => match (when.iter().find(|(from, _)| from == v), other) {
                        (Some((_, to)), _) => to.clone(),
                        (None, Some(other)) => other.clone(),
                        (None, None) => return Err(Mapped::Rejected("MAPPING_NOT_FOUND")),
                    },
                    _ => value,
                }
            }
        };
        let (policy, code) = match &value {
            Cell::Unknown => return Ok(Cell::Unknown),
            Cell::Missing => (self.missing.as_ref().unwrap_or(&self.null), "NULL_VALUE"),
            Cell::Null => (&self.null, "NULL_VALUE"),
            Cell::Is(V::Text(t)) if t.is_empty() && self.empty.is_some() => (self.empty.as_ref().unwrap(), "EMPTY_VALUE"),
            Cell::Is(v) if !self.ty.holds(v) => return Err(Mapped::Rejected("VALUE_OUT_OF_RANGE")),
            Cell::Is(_) => return Ok(value),
        };
        match policy {
            Pol::Pass if matches!(value, Cell::Is(_)) => Ok(value),
            Pol::Pass if required => Err(Mapped::Rejected("REQUIRED_VALUE_MISSING")),
            Pol::Pass => Ok(Cell::Null),
            Pol::Default => Ok(Cell::Is(self.default.clone().unwrap())),
            Pol::Drop => Err(Mapped::Dropped),
            Pol::Reject => Err(Mapped::Rejected(code)),
        }
    }

    pub fn columns(&self) -> Vec<usize> {
        match &self.def {
            Def::Col(c) | Def::Case { input: Ok(c), .. } => vec![*c],
            Def::Expr(e) | Def::Case { input: Err(e), .. } => e.columns(),
        }
    }
}

impl Target {
    /// The row of the target that a row of its input becomes. Of several reasons against it, a key that does not fit goes
    /// first, then a failed expression (that of the filter even where the row would not pass), then the fields: those of the
    /// key, then the others, each in their order.
    pub fn map(&self, row: &[Cell]) -> Mapped {
        let failed = Mapped::Rejected("EVALUATION_FAILED");
        let passes = self.filter.as_ref().map_or(Ok(Some(true)), |f| f.eval(row));
        if matches!(passes, Ok(None | Some(false))) {
            return Mapped::Dropped;
        }
        let cells: Vec<_> = self.fields.iter().enumerate().map(|(f, field)| field.eval(row, self.require.contains(&f))).collect();
        if let Some(Err(misfit)) = cells[..self.keys].iter().find(|c| **c == Err(Mapped::Rejected("VALUE_OUT_OF_RANGE"))) {
            return misfit.clone();
        }
        if passes.is_err() || cells.contains(&Err(failed.clone())) {
            return failed;
        }
        if cells[..self.keys].contains(&Ok(Cell::Unknown)) {
            return Mapped::Rejected("VALUE_UNKNOWN");
        }
        match cells.into_iter().collect::<Result<Vec<_>, _>>() {
            Ok(cells) => Mapped::Row(cells),
            Err(other) => other,
        }
    }

    /// The key of the target's row that an input row has (of a fused target: one with these key columns), if it has one.
    pub fn key_of(&self, row: &[Cell]) -> Option<Vec<Cell>> {
        self.fields[..self.keys].iter().map(|f| f.eval(row, false).ok().filter(|cell| *cell != Cell::Unknown)).collect()
    }

    pub fn cols(&self) -> Vec<Col> {
        self.fields.iter().map(|f| Col { name: f.name.clone(), ty: f.ty }).collect()
    }
}

/// The key as text: the one value, or a JSON array of several.
pub fn key_text(cols: &[Col], cells: &[Cell]) -> String {
    match (cols, cells) {
        ([col], [cell]) => cell.value().map_or(String::new(), |v| col.ty.text(v)),
        _ => serde_json::Value::Array(cols.iter().zip(cells).map(|(c, v)| c.ty.json(v)).collect()).to_string(),
    }
}

impl Model {
    pub fn cols(&self, table: Table) -> Vec<Col> {
        match table {
            Table::Source(s) => self.sources[s].cols.clone(),
            Table::Target(t) => self.targets[t].cols(),
        }
    }

    pub fn keys(&self, table: Table) -> usize {
        match table {
            Table::Source(s) => self.sources[s].keys,
            Table::Target(t) => self.targets[t].keys,
        }
    }

    pub fn name(&self, table: Table) -> &str {
        match table {
            Table::Source(s) => &self.sources[s].name,
            Table::Target(t) => &self.targets[t].name,
        }
    }

    /// The sources of a table.
    pub fn sources_of(&self, table: Table) -> Vec<usize> {
        match table {
            Table::Source(s) => vec![s],
            Table::Target(t) => self.sources_of(self.targets[t].from),
        }
    }

    /// Do changes of a source's records reach the table by key, with their own source time?
    pub fn by_record(&self, table: Table) -> bool {
        match table {
            Table::Source(_) => true,
            Table::Target(t) => self.targets[t].fused,
        }
    }

    pub fn draw(d: &mut Draw) -> Model {
        let toast = d.one_in(4);
        let workers = 1 + d.below(4);
        let mut model = Model { sources: vec![], targets: vec![], comparisons: vec![], workers, toast };
        let keys = 1 + d.below(2);
        let mut cols: Vec<Col> = (0..keys).map(|k| Col { name: format!("k{k}"), ty: *d.of(&KEYS) }).collect();
        for c in 0..1 + d.below(4) {
            cols.push(Col { name: format!("c{c}"), ty: *d.of(&ALL) });
        }
        let format = if d.one_in(4) { Fmt::Upsert } else { Fmt::Debezium };
        let used = vec![false; cols.len()];
        model.sources.push(Source { name: "s0".into(), connection: 0, format, cols, keys, used, actual_of: None });
        let tables = 1 + d.below(3);
        for t in 0..tables {
            let (from, one_to_one) = match (t, d.below(3)) {
                (0, 0 | 1) | (_, 0) => (Table::Source(0), true),
                (0, _) | (_, 1) => (Table::Source(0), false),
                _ => (Table::Target(t - 1), d.one_in(2)),
            };
            model.target(d, from, one_to_one);
            let t = model.targets.len() - 1;
            if !d.one_in(5) {
                model.comparison(d, Table::Target(t));
            }
        }
        if d.one_in(4) {
            model.comparison(d, Table::Source(0));
        }
        model.mark_used();
        model
    }

    fn mark_used(&mut self) {
        for comparison in self.comparisons.clone() {
            for table in [comparison.expected, Table::Source(comparison.actual)] {
                if let Table::Source(s) = table {
                    for (e, a) in &comparison.fields {
                        let at = if comparison.expected == table { *e } else { *a };
                        self.sources[s].used[at] = true;
                    }
                }
            }
        }
        for target in &self.targets {
            if let Table::Source(s) = target.from {
                for c in target.fields.iter().flat_map(Field::columns).chain(target.filter.iter().flat_map(Pred::columns)) {
                    self.sources[s].used[c] = true;
                }
            }
        }
        for source in &mut self.sources {
            source.used[..source.keys].fill(true);
        }
    }

    fn comparison(&mut self, d: &mut Draw, expected: Table) {
        let (cols, keys) = (self.cols(expected), self.keys(expected));
        let id = self.comparisons.len();
        // The other side has the same columns, perhaps of wider types, under other names, with some more.
        let rename = d.one_in(3);
        let all_fields = !d.one_in(4);
        let mut fields: Vec<usize> = (keys..cols.len()).collect();
        if !all_fields && fields.len() > 1 {
            fields.remove(d.below(fields.len()));
        }
        let mut actual = Vec::new();
        for (c, col) in cols.iter().enumerate() {
            let ty = if c < keys { col.ty } else { other_type(d, col.ty) };
            actual.push(Col { name: if rename && c >= keys { format!("a_{}", col.name) } else { col.name.clone() }, ty });
        }
        let format = if d.one_in(3) { Fmt::Upsert } else { Fmt::Debezium };
        let used = vec![false; actual.len()];
        self.sources.push(Source { name: format!("actual{id}"), connection: 1, format, cols: actual, keys, used, actual_of: Some(id) });
        let grace_ms = *d.of(&[0, 1000, 30_000]);
        let all_fields = all_fields && !rename;
        self.comparisons.push(Comparison {
            name: format!("cmp{id}"),
            expected,
            actual: self.sources.len() - 1,
            fields: fields.into_iter().map(|f| (f, f)).collect(),
            all_fields,
            grace_ms,
        });
    }

    fn target(&mut self, d: &mut Draw, from: Table, one_to_one: bool) {
        let (cols, from_keys) = (self.cols(from), self.keys(from));
        let mut fields = Vec::new();
        let plain =
            |name: String, c: usize| Field { name, ty: cols[c].ty, def: Def::Col(c), typed: false, default: None, null: Pol::Pass, missing: None, empty: None };
        if one_to_one {
            for c in 0..from_keys {
                let mut field = plain(format!("g{c}"), c);
                if matches!(cols[c].ty, T::Int(_) | T::Text(0)) && d.one_in(2) {
                    field.def = Def::Expr(Expr::Prefix("X-", c));
                    field.ty = T::Text(0);
                } else if !self.toast && d.one_in(6) {
                    (field.typed, field.ty) = (narrower(cols[c].ty) != cols[c].ty, narrower(cols[c].ty));
                }
                fields.push(field);
            }
        } else {
            // Something that several rows can have.
            let c = d.below(cols.len());
            let mut field = plain("g0".into(), c);
            if matches!(cols[c].ty, T::Double | T::Json | T::Array) || d.one_in(3) {
                field.def = Def::Case {
                    input: Ok(c),
                    input_ty: cols[c].ty,
                    when: vec![(cols[c].ty.pool()[0].0.clone(), Cell::Is(V::Text("first".into())))],
                    other: Some(Cell::Is(V::Text("rest".into()))),
                };
                field.ty = T::Text(0);
                field.typed = true;
            } else if matches!(cols[c].ty, T::Text(_)) && d.one_in(2) {
                field.def = Def::Expr(Expr::Lower(c));
                field.ty = T::Text(0);
            }
            fields.push(field);
        }
        let keys = fields.len();
        for f in 0..1 + d.below(4) {
            fields.push(field(d, format!("f{f}"), &cols, self.toast));
        }
        let require = if !self.toast && d.one_in(3) { vec![keys + d.below(fields.len() - keys)] } else { vec![] };
        let filter = (!self.toast && d.one_in(2)).then(|| pred(d, &cols, 2)).flatten();
        let name = format!("t{}", self.targets.len());
        self.targets.push(Target { name, from, filter, fields, keys, require, fused: false });
        let last = self.targets.len() - 1;
        self.targets[last].fused = self.is_fused(last);
    }

    /// Is a target made where its source is decoded?
    fn is_fused(&self, t: usize) -> bool {
        let Target { from, fields, filter, keys, .. } = &self.targets[t];
        let (cols, from_keys) = (self.cols(*from), self.keys(*from));
        let alone = |columns: Vec<usize>| {
            let others: Vec<_> = columns.into_iter().filter(|c| *c >= from_keys).collect();
            others.len() <= 1 || !others.iter().any(|c| matches!(cols[*c].ty, T::Text(_) | T::Bytes | T::Json | T::Array))
        };
        let distinct = |mut c: Vec<usize>| {
            c.sort_unstable();
            c.dedup();
            c
        };
        let told: Option<Vec<usize>> = fields[..*keys]
            .iter()
            .map(|f| match f.def {
                // A key that may not fit is no one to one.
                Def::Col(_) if f.typed => None,
                Def::Col(c) | Def::Expr(Expr::Prefix(_, c)) => Some(c),
                _ => None,
            })
            .collect();
        told.is_some_and(|told| distinct(told) == (0..from_keys).collect::<Vec<_>>())
            && matches!(from, Table::Source(_))
            && filter.iter().all(|f| alone(distinct(f.columns())))
            && fields.iter().all(|f| matches!(f.def, Def::Col(_)) || alone(distinct(f.columns())))
    }

    /// Another dataflow over the same sources, of whose columns the same are read; nothing: none was found.
    pub fn changed(&self, d: &mut Draw) -> Option<Model> {
        let mut other = self.clone();
        let t = d.below(other.targets.len());
        let cols = other.cols(other.targets[t].from);
        let target = &mut other.targets[t];
        match d.below(5) {
            0 | 1 if !self.toast => target.filter = (!d.one_in(3)).then(|| pred(d, &cols, 2)).flatten(),
            2 => {
                let field = target.keys + d.below(target.fields.len() - target.keys);
                target.fields[field].null = [Pol::Pass, Pol::Reject, Pol::Drop][d.below(3)].clone();
            }
            3 if !other.comparisons.is_empty() => {
                let c = d.below(other.comparisons.len());
                let comparison = &mut other.comparisons[c];
                if comparison.fields.len() > 1 {
                    comparison.fields.remove(d.below(comparison.fields.len()));
                    comparison.all_fields = false;
                }
            }
            _ => {
                for field in &mut target.fields {
                    match &mut field.def {
                        Def::Expr(Expr::Prefix(prefix, _)) => *prefix = if *prefix == "X-" { "Y-" } else { "X-" },
                        Def::Expr(Expr::Add(_, n) | Expr::CoalesceInt(_, n)) => *n += 1,
                        Def::Case { other: Some(other), .. } if field.ty == T::Text(0) => *other = Cell::Is(V::Text("other".into())),
                        _ => {}
                    }
                }
            }
        }
        for t in 0..other.targets.len() {
            other.targets[t].fused = other.is_fused(t);
        }
        other.sources.iter_mut().for_each(|source| source.used.fill(false));
        other.mark_used();
        let same_used = self.sources.iter().zip(&other.sources).all(|(a, b)| a.used == b.used);
        (same_used && other.yaml() != self.yaml()).then_some(other)
    }

    /// The dataflow file.
    pub fn yaml(&self) -> String {
        let mut y = String::from("dataflow: random\n\nsources:\n");
        for s in &self.sources {
            let keys: Vec<_> = s.cols[..s.keys].iter().map(|c| c.name.as_str()).collect();
            let format = if s.format == Fmt::Debezium { "debezium-json" } else { "upsert-json" };
            let _ = writeln!(
                y,
                "  {}:\n    connection: {}\n    files: [{}.ndjson]\n    format: {format}\n    key: [{}]\n    columns:",
                s.name,
                ["left", "right"][s.connection],
                s.name,
                keys.join(", ")
            );
            for c in &s.cols {
                let _ = writeln!(y, "      {}: {}", c.name, c.ty.name());
            }
        }
        y.push_str("\ntargets:\n");
        for t in &self.targets {
            let cols = self.cols(t.from);
            let keys: Vec<_> = t.fields[..t.keys].iter().map(|f| f.name.as_str()).collect();
            let _ = writeln!(y, "  {}:\n    key: [{}]\n    from: {}", t.name, keys.join(", "), self.name(t.from));
            if let Some(filter) = &t.filter {
                let _ = writeln!(y, "    where: {:?}", filter.sql(&cols));
            }
            y.push_str("    fields:\n");
            for f in &t.fields {
                f.yaml(&cols, &mut y);
            }
            if !t.require.is_empty() {
                let names: Vec<_> = t.require.iter().map(|f| t.fields[*f].name.as_str()).collect();
                let _ = writeln!(y, "    require: [{}]", names.join(", "));
            }
        }
        if !self.comparisons.is_empty() {
            y.push_str("\ncomparisons:\n");
        }
        for c in &self.comparisons {
            let _ = writeln!(
                y,
                "  {}:\n    expected: {}\n    actual: {}\n    grace: {}ms\n    stale_after: 365d",
                c.name,
                self.name(c.expected),
                self.sources[c.actual].name,
                c.grace_ms
            );
            if !c.all_fields {
                let (e, a) = (self.cols(c.expected), &self.sources[c.actual].cols);
                let pairs: Vec<_> = c.fields.iter().map(|(x, z)| format!("{}: {}", e[*x].name, a[*z].name)).collect();
                let _ = writeln!(y, "    fields: {{ {} }}", pairs.join(", "));
            }
        }
        y
    }

    pub fn config(&self) -> String {
        format!("data_dir: ./none\nworkers: {}\nconnections:\n  left: {{ kind: file, dir: ./left }}\n  right: {{ kind: file, dir: ./right }}\n", self.workers)
    }
}

impl Field {
    fn yaml(&self, cols: &[Col], y: &mut String) {
        let mut parts = Vec::new();
        match &self.def {
            Def::Col(c) => parts.push(format!("value: {}", cols[*c].name)),
            Def::Expr(e) => parts.push(format!("value: {:?}", e.sql(cols))),
            Def::Case { input, input_ty, when, other } => {
                let input = match input {
                    Ok(c) => cols[*c].name.clone(),
                    Err(e) => format!("{:?}", e.sql(cols)),
                };
                let literal = |ty: T, cell: &Cell| cell.value().map_or("null".into(), |v| ty.yaml(v));
                let when: Vec<_> = when.iter().map(|(from, to)| format!("{}: {}", input_ty.yaml(from), literal(self.ty, to))).collect();
                parts.push(format!("case: {input}, when: {{ {} }}", when.join(", ")));
                if let Some(other) = other {
                    parts.push(format!("else: {}", literal(self.ty, other)));
                }
            }
        }
        let word = |p: &Pol| match p {
            Pol::Pass => "pass",
            Pol::Default => "default",
            Pol::Drop => "drop",
            Pol::Reject => "reject",
        };
        if let Some(default) = &self.default {
            parts.push(format!("default: {}", self.ty.yaml(default)));
        }
        let quiet = if self.default.is_some() { matches!(self.null, Pol::Default) } else { matches!(self.null, Pol::Pass) };
        if !quiet {
            parts.push(format!("on_null: {}", word(&self.null)));
        }
        parts.extend(self.missing.as_ref().map(|p| format!("on_missing: {}", word(p))));
        parts.extend(self.empty.as_ref().map(|p| format!("on_empty: {}", word(p))));
        if self.typed {
            parts.push(format!("type: {:?}", self.ty.name()));
        }
        let short = parts.len() == 1 && !matches!(self.def, Def::Case { .. });
        let _ = match short {
            true => writeln!(y, "      {}: {}", self.name, parts[0].strip_prefix("value: ").unwrap()),
            false => writeln!(y, "      {}: {{ {} }}", self.name, parts.join(", ")),
        };
    }
}

/// A type with the same values, perhaps spelled or packed otherwise.
fn other_type(d: &mut Draw, ty: T) -> T {
    if !d.one_in(3) {
        return ty;
    }
    match ty {
        T::Int(8 | 16 | 32) => T::Int(64),
        T::Int(_) => T::Dec(38, 2),
        T::Dec(12, 2) => T::Dec(18, 4),
        T::Text(4) => T::Text(0),
        T::Time(3) => T::Time(6),
        T::Stamp(3, zone) => T::Stamp(6, zone),
        other => other,
    }
}

/// A type that does not hold all values.
fn narrower(ty: T) -> T {
    match ty {
        T::Int(_) => T::Int(8),
        T::Dec(12, 2) => T::Dec(3, 2),
        T::Dec(18, 4) => T::Dec(12, 2),
        T::Dec(38, 3) => T::Dec(18, 4),
        T::Text(0 | 4) => T::Text(2),
        T::Time(6) => T::Time(3),
        T::Stamp(6, zone) => T::Stamp(3, zone),
        other => other,
    }
}

fn field(d: &mut Draw, name: String, cols: &[Col], toast: bool) -> Field {
    let c = d.below(cols.len());
    let of = |d: &mut Draw, is: fn(T) -> bool| {
        let fit: Vec<usize> = (0..cols.len()).filter(|c| is(cols[*c].ty)).collect();
        (!fit.is_empty()).then(|| *d.of(&fit))
    };
    let (text, int): (fn(T) -> bool, fn(T) -> bool) = (|t| matches!(t, T::Text(_)), |t| matches!(t, T::Int(_)));
    let mut field = Field { name, ty: cols[c].ty, def: Def::Col(c), typed: false, default: None, null: Pol::Pass, missing: None, empty: None };
    match d.below(5) {
        0 => {}
        1 => {
            let ty = if !toast && d.one_in(2) { narrower(cols[c].ty) } else { other_type(d, cols[c].ty) };
            (field.typed, field.ty) = (ty != cols[c].ty, ty);
        }
        2 | 3 => {
            let expr = match d.below(if toast { 4 } else { 13 }) {
                0 => of(d, text).map(Expr::Lower),
                1 => of(d, text).map(Expr::Upper),
                2 => of(d, |t| matches!(t, T::Text(_) | T::Int(_))).map(|c| Expr::Prefix("P", c)),
                3 => of(d, text).map(|c| Expr::CoalesceText(c, "nix")),
                4 => of(d, text).and_then(|a| Some(Expr::Join(a, of(d, text)?))),
                5 => of(d, |t| t == T::Int(64)).map(|c| Expr::CoalesceInt(c, 5)),
                6 => of(d, int).map(|c| Expr::Add(c, 1)),
                7 => of(d, int).map(|c| Expr::Times(c, 3)),
                8 => of(d, int).and_then(|a| Some(Expr::Divide(a, of(d, int)?))),
                9 => of(d, |t| matches!(t, T::Dec(12 | 18, _))).and_then(|a| {
                    let same: Vec<usize> = (0..cols.len()).filter(|c| cols[*c].ty == cols[a].ty).collect();
                    Some(Expr::AddDec(a, *d.of(&same)))
                }),
                10 => of(d, text).map(Expr::CastInt),
                11 => of(d, int).map(|c| Expr::When(c, 2)),
                _ => Some(Expr::IsNull(c)),
            };
            if let Some(expr) = expr {
                (field.ty, field.def) = (expr.ty(cols), Def::Expr(expr));
                field.typed = !matches!(field.ty, T::Text(_) | T::Bool);
            }
        }
        _ => {
            let input_ty = cols[c].ty;
            let keyable = matches!(input_ty, T::Int(_) | T::Text(_) | T::Bool | T::Date | T::Dec(..));
            if keyable {
                let to = [Cell::Is(V::Text("one".into())), Cell::Is(V::Text("two".into())), Cell::Null];
                let pool = input_ty.pool();
                let when = pool[..pool.len().min(3)].iter().enumerate().take(1 + d.below(3)).map(|(i, (v, _))| (v.clone(), to[i].clone())).collect();
                let other = if toast || d.one_in(2) { Some(if d.one_in(3) { Cell::Null } else { Cell::Is(V::Text("else".into())) }) } else { None };
                field.def = Def::Case { input: Ok(c), input_ty, when, other };
                (field.ty, field.typed) = (T::Text(0), true);
            }
        }
    }
    if d.one_in(3) {
        let pol = |d: &mut Draw| match d.below(if toast { 2 } else { 4 }) {
            0 => Pol::Pass,
            1 => Pol::Default,
            2 => Pol::Reject,
            _ => Pol::Drop,
        };
        field.null = pol(d);
        if matches!(field.def, Def::Col(_)) && d.one_in(2) {
            field.missing = Some(pol(d));
        }
        if matches!(field.ty, T::Text(_)) && d.one_in(2) {
            field.empty = Some(pol(d));
        }
        if [Some(&field.null), field.missing.as_ref(), field.empty.as_ref()].iter().flatten().any(|p| matches!(p, Pol::Default)) {
            field.default = Some(field.ty.pool()[0].0.clone());
        }
    }
    field
}

fn pred(d: &mut Draw, cols: &[Col], deep: usize) -> Option<Pred> {
    if deep > 0 && d.one_in(3) {
        let (a, b) = (pred(d, cols, deep - 1)?, pred(d, cols, 0)?);
        return Some(match d.below(3) {
            0 => Pred::And(a.into(), b.into()),
            1 => Pred::Or(a.into(), b.into()),
            _ => Pred::Not(a.into()),
        });
    }
    let c = d.below(cols.len());
    Some(match cols[c].ty {
        T::Text(0) if deep == 2 && d.one_in(5) => Pred::CastAbove(c, 5),
        T::Int(_) | T::Text(_) | T::Dec(12 | 18, _) if !d.one_in(4) => {
            Pred::Compare(c, ["<>", ">", "=", "<="][d.below(4)], cols[c].ty.pool()[d.below(4)].0.clone())
        }
        _ => Pred::Null(c, d.one_in(2)),
    })
}
