"""Pictures of filters: the first convolution's, and a few channels through the blocks of each stage."""

import numpy as np
from matplotlib.figure import Figure

from resnet_jax.instruments.diagnosis import Measurement

# Filters of the first convolution in a row.
COLUMNS = 16


def draw_filters(measurement: Measurement) -> Figure:
    """Draw what instrument ``channels`` measured: red is positive, blue negative, each filter by its largest value.

    In the rows of a stage are channels, in its columns blocks: shortcuts join what is in one row.
    """
    stem = np.array(measurement.result["stem_filters"])
    stages = {stage: np.array(tiles) for stage, tiles in measurement.result["channel_filters"].items()}
    figure = Figure(figsize=(9.6, 2.2 + 1.7 * len(stages)), layout="constrained")
    axes = figure.subplots(1 + len(stages), 1, squeeze=False)[:, 0]
    in_colour = stem.shape[-1] == 3
    shown = (stem + 1) / 2 if in_colour else stem.mean(-1, keepdims=True)
    shown = np.pad(shown, ((0, -len(shown) % COLUMNS), (0, 0), (0, 0), (0, 0)), constant_values=np.nan)
    tiles = shown.reshape(-1, COLUMNS, *shown.shape[1:])
    draw = {"cmap": "RdBu_r", "vmin": -1, "vmax": 1, "interpolation": "nearest"}
    axes[0].imshow(mosaic(tiles).squeeze(), **draw)
    axes[0].set_title("first convolution", fontsize="medium")
    for axis, (stage, filters) in zip(axes[1:], stages.items(), strict=True):
        axis.imshow(mosaic(filters[..., None]).squeeze(), **draw)
        axis.set_title(f"{stage}: a channel a row, a block a column", fontsize="medium")
    for axis in axes:
        axis.set_axis_off()
    figure.suptitle(f"{measurement.run}: filters", x=0.01, horizontalalignment="left", fontsize="medium")
    return figure


def mosaic(tiles: np.ndarray) -> np.ndarray:
    """Return ``tiles``, ``[rows, columns, height, width, colours]``, as one picture with gaps of one pixel."""
    spaced = np.pad(tiles, ((0, 0), (0, 0), (0, 1), (0, 1), (0, 0)), constant_values=np.nan)
    rows, columns, height, width, colours = spaced.shape
    return spaced.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, colours)
