"""The choices of ``config.model`` that make plain and residual nets: the requirements of each, and its paper.

``VARIANTS`` is the table. The names of choices are in ``resnet_jax.fields``; a choice without a row, or a row without a
choice, fails when this module is imported.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from resnet_jax.errors import UserError
from resnet_jax.fields import ActivationName, BlockName, BranchScalingName, NormName, OrderName, ShortcutName, bind
from resnet_jax.models.block import ConvBlock, basic, bottleneck, single
from resnet_jax.models.variants import branch_gain, fixup, orders
from resnet_jax.models.variants.branch_gain import NormalizerFree, ReZero, SkipInit
from resnet_jax.models.variants.fixup import Fixup
from resnet_jax.models.variants.gated_shortcut import ExclusivelyGated, shortcut_gated
from resnet_jax.models.variants.orders import NormAfterAddition, Preactivation, ReluBeforeAddition, ReluPreactivation
from resnet_jax.models.variants.repvgg import parallel
from resnet_jax.models.variants.shortcuts import Projection, dropped_out, pooled


class Variant(NamedTuple):
    """One choice of a field of ``config.model``.

    Attributes:
      block: class of the blocks; None where another choice decides it.
      options: returns further attributes of the blocks, given the "model" part of a config.
      needs: the values that other fields must have in the config.
      implies: the values that other fields take then.
      reads: fields that only nets of this choice depend on.
      net: returns further attributes of the net, given the "model" part of a config and the stage sizes.
      title: name in titles; None for the name itself.
      paper: the source.
    """

    block: type[ConvBlock] | None = None
    options: Callable[[ConfigDict], Mapping[str, Any]] = lambda model: {}
    needs: Mapping[str, tuple[Any, ...]] = {}
    implies: Mapping[str, Any] = {}
    reads: tuple[str, ...] = ()
    net: Callable[[ConfigDict, Sequence[int]], dict[str, Any]] = lambda model, stage_sizes: {}
    title: str | None = None
    paper: str = ""


def constant_options(**options: Any) -> Callable[[ConfigDict], Mapping[str, Any]]:
    """Return a function that returns ``options`` for every config."""
    return lambda model: options


def bottleneck_options(model: ConfigDict) -> Mapping[str, Any]:
    """Return the convolutions of bottlenecks."""
    on_first = model.bottleneck_stride == "first"
    return {"convolutions": functools.partial(bottleneck, stride_on_first=on_first, widening=model.widening)}


# Branches that begin near 0 need shortcuts; their scaling replaces norms, initial values and parametrisations.
SCALED = {
    "residual": (True,),
    "parametrization": ("free",),
    "init": ("he",),
    "activation": (ActivationName.RELU,),
    "block": (BlockName.BASIC, BlockName.BOTTLENECK, BlockName.SINGLE),
    "shortcut": (ShortcutName.A, ShortcutName.B, ShortcutName.C, ShortcutName.POOL, ShortcutName.CONV),
}
# Initial values in place of norms, for convolutions that do not narrow.
EXACT = {
    "norm": (NormName.NONE,),
    "parametrization": ("free",),
    "block": (BlockName.BASIC, BlockName.SINGLE),
}
# Initial values for which a plain net is exactly critical.
CRITICAL = EXACT | {"residual": (False,), "order": (OrderName.ORIGINAL,), "family": ("cifar",)}
NOT_STANDARDIZED = {"parametrization": ("free", "dirac")}  # The gain of standardised kernels is ReLU's.

# By field. The class of the blocks comes from the first field, in this order, whose choice has one.
VARIANTS: dict[str, dict[Any, Variant]] = {
    "branch_scaling": bind(
        "model.branch_scaling",
        {
            BranchScalingName.NONE: Variant(),
            BranchScalingName.FIXUP: Variant(
                Fixup,
                needs=SCALED | {"block": (BlockName.BASIC, BlockName.BOTTLENECK)},
                implies={"order": OrderName.ORIGINAL.value, "norm": NormName.NONE.value},
                net=fixup.net,
                paper="arXiv 1901.09321",
            ),
            BranchScalingName.SKIPINIT: Variant(
                SkipInit,
                needs=SCALED,
                # As in the authors' code: the first block has an activation of its own.
                implies={
                    "order": OrderName.RELU_PREACTIVATION.value,
                    "norm": NormName.NONE.value,
                    "stem_activation": False,
                },
                paper="arXiv 2002.10444",
            ),
            BranchScalingName.REZERO: Variant(
                ReZero, needs=SCALED, implies={"order": OrderName.RELU_BEFORE_ADDITION.value}, paper="arXiv 2003.04887"
            ),
            BranchScalingName.NORMALIZER_FREE: Variant(
                NormalizerFree,
                needs=SCALED | {"shortcut": (ShortcutName.B,)},  # The variance begins at 1 again where shapes change.
                implies={
                    "order": OrderName.RELU_PREACTIVATION.value,
                    "norm": NormName.NONE.value,
                    "stem_activation": False,
                    "parametrization": "standardized",
                },
                net=branch_gain.net,
                title="normalizer-free",
                paper="arXiv 2101.08692",
            ),
        },
    ),
    "block": bind(
        "model.block",
        {
            BlockName.BASIC: Variant(
                options=constant_options(convolutions=basic),
                reads=("reserve",),
                title="",
                paper="arXiv 1512.03385, figure 5",
            ),
            BlockName.BOTTLENECK: Variant(
                options=bottleneck_options, reads=("bottleneck_stride",), paper="arXiv 1512.03385, figure 5"
            ),
            BlockName.SINGLE: Variant(
                options=constant_options(convolutions=single), paper="arXiv 1603.05027, section 5.1"
            ),
            BlockName.REPVGG: Variant(
                options=constant_options(convolutions=single, around=parallel),
                needs={
                    "order": (OrderName.ORIGINAL,),
                    "norm": (NormName.BATCH,),
                    "activation": (ActivationName.RELU,),
                    "survival": (1,),
                    "branch_scaling": (BranchScalingName.NONE,),
                },
                paper="arXiv 2101.03697",
            ),
        },
    ),
    "shortcut": bind(
        "model.shortcut",
        {
            ShortcutName.A: Variant(paper="arXiv 1512.03385, section 4.1"),
            ShortcutName.B: Variant(
                options=constant_options(around=Projection(everywhere=False)), paper="arXiv 1512.03385, section 4.1"
            ),
            ShortcutName.C: Variant(
                options=constant_options(around=Projection()), paper="arXiv 1512.03385, section 4.1"
            ),
            ShortcutName.POOL: Variant(options=constant_options(around=pooled), paper="arXiv 1603.09382"),
            ShortcutName.CONV: Variant(
                options=constant_options(around=Projection(has_norm=False)), paper="arXiv 1603.05027, table 1"
            ),
            ShortcutName.EXCLUSIVE_GATING: Variant(
                ExclusivelyGated,
                lambda model: {"gating_bias": model.gating_bias},
                needs={"order": (OrderName.ORIGINAL,)},
                reads=("gating_bias",),
                paper="arXiv 1603.05027, table 1",
            ),
            ShortcutName.SHORTCUT_GATING: Variant(
                options=lambda model: {"around": functools.partial(shortcut_gated, bias=model.gating_bias)},
                reads=("gating_bias",),
                paper="arXiv 1603.05027, table 1",
            ),
            ShortcutName.DROPOUT: Variant(
                options=constant_options(around=dropped_out), paper="arXiv 1603.05027, table 1"
            ),
        },
    ),
    "order": bind(
        "model.order",
        {
            OrderName.ORIGINAL: Variant(ConvBlock, title="", paper="arXiv 1512.03385, figure 2"),
            OrderName.NORM_AFTER_ADDITION: Variant(
                # Nothing is left for the norm where stochastic depth drops the branch.
                NormAfterAddition,
                needs={"survival": (1,)},
                title="norm-after-addition",
                paper="arXiv 1603.05027, figure 4 b",
            ),
            OrderName.RELU_BEFORE_ADDITION: Variant(
                ReluBeforeAddition, title="relu-before-addition", paper="arXiv 1603.05027, figure 4 c"
            ),
            OrderName.RELU_PREACTIVATION: Variant(
                ReluPreactivation,
                net=orders.relu_preactivation_net,
                title="relu-preact",
                paper="arXiv 1603.05027, figure 4 d",
            ),
            OrderName.PREACTIVATION: Variant(
                Preactivation,
                net=orders.preactivation_net,
                reads=("stem_activation",),
                title="preact",
                paper="arXiv 1603.05027, figure 4 e",
            ),
        },
    ),
    "stem_activation": {
        True: Variant(),
        False: Variant(needs={"order": (OrderName.PREACTIVATION,)}, paper="arXiv 1603.05027, appendix"),
    },
    "reserve": {
        False: Variant(),
        True: Variant(needs={"block": (BlockName.BASIC,)}, paper="arXiv 2111.00687"),
    },
    "norm": bind("model.norm", {NormName.BATCH: Variant(), NormName.GROUP: Variant(), NormName.NONE: Variant()}),
    "activation": bind(
        "model.activation",
        {
            ActivationName.RELU: Variant(),
            ActivationName.TANH: Variant(needs=NOT_STANDARDIZED),
            ActivationName.CRELU: Variant(
                needs={
                    "norm": (NormName.NONE,),
                    "residual": (False,),
                    "order": (OrderName.ORIGINAL,),
                    "parametrization": ("free",),
                    "survival": (1,),
                    "block": (BlockName.BASIC, BlockName.SINGLE),
                },
                title="CReLU",
                paper="arXiv 1603.05201",
            ),
            ActivationName.SWISH: Variant(needs=NOT_STANDARDIZED, paper="arXiv 1710.05941"),
            ActivationName.GELU: Variant(needs=NOT_STANDARDIZED, title="GELU", paper="arXiv 1606.08415"),
        },
    ),
    "init": bind(
        "model.init",
        {
            "he": Variant(paper="arXiv 1502.01852"),
            "delta_orthogonal": Variant(
                needs=CRITICAL | {"activation": (ActivationName.TANH,)},
                title="delta-orthogonal",
                paper="arXiv 1806.05393",
            ),
            "looks_linear": Variant(
                needs=CRITICAL | {"activation": (ActivationName.CRELU,)}, title="looks-linear", paper="arXiv 1702.08591"
            ),
            "lsuv": Variant(needs=EXACT, title="LSUV", paper="arXiv 1511.06422"),
        },
    ),
    "parametrization": bind(
        "model.parametrization",
        {
            "free": Variant(),
            "dirac": Variant(paper="arXiv 1706.00388"),
            "standardized": Variant(paper="arXiv 2101.08692"),
        },
    ),
}


def choices(model: ConfigDict) -> dict[str, Variant]:
    """Return the choices of ``model``, the "model" part of a run's config, by field; no shortcut of a plain net."""
    return {field: rows[model[field]] for field, rows in VARIANTS.items() if field != "shortcut" or model.residual}


def require(model: ConfigDict) -> None:
    """Raise a UserError unless the requirements of each choice of ``model`` are met."""
    for field, variant in choices(model).items():
        for needed, values in variant.needs.items():
            is_read = needed != "shortcut" or model.residual
            if is_read and model[needed] not in values:
                allowed = " or ".join(repr(getattr(value, "value", value)) for value in values)
                raise UserError(
                    f"config.model.{field}={model[field]!r} needs config.model.{needed}={allowed}, "
                    f"not {model[needed]!r}."
                )


def resolved(model: ConfigDict) -> ConfigDict:
    """Return ``model`` with the values that its choices imply.

    Raises:
      UserError: the choices do not go together.
    """
    require(model)
    model = model.copy_and_resolve_references()
    for variant in choices(model).values():
        model.update(dict(variant.implies))
    return model
