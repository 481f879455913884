"""pytorch-optimizer: SOAP, Shampoo, ScalableShampoo, DASH."""

import pytorch_optimizer
import torch
from pytorch_optimizer.optimizer.shampoo import LayerWiseGrafting

import settings
from adapters.stepper import Stepper, TorchStepper

BETAS = (settings.BETA1, settings.BETA2)
OPTIONS = {
    "SOAP": {
        "betas": BETAS,
        "precondition_frequency": settings.PERIOD,
        "max_precondition_dim": settings.MAX_DIM,
        "merge_dims": False,
        "eps": settings.EPSILON,
    },
    "Shampoo": {"momentum": settings.BETA1, "weight_decouple": True, "preconditioning_compute_steps": settings.PERIOD},
    "ScalableShampoo": {
        "betas": BETAS,
        "moving_average_for_momentum": True,
        "decoupled_weight_decay": True,
        "start_preconditioning_step": 1,
        "preconditioning_compute_steps": settings.PERIOD,
        "block_size": settings.MAX_DIM,
        "shape_interpretation": False,
        "graft_type": LayerWiseGrafting.NONE,
        "nesterov": False,
    },
    "DASH": {"betas": BETAS, "block_size": settings.MAX_DIM, "precondition_frequency": settings.PERIOD, "eps": settings.EPSILON},
}


def make(params: list[torch.nn.Parameter], gradients: list[torch.Tensor], optimizer: str) -> Stepper:
    made = getattr(pytorch_optimizer, optimizer)(
        params, lr=settings.LEARNING_RATE, weight_decay=settings.WEIGHT_DECAY, **OPTIONS[optimizer]
    )
    return TorchStepper(made, params, gradients)
