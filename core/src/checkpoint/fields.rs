//! One description of each record, for whoever writes it, reads it, or shows it in another form.

/// What is done with the fields of a record, one after another.
pub trait Fields {
    /// Why it cannot be done.
    type Error;

    /// A field of 4 bytes.
    ///
    /// # Errors
    /// The implementation's; likewise below.
    fn u32(&mut self, name: &'static str, value: &mut u32) -> Result<(), Self::Error>;
    /// A field of 8 bytes.
    ///
    /// # Errors
    /// See [`Self::u32`].
    fn u64(&mut self, name: &'static str, value: &mut u64) -> Result<(), Self::Error>;
    /// A number of 4 bytes.
    ///
    /// # Errors
    /// See [`Self::u32`].
    fn f32(&mut self, name: &'static str, value: &mut f32) -> Result<(), Self::Error>;
    /// A number of 8 bytes.
    ///
    /// # Errors
    /// See [`Self::u32`].
    fn f64(&mut self, name: &'static str, value: &mut f64) -> Result<(), Self::Error>;

    /// As many fields of 4 bytes as there are.
    ///
    /// # Errors
    /// See [`Self::u32`].
    fn u32s(&mut self, name: &'static str, values: &mut [u32]) -> Result<(), Self::Error> {
        values.iter_mut().try_for_each(|value| self.u32(name, value))
    }

    /// As many fields of 8 bytes as there are.
    ///
    /// # Errors
    /// See [`Self::u32`].
    fn u64s(&mut self, name: &'static str, values: &mut [u64]) -> Result<(), Self::Error> {
        values.iter_mut().try_for_each(|value| self.u64(name, value))
    }
}

/// A group of fields in a fixed order. Reading one is visiting [`Default::default`].
pub trait Record: Default {
    /// Visits each field.
    ///
    /// # Errors
    /// Those of `fields`.
    fn visit<F: Fields>(&mut self, fields: &mut F) -> Result<(), F::Error>;
}
