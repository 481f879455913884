"""NVIDIA's Emerging-Optimizers: SOAP, SOAP with KL-Shampoo's factors, REKLS."""

import torch
from emerging_optimizers.soap import REKLS, SOAP

import settings
from adapters.stepper import DoesNotApply, Stepper, TorchStepper


def make(params: list[torch.nn.Parameter], gradients: list[torch.Tensor], use_kl_shampoo: bool = False, rekls: bool = False) -> Stepper:
    if any(param.dim() != 2 for param in params):
        raise DoesNotApply("takes matrices only")
    common = {
        "lr": settings.LEARNING_RATE,
        "betas": (settings.BETA1, settings.BETA2),
        "shampoo_beta": settings.BETA2,
        "eps": settings.EPSILON,
        "weight_decay": settings.WEIGHT_DECAY,
    }
    if rekls:
        made = REKLS(params, **common)
        made.fp32_matmul_prec = made.qr_fp32_matmul_prec = "highest"  # what its constructor has no argument for
    else:
        made = SOAP(params, **common, use_kl_shampoo=use_kl_shampoo, fp32_matmul_prec="highest", qr_fp32_matmul_prec="highest")
    return TorchStepper(made, params, gradients)
