//! The border: every call enters here, checks its handle, lets no panic out, and says why it failed.

use core::ptr;

use crate::error::{Failure, Locate, Outcome};
use crate::handle::kls_optimizer;
use crate::message::{Message, record_without_handle};
#[cfg(feature = "messages")]
use crate::met::Met;
use crate::status::*;
use crate::tensor::kls_tensor;
use crate::versioned::Structs;

/// What a call's messages are made of: its name, and the tensors that it was given, for their names.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    name: &'static str,
    tensors: *const kls_tensor,
    tensor_count: usize,
}

impl From<&'static str> for Call {
    fn from(name: &'static str) -> Self {
        Self { name, tensors: ptr::null(), tensor_count: 0 }
    }
}

impl Call {
    /// A call whose failures are in the tensors that it was given, not in an optimizer's.
    ///
    /// # Safety
    /// `tensors` points to `tensor_count` structs that nobody writes during the call.
    pub unsafe fn on_tensors(name: &'static str, tensors: *const kls_tensor, tensor_count: usize) -> Self {
        Self { name, tensors, tensor_count }
    }

    /// The name of a tensor that was given to the call.
    fn given_name(&self, index: Option<usize>) -> Option<&[u8]> {
        // SAFETY: by the word of the caller of `on_tensors`, and so is the name that the struct points to.
        unsafe { Some(Structs::new(self.tensors, self.tensor_count).ok()?.get(index?)?.ok()?.kept_name()) }
    }
}

/// An object that C has a handle to.
pub trait Handle: Sized {
    /// The live object behind a handle, poisoned or not.
    ///
    /// # Errors
    /// KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_HANDLE.
    ///
    /// # Safety
    /// `handle` is NULL or points to readable memory of an object's size, which is the caller's to use during `'a`.
    unsafe fn from_handle<'a>(handle: *mut Self) -> Result<&'a mut Self, Failure>;

    /// Whether an earlier call met an internal error.
    fn is_poisoned(&self) -> bool;

    /// Refuses every later call but the object's end.
    fn poison(&mut self);

    /// Why the last failing call failed.
    fn message(&mut self) -> &mut Message;

    /// The name that a tensor was given; empty without one, and for an index that no tensor has.
    fn tensor_name(&self, index: Option<usize>) -> &[u8];

    /// A call has ended, and its message is there if it failed.
    ///
    /// # Safety
    /// `handle` is a live object to which no reference is alive.
    unsafe fn conclude(_handle: *mut Self, _call: &Call, _outcome: &Outcome) {}
}

/// Runs a call's body; a panic becomes `KLS_ERROR_INTERNAL`.
#[cfg(feature = "host")]
fn catch(body: impl FnOnce() -> Outcome) -> Outcome {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or_else(|_| Err(KLS_ERROR_INTERNAL.into()))
}

/// Runs a call's body; without the standard library a panic aborts.
#[cfg(not(feature = "host"))]
fn catch(body: impl FnOnce() -> Outcome) -> Outcome {
    body()
}

/// Runs a call's body, of a call that has no optimizer.
pub fn guard(call: impl Into<Call>, body: impl FnOnce() -> Outcome) -> kls_status {
    let call = call.into();
    conclude_without_handle(&call, catch(body))
}

/// Runs a body on a live object. A panic in it poisons the object: every later call but destroy is refused.
///
/// # Safety
/// `handle` is NULL, or points to memory that may be read as such an object and that no other thread uses during the call.
pub unsafe fn with_handle<H: Handle>(handle: *mut H, call: impl Into<Call>, body: impl FnOnce(&mut H) -> Outcome) -> kls_status {
    let (call, mut entered) = (call.into(), false);
    let outcome = catch(|| {
        // SAFETY: the caller vouches for the memory.
        let object = unsafe { H::from_handle(handle) }.of_field("optimizer")?;
        entered = true;
        if object.is_poisoned() {
            return Err(KLS_ERROR_POISONED.into());
        }
        body(object)
    });
    if entered {
        // SAFETY: the live object of the body, whose borrow has ended.
        unsafe { conclude(handle, &call, outcome) }
    } else {
        conclude_without_handle(&call, outcome)
    }
}

fn conclude_without_handle(call: &Call, outcome: Outcome) -> kls_status {
    let Err(failure) = outcome else { return KLS_OK };
    record_without_handle(call.name, &failure, call.given_name(failure.place.tensor()).unwrap_or_default());
    failure.status
}

/// Keeps a failure's message. Never inlined: its buffer is no part of the stack that a step needs.
///
/// # Safety
/// `handle` is a live object to which no reference is alive.
#[inline(never)]
unsafe fn conclude<H: Handle>(handle: *mut H, call: &Call, outcome: Outcome) -> kls_status {
    // SAFETY: by the caller's word.
    let object = unsafe { &mut *handle };
    let status = match &outcome {
        Ok(()) => KLS_OK,
        Err(failure) => {
            if failure.status == KLS_ERROR_INTERNAL {
                object.poison();
            }
            let index = failure.place.tensor();
            let mut message = Message::EMPTY;
            message.set_failure(call.name, failure, call.given_name(index).unwrap_or_else(|| object.tensor_name(index)));
            *object.message() = message;
            failure.status
        }
    };
    // SAFETY: by the caller's word; the reference to the object is not used any more.
    unsafe { H::conclude(handle, call, &outcome) };
    status
}

