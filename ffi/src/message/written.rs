//! The sentence, in a buffer of fixed size.

use core::ffi::c_char;

use crate::error::Failure;
use crate::met::Count;
use crate::place::Place;
use crate::status::text;
#[cfg(feature = "host")]
use crate::status::{KLS_ERROR_CUDA_NO_DRIVER, KLS_ERROR_CUDA_UNSUPPORTED};

/// Bytes of a message, its NUL included. Places come first and are shorter, so only the explanation is ever cut.
const LEN: usize = 256;

/// A text that ends with a NUL; what does not fit is cut.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    bytes: [u8; LEN],
}

impl Message {
    /// No text.
    pub const EMPTY: Self = Self { bytes: [0; LEN] };

    /// Where it starts; valid as long as the message stays where it is.
    pub const fn as_ptr(&self) -> *const c_char {
        self.bytes.as_ptr().cast()
    }

    /// `call: group 1, tensor 3 "name", slice 0, mode 1, field[2]: Explanation.`, and the system's words where there are some.
    pub fn set_failure(&mut self, call: &str, failure: &Failure, name: &[u8]) {
        let Place { group, tensor, slice, mode, field, element, because } = failure.place;
        let mut text_of = Writer::new(self);
        text_of.str(call);
        let mut before = ": ";
        for (what, index) in [("group ", group), ("tensor ", tensor), ("slice ", slice), ("mode ", mode)] {
            let Some(index) = index else { continue };
            text_of.str(before).str(what).number(index);
            if what == "tensor " {
                text_of.name(name);
            }
            before = ", ";
        }
        if let Some(field) = field {
            text_of.str(before).str(field);
        }
        if let Some(element) = element {
            text_of.str("[").number(element).str("]");
        }
        text_of.str(": ");
        #[cfg(feature = "host")]
        let of_driver = (KLS_ERROR_CUDA_NO_DRIVER..=KLS_ERROR_CUDA_UNSUPPORTED).contains(&failure.status);
        #[cfg(feature = "host")]
        if failure.code != 0 && of_driver {
            let library = if field.is_some_and(|call| call.starts_with("cublas")) { "cuBLAS" } else { "CUDA" };
            text_of.str(library).str(" error ").number(failure.code as usize).str(": ");
        }
        match because {
            Some(because) => text_of.str(because),
            None => text_of.bytes(text(failure.status).to_bytes()),
        };
        #[cfg(feature = "host")]
        match failure.code {
            0 => {}
            _ if of_driver => {
                text_of.str(".");
            }
            code => {
                text_of.str(" ").str(&std::io::Error::from_raw_os_error(code).to_string()).str(".");
            }
        }
    }

    /// Adds words of somebody else's to the sentence, on its line.
    #[cfg(feature = "host")]
    pub(crate) fn add(&mut self, words: &str) {
        let len = self.bytes.iter().position(|&byte| byte == 0).unwrap_or(0);
        let mut text = Writer { to: &mut self.bytes, len };
        for word in words.split_ascii_whitespace() {
            text.str(" ").str(word);
        }
    }

    /// `call: what: 3, the first in tensor 3 "name". Explanation.`
    pub(crate) fn set_warning(&mut self, call: &str, what: &str, count: Count, name: &[u8], explanation: &str) {
        let mut text = Writer::new(self);
        text.str(call).str(": ").str(what).str(": ").number(count.count).str(", the first in tensor ").number(count.first);
        text.name(name).str(". ").str(explanation);
    }
}

/// Writes a message from its start.
struct Writer<'a> {
    to: &'a mut [u8; LEN],
    len: usize,
}

impl<'a> Writer<'a> {
    fn new(message: &'a mut Message) -> Self {
        message.bytes[0] = 0;
        Self { to: &mut message.bytes, len: 0 }
    }

