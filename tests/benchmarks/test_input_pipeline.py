"""All pipelines deliver the same batches; the arithmetic of a host."""

import io

import numpy as np
import pytest

from resnet_jax.data import images
from tests.images import photo, write_folder

pytest.importorskip("torchvision", reason="a peer needs PyTorch; make .venv/peer installs it")
pytest.importorskip("tensorflow", reason="a peer needs TensorFlow")
input_pipeline = pytest.importorskip("benchmarks.input_pipeline")

pytestmark = pytest.mark.xdist_group("stream")  # Worker processes take cores.


@pytest.mark.slow
@pytest.mark.parametrize("augmentation", ["paper", "random_resized"])
@pytest.mark.parametrize("name", input_pipeline.PIPELINES)
def test_all_pipelines_deliver_batches_of_the_same_kind(name, augmentation, tmp_path):
    root = write_folder(tmp_path / "images", count=4, sides=(60, 90))
    batches = input_pipeline.PIPELINES[name](str(root), augmentation, 1, batch=6)
    images, labels = next(batches)
    batches.close()
    assert len(labels) == 6
    if name == "DataLoader as written":
        assert (images.shape, images.dtype) == ((6, 3, 224, 224), np.float32)
        images = images.transpose(0, 2, 3, 1)
    else:
        assert (images.shape, images.dtype) == ((6, 224, 224, 3), np.uint8)
    # The tint identifies the class.
    np.testing.assert_array_equal(images.mean(axis=(1, 2)).argmax(axis=1), labels)


@pytest.mark.parametrize("box", [(0, 0, 500, 375), (64, 32, 400, 368), (100, 50, 300, 250)])
def test_tensorflows_crops_are_ours_but_for_their_edges(box):
    # By a pixel: resized first and then cut, or the other way round.
    encoded = io.BytesIO()
    photo(500, 375).save(encoded, "jpeg", quality=92)
    left, top, right, bottom = box
    window = (top, left, bottom - top, right - left)
    same = input_pipeline.tf_crop(encoded.getvalue(), window, "INTEGER_ACCURATE", antialias=True).numpy()
    assert np.abs(same.astype(int) - images.crop(encoded.getvalue(), "it", box, 224))[2:-2, 2:-2].max() <= 2


def test_the_cores_of_a_host():
    table = input_pipeline.cores_of_a_host(speed=300)
    assert {"chip": "A100, by NVIDIA", "images a second a chip": 2470, "chips": 8, "cores": 66} in table
