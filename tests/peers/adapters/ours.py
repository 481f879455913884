"""Our library, in the convention of Figure 13."""

import torch

import klshampoo
import settings

NEVER = 2**31  # a period that no run reaches the end of


class KlsStepper:
    def __init__(self, optimizer: klshampoo.Optimizer, keep: list[torch.Tensor]):
        self.optimizer = optimizer
        self.keep = keep  # the optimizer knows their addresses only
        self.steps = 0

    def prepare(self) -> None:
        pass

    def step(self) -> None:
        self.steps += 1
        self.optimizer.step(settings.LEARNING_RATE)

    def close(self) -> None:
        self.optimizer.close()


def make(
    params: list[torch.nn.Parameter],
    gradients: list[torch.Tensor],
    library: klshampoo.Library,
    threads: int,
    method: str,
    period: int = settings.PERIOD,
    refreshes: bool = True,
) -> KlsStepper:
    config = library.config(method)
    config.beta1, config.beta2, config.eps, config.weight_decay = settings.BETA1, settings.BETA2, settings.EPSILON, settings.WEIGHT_DECAY
    config.max_dim = settings.MAX_DIM
    config.refresh_period = period
    if not refreshes:
        config.refresh_period, config.stagger = NEVER, 0
    addresses = [[tensor.data_ptr() for tensor in tensors] for tensors in (params, gradients)]
    optimizer = klshampoo.Optimizer(library, config, threads, [tuple(param.shape) for param in params], *addresses)
    return KlsStepper(optimizer, [*params, *gradients])
