//! A Rust static library that knows nothing of klshampoo: threads, the heap, and panics that it catches itself.

use std::collections::HashMap;
use std::panic::catch_unwind;

/// The square of `key`, from a table that another thread made, or -1 after a panic: for a key above 9, or when no thread starts.
#[unsafe(no_mangle)]
pub extern "C" fn neighbour_square(key: i32) -> i32 {
    catch_unwind(|| {
        let table = std::thread::spawn(|| (0..10).map(|i| (i, i * i)).collect::<HashMap<i32, i32>>()).join().unwrap();
        table[&key]
    })
    .unwrap_or(-1)
}
