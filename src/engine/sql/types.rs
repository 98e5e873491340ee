//! Types and values between packed fields (`row`) and Arrow arrays.
//!
//! Inside a relational plan a column has an Arrow type, as DataFusion typed it; its packed form follows from that type
//! alone ([`Form`]), so that rows of a plan's middle can have types that a table can't (a timestamp in nanoseconds). A
//! table's columns come in by [`arrow_type`] and go out by [`row_type`].

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryBuilder, BooleanBuilder, GenericStringArray, NullArray, NullBufferBuilder, PrimitiveArray,
        StringBuilder, new_null_array,
    },
    buffer::{Buffer, OffsetBuffer, ScalarBuffer},
    compute::{CastOptions, cast_with_options},
    datatypes::{
        ArrowNativeType, DataType, Date32Type, Date64Type, Decimal128Type, DecimalType, DurationMicrosecondType, DurationMillisecondType,
        DurationNanosecondType, DurationSecondType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType,
        Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
        TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
    util::display::{ArrayFormatter, FormatOptions},
};

use crate::{
    format::Span,
    row::{self, Field, Type, Value},
};

/// The packed form of the values of an Arrow type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// There is only NULL.
    Null,
    Bool,
    /// At most 64 bits with a sign: integers, dates, times, timestamps, durations in their own unit.
    Int,
    /// Up to 128 bits: decimals, unsigned 64 bits.
    Wide,
    Double,
    /// Text and bytes.
    Bytes,
}

impl Form {
    /// A row type with this packed form; good for finding a field's end, not for its meaning.
    pub fn stand_in(self) -> Type {
        match self {
            Form::Null | Form::Bool => Type::Bool,
            Form::Int => Type::Int(64),
            Form::Wide => Type::Decimal(38, 0),
            Form::Double => Type::Double,
            Form::Bytes => Type::Bytes,
        }
    }
}

/// The form of an Arrow type, if rows can hold it.
pub fn form_of(ty: &DataType) -> Option<Form> {
    Some(match ty {
        DataType::Null => Form::Null,
        DataType::Boolean => Form::Bool,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => Form::Int,
        DataType::Date32 | DataType::Date64 | DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(..) | DataType::Duration(_) => Form::Int,
        DataType::UInt64 | DataType::Decimal128(..) => Form::Wide,
        DataType::Float32 | DataType::Float64 => Form::Double,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Form::Bytes,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => Form::Bytes,
        _ => return None,
    })
}

/// The Arrow type in which SQL sees a column of a table.
pub fn arrow_type(ty: Type) -> DataType {
    match ty {
        Type::Bool => DataType::Boolean,
        Type::Int(8) => DataType::Int8,
        Type::Int(16) => DataType::Int16,
        Type::Int(32) => DataType::Int32,
        Type::Int(_) => DataType::Int64,
        Type::Decimal(p, s) => DataType::Decimal128(p, s as i8),
        Type::Double => DataType::Float64,
        Type::Varchar(_) | Type::Uuid | Type::Json | Type::Array => DataType::Utf8,
        Type::Bytes => DataType::Binary,
        Type::Date => DataType::Date32,
        Type::Time(_) => DataType::Time64(TimeUnit::Microsecond),
        Type::Timestamp(_, false) => DataType::Timestamp(TimeUnit::Microsecond, None),
        Type::Timestamp(_, true) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    }
}

/// The column type that holds the values of an Arrow type (after a cast to [`arrow_type`] of it, where they differ), or
/// what to do instead.
pub fn row_type(ty: &DataType) -> Result<Type, String> {
    Ok(match ty {
        DataType::Boolean => Type::Bool,
        DataType::Int8 => Type::Int(8),
        DataType::Int16 | DataType::UInt8 => Type::Int(16),
        DataType::Int32 | DataType::UInt16 => Type::Int(32),
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => Type::Int(64),
        DataType::Decimal128(p, s) if *s >= 0 && *s as u8 <= *p => Type::Decimal(*p, *s as u8),
        DataType::Float32 | DataType::Float64 => Type::Double,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Type::Varchar(0),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => Type::Bytes,
        DataType::Date32 | DataType::Date64 => Type::Date,
        DataType::Time32(_) => Type::Time(3),
        DataType::Time64(_) => Type::Time(6),
        DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, zone) => Type::Timestamp(3, zone.is_some()),
        DataType::Timestamp(_, zone) => Type::Timestamp(6, zone.is_some()),
        DataType::Null => return Err("NULL alone has no type: write which, e.g. `CAST(NULL AS varchar)`".into()),
        DataType::Decimal256(..) => return Err("more than 38 digits are not kept: cast to a decimal, e.g. `CAST(… AS decimal(38,10))`".into()),
        other => return Err(format!("a column can't hold values of type {}: cast them, e.g. `CAST(… AS varchar)`", sql_name(other))),
    })
}

