"""KL-Shampoo as a few lines of PyTorch: Figure 13 of "Understanding and Improving Shampoo and SOAP via Kullback-Leibler Minimization".

In the parameters' coordinates, as its authors write it: factors are estimated anew from Q Diag(lambda) Q^T, momentum is rotated to the
eigenbasis and back in every step. Products that the figure names twice (G Q_b Diag(lambda_b)^(-1/2)) are made once. Betas are the shares
that are kept.
"""

from itertools import groupby

import torch
from torch import Tensor

import settings
from adapters.stepper import DoesNotApply, Stepper

LAMBDA_0 = 0.1


def average_square(s: Tensor, x: Tensor, scale: float) -> None:
    """S <- beta2 S + (1 - beta2) scale X X^T."""
    product = s.addmm_ if s.dim() == 2 else s.baddbmm_
    product(x, x.mT, beta=settings.BETA2, alpha=(1 - settings.BETA2) * scale)


def estimate(g: Tensor, momentum: Tensor, s_a: Tensor, s_b: Tensor, q_a: Tensor, q_b: Tensor, l_a: Tensor, l_b: Tensor) -> None:
    """Lines 1b, 2 and 3a."""
    d_a, d_b = g.shape[-2:]
    w_a, w_b = l_a.rsqrt()[..., :, None], l_b.rsqrt()[..., None, :]
    momentum.lerp_(g, 1 - settings.BETA1)
    x_a = (g @ q_b) * w_b
    average_square(s_a, x_a, 1 / d_b)
    average_square(s_b, (g.mT @ q_a) * w_a.mT, 1 / d_a)
    projected = q_a.mT @ x_a
    l_a.lerp_(projected.square().mean(-1), 1 - settings.BETA2)
    l_b.lerp_((projected * (w_a / w_b)).square().mean(-2), 1 - settings.BETA2)


def refresh(s: Tensor, q: Tensor) -> None:
    """Line 3b."""
    q.copy_(torch.linalg.qr(s @ q).Q)


def apply(theta: Tensor, momentum: Tensor, q_a: Tensor, q_b: Tensor, l_a: Tensor, l_b: Tensor) -> None:
    """Lines 4a and 4b."""
    theta.mul_(1 - settings.LEARNING_RATE * settings.WEIGHT_DECAY)
    denominator = (l_a[..., :, None] * l_b[..., None, :]).sqrt_().add_(settings.EPSILON)
    update = q_a @ ((q_a.mT @ momentum @ q_b) / denominator) @ q_b.mT
    theta.sub_(update, alpha=settings.LEARNING_RATE)


class State:
    def __init__(self, theta: Tensor):
        batch, (d_a, d_b) = theta.shape[:-2], theta.shape[-2:]
        self.momentum = torch.zeros_like(theta)
        self.s = [theta.new_zeros(*batch, d, d) for d in (d_a, d_b)]
        self.q = [torch.eye(d).expand(*batch, d, d).clone() for d in (d_a, d_b)]
        self.l = [theta.new_full((*batch, d), LAMBDA_0) for d in (d_a, d_b)]

    def first_bases(self, g: Tensor) -> None:
        """Eigenvectors of the first Delta, which are those of G G^T and G^T G while all eigenvalues are the same."""
        for q, factor in zip(self.q, (g @ g.mT, g.mT @ g), strict=True):
            q.copy_(torch.linalg.eigh(factor).eigenvectors.flip(-1))


class Figure13:
    """`batches` are lists of tensor numbers. With more than one in a batch, their tensors are stacked."""

    def __init__(self, params: list[Tensor], gradients: list[Tensor], batches: list[list[int]], compiled: bool):
        self.params, self.gradients, self.batches = params, gradients, batches
        self.states = [State(self.stacked(params, batch)) for batch in batches]
        self.steps = 0
        self.estimate = torch.compile(estimate, fullgraph=True, dynamic=False) if compiled else estimate
        self.apply = torch.compile(apply, fullgraph=True, dynamic=False) if compiled else apply

    @staticmethod
    def stacked(tensors: list[Tensor], batch: list[int]) -> Tensor:
        return tensors[batch[0]] if len(batch) == 1 else torch.stack([tensors[i] for i in batch])

    def prepare(self) -> None:
        pass

    @torch.no_grad()
    def step(self) -> None:
        self.steps += 1
        for batch, state in zip(self.batches, self.states, strict=True):
            theta, g = self.stacked(self.params, batch), self.stacked(self.gradients, batch)
            if self.steps == 1:
                state.first_bases(g)
            self.estimate(g, state.momentum, *state.s, *state.q, *state.l)
            if self.steps % settings.PERIOD == 0:
                for s, q in zip(state.s, state.q, strict=True):
                    refresh(s, q)
            self.apply(theta, state.momentum, *state.q, *state.l)
            if len(batch) > 1:
                torch._foreach_copy_([self.params[i] for i in batch], list(theta.unbind()))

    def close(self) -> None:
        pass


def make(params: list[torch.nn.Parameter], gradients: list[Tensor], stacked: bool = False, compiled: bool = False) -> Stepper:
    if any(param.dim() != 2 for param in params):
        raise DoesNotApply("Figure 13 is of matrices")
    numbers = sorted(range(len(params)), key=lambda i: params[i].shape)
    batches = [list(batch) for _, batch in groupby(numbers, key=lambda i: params[i].shape)]
    if stacked and all(len(batch) == 1 for batch in batches):
        raise DoesNotApply("no two tensors have the same shape")
    if not stacked:
        batches = [[i] for i in range(len(params))]
    return Figure13([param.detach() for param in params], gradients, batches, compiled)
