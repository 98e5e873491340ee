//! What DataFusion's planner asks for: tables, functions, options.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use arrow::datatypes::{DataType, Field, Schema};
use datafusion_common::{Result, TableReference, config::ConfigOptions, plan_err};
use datafusion_expr::{
    AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, Volatility, WindowUDF,
    logical_plan::builder::LogicalTableSource,
    planner::{ContextProvider, ExprPlanner},
};
use datafusion_functions::math::round::RoundFunc;
use datafusion_sql::planner::{NullOrdering, ParserOptions};

use super::{CatalogTable, round::Round, types};
use crate::row::Column;

/// The functions and options; the same for every text.
pub struct Shared {
    scalars: HashMap<String, Arc<ScalarUDF>>,
    aggregates: HashMap<String, Arc<AggregateUDF>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
    pub options: Arc<ConfigOptions>,
}

/// The aggregates that are kept incrementally.
pub const AGGREGATES: [&str; 8] = ["sum", "count", "min", "max", "avg", "mean", "bool_and", "bool_or"];

/// Window functions that are no aggregates, so that they can be named as what they are.
pub const WINDOW_FUNCTIONS: [&str; 11] =
    ["row_number", "rank", "dense_rank", "percent_rank", "cume_dist", "ntile", "lag", "lead", "first_value", "last_value", "nth_value"];

/// Functions over values that no column can hold.
const NESTED: [&str; 12] = [
    "struct",
    "row",
    "named_struct",
    "get_field",
    "union_extract",
    "union_tag",
    "arrow_metadata",
    "with_metadata",
    "arrow_field",
    "arrow_cast",
    "arrow_try_cast",
    "cast_to_type",
];

/// Functions that read the clock or chance, known to other databases but not to DataFusion.
pub const FOREIGN_VOLATILE: [&str; 12] = [
    "rand",
    "gen_random_uuid",
    "newid",
    "sysdate",
    "getdate",
    "localtime",
    "localtimestamp",
    "clock_timestamp",
    "statement_timestamp",
    "transaction_timestamp",
    "nextval",
    "today",
];

pub static SHARED: LazyLock<Shared> = LazyLock::new(|| {
    let mut scalars = HashMap::new();
    for function in datafusion_functions::all_default_functions() {
        for name in function.aliases().iter().map(String::as_str).chain([function.name()]) {
            if !NESTED.contains(&name) && !NESTED.contains(&function.name()) {
                scalars.insert(name.to_string(), function.clone());
            }
        }
    }
    scalars.insert("round".into(), Arc::new(ScalarUDF::from(Round(RoundFunc::new()))));
    let mut aggregates = HashMap::new();
    for function in datafusion_functions_aggregate::all_default_aggregate_functions() {
        for name in function.aliases().iter().map(String::as_str).chain([function.name()]) {
            aggregates.insert(name.to_string(), function.clone());
        }
    }
    let planners: Vec<Arc<dyn ExprPlanner>> = vec![
        Arc::new(datafusion_functions::core::planner::CoreFunctionPlanner::default()),
        Arc::new(datafusion_functions::datetime::planner::DatetimeFunctionPlanner),
        Arc::new(datafusion_functions::unicode::planner::UnicodeFunctionPlanner),
        Arc::new(datafusion_functions_aggregate::planner::AggregateFunctionPlanner),
    ];
    let mut options = ConfigOptions::default();
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.optimizer.filter_null_join_keys = false;
    options.execution.time_zone = Some("+00:00".into());
    Shared { scalars, aggregates, planners, options: Arc::new(options) }
});

/// `0.1` is a decimal, not a double; text is `Utf8`, as columns have it.
pub fn parser_options() -> ParserOptions {
    ParserOptions {
        parse_float_as_decimal: true,
        enable_ident_normalization: true,
        support_varchar_with_length: true,
        map_string_types_to_utf8view: false,
        enable_options_value_normalization: false,
        collect_spans: true,
        default_null_ordering: NullOrdering::NullsMax,
    }
}

impl Shared {
    /// What is known of a function's name.
    pub fn function(&self, name: &str) -> FunctionKind {
        if AGGREGATES.contains(&name) {
            FunctionKind::Aggregate
        } else if WINDOW_FUNCTIONS.contains(&name) {
            FunctionKind::Window
        } else if let Some(function) = self.scalars.get(name) {
            if function.signature().volatility == Volatility::Immutable { FunctionKind::Scalar } else { FunctionKind::Volatile }
        } else if FOREIGN_VOLATILE.contains(&name) {
            FunctionKind::Volatile
        } else if self.aggregates.contains_key(name) {
            FunctionKind::OtherAggregate
        } else {
            FunctionKind::Unknown
        }
    }

    /// The names of functions that can be used.
    pub fn function_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.scalars.keys().map(String::as_str).filter(|n| self.function(n) == FunctionKind::Scalar).chain(AGGREGATES).collect();
        names.sort_unstable();
        names
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionKind {
    Scalar,
    /// Its value depends on when or how often it is asked.
    Volatile,
    Aggregate,
    OtherAggregate,
    Window,
    Unknown,
}

/// The schema in which SQL sees a table.
pub fn schema_of(columns: &[Column]) -> Schema {
    Schema::new(columns.iter().map(|c| Field::new(&c.name, types::arrow_type(c.ty), true)).collect::<Vec<_>>())
}

/// The planner's view of a catalog.
pub struct Context<'a> {
    pub tables: &'a [CatalogTable],
}

impl Context<'_> {
    /// The table of this name, with its place.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.tables.iter().position(|t| t.name == name).or_else(|| self.tables.iter().position(|t| t.name.eq_ignore_ascii_case(name)))
    }
}

/// `schema.table` or `table`.
pub fn plain_name(name: &TableReference) -> String {
    match name.schema() {
        Some(schema) => format!("{schema}.{}", name.table()),
        None => name.table().to_string(),
    }
}

impl ContextProvider for Context<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        match self.find(&plain_name(&name)) {
            Some(at) => Ok(Arc::new(LogicalTableSource::new(Arc::new(schema_of(&self.tables[at].columns))))),
            None => plan_err!("no table `{}`", plain_name(&name)),
        }
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &SHARED.planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        SHARED.scalars.get(name).cloned()
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        SHARED.aggregates.get(name).cloned()
    }

    fn get_window_meta(&self, _name: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _variable_names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &SHARED.options
    }

    fn udf_names(&self) -> Vec<String> {
        SHARED.scalars.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        AGGREGATES.iter().map(ToString::to_string).collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}
