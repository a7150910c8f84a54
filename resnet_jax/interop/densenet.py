"""The names of a DenseNet's layers in torchvision."""

from resnet_jax.models import Path


def layer_name(path: Path) -> str:
    """Return torchvision's name of the layer at ``path``, such as ("stage1", "block0", "conv1").

    torchvision has no nets for small images; theirs are named as if its stem had no norm.

    Raises:
      NotImplementedError: there is no such layer.
    """
    match path:
        case ("head",):
            return "classifier"
        case ("bn",):  # It has four dense blocks, each but the last with a transition, and names its last norm by them.
            return "features.norm5"
        case ("stem", "conv" | "bn"):
            return f"features.{TORCHVISION[path[1]]}0"
        case (part, "conv" | "bn") if part.startswith("transition"):
            return f"features.{part}.{TORCHVISION[path[1]]}"
        case (stage, block, layer) if stage.startswith("stage") and block.startswith("block"):
            number, kind = int(block.removeprefix("block")) + 1, TORCHVISION[layer[:-1]]
            return f"features.denseblock{stage.removeprefix('stage')}.denselayer{number}.{kind}{layer[-1]}"
    raise NotImplementedError(f"no PyTorch name is defined for {path}")


TORCHVISION = {"conv": "conv", "bn": "norm"}
