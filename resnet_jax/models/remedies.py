"""Remedies for degradation besides batch norm and shortcuts: what each makes of a net, and what goes together.

- Scaled branches, which let a residual net train without its usual norms: ``BRANCH_SCALINGS``.
- Parametrisations of convolutions, in ``parametrization.py``.
- Initial values, in ``init.py``, of which some are for another activation than ReLU.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from resnet_jax.errors import UserError


class BranchScaling(NamedTuple):
    """How the branches of a residual net are scaled, and the net that this is defined for.

    Attributes:
      order: of the blocks; None for that of the config.
      norm: of the net; None for that of the config.
      parametrization: of the convolutions.
      gain: initial value of the learned scalar that each branch is multiplied by; None without.
      constant: factor of that scalar.
      has_scalar_biases: whether each branch has the scalar biases, the multiplier and the initial values of Fixup.
    """

    order: str | None = None
    norm: str | None = None
    parametrization: str = "free"
    gain: float | None = None
    constant: float = 1.0
    has_scalar_biases: bool = False


UNSCALED = BranchScaling()
BRANCH_SCALINGS = {
    "none": UNSCALED,
    # Zhang, Dauphin and Ma 2019, arXiv 1901.09321.
    "fixup": BranchScaling("original", "none", has_scalar_biases=True),
    # De and Smith 2020, arXiv 2002.10444.
    "skipinit": BranchScaling("relu_preactivation", "none", gain=0.0),
    # Bachlechner et al. 2020, arXiv 2003.04887, which keeps the norm.
    "rezero": BranchScaling("relu_before_addition", gain=0.0),
    # Brock et al. 2021, arXiv 2101.08692, with the scalar of SkipInit as in the authors' code.
    "normalizer_free": BranchScaling("relu_preactivation", "none", "standardized", gain=0.0, constant=0.2),
}
# What may stand beside a scaled branch: it brings what it needs itself.
BESIDE_SCALING = {"parametrization": "free", "init": "he", "activation": "relu"}


def input_scales(stage_sizes: Sequence[int], scaling: BranchScaling) -> tuple[float, ...]:
    """Return 1 / beta of each block of a normalizer-free net (Brock et al. 2021, section 3), none for other nets.

    beta is the standard deviation of the block's input at the start, were all learned scalars 1: the stem and the first
    block of a stage, whose shortcut divides by beta too, begin at 1, and each branch adds the square of its constant.
    """
    if scaling.parametrization == "free":
        return ()
    scales: list[float] = []
    variance = 1.0
    for blocks in stage_sizes:
        for block in range(blocks):
            scales.append(variance**-0.5)
            variance = (1.0 if block == 0 else variance) + scaling.constant**2
    return tuple(scales)


def completed(config: ConfigDict) -> ConfigDict:
    """Return ``config``, the "model" part of a run's config, with what the scaling of its branches implies.

    Raises:
      UserError: the remedies of ``config`` do not go together.
    """
    check_scaling(config)
    check_activation(config)
    check_init(config)
    scaling = BRANCH_SCALINGS[config.branch_scaling]
    config = config.copy_and_resolve_references()
    if scaling is UNSCALED:
        return config
    config.update(order=scaling.order or config.order, norm=scaling.norm or config.norm)
    config.parametrization = scaling.parametrization
    # As in their authors' code: the first block has an activation of its own.
    config.stem_activation = scaling.order != "relu_preactivation"
    return config


def check_scaling(config: ConfigDict) -> None:
    """Raise a UserError for a scaling of branches beside what it is not defined for."""
    name = f"config.model.branch_scaling={config.branch_scaling!r}"
    if config.branch_scaling == "none":
        return
    if not config.residual:
        raise UserError(f"{name} needs shortcuts: its branches begin near 0; give config.model.residual=True.")
    for field, value in BESIDE_SCALING.items():
        if config[field] != value:
            raise UserError(f"{name} is defined for config.model.{field}={value!r}, not for {config[field]!r}.")
    if config.block == "repvgg":
        raise UserError(f"{name} is not defined for config.model.block='repvgg', which lives by its norms.")
    if config.branch_scaling == "fixup" and config.block == "single":
        raise UserError(f"{name} needs branches of at least two convolutions; give config.model.block='basic'.")
    if config.shortcut in ("exclusive_gating", "shortcut_gating", "dropout"):
        raise UserError(f"{name} is not defined for config.model.shortcut={config.shortcut!r}; give 'A' or 'B'.")
    if config.branch_scaling == "normalizer_free" and config.shortcut != "B":
        raise UserError(
            f"{name} needs projections where shapes change, for the variance to begin at 1 again; give "
            "config.model.shortcut='B'."
        )


def check_repvgg(config: ConfigDict) -> None:
    """Raise a UserError for RepVGG blocks beside what they are not defined for."""
    for field, value in {"order": "original", "norm": "batch", "activation": "relu", "survival": 1}.items():
        if config[field] != value:
            raise UserError(
                f"config.model.block='repvgg' is defined for config.model.{field}={value!r}, not for {config[field]!r}."
            )


def check_activation(config: ConfigDict) -> None:
    """Raise a UserError for an activation other than ReLU in a net that is defined for ReLU."""
    if config.activation == "relu":
        return
    needed = {"norm": "none", "residual": False, "order": "original", "parametrization": "free", "survival": 1}
    for field, value in needed.items():
        if config[field] != value:
            raise UserError(
                f"config.model.activation={config.activation!r} is for nets with config.model.{field}={value!r}, not "
                f"for {config[field]!r}."
            )
    if config.activation == "crelu" and config.block == "bottleneck":
        raise UserError("config.model.activation='crelu' is not defined for config.model.block='bottleneck'.")


def check_init(config: ConfigDict) -> None:
    """Raise a UserError for initial values in a net that they are not defined for."""
    name = f"config.model.init={config.init!r}"
    activation = {"delta_orthogonal": "tanh", "looks_linear": "crelu"}.get(config.init, config.activation)
    if config.activation != activation:
        raise UserError(f"{name} is exact for config.model.activation={activation!r} alone; give that.")
    if config.init in ("delta_orthogonal", "looks_linear") and config.family == "imagenet":
        raise UserError(f"{name} is not exact behind the max pooling of family 'imagenet'; give family 'cifar'.")
    if config.init != "he" and config.block == "bottleneck":
        raise UserError(f"{name} is not defined for convolutions that narrow; give config.model.block='basic'.")
    if config.init != "he" and config.norm != "none":
        raise UserError(f"{name} is in the place of norms; give config.model.norm='none', not {config.norm!r}.")
    if config.init != "he" and config.parametrization != "free":
        raise UserError(f"{name} is for config.model.parametrization='free', not {config.parametrization!r}.")
