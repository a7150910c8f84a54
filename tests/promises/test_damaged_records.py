"""Whatever is in the records of a run, reading them ends in what is right without them or in one message."""

import json

import pytest

# Damages of each command, as many as its share of the time allows.
COUNTS = {"compare": 25, "why": 25, "publish": 25, "watch": 250, "resume": 175}


@pytest.mark.slow
@pytest.mark.parametrize("command", COUNTS)
def test_500_random_damages_are_refused_left_out_or_harmless(commands, command):
    program = f"from tests.promises import damage; damage.main({command!r}, seed=0, count={COUNTS[command]})"
    done = commands(command, program=program)
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    assert outcomes.pop("failed", 0) == 0, done.stderr
    assert sum(outcomes.values()) == COUNTS[command]
    assert min(outcomes.values()) > 0
