//! Exactness of sums of doubles.

use proptest::prelude::*;

use super::*;

fn sum(terms: &[(f64, i64)]) -> f64 {
    let mut sum = ExactSum::default();
    terms.iter().for_each(|(value, weight)| sum.add(*value, *weight));
    sum.value()
}

#[test]
fn known_sums() {
    assert_eq!(sum(&[]), 0.0);
    assert_eq!(sum(&[(0.1, 1)]), 0.1);
    assert_eq!(sum(&[(0.1, 3)]), 0.1f64.mul_add(3.0, 0.0));
    assert_eq!(sum(&[(1e300, 1), (1.0, 1), (1e300, -1)]), 1.0);
    assert_eq!(sum(&[(f64::MAX, 1), (f64::MAX, 1)]), f64::INFINITY);
    assert_eq!(sum(&[(f64::MAX, 2), (f64::MAX, -1)]), f64::MAX);
    assert_eq!(sum(&[(f64::MIN_POSITIVE / 4.0, 1), (5e-324, -1)]), f64::MIN_POSITIVE / 4.0 - 5e-324);
    assert_eq!(sum(&[(1.0, 1), (f64::EPSILON / 2.0, 1)]), 1.0);
    assert_eq!(sum(&[(1.0, 1), (f64::EPSILON / 2.0, 1), (5e-324, 1)]), 1.0 + f64::EPSILON);
    assert!(sum(&[(f64::INFINITY, 1), (f64::NEG_INFINITY, 1)]).is_nan());
    assert_eq!(sum(&[(f64::INFINITY, 1), (f64::NEG_INFINITY, 1), (f64::NEG_INFINITY, -1)]), f64::INFINITY);
    assert_eq!(sum(&[(f64::NAN, 1), (2.5, 1), (f64::NAN, -1)]), 2.5);
}

proptest! {
    /// One term is itself; terms that leave, leave nothing; order does not matter; whole numbers add up as such.
    #[test]
    fn laws(bits in proptest::collection::vec(any::<u64>(), 1..20), whole in proptest::collection::vec(-(1i64 << 40)..1i64 << 40, 0..20), weight in 1i64..1000) {
        let values: Vec<f64> = bits.iter().map(|b| f64::from_bits(*b)).filter(|v| v.is_finite()).collect();
        for value in &values {
            prop_assert_eq!(sum(&[(*value, 1)]), *value);
            prop_assert_eq!(sum(&[(*value, -1)]), -*value);
        }
        let forth: Vec<(f64, i64)> = values.iter().map(|v| (*v, weight)).collect();
        let mut back = forth.clone();
        back.reverse();
        prop_assert_eq!(sum(&forth).to_bits(), sum(&back).to_bits());
        let left: Vec<(f64, i64)> = whole.iter().map(|v| (*v as f64, 1)).chain(forth.iter().copied()).chain(back.iter().map(|(v, w)| (*v, -w))).collect();
        prop_assert_eq!(sum(&left), whole.iter().sum::<i64>() as f64);
    }
}
