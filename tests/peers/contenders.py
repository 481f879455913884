"""Who is timed. Adapters are named here and imported only where they run, so that this list needs nothing but Python."""

from collections.abc import Mapping
from dataclasses import dataclass, field

OURS = "ours"


@dataclass(frozen=True)
class Contender:
    name: str
    # What it is compared with, besides our KL-Shampoo: ours of the same method.
    method: str
    # Module of adapters/ with `make(params, gradients, **options)`; what --peers selects.
    adapter: str
    options: Mapping[str, object] = field(default_factory=dict)
    # pip's name of what it needs beyond torch.
    package: str | None = None
    # How it differs from ours of that method, besides being another program.
    differs: str = ""
    # Warmed up through a refresh: something is compiled then, or it is another method before it.
    long_warm_up: bool = False
    # Runs on the sets with a floor only.
    only_floor: bool = False

    @property
    def ours(self) -> bool:
        return self.adapter == OURS


def ours(name: str, method: str, **more: object) -> Contender:
    only_floor = bool(more.pop("only_floor", False))
    return Contender(name, method, OURS, {"method": method.removesuffix(", T = 1"), **more}, only_floor=only_floor)


def heavyball() -> list[Contender]:
    """Each with its functions compiled, as they are by default, and not."""
    start = "factors bias-corrected; sorts for its QR; of tensors with three dims, the factors are Shampoo's"
    kl_shampoo = "eigenvalues are the factor's diagonal in the eigenbasis, not an average; factors balanced every step; " + start
    variants = [
        ("KLShampoo", "KL-Shampoo", kl_shampoo),
        ("HeavyKLShampoo", "KL-Shampoo", kl_shampoo + "; pseudo-inverses"),
        ("KLSOAP", "KL-SOAP", "eigenvalues are the factor's diagonal in the eigenbasis; " + start),
        ("SOAP", "SOAP", "factors bias-corrected"),
    ]
    return [
        Contender(
            f"heavyball {optimizer}{', compiled' if compiled else ''}",
            method,
            "heavyball",
            {"optimizer": optimizer, "compiled": compiled},
            "heavyball",
            differs,
            compiled,
        )
        for optimizer, method, differs in variants
        for compiled in (False, True)
    ]


def fig13() -> list[Contender]:
    variants = [
        ("", {}, "one tensor after the other"),
        (", stacked", {"stacked": True}, "equal shapes in one batched product"),
        (", compiled", {"compiled": True}, "torch.compile, refreshes left out of it"),
        (", stacked, compiled", {"stacked": True, "compiled": True}, "both"),
    ]
    return [
        Contender(
            f"PyTorch Figure 13{suffix}",
            "KL-Shampoo",
            "fig13",
            options,
            None,
            f"lambda_0 = 0.1; no staggering; {what}",
            bool(options.get("compiled")),
        )
        for suffix, options, what in variants
    ]


def pytorch_optimizer() -> list[Contender]:
    variants = [
        ("SOAP", "SOAP", "sorts and bias-corrects as SOAP's authors do; first step sets bases only"),
        ("Shampoo", "Shampoo", "factors are sums, not averages; inverse roots by SVD; momentum before the preconditioner"),
        ("ScalableShampoo", "Shampoo", "inverse roots by Schur-Newton iteration; no grafting, no blocks, Nesterov off"),
        (
            "DASH",
            "Shampoo",
            "inverse roots by Newton-Denman-Beavers iteration on stacks of equal blocks, here whole matrices; Adam's graft; three dims are flattened to two",
        ),
    ]
    return [
        Contender(
            f"pytorch-optimizer {optimizer}", method, "pytorch_optimizer", {"optimizer": optimizer}, "pytorch-optimizer", differs, True
        )
        for optimizer, method, differs in variants
    ]


def emerging_optimizers() -> list[Contender]:
    every_step = "has no period: refreshes in every step (compared with ours at T = 1); matrices only; sorts"
    variants = [
        ("SOAP", "SOAP, T = 1", {}, every_step),
        ("SOAP with KL", "KL-SOAP, T = 1", {"use_kl_shampoo": True}, every_step + "; eigenvalues are the factor's diagonal"),
        ("REKLS", "KL-SOAP, T = 1", {"rekls": True}, every_step + "; eigenvalues are the factor's diagonal; eigendecompositions"),
    ]
    return [
        Contender(f"Emerging-Optimizers {name}", method, "emerging_optimizers", options, "emerging-optimizers", differs)
        for name, method, options, differs in variants
    ]


def distributed_shampoo() -> list[Contender]:
    start = "no preconditioner before step T; moments bias-corrected"
    variants = [
        ("KL-Shampoo", "KL-Shampoo", start + "; power 1/4 (its default for matrices), no division by d, eigenvalues set at refreshes only"),
        ("SOAP", "SOAP", start),
        ("Shampoo", "Shampoo", start + "; inverse roots by eigendecomposition"),
    ]
    return [
        Contender(f"Distributed Shampoo {name}", method, "distributed_shampoo", {"method": name}, "torch-shampoo", differs, True)
        for name, method, differs in variants
    ]


CONTENDERS = [
    ours("klshampoo KL-Shampoo", "KL-Shampoo"),
    ours("klshampoo KL-Shampoo, no refresh", "KL-Shampoo", refreshes=False, only_floor=True),
    ours("klshampoo KL-SOAP", "KL-SOAP"),
    ours("klshampoo SOAP", "SOAP"),
    ours("klshampoo Shampoo", "Shampoo"),
    ours("klshampoo AdamW", "AdamW"),
    ours("klshampoo KL-SOAP, T = 1", "KL-SOAP, T = 1", period=1),
    ours("klshampoo SOAP, T = 1", "SOAP, T = 1", period=1),
    Contender("torch AdamW, fused", "AdamW", "torch_adamw", differs="bias correction as ours"),
    *fig13(),
    *heavyball(),
    *pytorch_optimizer(),
    *emerging_optimizers(),
    *distributed_shampoo(),
]

ADAPTERS = sorted({contender.adapter for contender in CONTENDERS} - {OURS})
REFERENCE = "klshampoo KL-Shampoo"
PLAIN = "klshampoo KL-Shampoo, no refresh"
