"""Whether the two sides that claim to be the paper's Figure 13 take the same steps, before anything is timed."""

import torch

import klshampoo
import settings
from adapters import fig13

# Square: the bases of the first factors are then unique up to signs, which the parameters do not see.
SHAPE = (32, 32)
STEPS = 2 * settings.PERIOD + 2
TOLERANCE = 1e-3  # of the way gone; rounding alone makes about 1e-5
LAMBDA_CONSTANT = 0  # KLS_LAMBDA_CONSTANT


class Disagreement(RuntimeError):
    pass


def check(library: klshampoo.Library, threads: int) -> str:
    """Says how well they agree, or raises Disagreement."""
    torch.manual_seed(2)
    start, gradient = torch.randn(SHAPE), torch.empty(SHAPE)
    ours, theirs = start.clone(), torch.nn.Parameter(start.clone())
    config = library.config("KL-Shampoo")
    config.beta1, config.beta2, config.eps, config.weight_decay = settings.BETA1, settings.BETA2, settings.EPSILON, settings.WEIGHT_DECAY
    config.lambda_init, config.lambda_0 = LAMBDA_CONSTANT, fig13.LAMBDA_0
    config.refresh_period, config.stagger = settings.PERIOD, 0
    optimizer = klshampoo.Optimizer(library, config, threads, [SHAPE], [ours.data_ptr()], [gradient.data_ptr()])
    peer = fig13.make([theirs], [gradient])
    for _ in range(STEPS):
        gradient.copy_(torch.randn(SHAPE))
        optimizer.step(settings.LEARNING_RATE)
        peer.step()
    optimizer.close()
    reached = theirs.detach()
    error = float((ours - reached).norm() / (reached - start).norm())
    said = f"Figure 13 in PyTorch and klshampoo's differ by {error:.1e} of the way after {STEPS} steps of a {SHAPE[0]}x{SHAPE[1]} matrix"
    if not error < TOLERANCE:
        raise Disagreement(said)
    return said
