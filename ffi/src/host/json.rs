//! Records of a checkpoint as JSON objects, without loss.

use klshampoo::checkpoint::{Fields, Record};
use serde_json::{Map, Value};

use crate::status::{KLS_ERROR_SAFETENSORS, kls_status};

/// A record as an object.
pub(super) fn to_json<R: Record>(mut record: R) -> Map<String, Value> {
    let mut object = ToJson(Map::new());
    let Ok(()) = record.visit(&mut object);
    object.0
}

/// A record from an object.
///
/// # Errors
/// KLS_ERROR_SAFETENSORS when a field is missing or of another kind.
pub(super) fn from_json<R: Record>(object: &Value) -> Result<R, kls_status> {
    let mut record = R::default();
    record.visit(&mut FromJson(object))?;
    Ok(record)
}

struct ToJson(Map<String, Value>);

impl ToJson {
    fn insert(&mut self, name: &str, value: Value) -> Result<(), std::convert::Infallible> {
        self.0.insert(name.into(), value);
        Ok(())
    }
}

impl Fields for ToJson {
    type Error = std::convert::Infallible;

    fn u32(&mut self, name: &'static str, value: &mut u32) -> Result<(), Self::Error> {
        self.insert(name, (*value).into())
    }

    fn u64(&mut self, name: &'static str, value: &mut u64) -> Result<(), Self::Error> {
        self.insert(name, (*value).into())
    }

    // JSON has no infinities and no NaN: those are their bits.
    fn f32(&mut self, name: &'static str, value: &mut f32) -> Result<(), Self::Error> {
        let bits = || format!("0x{:08x}", value.to_bits()).into();
        self.insert(name, if value.is_finite() { f64::from(*value).into() } else { bits() })
    }

    fn f64(&mut self, name: &'static str, value: &mut f64) -> Result<(), Self::Error> {
        let bits = || format!("0x{:016x}", value.to_bits()).into();
        self.insert(name, if value.is_finite() { (*value).into() } else { bits() })
    }

    fn u32s(&mut self, name: &'static str, values: &mut [u32]) -> Result<(), Self::Error> {
        self.insert(name, (&*values).into())
    }

    fn u64s(&mut self, name: &'static str, values: &mut [u64]) -> Result<(), Self::Error> {
        self.insert(name, (&*values).into())
    }
}

struct FromJson<'a>(&'a Value);

impl FromJson<'_> {
    fn whole(&self, value: &Value) -> Result<u64, kls_status> {
        value.as_u64().ok_or(KLS_ERROR_SAFETENSORS)
    }

    /// Bits of a number that JSON does not have.
    fn bits(&self, value: &Value) -> Result<u64, kls_status> {
        let digits = value.as_str().and_then(|text| text.strip_prefix("0x"));
        digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).ok_or(KLS_ERROR_SAFETENSORS)
    }

    fn array(&self, name: &str, len: usize) -> Result<&[Value], kls_status> {
        self.0[name].as_array().map(Vec::as_slice).filter(|values| values.len() == len).ok_or(KLS_ERROR_SAFETENSORS)
    }
}

fn narrow(value: u64) -> Result<u32, kls_status> {
    u32::try_from(value).map_err(|_| KLS_ERROR_SAFETENSORS)
}

impl Fields for FromJson<'_> {
    type Error = kls_status;

    fn u32(&mut self, name: &'static str, value: &mut u32) -> Result<(), kls_status> {
        *value = narrow(self.whole(&self.0[name])?)?;
        Ok(())
    }

    fn u64(&mut self, name: &'static str, value: &mut u64) -> Result<(), kls_status> {
        *value = self.whole(&self.0[name])?;
        Ok(())
    }

    fn f32(&mut self, name: &'static str, value: &mut f32) -> Result<(), kls_status> {
        let found = &self.0[name];
        *value = match found.as_f64() {
            Some(number) => number as f32,
            None => f32::from_bits(narrow(self.bits(found)?)?),
        };
        Ok(())
    }

    fn f64(&mut self, name: &'static str, value: &mut f64) -> Result<(), kls_status> {
        let found = &self.0[name];
        *value = match found.as_f64() {
            Some(number) => number,
            None => f64::from_bits(self.bits(found)?),
        };
        Ok(())
    }

    fn u32s(&mut self, name: &'static str, values: &mut [u32]) -> Result<(), kls_status> {
        let found = self.array(name, values.len())?;
        for (value, found) in values.iter_mut().zip(found) {
            *value = narrow(self.whole(found)?)?;
        }
        Ok(())
    }

    fn u64s(&mut self, name: &'static str, values: &mut [u64]) -> Result<(), kls_status> {
        let found = self.array(name, values.len())?;
        for (value, found) in values.iter_mut().zip(found) {
            *value = self.whole(found)?;
        }
        Ok(())
    }
}
