#!/usr/bin/env python3
"""Makes digits.bin from scikit-learn's copy of the UCI handwritten digits, and scores scikit-learn's logistic regression on the same split.

    pip install scikit-learn==1.7.2
    python3 digits.py            # compares with the digits.bin that is there
    python3 digits.py --write    # writes it
"""

import hashlib
import sys
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

FILE = Path(__file__).with_name("digits.bin")
TEST_IMAGES = 360  # The last ones, a fifth, in the order of the data set.


def reduced(pixels, labels) -> bytes:
    """64 bytes of pixels (0 to 16, row by row) and a byte for the label, image by image."""
    return b"".join(bytes(int(p) for p in image) + bytes([int(label)]) for image, label in zip(pixels, labels))


def pooled(pixels):
    """4 x 4 numbers of an 8 x 8 image: sums of 2 x 2 pixels."""
    return pixels.reshape(-1, 4, 2, 4, 2).sum(axis=(2, 4)).reshape(-1, 16)


def score(name: str, inputs, labels) -> None:
    """Prints what share of the test images a logistic regression gets right. Its one option is a limit that lets it converge."""
    train, test = slice(None, -TEST_IMAGES), slice(-TEST_IMAGES, None)
    model = LogisticRegression(max_iter=10_000).fit(inputs[train], labels[train])
    right = int((model.predict(inputs[test]) == labels[test]).sum())
    print(f"logistic regression, {name}: {right} of {TEST_IMAGES} = {100 * right / TEST_IMAGES:.2f} %")


def main() -> int:
    pixels, labels = load_digits(return_X_y=True)
    data = reduced(pixels, labels)
    if sys.argv[1:] == ["--write"]:
        FILE.write_bytes(data)
    elif sys.argv[1:]:
        print(__doc__, file=sys.stderr)
        return 2
    print(f"{FILE.name}: {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")
    score("8 x 8 pixels / 16", pixels / 16, labels)
    score("4 x 4 sums / 64", pooled(pixels) / 64, labels)
    if FILE.read_bytes() != data:
        print(f"{FILE.name} differs from the data set", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
