"""Surgery on a run, as a notebook does it."""

import pytest

from resnet_jax import surgery
from resnet_jax.errors import UserError
from resnet_jax.rundir import read_config
from resnet_jax.safe_files import read_json


def test_a_net_is_made_from_a_run_with_messages_about_the_checks(whole, tmp_path):
    out = tmp_path / "deeper"
    made = surgery.operate("insert_identity", surgery.of_run(whole), out, images=50, depth=14)
    done, checked, error = made.messages
    assert done == "3 identity blocks were inserted into residual-8."
    assert checked.startswith("Checked against the old net: logits differ by ")
    assert error.startswith("Error on 50 training images: ")
    assert made.net.title == "residual-14"
    assert read_config(out).config.model.depth == 14
    content = read_json(out / "surgery.json")
    assert content["source"] == {"run": str(whole.resolve()), "step": 12}
    assert content["settings"] == {"depth": 14}
    assert content["checks"]["error_before"] == content["checks"]["error_after"]


def test_impossible_surgery_is_refused_and_nothing_is_written(whole, tmp_path):
    original = surgery.of_run(whole)
    with pytest.raises(UserError, match="unknown operation 'graft'; give one of insert_identity,"):
        surgery.operate("graft", original, tmp_path / "out")
    with pytest.raises(UserError, match="exists already"):
        surgery.operate("fold_norms", original, tmp_path)
    with pytest.raises(UserError, match="to_residual is not exact for residual-8"):
        surgery.operate("to_residual", original, tmp_path / "out")
    with pytest.raises(UserError, match="nowhere is not a run directory"):
        surgery.of_run(tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()
