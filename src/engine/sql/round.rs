//! `round` with one type.
//!
//! DataFusion's gives a decimal another scale where the number of places is a literal. The planner sees no literal (coercion puts a
//! cast around it) and plans one scale; the simplifier lays the literal bare, and the values have another: a sum would be wrong by a
//! power of ten, and a comparison fail. Here the scale is the argument's, literal or not; of `round(x)` it is 0.

use arrow::datatypes::{DataType, FieldRef};
use datafusion_common::Result;
use datafusion_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use datafusion_functions::math::round::RoundFunc;

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Round(pub RoundFunc);

impl ScalarUDFImpl for Round {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.0.return_type(arguments)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let hidden = vec![None; args.scalar_arguments.len()];
        self.0.return_field_from_args(ReturnFieldArgs { scalar_arguments: &hidden, ..args })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.0.invoke_with_args(args)
    }
}
