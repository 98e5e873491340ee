//! Row-by-row mappings over decoded batches: from the records of a source to changes of a table.
//!
//! A [`RowProgram`] is a target's field rules (or none: the plain columns of a source) compiled for one place where its
//! rows go: which fields are the key, which are values, in which types. Plain columns, case maps and policies copy bytes;
//! expressions are evaluated for a whole batch by `sql`.
//!
//! An unknown value (an unchanged TOAST value) stays unknown through the fields that are made of it alone; the table then
//! keeps the field that stands.

use super::{
    Reject,
    sql::{self, Evaluated, Scalar},
    table::{
        change::{Op, pack_reject},
        counted,
    },
};
use crate::{
    format::{self, Batch, Lack, Span},
    plan::{CaseInput, FieldMapping, FieldRule, FieldValue, NullPolicy, Otherwise, SourceId, Target, TargetId},
    row::{self, Column, Field, RowWriter, Type, Value, pack_value, push_key},
};

/// Where a program's rows come from and go to, for people: rejects name it.
#[derive(Clone, Debug)]
pub struct Origin {
    pub source: SourceId,
    pub target: Option<TargetId>,
    /// The key of the input table, as places in its columns.
    pub key: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    /// A column of the input, to be converted if the types are packed differently.
    Column(usize),
    /// A place in the list of scalars of its phase.
    Early(usize),
    Late(usize),
}

/// What a packed value becomes; `None`: NULL.
type CaseRules = Vec<(Vec<u8>, Option<Vec<u8>>)>;

struct Rule {
    name: String,
    ty: Type,
    input: Input,
    /// The type of what `input` gives.
    from: Type,
    /// A case map: packed input to packed output (`None`: NULL).
    case: Option<(CaseRules, Option<Option<Vec<u8>>>)>,
    on_null: Policy,
    on_missing: Option<Policy>,
    on_empty: Option<Policy>,
    required: bool,
}

impl Rule {
    /// May a row be dropped or rejected for what this field has?
    fn may_refuse(&self) -> bool {
        let refuses = |policy: &Policy| matches!(policy, Policy::Drop | Policy::Reject | Policy::Fail);
        self.required
            || [Some(&self.on_null), self.on_missing.as_ref(), self.on_empty.as_ref()].into_iter().flatten().any(refuses)
            || matches!(&self.case, Some((_, None)))
            || (self.case.is_none() && !row::holds(self.from, self.ty))
    }
}

#[derive(Clone)]
enum Policy {
    Pass,
    Default(Vec<u8>),
    Drop,
    Reject,
    Fail,
}

/// See the module.
pub struct RowProgram {
    origin: Origin,
    columns: Vec<Column>,
    rules: Vec<Rule>,
    filter: Option<Scalar>,
    /// Scalars of the key, which every record needs.
    early: Vec<Scalar>,
    /// Scalars that only rows in the target need.
    late: Vec<Scalar>,
    /// Rule and type of the key's columns and of the value's.
    key: Vec<(usize, Type)>,
    values: Vec<(usize, Type)>,
    /// Rules to run first, for what they refuse: all, where some that may refuse a row are not among the values, or are
    /// there in another order.
    checks: Vec<usize>,
    /// By value: the column of the input whose packed bytes it is as they stand, when it has some.
    plain: Vec<Option<usize>>,
    /// No declared key: the row is the key, and rows are counted.
    counted: bool,
    /// Rows tell what the message lacked from NULL; see [`RowProgram::keep_missing`].
    keeps_missing: bool,
    work: Work,
}

#[derive(Default)]
struct Work {
    filter: Evaluated,
    early: Evaluated,
    late: Evaluated,
    rows: Vec<u32>,
    passing: Vec<u32>,
    /// By passing row: its place in `rows`.
    key: Vec<u8>,
    value: Vec<u8>,
    scratch: Vec<u8>,
}

/// What became of a record in a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    Filtered,
    Applied,
    Rejected,
}

