//! Elementwise passes, and their way to several threads.

use crate::Scalar;
use crate::linalg::{LinAlg, Pass};

/// A pass whose elements do not depend on each other, so that it may be made in parts.
pub(crate) trait Divisible: Sized {
    /// How many elements it makes.
    fn len(&self) -> usize;

    /// Two passes that make the same: the first one of about `elements`, and the rest.
    fn divide(self, elements: usize) -> (Self, Self);
}

/// From this many elements on a pass takes longer than to wake the threads for it: 20 microseconds, where that takes a few.
const SHARED: usize = 1 << 16;

/// Parts of a shared pass: as many for any number of threads, several for each of a few.
const PARTS: usize = 8;

/// Makes a pass, a large one in parts that threads share. No bit of the result depends on it.
#[inline(always)]
pub(crate) fn run<T: Scalar, L: LinAlg<T>, P: Pass<L, Output = ()> + Divisible + Send>(linalg: &L, pass: P) {
    if pass.len() < SHARED || !linalg.shares() {
        return linalg.vectorise(pass);
    }
    let each = pass.len().div_ceil(PARTS);
    let mut rest = pass;
    let mut parts = [const { None }; PARTS];
    for part in &mut parts[1..] {
        let (head, tail) = rest.divide(each);
        *part = Some(head);
        rest = tail;
    }
    parts[0] = Some(rest);
    linalg.share(&mut parts);
}

/// `out_i = f(out_i, a_i, b_i)`. What `f` needs besides it should hold by value: what it borrows is read again for each element.
struct Map<'a, T, F> {
    out: &'a mut [T],
    a: &'a [T],
    b: &'a [T],
    f: F,
}

impl<T: Scalar, L, F: Fn(&L, T, T, T) -> T> Pass<L> for Map<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn run(self, linalg: &L) {
        for ((out, &a), &b) in self.out.iter_mut().zip(self.a).zip(self.b) {
            *out = (self.f)(linalg, *out, a, b);
        }
    }
}

impl<T, F: Copy> Divisible for Map<'_, T, F> {
    fn len(&self) -> usize {
        self.out.len()
    }

    fn divide(self, elements: usize) -> (Self, Self) {
        // Whole lines of a cache.
        let at = elements.next_multiple_of(64).min(self.out.len());
        let (out, out_rest) = self.out.split_at_mut(at);
        let ((a, a_rest), (b, b_rest)) = (self.a.split_at(at), self.b.split_at(at));
        (Self { out, a, b, f: self.f }, Self { out: out_rest, a: a_rest, b: b_rest, f: self.f })
    }
}

/// `out_i = f(out_i, a_i)`, with the backend at hand; slices of one length, or nothing to be made.
#[inline(always)]
pub(crate) fn map<T: Scalar, L: LinAlg<T>>(linalg: &L, out: &mut [T], a: &[T], f: impl Fn(&L, T, T) -> T + Copy + Send) {
    debug_assert!(out.is_empty() || out.len() == a.len());
    run(linalg, Map { out, a, b: a, f: move |linalg: &L, out, a, _| f(linalg, out, a) });
}

/// `out_i = f(out_i, a_i, b_i)`, likewise.
#[inline(always)]
pub(crate) fn map2<T: Scalar, L: LinAlg<T>>(linalg: &L, out: &mut [T], [a, b]: [&[T]; 2], f: impl Fn(&L, T, T, T) -> T + Copy + Send) {
    debug_assert!(out.is_empty() || (out.len() == a.len() && out.len() == b.len()));
    run(linalg, Map { out, a, b, f });
}

/// `out_i = a_i`.
#[inline(always)]
pub(crate) fn copy<T: Scalar, L: LinAlg<T>>(linalg: &L, out: &mut [T], a: &[T]) {
    map(linalg, out, a, |_, _, a| a);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::linalg::Portable;

    /// Makes a pass in parts of about `each` elements, however few, the last one first.
    pub(crate) fn in_parts<P: Pass<Portable, Output = ()> + Divisible>(pass: P, each: usize) {
        if pass.len() <= each {
            return pass.run(&Portable);
        }
        let len = pass.len();
        let (head, tail) = pass.divide(each);
        assert!(head.len() >= each && head.len() + tail.len() == len);
        in_parts(tail, each);
        head.run(&Portable);
    }

    #[test]
    fn parts_make_what_the_whole_makes() {
        let numbers = |seed: usize| -> [f32; 1000] { core::array::from_fn(|i| ((i * 37 + seed * 101) % 97) as f32 - 48.0) };
        let (a, b) = (numbers(1), numbers(2));
        let f = |_: &Portable, out: f32, a: f32, b: f32| out * a + b;
        let mut whole = numbers(3);
        map2(&Portable, &mut whole, [&a, &b], f);
        assert_eq!(whole[7], numbers(3)[7] * a[7] + b[7]);
        for each in [1, 64, 100, 999, 1000, 2000] {
            let mut out = numbers(3);
            in_parts(Map { out: &mut out, a: &a, b: &b, f }, each);
            assert_eq!(out, whole, "{each}");
        }
    }
}
