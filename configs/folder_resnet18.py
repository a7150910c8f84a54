"""Residual-18 on your own images: folders of images, one for each class, as in FOLDER/cat/1.jpg.

    python -m experiments.main --config=configs/folder_resnet18.py --config.data.data_dir=FOLDER

docs/imagenet.md says how the folders may lie. Steps, batch and learning rate are for some thousand images on one
device.
"""

from configs import recipes


def get_config():
    return recipes.folder(depth=18, residual=True)
