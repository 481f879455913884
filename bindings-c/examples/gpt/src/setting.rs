//! Options that may differ between the methods of one call: `--lr 4e-3 --lr sgd=0.1`.

use crate::method::Method;

/// A value for one method, or for every method that has none of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    method: Option<Method>,
    value: String,
}

impl Setting {
    /// Reads `VALUE` or `METHOD=VALUE`; `check` looks at the value.
    ///
    /// # Errors
    /// A sentence that says what to give.
    pub fn parse<T>(text: &str, check: impl Fn(&str) -> Result<T, String>) -> Result<Self, String> {
        let (method, value) = match text.split_once('=') {
            Some((name, value)) => (Some(Method::named(name)?), value),
            None => (None, text),
        };
        check(value).map(|_| Self { method, value: value.to_owned() })
    }

    /// What `settings` say for `method`: the last one of its own, or the last one for all.
    #[must_use]
    pub fn find(settings: &[Self], method: Method) -> Option<&str> {
        let last = |wanted| settings.iter().rev().find(|setting| setting.method == wanted);
        last(Some(method)).or_else(|| last(None)).map(|setting| setting.value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_of_its_own_comes_first() {
        let parse = |text| Setting::parse(text, |value| value.parse::<f64>().map_err(|error| error.to_string()));
        let settings: Result<Vec<_>, _> = ["kl-shampoo=1", "2", "3", "soap=4"].map(parse).into_iter().collect();
        let settings = settings.expect("four settings");
        assert_eq!(Setting::find(&settings, Method::KL_SHAMPOO), Some("1"));
        assert_eq!(Setting::find(&settings, Method::ADAMW), Some("3"));
        assert_eq!(Setting::find(&[], Method::ADAMW), None);
        assert!(parse("nothing=1").is_err_and(|message| message.contains("kl-shampoo")));
        assert!(parse("soap=fast").is_err());
    }
}