/// A change that a program made of a record: its place in the batch, and the change.
pub struct Mapped<'a> {
    pub record: usize,
    pub fate: Fate,
    /// `None`: nothing to apply (a reject without a key is in `reject`).
    pub change: Option<(Op, &'a [u8], &'a [u8])>,
    pub reject: Option<Reject>,
}

enum Stop {
    Drop,
    Reject(&'static str, String),
    Fail(String),
}

fn policy(policy: &NullPolicy) -> Policy {
    match policy {
        NullPolicy::Pass => Policy::Pass,
        NullPolicy::Default(value) => {
            let mut packed = Vec::new();
            pack_value(&mut packed, value);
            Policy::Default(packed)
        }
        NullPolicy::Drop => Policy::Drop,
        NullPolicy::Reject => Policy::Reject,
        NullPolicy::Fail => Policy::Fail,
    }
}

fn packed(value: &Value) -> Option<Vec<u8>> {
    (*value != Value::Null).then(|| {
        let mut out = Vec::new();
        pack_value(&mut out, value);
        out
    })
}

impl RowProgram {
    /// The program of a target's field rules. `key` and `values` say which target columns go where, in which types.
    pub fn mapping(origin: Origin, columns: &[Column], target: &[Column], mapping: &FieldMapping, key: Vec<(usize, Type)>, values: Vec<(usize, Type)>) -> Self {
        let mut program = RowProgram {
            origin,
            columns: columns.to_vec(),
            rules: Vec::new(),
            filter: mapping.filter.clone(),
            early: Vec::new(),
            late: Vec::new(),
            key,
            values,
            checks: Vec::new(),
            plain: Vec::new(),
            counted: false,
            keeps_missing: false,
            work: Work::default(),
        };
        for (place, rule) in mapping.fields.iter().enumerate() {
            let in_key = program.key.iter().any(|(k, _)| *k == place);
            let rule = program.rule(rule, &target[place], mapping.require.contains(&place), in_key);
            program.rules.push(rule);
        }
        let refusing = (0..program.rules.len()).filter(|r| program.rules[*r].may_refuse() && !program.key.iter().any(|(k, _)| k == r));
        let done: Vec<usize> = program.values.iter().map(|(r, _)| *r).collect();
        if !done.is_sorted() || refusing.clone().any(|r| !done.contains(&r)) {
            program.checks = refusing.collect();
        }
        let plain = |(rule, ty): &(usize, Type)| {
            let rule = &program.rules[*rule];
            let as_it_is = rule.case.is_none() && rule.on_empty.is_none() && row::holds(rule.from, rule.ty) && row::same_packing(rule.ty, *ty);
            match rule.input {
                Input::Column(c) if as_it_is => Some(c),
                _ => None,
            }
        };
        program.plain = program.values.iter().map(plain).collect();
        program
    }

    /// The program that passes columns of a table on as they are.
    pub fn columns(origin: Origin, columns: &[Column], key: Vec<(usize, Type)>, values: Vec<(usize, Type)>) -> Self {
        let plain = FieldMapping {
            from: crate::plan::TableRef::Source(origin.source),
            filter: None,
            fields: (0..columns.len())
                .map(|c| FieldRule { value: FieldValue::Column(c), on_null: NullPolicy::Pass, on_missing: None, on_empty: None })
                .collect(),
            require: Vec::new(),
        };
        let counted = key.is_empty();
        RowProgram { counted, ..Self::mapping(origin, columns, columns, &plain, key, values) }
    }

    /// Rows keep what the message lacked apart from NULL, for mappings that read them with an `on_missing`.
    pub fn keep_missing(self, keep: bool) -> Self {
        RowProgram { keeps_missing: keep, ..self }
    }

