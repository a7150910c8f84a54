"""Read numbers and texts back out of figures and pages."""

import json

import numpy as np


def legend_of(figure):
    """Return the texts of the legend of ``figure``."""
    return [text.get_text() for text in figure.legends[0].get_texts()]


def band_of(collection):
    """Return the x of a filled band, and the lower and upper end there, each ``[points]``."""
    x, y = collection.get_paths()[0].vertices.T
    places = np.unique(x)
    return places, *(np.array([end(y[x == place]) for place in places]) for end in (np.min, np.max))


def plotly_of(text):
    """Return traces and layout of the first Plotly figure in ``text``, HTML."""
    data = text.index("[", text.index("Plotly.newPlot("))
    traces, end = json.JSONDecoder().raw_decode(text, data)
    return traces, json.JSONDecoder().raw_decode(text, text.index("{", end))[0]
