//! `tieout explain-plan`: how each target is computed.

use std::io::Write;

use clap::Args;

use super::{Fail, Files};
use crate::{
    config::Need,
    engine::render::layout::{self, TableOf},
    plan::{CaseInput, FieldMapping, FieldValue, Mapping, Otherwise, Plan, Target},
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
                let otherwise = if matches!(otherwise, Otherwise::Reject) { "otherwise a reject" } else { "with an else" };
                format!("case {input}, {} values, {otherwise}", when.len())
            }
        };
        writeln!(out, "  {} {} = {value}", column.name, column.ty)?;
    }
    Ok(())
}
