"""Where does the class become readable, and where is it lost?

A linear classifier reads the output of each block, averaged over places: ridge regression of the classes as targets of
1 and -1 on centred features, in closed form. It is fitted on the training images; its errors there and on the test
images, fractions of misclassified ones, are **train_error** and **test_error**. The **ridge** is the one among
``RIDGES`` with the least leave-one-out squared error on training images. Its unit is the number of images times the
mean variance of the features, so that it is as strong on small features as on large.

The same probe of all the pixels of the input is "input", which needs no net.

Functions of the net use running statistics, or batch statistics until these have settled. Traps: the width of the
output, and so the capacity of a probe, differs between stages, and so do training errors on few images; chance is the
error of the most frequent class. Cost: one forward pass of both sets, and small solves.
"""

from typing import Any

import numpy as np

from resnet_jax.instruments import features
from resnet_jax.instruments.subject import Images, Subject

RIDGES = np.logspace(-6, 0, 7)


def measure(subject: Subject) -> dict[str, Any]:
    """Return "test_error", "train_error" and "ridge" of each block in forward order, and the three of "input".

    "train_images" and "test_images" are the numbers of images.
    """
    subject.net.require_blocks()
    train, test = (
        features.of_images(subject, each.images, features.averaged) for each in (subject.train, subject.test)
    )

    def probe_of(train_rows: np.ndarray, test_rows: np.ndarray) -> dict[str, float]:
        return probe(Images(train_rows, subject.train.labels), Images(test_rows, subject.test.labels))

    probes = [probe_of(train[block.name], test[block.name]) for block in subject.net.blocks]
    return {
        **{key: [each[key] for each in probes] for key in probes[0]},
        "input": probe_of(features.flattened(subject.train.images), features.flattened(subject.test.images)),
        "train_images": len(subject.train.labels),
        "test_images": len(subject.test.labels),
    }


def probe(train: Images, test: Images) -> dict[str, float]:
    """Return the errors and the ridge of a probe fitted to ``train``; ``images`` of both are rows of features."""
    from sklearn.linear_model import RidgeClassifierCV  # Imported late: it takes a second.

    rows, test_rows = (each.images.astype(np.float64) for each in (train, test))
    mean = rows.mean(0)
    deviation = np.sqrt(np.mean((rows - mean) ** 2)) or 1.0
    classifier = RidgeClassifierCV(alphas=RIDGES * len(rows)).fit((rows - mean) / deviation, train.labels)
    return {
        "test_error": 1 - classifier.score((test_rows - mean) / deviation, test.labels),
        "train_error": 1 - classifier.score((rows - mean) / deviation, train.labels),
        "ridge": classifier.alpha_ / len(rows),
    }
