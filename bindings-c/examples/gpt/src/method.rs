//! The methods of the trainer, in the order of its own table.

use std::fmt::Write as _;

/// Names on command lines and in files, and names for people.
const NAMES: [(&str, &str); 21] = [
    ("adamw", "AdamW"),
    ("kl-shampoo", "KL-Shampoo"),
    ("kl-soap", "KL-SOAP"),
    ("soap", "SOAP"),
    ("shampoo", "Shampoo"),
    ("shampoo-half", "Shampoo 1/2"),
    ("shampoo-quarter", "Shampoo 1/4"),
    ("vn-shampoo-1", "VN-Shampoo 1"),
    ("vn-shampoo-2", "VN-Shampoo 2"),
    ("f-shampoo-1", "F-Shampoo 1"),
    ("f-shampoo-2", "F-Shampoo 2"),
    ("idealized-kl", "idealized KL"),
    ("idealized-vn-1", "idealized VN 1"),
    ("idealized-vn-2", "idealized VN 2"),
    ("idealized-f-1", "idealized F 1"),
    ("idealized-f-2", "idealized F 2"),
    ("instantaneous-kl", "instantaneous KL"),
    ("one-sided", "one-sided"),
    ("rmsprop", "RMSProp"),
    ("adafactor", "Adafactor"),
    ("sgd", "SGD"),
];

/// The optimizer of the hidden matrices; AdamW takes the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method(usize);

impl Method {
    /// What all others are measured against.
    pub const ADAMW: Self = Self(0);
    /// The library's first method.
    pub const KL_SHAMPOO: Self = Self(1);

    /// Every method.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..NAMES.len()).map(Self)
    }

    /// The method of this name on command lines.
    ///
    /// # Errors
    /// A sentence with all names if there is none.
    pub fn named(name: &str) -> Result<Self, String> {
        Self::all().find(|method| method.argument() == name).ok_or_else(|| {
            let mut sentence = "give all, or some of ".to_owned();
            for (index, (argument, _)) in NAMES.iter().enumerate() {
                // Writing to a String does not fail.
                let _ = write!(sentence, "{}{argument}", if index == 0 { "" } else { ", " });
            }
            sentence
        })
    }

    /// Its place in the list.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0
    }

    /// Its name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        NAMES[self.0].1
    }

    /// Its name on command lines and in files.
    #[must_use]
    pub const fn argument(self) -> &'static str {
        NAMES[self.0].0
    }
}
