"""Where things are."""

import os
from pathlib import Path

EMBEDDED = Path(__file__).resolve().parent.parent
ROOT = EMBEDDED.parent.parent
# Beside what other targets leave there.
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "firmware"