    fn rule(&mut self, rule: &FieldRule, target: &Column, required: bool, in_key: bool) -> Rule {
        let scalar = |program: &mut Self, scalar: &Scalar| {
            let list = if in_key { &mut program.early } else { &mut program.late };
            list.push(scalar.clone());
            (if in_key { Input::Early(list.len() - 1) } else { Input::Late(list.len() - 1) }, scalar.ty())
        };
        let (input, from, case) = match &rule.value {
            FieldValue::Column(c) => (Input::Column(*c), self.columns[*c].ty, None),
            FieldValue::Expression(expression) => {
                let (input, ty) = scalar(self, expression);
                (input, ty, None)
            }
            FieldValue::Case { input, when, otherwise } => {
                let (input, ty) = match input {
                    CaseInput::Column(c) => (Input::Column(*c), self.columns[*c].ty),
                    CaseInput::Expression(expression) => scalar(self, expression),
                };
                let when = when.iter().filter_map(|(from, to)| Some((packed(from)?, packed(to)))).collect();
                let otherwise = match otherwise {
                    Otherwise::Reject => None,
                    Otherwise::Value(value) => Some(packed(value)),
                };
                (input, ty, Some((when, otherwise)))
            }
        };
        Rule {
            name: target.name.clone(),
            ty: target.ty,
            input,
            from,
            case,
            on_null: policy(&rule.on_null),
            on_missing: rule.on_missing.as_ref().map(policy),
            on_empty: rule.on_empty.as_ref().map(policy),
            required,
        }
    }

    /// The columns of the input that the program reads, the key among them.
    pub fn wanted(&self) -> Vec<bool> {
        let mut wanted = vec![false; self.columns.len()];
        for c in &self.origin.key {
            wanted[*c] = true;
        }
        for scalar in self.filter.iter().chain(&self.early).chain(&self.late) {
            for c in scalar.columns() {
                wanted[*c] = true;
            }
        }
        for rule in self.key.iter().chain(&self.values).map(|(rule, _)| rule).chain(&self.checks) {
            if let Input::Column(c) = self.rules[*rule].input {
                wanted[c] = true;
            }
        }
        wanted
    }

    fn reject(&self, batch: &Batch, record: usize, partition: i32, code: &'static str, cause: String, key: Option<String>) -> Reject {
        let key = key.or_else(|| self.key_text(batch, record));
        Reject { source: self.origin.source, code, cause, key, partition, offset: batch.records[record].offset, target: self.origin.target, keyed: false }
    }

    /// The key of the input record as text, if it is all there.
    fn key_text(&self, batch: &Batch, record: usize) -> Option<String> {
        let row = batch.row(record);
        if self.origin.key.is_empty() || self.origin.key.iter().any(|c| row[*c].lack().is_some()) {
            return None;
        }
        let columns: Vec<Column> = self.origin.key.iter().map(|c| self.columns[*c].clone()).collect();
        let types: Vec<Type> = columns.iter().map(|c| c.ty).collect();
        let fields: Vec<Field> = self.origin.key.iter().map(|c| row[*c].field(&batch.bytes)).collect();
        Some(row::key_text(&columns, &row::pack_key(&types, &fields)))
    }

    /// Runs the program over a batch; `emit` gets what becomes of each record that is not skipped, in order. A truncate
    /// is given as it is (no key).
    ///
    /// # Errors
    /// The sentence of a policy `fail`.
    pub fn run(&mut self, batch: &Batch, partition: i32, mut emit: impl FnMut(Mapped)) -> Result<(), String> {
        let mut work = std::mem::take(&mut self.work);
        let result = self.run_with(batch, partition, &mut work, &mut emit);
        self.work = work;
        result
    }

