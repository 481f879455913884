"""What the clock sees of a contender."""

from typing import Protocol

import torch


class DoesNotApply(Exception):
    """The method is not defined for these tensors."""


class Stepper(Protocol):
    def prepare(self) -> None:
        """Before every step, not timed: the gradients' buffers hold this step's gradients."""

    def step(self) -> None:
        """One step of all tensors, timed."""

    def close(self) -> None:
        """Gives back what Python does not."""


class TorchStepper:
    """Any torch optimizer."""

    def __init__(self, optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter], gradients: list[torch.Tensor]):
        self.optimizer, self.params, self.gradients = optimizer, params, gradients

    def prepare(self) -> None:
        for param, gradient in zip(self.params, self.gradients, strict=True):
            # A view: some optimizers transpose param.grad in place.
            param.grad = gradient.detach()

    def step(self) -> None:
        self.optimizer.step()

    def close(self) -> None:
        pass
