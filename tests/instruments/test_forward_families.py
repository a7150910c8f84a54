"""Instruments of outputs and kernels on nets of every family."""

import json

import pytest

from resnet_jax.errors import UserError
from resnet_jax.instruments import INSTRUMENTS, diagnosis
from tests.instruments.subjects import drawn_subject

NAMES = ("batch_mates", "probes", "feature_rank", "similarity", "channels", "singular_units")
# Nets, and the instruments that refuse them.
NETS = [
    ({"order": "preactivation", "shortcut": "B"}, ()),
    ({"block": "bottleneck", "depth": 11, "shortcut": "B"}, ()),
    ({"block": "single", "residual": False}, ()),
    ({"family": "wide", "depth": 10, "survival": 0.5, "dropout": 0.1}, ("channels",)),
    ({"branch_scaling": "fixup"}, ()),
    ({"parametrization": "dirac", "residual": False}, ()),
    ({"family": "inception", "depth": 20, "widening": 0.5}, ()),
    ({"family": "densenet", "depth": 10, "growth": 4}, ("channels",)),
]


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(("fields", "refusing"), NETS, ids=lambda value: str(value))
def test_every_family_is_measured_or_refused_with_a_message(fields, refusing):
    subject = drawn_subject(train=14, test=8, batch=8, **fields)
    for name in NAMES:
        measure = INSTRUMENTS[name].measure
        if name in refusing:
            with pytest.raises(UserError, match=subject.net.title):
                measure(subject)
            continue
        found = diagnosis.plain(measure(subject))
        json.dumps(found)
        lists = [found[key] for key in ("sensitivity", "test_error", "rank", "cka", "same", "dead") if key in found]
        assert [len(each) for each in lists] == [len(subject.net.blocks)]