    fn run_with(&self, batch: &Batch, partition: i32, work: &mut Work, emit: &mut impl FnMut(Mapped)) -> Result<(), String> {
        let Work { filter, early, late, rows, passing, key, value, scratch } = work;
        rows.clear();
        rows.extend(
            (0..batch.records.len() as u32).filter(|r| matches!(batch.records[*r as usize].op, format::Op::Upsert | format::Op::Delete | format::Op::Reject)),
        );
        evaluate(self.filter.as_slice(), batch, &self.columns, rows, filter);
        evaluate(&self.early, batch, &self.columns, rows, early);
        let keeps = |at: usize| -> Option<bool> {
            let span = self.filter.as_ref().map(|_| filter.spans[at])?;
            Some(matches!(span.field(&filter.bytes), Field::Packed([1])))
        };
        passing.clear();
        for (at, record) in rows.iter().enumerate() {
            let op = batch.records[*record as usize].op;
            let whole = op == format::Op::Upsert || self.counted && op == format::Op::Delete;
            if whole && (keeps(at).unwrap_or(true) || self.filter_unknown(batch, *record as usize)) {
                passing.push(*record);
            }
        }
        evaluate(&self.late, batch, &self.columns, passing, late);

        let (mut rejects, mut filter_errors) = (batch.rejects.iter().peekable(), filter.errors.iter().peekable());
        let (mut early_errors, mut late_errors) = (early.errors.iter().peekable(), late.errors.iter().peekable());
        let (mut at_row, mut at_passing) = (0, 0);
        for (record, meta) in batch.records.iter().enumerate() {
            if meta.op == format::Op::Truncate {
                emit(Mapped { record, fate: Fate::Applied, change: Some((Op::Truncate, &[], &[])), reject: None });
                continue;
            }
            if meta.op == format::Op::Skip {
                continue;
            }
            let at = at_row;
            at_row += 1;
            let filter_error = filter_errors.next_if(|(row, ..)| *row == at).map(|(_, _, cause)| cause.clone());
            let key_error = early_errors.next_if(|(row, ..)| *row == at).map(|(_, scalar, cause)| self.of_field(Input::Early(*scalar), cause));
            while early_errors.next_if(|(row, ..)| *row == at).is_some() {}
            let passed = (passing.get(at_passing) == Some(&(record as u32))).then_some(at_passing);
            at_passing += usize::from(passed.is_some());
            let late_error = passed.and_then(|p| late_errors.next_if(|(row, ..)| *row == p));
            let late_error = late_error.map(|(_, scalar, cause)| self.of_field(Input::Late(*scalar), cause));
            while passed.is_some_and(|p| late_errors.next_if(|(row, ..)| *row == p).is_some()) {}
            let decode = rejects.next_if(|r| r.record == record);
            let field = |rule: usize, scratch: &mut Vec<u8>| self.field(rule, batch, record, (early, at), passed.map(|p| (&*late, p)), scratch);

            // The key first: without it a reject has nowhere to be.
            key.clear();
            let mut bad_key = None;
            if self.counted {
                key.push(if meta.op == format::Op::Reject { counted::POSITION } else { counted::ROW });
                push_position(key, partition, meta.offset);
            } else {
                for (i, (rule, ty)) in self.key.iter().enumerate() {
                    scratch.clear();
                    match field(*rule, scratch).and_then(|f| convert(f, self.rules[*rule].ty, *ty, scratch, &self.rules[*rule].name)) {
                        Ok(Out::Null | Out::Missing) if meta.op == format::Op::Upsert => {
                            key.push(0);
                        }
                        Ok(Out::Packed) => push_key(key, *ty, Field::Packed(scratch), i + 1 == self.key.len()),
                        Ok(Out::Unknown) => {
                            bad_key =
                                Some(Stop::Reject("VALUE_UNKNOWN", format!("the key field `{}` needs a value that was never seen", self.rules[*rule].name)))
                        }
                        Ok(Out::Null | Out::Missing) => {
                            bad_key = Some(Stop::Reject("KEY_MISSING", format!("the key field `{}` has no value", self.rules[*rule].name)))
                        }
                        Err(stop) => bad_key = Some(stop),
                    }
                }
            }
            let usable = bad_key.is_none()
                && key_error.is_none()
                && !(meta.op == format::Op::Reject && self.origin.key.iter().any(|c| batch.row(record)[*c].lack().is_some()));
            let mut refuse = |code: &'static str, cause: String, text: Option<String>, decoded: bool| {
                let mut reject = self.reject(batch, record, partition, code, cause, text);
                if !decoded {
                    reject.target = None;
                }
                reject.keyed = usable;
                if usable {
                    let packed = pack_reject(&reject);
                    emit(Mapped { record, fate: Fate::Rejected, change: Some((Op::Reject, key, &packed)), reject: Some(reject) });
                } else {
                    emit(Mapped { record, fate: Fate::Rejected, change: None, reject: Some(reject) });
                }
            };
            if let Some(decode) = decode {
                refuse(decode.code, decode.cause.clone(), decode.key.clone(), false);
                continue;
            }
            match bad_key {
                Some(Stop::Fail(why)) => return Err(why),
                // A row that is not in the target need not have a key.
                Some(_) if meta.op == format::Op::Upsert && passed.is_none() && filter_error.is_none() => {
                    emit(Mapped { record, fate: Fate::Filtered, change: None, reject: None });
                    continue;
                }
                Some(Stop::Drop) => {
                    emit(Mapped { record, fate: Fate::Filtered, change: None, reject: None });
                    continue;
                }
                Some(Stop::Reject(code, cause)) => {
                    refuse(code, cause, None, true);
                    continue;
                }
                None => {}
            }
            if meta.op == format::Op::Delete && !self.counted {
                emit(Mapped { record, fate: Fate::Applied, change: Some((Op::Clear, key, &[])), reject: None });
                continue;
            }
            let error = filter_error.or(passed.and(key_error.clone())).or(late_error);
            if let Some(cause) = error {
                refuse("EVALUATION_FAILED", cause, None, true);
                continue;
            }
            if passed.is_none() {
                if key_error.is_some() {
                    emit(Mapped { record, fate: Fate::Filtered, change: None, reject: None });
                    continue;
                }
                emit(Mapped { record, fate: Fate::Filtered, change: Some((Op::Clear, key, &[])), reject: None });
                continue;
            }
            value.clear();
            let mut stop = self.checks.iter().find_map(|rule| {
                scratch.clear();
                field(*rule, scratch).err()
            });
            let mut writer = RowWriter::new(value, self.values.len());
            for ((rule, ty), plain) in self.values.iter().zip(&self.plain) {
                if stop.is_some() {
                    break;
                }
                if let Some(c) = plain
                    && let Field::Packed(field) = batch.row(record)[*c].field(&batch.bytes)
                {
                    writer.packed(field);
                    continue;
                }
                scratch.clear();
                match field(*rule, scratch).and_then(|f| convert(f, self.rules[*rule].ty, *ty, scratch, &self.rules[*rule].name)) {
                    Ok(Out::Null) => writer.null(),
                    Ok(Out::Unknown) => writer.unknown(),
                    Ok(Out::Missing) => writer.missing(),
                    Ok(Out::Packed) => writer.packed(scratch),
                    Err(other) => stop = Some(other),
                }
            }
            writer.finish();
            match stop {
                None if self.counted => {
                    // The key is the row; what is taken away is told with the position of the message.
                    let position = key.split_off(1);
                    key.extend_from_slice(value);
                    let change = if meta.op == format::Op::Delete { (Op::Lose, &key[..], &position[..]) } else { (Op::Gain, &key[..], &[][..]) };
                    emit(Mapped { record, fate: Fate::Applied, change: Some(change), reject: None });
                }
                None => {
                    let op = if self.filter.is_some() && self.filter_unknown(batch, record) { Op::Merge } else { Op::Set };
                    emit(Mapped { record, fate: Fate::Applied, change: Some((op, key, value)), reject: None });
                }
                Some(Stop::Drop) => emit(Mapped { record, fate: Fate::Filtered, change: Some((Op::Clear, key, &[])), reject: None }),
                Some(Stop::Reject(code, cause)) => refuse(code, cause, None, true),
                Some(Stop::Fail(why)) => return Err(why),
            }
        }
        Ok(())
    }

