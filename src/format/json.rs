use super::{Batch, Decoder, Message};
use crate::plan::Source;
pub struct Json;
impl Json { pub fn new(_source: &Source, _wanted: &[bool]) -> Self { Json } }
impl Decoder for Json {
    fn decode(&mut self, _message: Message, _batch: &mut Batch) { todo!() }
    fn source_time(&self, _message: Message) -> Option<i64> { todo!() }
}
