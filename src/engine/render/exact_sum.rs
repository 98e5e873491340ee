//! Sums of doubles without rounding on the way, so that a sum does not remember in which order, or how often, its terms
//! came and went.
//!
//! A double is a whole number of 2^-1074. The sum is kept as such a number with 2240 bits, two's complement: wide enough
//! for 2^63 terms of the greatest double. It is rounded once, to nearest and ties to even, when it is read. (A multiset of
//! the values, or a sorted sum, would be exact too, and need memory or time for each value.)

const LIMBS: usize = 35;

/// An exact sum of doubles with weights.
#[derive(Clone, Debug)]
pub struct ExactSum {
    limbs: Box<[u64; LIMBS]>,
    not_a_number: i64,
    infinite: i64,
    infinite_below: i64,
}

impl Default for ExactSum {
    fn default() -> ExactSum {
        ExactSum { limbs: Box::new([0; LIMBS]), not_a_number: 0, infinite: 0, infinite_below: 0 }
    }
}

impl ExactSum {
    /// Adds `value`, `weight` times.
    pub fn add(&mut self, value: f64, weight: i64) {
        if value.is_nan() {
            self.not_a_number += weight;
        } else if value == f64::INFINITY {
            self.infinite += weight;
        } else if value == f64::NEG_INFINITY {
            self.infinite_below += weight;
        } else if value != 0.0 && weight != 0 {
            let bits = value.to_bits();
            let (exponent, fraction) = ((bits >> 52) & 0x7ff, bits & ((1 << 52) - 1));
            let (mantissa, place) = if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent as usize - 1) };
            let term = u128::from(mantissa) * u128::from(weight.unsigned_abs());
            self.add_at(term, place, value.is_sign_negative() != (weight < 0));
        }
    }

    fn add_at(&mut self, term: u128, place: usize, negative: bool) {
        let (first, shift) = (place / 64, place % 64);
        let low = term << shift;
        let high = if shift == 0 { 0 } else { (term >> (128 - shift)) as u64 };
        let parts = [low as u64, (low >> 64) as u64, high];
        let mut carry = false;
        for at in first..LIMBS {
            let part = parts.get(at - first).copied().unwrap_or(0);
            if at - first >= parts.len() && !carry {
                break;
            }
            let limb = self.limbs[at];
            let (once, a) = if negative { limb.overflowing_sub(part) } else { limb.overflowing_add(part) };
            let (twice, b) = if negative { once.overflowing_sub(u64::from(carry)) } else { once.overflowing_add(u64::from(carry)) };
            self.limbs[at] = twice;
            carry = a || b;
        }
    }

    /// The sum, rounded to the nearest double.
    pub fn value(&self) -> f64 {
        if self.not_a_number > 0 || (self.infinite > 0 && self.infinite_below > 0) {
            return f64::NAN;
        }
        if self.infinite > 0 {
            return f64::INFINITY;
        }
        if self.infinite_below > 0 {
            return f64::NEG_INFINITY;
        }
        let negative = self.limbs[LIMBS - 1] >> 63 == 1;
        let mut magnitude = *self.limbs;
        if negative {
            let mut carry = true;
            for limb in &mut magnitude {
                let (negated, overflow) = (!*limb).overflowing_add(u64::from(carry));
                *limb = negated;
                carry = overflow;
            }
        }
        let Some(top) = (0..LIMBS).rev().find(|at| magnitude[*at] != 0) else { return 0.0 };
        let highest = top * 64 + 63 - magnitude[top].leading_zeros() as usize;
        let bit = |at: usize| magnitude[at / 64] >> (at % 64) & 1;
        let rounded = if highest <= 52 {
            magnitude[0]
        } else {
            let lowest = highest - 52;
            let (limb, shift) = (lowest / 64, lowest % 64);
            let pair = u128::from(magnitude[limb]) | u128::from(magnitude.get(limb + 1).copied().unwrap_or(0)) << 64;
            let mantissa = (pair >> shift) as u64 & ((1 << 53) - 1);
            let half = bit(lowest - 1) == 1;
            let beyond = || {
                let last = lowest - 1;
                magnitude[..last / 64].iter().any(|l| *l != 0) || magnitude[last / 64] & ((1u64 << (last % 64)) - 1) != 0
            };
            let up = half && (mantissa & 1 == 1 || beyond());
            if lowest + 1 >= 2047 { 2047 << 52 } else { ((lowest as u64) << 52) + mantissa + u64::from(up) }
        };
        let value = f64::from_bits(rounded);
        if negative { -value } else { value }
    }
}

#[cfg(test)]
mod tests;
