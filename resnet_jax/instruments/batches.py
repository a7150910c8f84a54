"""Whole sets of images in batches of one shape, so that a net is compiled only once."""

from collections.abc import Iterator

from resnet_jax.instruments.subject import Images


def whole_batches(images: Images, size: int) -> Iterator[Images]:
    """Yield the batches of ``size`` images that ``images`` fill; if they fill none, all of them as one.

    The images are in random order, so an incomplete last batch is left out without harm.
    """
    size = min(size, len(images.labels))
    for start in range(0, len(images.labels) - size + 1, size):
        yield Images(images.images[start : start + size], images.labels[start : start + size])
