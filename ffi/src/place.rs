//! Where a call failed and what there is to say about it, as far as that is known. A build without messages has no use for it.

#[cfg(feature = "messages")]
mod kept {
    /// Where a call failed.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) struct Place {
        pub group: Option<usize>,
        pub tensor: Option<usize>,
        /// Where slices are cut, `slice * pieces + piece`.
        pub slice: Option<usize>,
        pub mode: Option<usize>,
        /// An argument of the call, or a field of a struct.
        pub field: Option<&'static str>,
        /// The element of that field.
        pub element: Option<usize>,
        /// Takes the place of the status' own text where there is more to say.
        pub because: Option<&'static str>,
    }

    impl Place {
        pub(crate) const NOWHERE: Self =
            Self { group: None, tensor: None, slice: None, mode: None, field: None, element: None, because: None };

        pub(crate) const fn because(text: &'static str) -> Self {
            Self { because: Some(text), ..Self::NOWHERE }
        }

        /// In a call of the driver's, with its words.
        #[cfg(feature = "host")]
        pub(crate) const fn in_call(call: &'static str, words: &'static str) -> Self {
            Self { field: Some(call), because: Some(words), ..Self::NOWHERE }
        }

        pub(crate) fn tensor(&self) -> Option<usize> {
            self.tensor
        }

        pub(crate) fn set_element(&mut self, field: &'static str, element: usize) {
            (self.field, self.element) = (Some(field), Some(element));
        }

        pub(crate) fn set_slice(&mut self, tensor: usize, slice: usize) {
            (self.tensor, self.slice) = (Some(tensor), Some(slice));
        }

        // What is known already stays.

        pub(crate) fn add_field(&mut self, field: &'static str) {
            self.field = self.field.or(Some(field));
        }

        pub(crate) fn add_group(&mut self, group: usize) {
            self.group = self.group.or(Some(group));
        }

        pub(crate) fn add_tensor(&mut self, tensor: usize) {
            self.tensor = self.tensor.or(Some(tensor));
        }

        pub(crate) fn add_mode(&mut self, mode: usize) {
            self.mode = self.mode.or(Some(mode));
        }
    }
}

#[cfg(not(feature = "messages"))]
mod forgotten {
    /// Nowhere.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) struct Place;

    impl Place {
        pub(crate) const NOWHERE: Self = Self;

        pub(crate) const fn because(_: &'static str) -> Self {
            Self
        }

        #[cfg(feature = "host")]
        pub(crate) const fn in_call(_: &'static str, _: &'static str) -> Self {
            Self
        }

        pub(crate) fn tensor(&self) -> Option<usize> {
            None
        }

        pub(crate) fn set_element(&mut self, _: &'static str, _: usize) {}

        pub(crate) fn set_slice(&mut self, _: usize, _: usize) {}

        pub(crate) fn add_field(&mut self, _: &'static str) {}

        pub(crate) fn add_group(&mut self, _: usize) {}

        pub(crate) fn add_tensor(&mut self, _: usize) {}

        pub(crate) fn add_mode(&mut self, _: usize) {}
    }
}

#[cfg(not(feature = "messages"))]
pub(crate) use forgotten::Place;
#[cfg(feature = "messages")]
pub(crate) use kept::Place;