/// An Arrow type as SQL people call it.
pub fn sql_name(ty: &DataType) -> String {
    match ty {
        DataType::Interval(_) | DataType::Duration(_) => "interval".into(),
        DataType::Null => "NULL".into(),
        DataType::UInt64 => "unsigned bigint".into(),
        DataType::Decimal256(p, s) => format!("decimal({p},{s})"),
        other => row_type(other).map_or_else(|_| other.to_string(), |t| t.to_string()),
    }
}

// ---- packed fields to arrays --------------------------------------------------------------------------------

fn primitive<T: ArrowPrimitiveType>(n: usize, mut get: impl FnMut(usize) -> Option<T::Native>) -> PrimitiveArray<T> {
    let (mut values, mut nulls) = (Vec::with_capacity(n), NullBufferBuilder::new(n));
    for i in 0..n {
        match get(i) {
            Some(value) => {
                values.push(value);
                nulls.append_non_null();
            }
            None => {
                values.push(T::Native::default());
                nulls.append_null();
            }
        }
    }
    PrimitiveArray::new(ScalarBuffer::from(values), nulls.finish())
}

fn ints<T: ArrowPrimitiveType>(n: usize, get: &mut dyn FnMut(usize) -> Option<i64>) -> PrimitiveArray<T> {
    // Values of a narrow column fit: the decoder and the casts before saw to that.
    primitive::<T>(n, |i| get(i).map(|v| T::Native::usize_as(v as usize)))
}

fn strings<'a>(n: usize, mut get: impl FnMut(usize) -> Option<&'a [u8]>) -> ArrayRef {
    let (mut offsets, mut values, mut nulls) = (Vec::with_capacity(n + 1), Vec::with_capacity(n * 16), NullBufferBuilder::new(n));
    offsets.push(0i32);
    for i in 0..n {
        match get(i) {
            Some(text) => {
                values.extend_from_slice(text);
                nulls.append_non_null();
            }
            None => nulls.append_null(),
        }
        offsets.push(i32::try_from(values.len()).expect("a batch of text is smaller than 2 GiB"));
    }
    let (offsets, values, nulls) = (OffsetBuffer::new(offsets.into()), Buffer::from_vec(values), nulls.finish());
    match GenericStringArray::<i32>::try_new(offsets, values, nulls) {
        Ok(array) => Arc::new(array),
        // Some field is no UTF-8; a decoder should have refused it. Slow, and never wrong about the others.
        Err(_) => {
            let mut builder = StringBuilder::new();
            for i in 0..n {
                builder.append_option(get(i).map(String::from_utf8_lossy));
            }
            Arc::new(builder.finish())
        }
    }
}

