"""On this machine: format of the crates, and lints and tests of those that compile for it."""

from .. import toolchain
from ..command import run as execute
from ..paths import EMBEDDED, TARGET


def run() -> None:
    environment = toolchain.host() | {"CARGO_TARGET_DIR": str(TARGET / "host")}
    crates = ["-p", "digits", "-p", "checksum"]
    execute(["cargo", "fmt", "--check"], cwd=EMBEDDED, env=environment)
    execute(["cargo", "clippy", "--quiet", "--release", "--locked", *crates, "--all-targets", "--", "-D", "warnings"], cwd=EMBEDDED, env=environment)
    print(execute(["cargo", "test", "--quiet", "--release", "--locked", *crates], cwd=EMBEDDED, env=environment), end="")