impl Handle for kls_optimizer {
    unsafe fn from_handle<'a>(handle: *mut Self) -> Result<&'a mut Self, Failure> {
        // SAFETY: by the caller's word.
        unsafe { Self::from_handle(handle) }
    }

    fn is_poisoned(&self) -> bool {
        self.is_poisoned()
    }

    fn poison(&mut self) {
        self.poison();
    }

    fn message(&mut self) -> &mut Message {
        &mut self.message
    }

    fn tensor_name(&self, index: Option<usize>) -> &[u8] {
        self.tensor_name(index)
    }

    unsafe fn conclude(handle: *mut Self, _call: &Call, _outcome: &Outcome) {
        // SAFETY: a live optimizer; the reference ends with the line.
        let _met = core::mem::take(unsafe { &mut (*handle).met });
        #[cfg(feature = "messages")]
        // SAFETY: likewise.
        unsafe {
            tell(handle, _call, _outcome, _met);
        }
    }
}

/// Tells the log what a step has met, and of a failure.
///
/// # Safety
/// `handle` is a live optimizer to which no reference is alive.
#[cfg(feature = "messages")]
unsafe fn tell(handle: *mut kls_optimizer, call: &Call, outcome: &Outcome, met: Met) {
    use crate::log::{KLS_LOG_ERROR, KLS_LOG_WARNING};

    // SAFETY: a live optimizer.
    let log = unsafe { (*handle).log };
    if !log.is_set() {
        return;
    }
    for (what, count, explanation) in [
        ("slices skipped", met.skipped, "Their gradients are not finite or too large."),
        ("refreshes failed", met.failed_refreshes, "The eigenbases stay as they were."),
    ] {
        if count.count > 0 {
            let mut warning = Message::EMPTY;
            // SAFETY: as above; the reference ends before the log is called.
            let name = unsafe { (*handle).tensor_name(Some(count.first)) };
            warning.set_warning(call.name, what, count, name, explanation);
            // SAFETY: a message, and no reference to the optimizer is used any more.
            unsafe { log.write(KLS_LOG_WARNING, warning.as_ptr()) };
        }
    }
    if outcome.is_err() {
        // SAFETY: likewise.
        unsafe { log.write(KLS_LOG_ERROR, (&raw const (*handle).message).cast()) };
    }
}

#[cfg(all(test, feature = "host"))]
mod tests {
    use std::ffi::CStr;

    use super::*;
    use crate::{kls_config, kls_config_init, kls_last_error, kls_optimizer_create, kls_optimizer_destroy, kls_tensor, kls_tensor_init};

    /// No input is known to make a call panic; a bug would.
    #[test]
    fn a_panic_poisons_the_optimizer_until_it_is_destroyed() {
        let (mut group, mut tensor) = (core::mem::MaybeUninit::<kls_config>::uninit(), core::mem::MaybeUninit::<kls_tensor>::uninit());
        let (mut optimizer, mut bytes) = (ptr::null_mut(), 0);
        // SAFETY: all pointers are to live values; the structs are read after their init functions have filled them.
        unsafe {
            assert_eq!(kls_config_init(group.as_mut_ptr(), size_of::<kls_config>(), 0, 0), KLS_OK);
            assert_eq!(kls_tensor_init(tensor.as_mut_ptr(), size_of::<kls_tensor>(), 2, [3, 2].as_ptr()), KLS_OK);
            assert_eq!(kls_optimizer_create(&mut optimizer, group.as_ptr(), 1, tensor.as_ptr(), 1, ptr::null()), KLS_OK);
            let message = |handle| CStr::from_ptr(kls_last_error(handle)).to_str().unwrap().to_owned();
            assert_eq!(with_handle(optimizer, "a_call", |_| panic!("a bug")), KLS_ERROR_INTERNAL);
            assert!(message(optimizer).starts_with("a_call: Internal error"), "{}", message(optimizer));
            assert_eq!(crate::kls_optimizer_state_bytes(optimizer, &mut bytes), KLS_ERROR_POISONED);
            assert_eq!((bytes, message(optimizer).starts_with("kls_optimizer_state_bytes: An earlier call")), (0, true));
            assert_eq!(kls_optimizer_destroy(&mut optimizer), KLS_OK);
            assert!(optimizer.is_null());
            assert_eq!(guard("another_call", || panic!("a bug")), KLS_ERROR_INTERNAL);
            assert!(message(ptr::null()).starts_with("another_call: "));
        }
    }
}
