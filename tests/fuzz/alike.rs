//! When two texts are the same JSON.

use serde_json::Value;

/// The values are the same. Numbers with a fraction or an exponent may differ in their last place, because `serde_json`
/// reads them fast.
pub fn assert_alike(one: &[u8], other: &[u8]) {
    let value = |text: &[u8]| serde_json::from_slice::<Value>(text).unwrap();
    assert!(one == other || alike(&value(one), &value(other)), "{} {}", one.escape_ascii(), other.escape_ascii());
}

fn alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(ones), Value::Array(others)) => {
            ones.len() == others.len() && ones.iter().zip(others).all(|(one, other)| alike(one, other))
        }
        (Value::Object(ones), Value::Object(others)) => {
            ones.len() == others.len()
                && ones.iter().all(|(name, one)| others.get(name).is_some_and(|other| alike(one, other)))
        }
        (Value::Number(one), Value::Number(other)) if one.is_f64() && other.is_f64() => {
            let (one, other) = (one.as_f64().unwrap(), other.as_f64().unwrap());
            (one - other).abs() <= one.abs() * 1e-15
        }
        _ => one == other,
    }
}