    /// Why a scalar has no value, with the name of its field.
    fn of_field(&self, scalar: Input, cause: &str) -> String {
        match self.rules.iter().find(|rule| rule.input == scalar) {
            Some(rule) => format!("field `{}`: {cause}", rule.name),
            None => cause.to_string(),
        }
    }

    /// Can't it be told whether the row passes the filter, because the connector did not send a value?
    fn filter_unknown(&self, batch: &Batch, record: usize) -> bool {
        self.filter.as_ref().is_some_and(|filter| unknown(filter, batch, record))
    }

    /// The value of a rule in the target column's type: in `scratch`, if there is one.
    fn field(
        &self,
        rule: usize,
        batch: &Batch,
        record: usize,
        early: (&Evaluated, usize),
        late: Option<(&Evaluated, usize)>,
        scratch: &mut Vec<u8>,
    ) -> Result<Out, Stop> {
        let rule = &self.rules[rule];
        let (span, bytes, scalar) = match rule.input {
            Input::Column(c) => (batch.row(record)[c], &batch.bytes, None),
            Input::Early(s) => (early.0.spans[early.1 * self.early.len() + s], &early.0.bytes, Some(&self.early[s])),
            Input::Late(s) => {
                let Some((late, at)) = late else { return Ok(Out::Null) };
                (late.spans[at * self.late.len() + s], &late.bytes, Some(&self.late[s]))
            }
        };
        if scalar.is_some_and(|scalar| unknown(scalar, batch, record)) {
            return Ok(Out::Unknown);
        }
        let mut policy = match span.lack() {
            Some(Lack::Unknown) => return Ok(Out::Unknown),
            Some(Lack::Missing) if self.keeps_missing => return Ok(Out::Missing),
            Some(Lack::Missing) => Some((rule.on_missing.as_ref().unwrap_or(&rule.on_null), "is lacking in the message")),
            Some(Lack::Null) => Some((&rule.on_null, "is null")),
            None => None,
        };
        if let Field::Packed(field) = span.field(bytes) {
            match &rule.case {
                None => {
                    row::convert(rule.from, rule.ty, field, scratch)
                        .map_err(|why| Stop::Reject("VALUE_OUT_OF_RANGE", format!("field `{}`: {why}", rule.name)))?;
                }
                Some((when, otherwise)) => {
                    let found = when.iter().find(|(from, _)| from == field).map(|(_, to)| to).or(otherwise.as_ref());
                    match found {
                        Some(Some(to)) => scratch.extend_from_slice(to),
                        Some(None) => policy = Some((&rule.on_null, "is null")),
                        None => {
                            let text = row::text_of(rule.from, &row::unpack_value(rule.from, field));
                            return Err(Stop::Reject("MAPPING_NOT_FOUND", format!("field `{}` has no rule for `{text}` and no `else`", rule.name)));
                        }
                    }
                }
            }
            if let Some(on_empty) = &rule.on_empty
                && scratch.as_slice() == [0]
                && matches!(rule.ty, Type::Varchar(_))
            {
                policy = Some((on_empty, "is empty"));
                if !matches!(on_empty, Policy::Pass) {
                    scratch.clear();
                }
            }
        }
        match policy {
            None => Ok(Out::Packed),
            Some((Policy::Pass, "is empty")) => Ok(Out::Packed),
            Some((Policy::Pass, _)) if rule.required => Err(Stop::Reject("REQUIRED_VALUE_MISSING", format!("the required field `{}` has no value", rule.name))),
            Some((Policy::Pass, _)) => Ok(Out::Null),
            Some((Policy::Default(value), _)) => {
                scratch.extend_from_slice(value);
                Ok(Out::Packed)
            }
            Some((Policy::Drop, _)) => Err(Stop::Drop),
            Some((Policy::Reject, what)) => {
                Err(Stop::Reject(if what == "is empty" { "EMPTY_VALUE" } else { "NULL_VALUE" }, format!("field `{}` {what}", rule.name)))
            }
            Some((Policy::Fail, what)) => Err(Stop::Fail(format!(
                "field `{}` {what} in the record with key {} at offset {}, and its policy is `fail`",
                rule.name,
                self.key_text(batch, record).unwrap_or_else(|| "unknown".into()),
                batch.records[record].offset
            ))),
        }
    }
}

