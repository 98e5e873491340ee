//! Rules for one target column: value, case, policies.

use super::Resolver;
use crate::{
    config::{codes::Code, names, yaml::At},
    engine::sql::{self, Scalar},
    plan::{CaseInput, FieldRule, FieldValue, NullPolicy, Otherwise},
    row::{self, Column, Type, Value},
};

/// A column's name, or something to be planned.
enum Read {
    Column(usize),
    Expression(Scalar),
}

impl Resolver<'_> {
    /// The type of a target column and the rule for it.
    pub(super) fn field(&mut self, name: At, field: At, input: &[Column], what: &str) -> Option<(Type, FieldRule)> {
        let declared = field.get_text("type").and_then(|text| Type::parse(text).ok());
        if let Some(case) = field.get("case") {
            return self.case(field, case, declared, input, what);
        }
        let value = if field.is_map() { field.entries().find(|(key, _)| key.key() == "value").map(|(_, value)| value)? } else { field };
        if value.is_null() && declared.is_none() {
            self.report
                .error(Code::BadMapping, &name.place(), format!("`{}` has no value, and so no type", name.key()))
                .hint("for a column that is always NULL, name its type: `{ value: null, type: varchar }`");
            return None;
        }
        let (ty, value) = match self.read(value, input, what, declared)? {
            Read::Column(id) => {
                let (from, to) = (input[id].ty, declared.unwrap_or(input[id].ty));
                if let Some(at) = field.get("type").filter(|_| !row::converts(from, to)) {
                    let column = &input[id].name;
                    self.report
                        .error(Code::BadMapping, &at.place(), format!("no value of `{column}`, which is {from}, is {to} as it stands"))
                        .hint(format!("say how it becomes one, for example `value: cast({column} AS {to})`"));
                    return None;
                }
                (to, FieldValue::Column(id))
            }
            Read::Expression(scalar) => (declared.unwrap_or(scalar.ty()), FieldValue::Expression(scalar)),
        };
        let plain = matches!(value, FieldValue::Column(_));
        self.policies(field, ty, plain, value).map(|rule| (ty, rule))
    }

    /// A column of the input by its name, or an expression.
    fn read(&mut self, at: At, input: &[Column], what: &str, want: Option<Type>) -> Option<Read> {
        let text = at.scalar()?.text.trim();
        let unquoted = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
        if let Some(id) = input.iter().position(|c| c.name == unquoted) {
            return Some(Read::Column(id));
        }
        self.expression(at, input, what, want).map(Read::Expression)
    }

    /// A planned expression. A lone word that is no column gets our own words, since it is the most frequent slip.
    pub(super) fn expression(&mut self, at: At, input: &[Column], what: &str, want: Option<Type>) -> Option<Scalar> {
        const WORDS: [&str; 9] = ["null", "true", "false", "current_date", "current_time", "current_timestamp", "localtime", "localtimestamp", "now"];
        let scalar = at.scalar()?;
        let text = if scalar.is_null() { "NULL" } else { scalar.text.as_str() };
        let word = text.trim();
        if names::is_plain(word) && !WORDS.contains(&word.to_ascii_lowercase().as_str()) && !input.iter().any(|c| c.name.eq_ignore_ascii_case(word)) {
            let known = input.iter().map(|c| c.name.as_str());
            let mut hint = names::alternatives(word, known.clone(), "it has no columns");
            if names::near(word, known).is_none() {
                hint += &format!("\na text is written in quotes inside of quotes: `\"'{word}'\"`");
            }
            self.report.error(Code::UnknownColumn, &at.place(), format!("{what} has no column `{word}`")).hint(hint);
            return None;
        }
        match sql::scalar(text, input, want) {
            Ok(scalar) => Some(scalar),
            Err(problems) => {
                self.sql_problems(at, &problems);
                None
            }
        }
    }

    fn case(&mut self, field: At, case: At, declared: Option<Type>, input: &[Column], what: &str) -> Option<(Type, FieldRule)> {
        let when = field.get("when")?;
        let (from, case_input) = match self.read(case, input, what, None)? {
            Read::Column(id) => (input[id].ty, CaseInput::Column(id)),
            Read::Expression(scalar) => (scalar.ty(), CaseInput::Expression(scalar)),
        };
        let otherwise = field.entries().find(|(key, _)| key.key() == "else").map(|(_, value)| value);
        let ty = declared.unwrap_or_else(|| type_of(when.entries().map(|(_, to)| to).chain(otherwise)));
        let mut rules: Vec<(Value, Value)> = Vec::new();
        let (mut places, mut good) = (Vec::new(), true);
        for (key, to) in when.entries() {
            if key.is_null() {
                self.report
                    .error(Code::BadMapping, &key.place(), "NULL is no case")
                    .hint("NULL goes to `on_null`, for example `default: X`; the text \"null\" is written in quotes");
                good = false;
                continue;
            }
            let (Some(key_value), Some(to)) = (self.value(key, from, "the input of the case"), self.value(to, ty, "the target column")) else {
                good = false;
                continue;
            };
            if let Some(first) = rules.iter().position(|(known, _)| *known == key_value) {
                let first = &places[first];
                self.report
                    .error_of_two(Code::BadMapping, &key.place(), format!("the value `{}` is a case already", key.key()), first, "first here")
                    .hint("remove one of the two");
                good = false;
                continue;
            }
            places.push(key.place());
            rules.push((key_value, to));
        }
        if when.is_map() && when.entries().next().is_none() {
            self.report.error(Code::BadMapping, &when.place(), "a case of no values").hint("write `when: { FROM: TO }`");
            good = false;
        }
        let otherwise = match otherwise {
            None => Otherwise::Reject,
            Some(at) => Otherwise::Value(self.value(at, ty, "the target column")?),
        };
        let rule = self.policies(field, ty, false, FieldValue::Case { input: case_input, when: rules, otherwise })?;
        good.then_some((ty, rule))
    }

    /// The null policies; `plain` says that the value is a column, so that a message can lack it.
    fn policies(&mut self, field: At, ty: Type, plain: bool, value: FieldValue) -> Option<FieldRule> {
        let default_at = field.get("default");
        let mut good = true;
        let default = match default_at {
            Some(at) => {
                let value = self.value(at, ty, "the target column");
                good = value.is_some();
                value
            }
            None => None,
        };
        let mut policy = |resolver: &mut Self, key: &str| -> Option<NullPolicy> {
            let at = field.get(key)?;
            Some(match at.text()? {
                "pass" => NullPolicy::Pass,
                "drop" => NullPolicy::Drop,
                "reject" => NullPolicy::Reject,
                "fail" => NullPolicy::Fail,
                "default" => match (&default, default_at) {
                    (Some(value), _) => NullPolicy::Default(value.clone()),
                    (None, Some(_)) => NullPolicy::Pass,
                    (None, None) => {
                        resolver
                            .report
                            .error(Code::BadMapping, &at.place(), format!("`{key}: default` without a `default`"))
                            .hint("add `default: VALUE`, or choose `pass`, `drop`, `reject` or `fail`");
                        good = false;
                        NullPolicy::Pass
                    }
                },
                _ => return None,
            })
        };
        let on_null = policy(self, "on_null");
        let on_missing = policy(self, "on_missing");
        let on_empty = policy(self, "on_empty");
        let used = |policy: &Option<NullPolicy>| matches!(policy, Some(NullPolicy::Default(_)));
        if let (Some(at), Some(_)) = (default_at, &on_null)
            && default.is_some()
            && !used(&on_null)
            && !used(&on_missing)
            && !used(&on_empty)
        {
            self.report
                .error(
                    Code::BadMapping,
                    &at.place(),
                    format!("this `default` is never used, since `on_null` is `{}`", field.get_text("on_null").unwrap_or_default()),
                )
                .hint("remove one of the two, or write `on_null: default`");
            good = false;
        }
        if let Some(at) = field.get("on_missing").filter(|_| !plain) {
            self.report
                .error(Code::BadMapping, &at.place(), "`on_missing` is for a plain column, and this is an expression")
                .hint("a column that the message lacks is NULL in an expression: use `on_null`");
            good = false;
        }
        if let Some(at) = field.get("on_empty").filter(|_| !matches!(ty, Type::Varchar(_) | Type::Json | Type::Bytes)) {
            self.report.error(Code::BadMapping, &at.place(), format!("`on_empty` is for texts, and this column is of type `{ty}`")).hint("use `on_null`");
            good = false;
        }
        let on_null = match (on_null, default) {
            (Some(policy), _) => policy,
            (None, Some(value)) => NullPolicy::Default(value),
            (None, None) => NullPolicy::Pass,
        };
        good.then_some(FieldRule { value, on_null, on_missing, on_empty })
    }
}

/// The type of the values of a case: that of YAML's own bools, whole numbers and decimals when all are of one such kind, else text.
fn type_of<'t>(values: impl Iterator<Item = At<'t>>) -> Type {
    let scalars: Vec<_> = values.filter_map(At::scalar).filter(|s| !s.is_null()).collect();
    let numbers: Option<Vec<String>> = scalars.iter().map(|s| s.as_number()).collect();
    if scalars.is_empty() {
        return Type::Varchar(0);
    }
    if scalars.iter().all(|s| s.as_bool().is_some()) {
        return Type::Bool;
    }
    match numbers {
        Some(numbers) if numbers.iter().all(|n| n.parse::<i64>().is_ok()) => Type::Int(64),
        Some(numbers) if numbers.iter().all(|n| !n.contains(['e', 'E'])) => {
            let scale = numbers.iter().map(|n| n.split_once('.').map_or(0, |(_, f)| f.len())).max().unwrap_or(0);
            Type::Decimal(38, scale.min(38) as u8)
        }
        Some(_) => Type::Double,
        None => Type::Varchar(0),
    }
}