/// The array of `n` fields of a column that a table declares as `declared`, or (`None`) of a plan's column of type `ty`.
/// NULL, missing and unknown fields are null.
pub fn array_of<'a>(declared: Option<Type>, ty: &DataType, n: usize, mut get: impl FnMut(usize) -> Field<'a>) -> ArrayRef {
    let mut field = |i: usize| match get(i) {
        Field::Packed(bytes) => Some(bytes),
        _ => None,
    };
    if declared == Some(Type::Uuid) {
        let mut builder = StringBuilder::with_capacity(n, n * 36);
        for i in 0..n {
            builder.append_option(field(i).map(|f| row::text_of(Type::Uuid, &row::unpack_value(Type::Uuid, f))));
        }
        return Arc::new(builder.finish());
    }
    macro_rules! int {
        ($t:ty) => {
            Arc::new(ints::<$t>(n, &mut |i| field(i).map(row::unpack_int))) as ArrayRef
        };
    }
    match ty {
        DataType::Null => Arc::new(NullArray::new(n)),
        DataType::Boolean => {
            let mut builder = BooleanBuilder::with_capacity(n);
            for i in 0..n {
                builder.append_option(field(i).map(|f| f[0] != 0));
            }
            Arc::new(builder.finish())
        }
        DataType::Int8 => int!(Int8Type),
        DataType::Int16 => int!(Int16Type),
        DataType::Int32 => int!(Int32Type),
        DataType::Int64 => int!(Int64Type),
        DataType::UInt8 => int!(UInt8Type),
        DataType::UInt16 => int!(UInt16Type),
        DataType::UInt32 => int!(UInt32Type),
        DataType::Date32 => int!(Date32Type),
        DataType::Date64 => int!(Date64Type),
        DataType::Time32(TimeUnit::Second) => int!(Time32SecondType),
        DataType::Time32(_) => int!(Time32MillisecondType),
        DataType::Time64(TimeUnit::Microsecond) => int!(Time64MicrosecondType),
        DataType::Time64(_) => int!(Time64NanosecondType),
        DataType::Duration(TimeUnit::Second) => int!(DurationSecondType),
        DataType::Duration(TimeUnit::Millisecond) => int!(DurationMillisecondType),
        DataType::Duration(TimeUnit::Microsecond) => int!(DurationMicrosecondType),
        DataType::Duration(TimeUnit::Nanosecond) => int!(DurationNanosecondType),
        DataType::Timestamp(unit, zone) => {
            let get = &mut |i| field(i).map(row::unpack_int);
            match unit {
                TimeUnit::Second => Arc::new(ints::<TimestampSecondType>(n, get).with_timezone_opt(zone.clone())),
                TimeUnit::Millisecond => Arc::new(ints::<TimestampMillisecondType>(n, get).with_timezone_opt(zone.clone())),
                TimeUnit::Microsecond => Arc::new(ints::<TimestampMicrosecondType>(n, get).with_timezone_opt(zone.clone())),
                TimeUnit::Nanosecond => Arc::new(ints::<TimestampNanosecondType>(n, get).with_timezone_opt(zone.clone())),
            }
        }
        DataType::UInt64 => Arc::new(primitive::<UInt64Type>(n, |i| field(i).map(|f| row::unpack_decimal(f) as u64))),
        DataType::Decimal128(p, s) => {
            let array = primitive::<Decimal128Type>(n, |i| field(i).map(row::unpack_decimal));
            Arc::new(array.with_precision_and_scale(*p, *s).expect("a planned decimal has a valid precision"))
        }
        DataType::Float32 => Arc::new(primitive::<Float32Type>(n, |i| field(i).map(|f| row::unpack_double(f) as f32))),
        DataType::Float64 => Arc::new(primitive::<Float64Type>(n, |i| field(i).map(row::unpack_double))),
        DataType::Utf8 => strings(n, |i| field(i).map(row::unpack_bytes)),
        DataType::LargeUtf8 | DataType::Utf8View => {
            let text = strings(n, |i| field(i).map(row::unpack_bytes));
            arrow::compute::cast(&text, ty).expect("text is text")
        }
        _ => {
            let mut builder = BinaryBuilder::with_capacity(n, n * 16);
            for i in 0..n {
                builder.append_option(field(i).map(row::unpack_bytes));
            }
            let bytes: ArrayRef = Arc::new(builder.finish());
            if *ty == DataType::Binary { bytes } else { arrow::compute::cast(&bytes, ty).unwrap_or_else(|_| new_null_array(ty, n)) }
        }
    }
}

// ---- arrays to packed fields --------------------------------------------------------------------------------

/// What a result must fit beyond its Arrow type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fit {
    Any,
    /// At most so many characters.
    Characters(u32),
    /// Text that is a uuid; packed as one.
    Uuid,
    /// A number or time that is one of this coarser type as it stands; packed as that.
    Exact(Type),
}

