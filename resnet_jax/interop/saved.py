"""Nets in files of training programs: nested in other content, under prefixes, next to running averages."""

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from absl import logging

from resnet_jax.errors import UserError
from resnet_jax.escape import printable

# Last parts of the names of ignored tensors: counters of PyTorch's batch norms and of averaged nets, and counts of the
# profiler thop.
IGNORED = ("num_batches_tracked", "n_averaged", "total_ops", "total_params")
# Names of running averages of weights.
AVERAGE = re.compile(r"(?i:(?<![a-z])(ema|swa|shadow|avg|averag|polyak))|(?<=[a-z])(E[Mm][Aa]|S[Ww][Aa]|Avg|Averag)")


class SavedNet(NamedTuple):
    """A net in a file.

    Attributes:
      key: keys that lead to it in the file, joined by dots; "." if it is the whole file.
      tensors: tensors by name.
    """

    key: str
    tensors: dict[str, Any]


def chosen(content: Any, key: str | None, where: str) -> dict[str, Any]:
    """Return the tensors of the net in ``content``, by names without a common prefix.

    Args:
      content: tensors by name, perhaps nested in dictionaries and lists, next to other content.
      key: key of the net; None if there is only one.
      where: name of the file, for messages.

    Raises:
      UserError: there is no net, or several and no ``key``, or no net called ``key``.
    """
    nets = saved_nets(content)
    if not nets:
        raise UserError(
            f"{where} does not hold a dictionary of tensors with names like conv1.weight (NumPy arrays and whole nets "
            "are not read); save it with torch.save(net.state_dict(), FILE)."
        )
    found = [net for net in nets if key in (None, net.key)]
    if len(found) != 1:
        averages = [net.key for net in nets if AVERAGE.search(net.key)]
        titles = [f"{net.key!r}{' (a running average)' * (net.key in averages)}" for net in nets]
        held = f"{len(nets)} nets: {', '.join(titles)}" if len(nets) > 1 else f"the net {titles[0]}"
        if key is not None and not found:
            raise UserError(f"{where} holds no net {key!r} but {held}; give another --weights_key.")
        example = [*averages, max(reversed(nets), key=lambda net: len(net.tensors)).key][0]
        raise UserError(f"{where} holds {held}; choose one, e.g. --weights_key={example}.")
    [net] = found
    if net.key != ".":
        logging.info("%s: reading the net %r", where, net.key)
    prefix = common_prefix(net.tensors)
    if prefix:
        logging.info("%s: leaving out the prefix %r of all names", where, prefix)
    return {name.removeprefix(prefix): tensor for name, tensor in net.tensors.items()}


def saved_nets(content: Any) -> list[SavedNet]:
    """Return the nets in ``content``, a tree of dictionaries and lists, which may refer to themselves."""
    nets, seen, waiting = list[SavedNet](), set[int](), [("", content)]
    while waiting:
        key, value = waiting.pop(0)
        if id(value) in seen or not isinstance(value, Mapping | list | tuple):
            continue
        seen.add(id(value))
        parts = [
            (printable(str(name)), part)
            for name, part in (value.items() if isinstance(value, Mapping) else enumerate(value))
        ]
        tensors = {name: part for name, part in parts if is_tensor(part) and name.rpartition(".")[2] not in IGNORED}
        if is_net(key, tensors):
            nets += separated(key, tensors)
        waiting += [(f"{key}.{name}" if key else name, part) for name, part in parts if not is_tensor(part)]
    return nets


def is_tensor(value: Any) -> bool:
    """Return whether ``value`` is a tensor of any library."""
    return hasattr(value, "dtype") and hasattr(value, "ndim")


def is_net(key: str, tensors: Mapping[str, Any]) -> bool:
    """Return whether ``tensors`` belong to a net, not to the state of an optimiser or to a metric.

    Tensors of any name count under the key of a running average: it must not be overlooked.
    """
    if AVERAGE.search(key):
        return any(tensor.ndim for tensor in tensors.values())
    return any(name.endswith(".weight") for name in tensors)


def separated(key: str, tensors: dict[str, Any]) -> list[SavedNet]:
    """Return the nets of one dictionary: several if names differ only in the first part, such as model. and ema."""
    prefix = common_prefix(tensors)
    groups: dict[str, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        first, _, rest = name.removeprefix(prefix).partition(".")
        groups.setdefault(first, {})[rest] = tensor
    inner = [{name.removeprefix(common_prefix(group)) for name in group} for group in groups.values()]
    if len(groups) == 1 or any(names != inner[0] for names in inner) or not any("." in name for name in inner[0]):
        return [SavedNet(key or ".", tensors)]
    return [SavedNet(f"{key}.{prefix}{first}" if key else f"{prefix}{first}", group) for first, group in groups.items()]


def common_prefix(names: Iterable[str]) -> str:
    """Return the leading parts that all ``names`` share above their layers, such as "module._orig_mod.", or ""."""
    parts = [name.split(".") for name in names]
    columns = zip(*(each[:-1] for each in parts), strict=False)
    shared = itertools.takewhile(lambda column: len(set(column)) == 1, columns)
    return "".join(f"{column[0]}." for column in itertools.islice(shared, max(0, *map(len, parts), 2) - 2))