#[derive(Clone, Copy)]
enum Out {
    Null,
    Unknown,
    Missing,
    Packed,
}

/// Does a scalar read a column that is unknown in this record?
fn unknown(scalar: &Scalar, batch: &Batch, record: usize) -> bool {
    let row = batch.row(record);
    scalar.columns().iter().any(|c| row[*c] == Span::UNKNOWN)
}

fn evaluate(scalars: &[Scalar], batch: &Batch, columns: &[Column], rows: &[u32], out: &mut Evaluated) {
    out.bytes.clear();
    out.spans.clear();
    out.errors.clear();
    if !scalars.is_empty() && !rows.is_empty() {
        sql::evaluate(&scalars.iter().collect::<Vec<_>>(), batch, columns, rows, out);
    }
}

/// Converts what is in `scratch` from the target column's type to the type in which it is stored.
fn convert(out: Out, from: Type, to: Type, scratch: &mut Vec<u8>, name: &str) -> Result<Out, Stop> {
    if matches!(out, Out::Packed) && !row::same_packing(from, to) {
        let field = std::mem::take(scratch);
        row::convert_common(from, to, &field, scratch).map_err(|why| Stop::Reject("VALUE_OUT_OF_RANGE", format!("field `{name}`: {why}")))?;
    }
    Ok(out)
}

