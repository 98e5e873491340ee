use std::collections::BTreeMap;
use timely::dataflow::Scope;
use super::rows::{Rejects, Rows};
use crate::{engine::sql::SqlPlan, plan::{TableRef, TargetId}};
/// to come
pub fn render_sql<'scope>(_scope: Scope<'scope, u64>, _plan: &SqlPlan, _inputs: &BTreeMap<TableRef, Rows<'scope>>, _target: TargetId) -> (Rows<'scope>, Rejects<'scope>) { todo!() }