/// The values as ones of `to`.
///
/// # Errors
/// A value would be rounded, cut, or is out of range.
pub fn exact(values: &ArrayRef, to: Type) -> Result<ArrayRef, String> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let cast = |values: &ArrayRef, ty: &DataType| cast_with_options(values, ty, &options);
    let refused = |at: usize| {
        let value = ArrayFormatter::try_new(values, &FormatOptions::default()).map(|shown| shown.value(at).to_string()).unwrap_or_default();
        format!("{value} is no {to} as it stands (`round` or `cast` say how it becomes one)")
    };
    let there = match to {
        Type::Timestamp(_, zone) => cast(values, &DataType::Timestamp(TimeUnit::Millisecond, zone.then(|| "UTC".into()))),
        Type::Time(_) => cast(values, &DataType::Time32(TimeUnit::Millisecond)),
        _ => cast(values, &arrow_type(to)),
    };
    let there = there.map_err(|_| refused((0..values.len()).find(|i| values.is_valid(*i)).unwrap_or(0)))?;
    let back = cast(&there, values.data_type()).map_err(|e| e.to_string())?;
    // Zero has two signs as a double, and one as anything else.
    let same = |i: usize| match values.as_primitive_opt::<Float64Type>() {
        Some(doubles) => values.is_null(i) || doubles.value(i) == back.as_primitive::<Float64Type>().value(i),
        None => values.slice(i, 1) == back.slice(i, 1),
    };
    match (0..values.len()).find(|i| !same(*i)) {
        Some(at) => Err(refused(at)),
        None => cast(&there, &arrow_type(to)).map_err(|e| e.to_string()),
    }
}

/// Can a value of `from` be one of the coarser `to` only if it is rounded or cut?
pub fn loses(from: &DataType, to: Type) -> bool {
    let floating = matches!(from, DataType::Float16 | DataType::Float32 | DataType::Float64);
    match (from, to) {
        (DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale), Type::Decimal(_, kept)) => *scale > kept as i8,
        (DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale), Type::Int(_)) => *scale > 0,
        (_, Type::Decimal(..) | Type::Int(_)) => floating,
        (DataType::Timestamp(unit, _), Type::Timestamp(precision, _)) => precision <= 3 && matches!(unit, TimeUnit::Microsecond | TimeUnit::Nanosecond),
        (DataType::Time64(_), Type::Time(precision)) => precision <= 3,
        _ => false,
    }
}

