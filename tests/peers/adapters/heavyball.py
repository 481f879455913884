"""heavyball: its KL-Shampoo, KL-SOAP and SOAP."""

import heavyball
import torch

import settings
from adapters.stepper import Stepper, TorchStepper

COMPILE_MODE = heavyball.utils.compile_mode  # its default


class HeavyballStepper(TorchStepper):
    """Whether heavyball compiles its functions is one switch for all of its optimizers, looked at in every call."""

    def __init__(self, compiled: bool, *arguments: object):
        super().__init__(*arguments)
        self.mode = COMPILE_MODE if compiled else None

    def prepare(self) -> None:
        super().prepare()
        heavyball.utils.compile_mode = self.mode


def make(params: list[torch.nn.Parameter], gradients: list[torch.Tensor], optimizer: str, compiled: bool) -> Stepper:
    made = getattr(heavyball, optimizer)(
        params,
        lr=settings.LEARNING_RATE,
        betas=(settings.BETA1, settings.BETA2),
        shampoo_beta=settings.BETA2,
        eps=settings.EPSILON,
        weight_decay=settings.WEIGHT_DECAY,
        precondition_frequency=settings.PERIOD,
        max_precond_dim=settings.MAX_DIM,
        merge_dims=False,
        storage_dtype="float32",
    )
    return HeavyballStepper(compiled, made, params, gradients)
