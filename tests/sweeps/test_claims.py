"""What a sweep file says of the literature: recorded as it is, refused if malformed."""

import pytest

from resnet_jax.errors import UserError
from resnet_jax.sweeps import claims

HE = "He et al. 2015, figure 6"


def test_claims_are_recorded_as_lists():
    assert claims.check({"plain": ("degrades", HE)}, "sweep.py") == {"plain": ["degrades", HE]}
    assert claims.check({}, "sweep.py") == {}


@pytest.mark.parametrize(
    "malformed",
    [
        {"plain": "degrades"},
        {"plain": ("fails", HE)},
        {"plain": ("degrades",)},
        {"plain": ("degrades", 2015)},
        {20: ("degrades", HE)},
        [("plain", "degrades")],
        "degrades",
    ],
)
def test_a_malformed_claim_is_refused_with_the_file_and_what_is_expected(malformed):
    with pytest.raises(UserError, match=r'LITERATURE of sweep.py has .*expected .*"degrades" or "does not degrade"'):
        claims.check(malformed, "sweep.py")
