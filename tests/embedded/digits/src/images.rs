//! The data set: 1797 images of 8 x 8 pixels, in the order of `data/digits.bin`. `data/README.md` says where they come from.

use crate::Random;

/// Numbers of an image.
pub const PIXELS: usize = 64;
/// Digits.
pub const CLASSES: usize = 10;
/// Images to learn from: the first ones.
pub const TRAINING: usize = 1437;
/// Images to be tested on: the rest.
pub const TEST: usize = 360;

/// An image and what it shows.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// Rows of 8, 0 (white) to 16.
    pub pixels: [u8; PIXELS],
    /// The digit.
    pub label: u8,
}

/// How many of the test images scikit-learn's logistic regression gets right (`data/README.md`).
pub const LOGISTIC_REGRESSION: u32 = 324;

const BYTES: &[u8; (TRAINING + TEST) * (PIXELS + 1)] = include_bytes!("../../data/digits.bin");

/// Image number `index`.
fn image(index: usize) -> Image {
    let (pixels, label) = BYTES[index * (PIXELS + 1)..][..PIXELS + 1].split_at(PIXELS);
    let mut image = Image { pixels: [0; PIXELS], label: label[0] };
    image.pixels.copy_from_slice(pixels);
    image
}

/// A training image chosen at random.
pub fn draw(random: &mut Random) -> Image {
    image(random.below(TRAINING as u32) as usize)
}

/// The test images.
pub fn test() -> impl Iterator<Item = Image> {
    (TRAINING..TRAINING + TEST).map(image)
}

/// How many test images `classify` gets right.
pub fn correct(classify: impl Fn(&Image) -> usize) -> u32 {
    test().map(|image| u32::from(classify(&image) == usize::from(image.label))).sum()
}
