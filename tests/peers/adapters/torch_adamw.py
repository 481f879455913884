"""torch's own AdamW, all tensors in one fused call."""

import torch

import settings
from adapters.stepper import Stepper, TorchStepper


def make(params: list[torch.nn.Parameter], gradients: list[torch.Tensor]) -> Stepper:
    optimizer = torch.optim.AdamW(
        params,
        lr=settings.LEARNING_RATE,
        betas=(settings.BETA1, settings.BETA2),
        eps=settings.EPSILON,
        weight_decay=settings.WEIGHT_DECAY,
        fused=True,
    )
    return TorchStepper(optimizer, params, gradients)