/// Packs every value of `array` at the end of `out`; `put` gets the place of each, or why it does not fit.
pub fn pack_array(array: &ArrayRef, fit: Fit, out: &mut Vec<u8>, mut put: impl FnMut(usize, Result<Span, String>)) {
    let nulls = array.logical_nulls();
    let is_null = |i: usize| nulls.as_ref().is_some_and(|n| n.is_null(i));
    let n = array.len();
    macro_rules! each {
        (|$i:ident| $pack:expr) => {
            for $i in 0..n {
                if is_null($i) {
                    put($i, Ok(Span::NULL));
                } else {
                    let start = out.len();
                    $pack;
                    put($i, Ok(Span::of(start, out.len())));
                }
            }
        };
    }
    macro_rules! int {
        ($t:ty) => {{
            let values = array.as_primitive::<$t>().values();
            each!(|i| row::pack_int(out, values[i] as i64))
        }};
    }
    macro_rules! text {
        ($texts:expr) => {{
            let texts = $texts;
            match fit {
                Fit::Any | Fit::Exact(_) => each!(|i| row::pack_bytes(out, texts.value(i).as_bytes())),
                Fit::Characters(most) => {
                    for i in 0..n {
                        let start = out.len();
                        put(
                            i,
                            if is_null(i) {
                                Ok(Span::NULL)
                            } else if texts.value(i).len() > most as usize && texts.value(i).chars().count() > most as usize {
                                Err(format!("'{}' has {} characters and does not fit varchar({most})", texts.value(i), texts.value(i).chars().count()))
                            } else {
                                row::pack_bytes(out, texts.value(i).as_bytes());
                                Ok(Span::of(start, out.len()))
                            },
                        );
                    }
                }
                Fit::Uuid => {
                    for i in 0..n {
                        let start = out.len();
                        put(
                            i,
                            if is_null(i) {
                                Ok(Span::NULL)
                            } else {
                                row::parse_text(Type::Uuid, texts.value(i)).map(|value| {
                                    row::pack_value(out, &value);
                                    Span::of(start, out.len())
                                })
                            },
                        );
                    }
                }
            }
        }};
    }
    match array.data_type() {
        DataType::Boolean => {
            let values = array.as_boolean();
            each!(|i| out.push(u8::from(values.value(i))))
        }
        DataType::Int8 => int!(Int8Type),
        DataType::Int16 => int!(Int16Type),
        DataType::Int32 => int!(Int32Type),
        DataType::Int64 => int!(Int64Type),
        DataType::UInt8 => int!(UInt8Type),
        DataType::UInt16 => int!(UInt16Type),
        DataType::UInt32 => int!(UInt32Type),
        DataType::Date32 => int!(Date32Type),
        DataType::Date64 => int!(Date64Type),
        DataType::Time32(TimeUnit::Second) => int!(Time32SecondType),
        DataType::Time32(_) => int!(Time32MillisecondType),
        DataType::Time64(TimeUnit::Microsecond) => int!(Time64MicrosecondType),
        DataType::Time64(_) => int!(Time64NanosecondType),
        DataType::Duration(TimeUnit::Second) => int!(DurationSecondType),
        DataType::Duration(TimeUnit::Millisecond) => int!(DurationMillisecondType),
        DataType::Duration(TimeUnit::Microsecond) => int!(DurationMicrosecondType),
        DataType::Duration(TimeUnit::Nanosecond) => int!(DurationNanosecondType),
        DataType::Timestamp(TimeUnit::Second, _) => int!(TimestampSecondType),
        DataType::Timestamp(TimeUnit::Millisecond, _) => int!(TimestampMillisecondType),
        DataType::Timestamp(TimeUnit::Microsecond, _) => int!(TimestampMicrosecondType),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => int!(TimestampNanosecondType),
        DataType::UInt64 => {
            let values = array.as_primitive::<UInt64Type>().values();
            each!(|i| row::pack_decimal(out, i128::from(values[i])))
        }
        DataType::Decimal128(p, s) => {
            let values = array.as_primitive::<Decimal128Type>().values();
            for i in 0..n {
                let start = out.len();
                put(
                    i,
                    if is_null(i) {
                        Ok(Span::NULL)
                    } else if !Decimal128Type::is_valid_decimal_precision(values[i], *p) {
                        Err(format!("overflow: {} does not fit decimal({p},{s})", row::decimal_text(values[i], (*s).max(0) as u8)))
                    } else {
                        row::pack_decimal(out, values[i]);
                        Ok(Span::of(start, out.len()))
                    },
                );
            }
        }
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>().values();
            each!(|i| row::pack_double(out, f64::from(values[i])))
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>().values();
            each!(|i| row::pack_double(out, values[i]))
        }
        DataType::Utf8 => text!(array.as_string::<i32>()),
        DataType::LargeUtf8 => text!(array.as_string::<i64>()),
        DataType::Utf8View => text!(array.as_string_view()),
        DataType::Binary => {
            let values = array.as_binary::<i32>();
            each!(|i| row::pack_bytes(out, values.value(i)))
        }
        DataType::LargeBinary => {
            let values = array.as_binary::<i64>();
            each!(|i| row::pack_bytes(out, values.value(i)))
        }
        DataType::BinaryView => {
            let values = array.as_binary_view();
            each!(|i| row::pack_bytes(out, values.value(i)))
        }
        DataType::FixedSizeBinary(_) => {
            let values = array.as_fixed_size_binary();
            each!(|i| row::pack_bytes(out, values.value(i)))
        }
        // Only NULL is left: the planner refused every other type.
        _ => (0..n).for_each(|i| put(i, Ok(Span::NULL))),
    }
}

/// The value of a plan's field as people read it, for the cause of an error.
pub fn show(declared: Option<Type>, ty: &DataType, field: Field) -> String {
    let declared = declared.or_else(|| row_type(ty).ok().filter(|t| arrow_type(*t) == *ty));
    match (field, declared) {
        (Field::Null, _) => "NULL".into(),
        (Field::Unknown, _) => "unknown".into(),
        (Field::Packed(bytes), Some(declared)) => {
            let value = row::unpack_value(declared, bytes);
            let text = row::text_of(declared, &value);
            let short: String = if text.chars().count() > 60 { text.chars().take(57).chain("...".chars()).collect() } else { text };
            match value {
                Value::Bool(_) | Value::Int(_) | Value::Decimal(_) | Value::Double(_) => short,
                _ => format!("'{short}'"),
            }
        }
        (Field::Packed(_), None) => "…".into(),
    }
}
