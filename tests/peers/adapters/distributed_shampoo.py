"""Meta's Distributed Shampoo on one device: KL-Shampoo, SOAP, Shampoo. No blocks, no merged dims."""

import math

import torch
from distributed_shampoo import (
    DefaultShampooConfig,
    DefaultSOAPConfig,
    DistributedShampoo,
    EigendecomposedKLShampooPreconditionerConfig,
    QREigendecompositionConfig,
    SingleDeviceDistributedConfig,
)

import settings
from adapters.stepper import Stepper, TorchStepper

CONFIGS = {
    "KL-Shampoo": EigendecomposedKLShampooPreconditionerConfig(amortized_computation_config=QREigendecompositionConfig()),
    "SOAP": DefaultSOAPConfig,
    "Shampoo": DefaultShampooConfig,
}


def make(params: list[torch.nn.Parameter], gradients: list[torch.Tensor], method: str) -> Stepper:
    made = DistributedShampoo(
        params,
        lr=settings.LEARNING_RATE,
        betas=(settings.BETA1, settings.BETA2),
        epsilon=settings.EPSILON,
        weight_decay=settings.WEIGHT_DECAY,
        max_preconditioner_dim=settings.MAX_DIM,
        precondition_frequency=settings.PERIOD,
        start_preconditioning_step=settings.PERIOD,
        preconditioner_config=CONFIGS[method],
        distributed_config=SingleDeviceDistributedConfig(target_parameter_dimensionality=math.inf),
    )
    return TorchStepper(made, params, gradients)
