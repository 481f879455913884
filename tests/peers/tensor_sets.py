"""The sets of tensors that are timed."""

from dataclasses import dataclass
from math import prod

Shape = tuple[int, ...]

RATE_SIZE = 768  # of the products that the machine's rate is measured with
LARGE: list[Shape] = [(2304, 768), (768, 768), (3072, 768), (768, 3072)]
LAYERS, CHANNELS = 4, 128  # of the default job of bindings-c/examples/gpt


@dataclass(frozen=True)
class TensorSet:
    name: str
    title: str
    shapes: list[Shape]
    # Compared with the floor of its products.
    floor: bool = False
    # Only the spread of our work over the steps is looked at; no peers.
    worst_step: bool = False

    def product_flops(self) -> int:
        """P: products with all bases, 2 N (d_1 + ... + d_K) per tensor."""
        return sum(2 * prod(shape) * sum(shape) for shape in self.shapes)

    def modes(self) -> int:
        return sum(len(shape) for shape in self.shapes)


def hidden_matrices(channels: int) -> list[Shape]:
    """The KL-Shampoo group of one layer of the example trainer: qkvw, attprojw, fcw, fcprojw (its model.c)."""
    return [(3 * channels, channels), (channels, channels), (4 * channels, channels), (channels, 4 * channels)]


SETS = {
    one.name: one
    for one in [
        TensorSet("a", "one 768x768", [(768, 768)], floor=True),
        TensorSet("b", "2304x768, 768x768, 3072x768, 768x3072", LARGE, floor=True),
        TensorSet("b4", "(b) four times over", LARGE * 4, worst_step=True),
        TensorSet("c", "64 of 64x64", [(64, 64)] * 64),
        TensorSet("d", "200 of 16x32", [(16, 32)] * 200),
        TensorSet("e", "the example trainer's 16 hidden matrices", hidden_matrices(CHANNELS) * LAYERS),
        TensorSet("f", "16 of 8x64x64", [(8, 64, 64)] * 16),
    ]
}
