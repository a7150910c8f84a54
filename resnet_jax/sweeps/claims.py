"""What others have found of the series of a sweep.

A sweep file may say so in ``LITERATURE``, a dictionary from the name of a series, as the verdict has it, to
``"degrades"`` or ``"does not degrade"`` and the source::

    LITERATURE = {"plain": ("degrades", "He et al. 2015, figure 6")}

A claim is about training error, as the verdict is; the figure or table that is its source must have that.
"""

from collections.abc import Mapping
from typing import Any

from resnet_jax.errors import UserError

CLAIMS = DEGRADES, DOES_NOT_DEGRADE = "degrades", "does not degrade"


def check(literature: Any, file: str) -> dict[str, list[str]]:
    """Return ``LITERATURE`` of the sweep ``file`` as it is recorded; raise a UserError unless it is as above."""
    checked = {}
    for series, claim in literature.items() if isinstance(literature, Mapping) else [(None, literature)]:
        is_pair = isinstance(claim, (tuple, list)) and len(claim) == 2
        if not isinstance(series, str) or not is_pair or claim[0] not in CLAIMS or not isinstance(claim[1], str):
            raise UserError(
                f"LITERATURE of {file} has {series!r}: {claim!r}; expected the name of a series with "
                f'("{DEGRADES}" or "{DOES_NOT_DEGRADE}", SOURCE).'
            )
        checked[series] = list(claim)
    return checked