fn push_position(key: &mut Vec<u8>, partition: i32, offset: i64) {
    row::pack_int(key, i64::from(partition));
    row::pack_int(key, offset);
}

/// Can a mapping from a source to one of its targets be done without keeping the source's rows? Each target key must tell
/// its source key (or several source rows on one key could not be seen), and each value that the connector may leave out
/// of an update (PostgreSQL's unchanged TOAST values: text, bytes, JSON, arrays) must stand alone in what is made of it.
pub fn is_one_to_one(mapping: &FieldMapping, target: &Target, columns: &[Column], source_key: &[usize]) -> bool {
    let mut told = Vec::new();
    for place in &target.key {
        let rule = &mapping.fields[*place];
        match &rule.value {
            // A key that a record may not have leaves its reject without a place, where nothing takes it back.
            FieldValue::Column(c) if !row::widens(columns[*c].ty, target.columns[*place].ty) => return false,
            FieldValue::Column(c) => told.push(*c),
            FieldValue::Expression(expression) => match expression.injective_in() {
                Some(c) => told.push(c),
                None => return false,
            },
            FieldValue::Case { .. } => return false,
        }
        if !matches!(rule.on_null, NullPolicy::Pass | NullPolicy::Reject) {
            return false;
        }
    }
    let whole = source_key.iter().all(|c| told.contains(c)) && told.iter().all(|c| source_key.contains(c)) && !source_key.is_empty();
    let alone = |scalar: &Scalar| {
        let others = scalar.columns().iter().filter(|c| !source_key.contains(c));
        let may_lack = others.clone().any(|c| matches!(columns[*c].ty, Type::Varchar(_) | Type::Bytes | Type::Json | Type::Array));
        !may_lack || others.count() == 1
    };
    whole
        && mapping.filter.iter().all(alone)
        && mapping.fields.iter().all(|rule| match &rule.value {
            FieldValue::Column(_) | FieldValue::Case { input: CaseInput::Column(_), .. } => true,
            FieldValue::Expression(scalar) | FieldValue::Case { input: CaseInput::Expression(scalar), .. } => alone(scalar),
        })
}
