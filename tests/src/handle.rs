//! An optimizer on the heap behind the C ABI, with its files and streams. Its gradients follow from the number of the step and a seed, so that
//! whoever knows the two knows every bit of its state.

use std::ffi::{CStr, CString, c_void};
use std::path::Path;

use klshampoo::Config;
use klshampoo_ffi::*;

use crate::c_abi::{config_to_c, tensor_to_c};
use crate::cases::Xorshift;

/// An optimizer with one tensor, its parameter and its gradients.
#[derive(Debug)]
pub struct Handle {
    optimizer: *mut kls_optimizer,
    param: Vec<f32>,
    seed: usize,
}

impl Handle {
    /// A new one.
    pub fn new(config: &Config<f32>, dims: &[usize], seed: usize) -> Self {
        let (group, tensor) = (config_to_c(config), tensor_to_c(dims, &vec![None; dims.len()]));
        let mut optimizer = std::ptr::null_mut();
        // SAFETY: all pointers are to live values.
        assert_eq!(unsafe { kls_optimizer_create(&mut optimizer, &group, 1, &tensor, 1, std::ptr::null()) }, KLS_OK);
        Self { optimizer, param: vec![0.0; dims.iter().product()], seed }
    }

    /// The next step. Its gradient does not depend on the parameter, which a checkpoint does not have.
    pub fn step(&mut self) {
        let mut random = Xorshift::for_shape(&[self.seed, self.steps() as usize]);
        let grad: Vec<f32> = self.param.iter().map(|_| random.normal() as f32).collect();
        // SAFETY: a live optimizer and buffers of its tensor's length.
        assert_eq!(unsafe { kls_optimizer_step(self.optimizer, &self.param.as_mut_ptr(), &grad.as_ptr(), 1, 0.01) }, KLS_OK);
    }

    /// How many it has made.
    pub fn steps(&self) -> u64 {
        let mut counters = std::mem::MaybeUninit::<kls_counters>::uninit();
        // SAFETY: a live optimizer and room for the struct, which is filled on success.
        unsafe {
            assert_eq!(kls_optimizer_counters(self.optimizer, 0, 0, counters.as_mut_ptr(), size_of::<kls_counters>()), KLS_OK);
            counters.assume_init().steps
        }
    }

    /// The checkpoint.
    pub fn state(&self) -> Vec<u8> {
        let mut bytes = vec![0u8; self.save_size() as usize];
        // SAFETY: a live optimizer and a buffer of the size that it says.
        assert_eq!(unsafe { kls_optimizer_save(self.optimizer, bytes.as_mut_ptr().cast(), bytes.len()) }, KLS_OK);
        bytes
    }

    /// Bytes of the checkpoint.
    pub fn save_size(&self) -> u64 {
        let mut size = 0;
        // SAFETY: a live optimizer.
        assert_eq!(unsafe { kls_optimizer_save_size(self.optimizer, &mut size) }, KLS_OK);
        size
    }

    /// What the last failing call says.
    pub fn error(&self) -> String {
        // SAFETY: a live optimizer; its text lives until its next call.
        unsafe { CStr::from_ptr(kls_last_error(self.optimizer)) }.to_str().unwrap().to_owned()
    }

    /// Saves a file.
    pub fn save(&self, path: &Path) -> kls_status {
        // SAFETY: a live optimizer and a text.
        unsafe { kls_optimizer_save_file(self.optimizer, text(path).as_ptr()) }
    }

    /// Loads a file.
    pub fn load(&self, path: &Path) -> kls_status {
        // SAFETY: a live optimizer and a text.
        unsafe { kls_optimizer_load_file(self.optimizer, text(path).as_ptr()) }
    }

    /// Loads a checkpoint.
    pub fn load_bytes(&self, bytes: &[u8]) -> kls_status {
        // SAFETY: a live optimizer and a slice.
        unsafe { kls_optimizer_load(self.optimizer, bytes.as_ptr().cast(), bytes.len()) }
    }

    /// Hands the checkpoint to a function, which says whether it has taken the bytes.
    pub fn save_to<F: FnMut(&[u8]) -> bool>(&self, mut take: F) -> kls_status {
        unsafe extern "C" fn write<F: FnMut(&[u8]) -> bool>(user: *mut c_void, bytes: *const c_void, len: usize) -> i32 {
            // SAFETY: the function below, which nobody else calls meanwhile, and the library's bytes.
            let (take, bytes) = unsafe { (&mut *user.cast::<F>(), std::slice::from_raw_parts(bytes.cast(), len)) };
            i32::from(!take(bytes))
        }
        // SAFETY: a live optimizer, and a function with what it takes.
        unsafe { kls_optimizer_save_to(self.optimizer, Some(write::<F>), (&raw mut take).cast()) }
    }

    /// Asks a function for the checkpoint, which says whether it has filled the bytes that start there.
    pub fn load_from<F: FnMut(u64, &mut [u8]) -> bool>(&self, mut fill: F) -> kls_status {
        unsafe extern "C" fn read<F: FnMut(u64, &mut [u8]) -> bool>(user: *mut c_void, offset: u64, bytes: *mut c_void, len: usize) -> i32 {
            // SAFETY: the function below, which nobody else calls meanwhile, and the library's bytes, which are initialised.
            let (fill, bytes) = unsafe { (&mut *user.cast::<F>(), std::slice::from_raw_parts_mut(bytes.cast(), len)) };
            i32::from(!fill(offset, bytes))
        }
        // SAFETY: a live optimizer, and a function with what it takes.
        unsafe { kls_optimizer_load_from(self.optimizer, Some(read::<F>), (&raw mut fill).cast()) }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: a live optimizer.
        assert_eq!(unsafe { kls_optimizer_destroy(&mut self.optimizer) }, KLS_OK);
    }
}

fn text(path: &Path) -> CString {
    CString::new(path.to_str().unwrap()).unwrap()
}
