//! `tieout explain-plan`: how each target is computed.

use std::io::Write;

use clap::Args;

use super::{Fail, Files, count};
use crate::{
    config::Need,
    engine::render::layout::{self, TableOf},
    plan::{CaseInput, FieldMapping, FieldRule, FieldValue, Mapping, NullPolicy, Otherwise, Plan, Target},
    row::{self, Type, Value},
};

/// Print how a target is computed: the operators of its SQL, or its field rules, and where its rows are kept
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tieout explain-plan
  tieout explain-plan expected_revenue --config config.yaml")]
pub struct ExplainPlan {
    /// The target [default: all]
    target: Option<String>,
    #[command(flatten)]
    files: Files,
}

pub fn explain_plan(args: &ExplainPlan, out: &mut impl Write) -> Result<(), Fail> {
    let plan = args.files.load(Need::Mappings)?;
    if let Some(name) = &args.target
        && plan.targets.iter().all(|t| t.name != *name)
    {
        let known: Vec<&str> = plan.targets.iter().map(|t| t.name.as_str()).collect();
        return Err(Fail::Usage(format!("there is no target `{name}`; known are {}", known.join(", "))));
    }
    let layout = layout::layout(&plan);
    for (id, target) in plan.targets.iter().enumerate().filter(|(_, t)| args.target.as_ref().is_none_or(|name| t.name == *name)) {
        let key: Vec<&str> = target.key.iter().map(|k| target.columns[*k].name.as_str()).collect();
        writeln!(out, "target {} (version {}), key {}", target.name, target.version, key.join(", "))?;
        match &target.mapping {
            Mapping::Sql(sql) => sql.explain().lines().try_for_each(|line| writeln!(out, "  {line}"))?,
            Mapping::Fields(mapping) => fields(&plan, target, mapping, layout::fused(&plan, id).is_some(), out)?,
        }
        let home = match layout.tables[layout.homes[id].table].of {
            TableOf::Comparison(id) => format!("the table of comparison `{}`", plan.comparisons[id].name),
            _ => "a table of its own".into(),
        };
        writeln!(out, "  rows are kept in {home}\n")?;
    }
    Ok(())
}

fn fields(plan: &Plan, target: &Target, mapping: &FieldMapping, fused: bool, out: &mut impl Write) -> Result<(), Fail> {
    let from = plan.table_name(mapping.from);
    let how = if fused { "while it is decoded; the rows of the source are not kept" } else { "from its kept rows" };
    writeln!(out, "  row by row from {from}, {how}")?;
    if let Some(filter) = &mapping.filter {
        writeln!(out, "  where {}", filter.text())?;
    }
    let inputs = plan.columns(mapping.from);
    for (column, rule) in target.columns.iter().zip(&mapping.fields) {
        let value = match &rule.value {
            FieldValue::Column(c) => inputs[*c].name.clone(),
            FieldValue::Expression(expression) => expression.text().to_string(),
            FieldValue::Case { input, when, otherwise } => {
                let input = match input {
                    CaseInput::Column(c) => inputs[*c].name.as_str(),
                    CaseInput::Expression(expression) => expression.text(),
                };
                let otherwise = match otherwise {
                    Otherwise::Reject => "otherwise a reject".to_string(),
                    Otherwise::Value(value) => format!("otherwise {}", shown(column.ty, value)),
                };
                format!("case {input}, {}, {otherwise}", count(when.len(), "value"))
            }
        };
        writeln!(out, "  {} {} = {value}{}", column.name, column.ty, policies(column.ty, rule))?;
    }
    if !mapping.require.is_empty() {
        let names: Vec<&str> = mapping.require.iter().map(|c| target.columns[*c].name.as_str()).collect();
        writeln!(out, "  require {}: without a value the row is a reject", names.join(", "))?;
    }
    Ok(())
}

/// A value as SQL has it.
fn shown(ty: Type, value: &Value) -> String {
    match value {
        Value::Null => "NULL".into(),
        Value::Text(text) => format!("'{}'", text.replace('\'', "''")),
        value => row::text_of(ty, value),
    }
}

/// What a rule makes of NULL, of what the message lacks, and of the empty text, where that is not the plain way.
fn policies(ty: Type, rule: &FieldRule) -> String {
    let says = |policy: &NullPolicy| match policy {
        NullPolicy::Pass => "pass".to_string(),
        NullPolicy::Default(value) => format!("default {}", shown(ty, value)),
        NullPolicy::Drop => "drop".into(),
        NullPolicy::Reject => "reject".into(),
        NullPolicy::Fail => "fail".into(),
    };
    let on_null = Some(&rule.on_null).filter(|policy| **policy != NullPolicy::Pass);
    let all = [("on_null", on_null), ("on_missing", rule.on_missing.as_ref()), ("on_empty", rule.on_empty.as_ref())];
    all.into_iter().filter_map(|(name, policy)| Some(format!(", {name}: {}", says(policy?)))).collect()
}