    fn bytes(&mut self, text: &[u8]) -> &mut Self {
        let room = LEN - 1 - self.len;
        let text = &text[..text.len().min(room)];
        self.to[self.len..][..text.len()].copy_from_slice(text);
        self.len += text.len();
        self.to[self.len] = 0;
        self
    }

    fn str(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// In decimal, without the formatting of `core`, which is large.
    fn number(&mut self, mut number: usize) -> &mut Self {
        let mut digits = [0; 20];
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return self.bytes(&digits[first..]);
            }
        }
    }

    /// A tensor's name behind its number, if it has one. The bytes are the caller's, in whatever encoding.
    fn name(&mut self, name: &[u8]) -> &mut Self {
        if name.is_empty() { self } else { self.str(" \"").bytes(name).str("\"") }
    }
}

#[cfg(test)]
mod tests {
    use core::ffi::CStr;

    use super::*;
    use crate::status::{KLS_ERROR_GRADIENT_TOO_LARGE, KLS_ERROR_STRUCT_SIZE};

    fn read(message: &Message) -> &str {
        CStr::from_bytes_until_nul(&message.bytes).unwrap().to_str().unwrap()
    }

    #[test]
    fn the_longest_place_fits_and_only_the_explanation_is_cut() {
        let all = Some(usize::MAX);
        let place = Place { tensor: all, slice: all, mode: all, ..Place::NOWHERE };
        let failure = Failure { place, ..KLS_ERROR_STRUCT_SIZE.into() };
        let (mut message, name) = (Message::EMPTY, [b'n'; 63]);
        message.set_failure("kls_optimizer_set_refresh_budget", &failure, &name);
        let text = read(&message);
        assert_eq!(text.len(), LEN - 1);
        assert!(text.starts_with("kls_optimizer_set_refresh_budget: tensor 18446744073709551615 \"nnn"), "{text}");
        assert!(text.contains("nnn\", slice 18446744073709551615, mode 18446744073709551615: struct_size is not the size"), "{text}");
        // A shorter one leaves nothing of it.
        message.set_failure("call", &KLS_ERROR_GRADIENT_TOO_LARGE.into(), &[]);
        assert_eq!(read(&message), "call: A gradient is too large: its squared norm, weighted, must stay below 2^120.");
    }

    #[test]
    fn every_part_has_its_place() {
        let place = Place { group: Some(1), field: Some("row_parts"), element: Some(2), because: Some("No."), ..Place::NOWHERE };
        let failure = Failure { place, ..1.into() };
        let mut message = Message::EMPTY;
        message.set_failure("call", &failure, b"unused");
        assert_eq!(read(&message), "call: group 1, row_parts[2]: No.");
        #[cfg(feature = "host")]
        {
            let failure =
                Failure::of_driver(crate::status::KLS_ERROR_CUDA, "cuLaunchKernel", 700, "an illegal memory access was encountered");
            message.set_failure("call", &failure, &[]);
            assert_eq!(read(&message), "call: cuLaunchKernel: CUDA error 700: an illegal memory access was encountered.");
            message.add("ptxas, line 1; fatal   : No.\nptxas, line 2\n");
            let told =
                "call: cuLaunchKernel: CUDA error 700: an illegal memory access was encountered. ptxas, line 1; fatal : No. ptxas, line 2";
            assert_eq!(read(&message), told);
            message.add(&"m".repeat(2 * LEN));
            assert!(read(&message).len() == LEN - 1 && read(&message).starts_with(told) && read(&message).ends_with("mmm"));
            let failure = Failure::of_driver(crate::status::KLS_ERROR_CUDA, "cublasSetStream", 7, "an unsupported value");
            message.set_failure("call", &failure, &[]);
            assert_eq!(read(&message), "call: cublasSetStream: cuBLAS error 7: an unsupported value.");
        }
        message.set_warning("call", "slices skipped", Count { count: 2, first: 7 }, b"w", "So it is.");
        assert_eq!(read(&message), "call: slices skipped: 2, the first in tensor 7 \"w\". So it is.");
    }
}
