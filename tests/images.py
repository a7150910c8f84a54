"""Small folders of images, for tests of what is streamed."""

import numpy as np
import PIL.Image

CLASSES = ("ant", "bee", "cow")


def write_folder(root, count=20, sides=(40, 60), suffix=".jpg"):
    """Write ``count`` random images of several sizes, of its own tint, for each of three classes under ``root``."""
    random = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        folder = root / name
        folder.mkdir(parents=True)
        for index in range(count):
            height, width = random.integers(*sides, 2)
            pixels = random.integers(0, 128, (height, width, 3), np.uint8)
            pixels[..., number] += 100
            PIL.Image.fromarray(pixels).save(folder / f"{index}{suffix}")
    return root
