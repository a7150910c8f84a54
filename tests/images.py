"""Images and small folders of them, for tests of what is streamed."""

import numpy as np
from PIL import Image

CLASSES = ("ant", "bee", "cow")


def photo(width, height):
    """Return an RGB image as smooth as a photograph."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (9, 9, 3), np.uint8)).resize((width, height))
    noise = random.integers(-9, 10, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8))


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
            Image.fromarray(pixels).save(folder / f"{index}{suffix}")
    return root
