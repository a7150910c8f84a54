"""The embedded data set: real images that come with scikit-learn, so that a first run needs no download."""

import numpy as np

from resnet_jax.data.dataset import Dataset, Split

TEST_EXAMPLES = 297


def load() -> Dataset:
    """Return scikit-learn's 1,797 handwritten digits of 8x8 grey pixels: 1,500 for training, 297 for testing.

    They are ordered by writer; a fixed shuffle puts every writer into both splits.
    """
    import sklearn.datasets  # Imported late: it takes a second.

    digits = sklearn.datasets.load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int32)
    order = np.random.default_rng(0).permutation(len(labels))
    parts = {"train": order[TEST_EXAMPLES:], "test": order[:TEST_EXAMPLES]}
    return Dataset(
        tuple(map(str, range(10))), {split: Split(images[part], labels[part]) for split, part in parts.items()}
    )
