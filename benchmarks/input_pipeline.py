"""Images decoded and cropped per second on the cores of a host: ours, tf.data, a PyTorch DataLoader with PIL.

    python -m benchmarks.input_pipeline --images=FOLDER    # one folder of JPEGs per class, like ImageNet

All read the same files with one worker a core and deliver uint8 ``[batch, 224, 224, 3]`` and labels, at random crops
of the same distribution, to a main process that takes them as fast as it can. Flip, colour noise and normalisation are
left out, because here the devices do them in the compiled step. All transform JPEG's blocks accurately and resize
bilinearly with antialiasing; tf.data decodes no more of a JPEG than the crop (``decode_and_crop_jpeg``), and may
deliver examples in any order, while ours and the DataLoader's order is determined by the seed.

Both others run in a second form, as their users write them: tf.data with its defaults, a coarser transform and no
antialiasing; the DataLoader with ``RandomHorizontalFlip``, ``ToTensor`` and ``Normalize``, hence float32
``[batch, 3, 224, 224]``.

TensorFlow is imported late, because imported before torchvision it crashes the process.

The pipelines stay open and take turns; batches prefetched during the turns of others do not count. The core time per
image, over all processes, is recorded too: it is the better measure on shared cores.
"""

import pathlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psutil
import torch
from absl import flags, logging
from PIL import Image
from torchvision import datasets, transforms

from benchmarks import measure
from experiments import command
from resnet_jax.data import folder, images, stream
from resnet_jax.errors import UserError

_IMAGES = flags.DEFINE_string("images", None, "Folder with one folder of JPEGs per class.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Number of turns of each pipeline.", lower_bound=1)

SIDE, BATCH = 224, 64
# Batches per turn: skipped, more than any pipeline prefetches; and counted, some seconds.
AHEAD, COUNTED = 6, 12
# Cores that idle pipelines may keep busy: their threads poll each other.
IDLE = 0.1
# The usual normalisation in PyTorch.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Images per second when training ResNet-50. NVIDIA's are for one GPU at mixed precision, from its README of ResNet-50
# v1.5 for PyTorch (github.com/NVIDIA/DeepLearningExamples, container 21.03); the last is an assumption.
CHIPS = {"V100, by NVIDIA": 1200, "A100, by NVIDIA": 2470, "a faster one, assumed": 5000}
CHIPS_OF_A_HOST = (4, 8)

Batches = Iterator[tuple[np.ndarray, np.ndarray]]


def ours(root: str, augmentation: str, workers: int, batch: int = BATCH) -> Batches:
    """Yield images uint8 ``[batch, 224, 224, 3]`` and labels ``[batch]`` of the stream that training reads."""
    source = folder.scan(pathlib.Path(root))
    maker = stream.TrainingBatches(source, SIDE, range(batch), batch, False, seed=0, augmentation=augmentation)
    made = stream.Workers(maker, range(10**6), workers)
    try:
        for one in made:
            yield one.images, one.labels
    finally:
        made.close()


def tf_data(root: str, augmentation: str, workers: int, batch: int = BATCH) -> Batches:
    """Yield what ``ours`` does, made by tf.data."""
    return batches_of_tensorflow(root, augmentation, workers, batch, "INTEGER_ACCURATE", antialias=True)


def tf_data_as_written(root: str, augmentation: str, workers: int, batch: int = BATCH) -> Batches:
    """Yield coarser images, made by tf.data as its users write it."""
    return batches_of_tensorflow(root, augmentation, workers, batch, dct_method="", antialias=False)


def batches_of_tensorflow(
    root: str, augmentation: str, workers: int, batch: int, dct_method: str, antialias: bool
) -> Batches:
    """Yield batches of an endless tf.data that decodes by ``dct_method`` and resizes with or without ``antialias``."""
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    source = folder.scan(pathlib.Path(root))
    files = [source.file(index) for index in range(len(source))]
    draw = {"paper": tf_paper_window, "random_resized": tf_random_resized_window}[augmentation]

    def example(file: Any, label: Any) -> tuple[Any, Any]:
        encoded = tf.io.read_file(file)
        window = draw(tf.io.extract_jpeg_shape(encoded))
        return tf_crop(encoded, window, dct_method, antialias), label

    options = tf.data.Options()
    options.threading.private_threadpool_size = workers
    options.threading.max_intra_op_parallelism = 1
    options.deterministic = False
    dataset = tf.data.Dataset.from_tensor_slices((files, source.labels)).shuffle(len(files)).repeat()
    dataset = dataset.map(example, num_parallel_calls=workers).batch(batch, drop_remainder=True).prefetch(2)
    yield from dataset.with_options(options).as_numpy_iterator()


def tf_crop(encoded: Any, window: Any, dct_method: str, antialias: bool) -> Any:
    """Return top, left, height and width ``window`` of a JPEG, resized: uint8 ``[224, 224, 3]``."""
    import tensorflow as tf

    image = tf.io.decode_and_crop_jpeg(encoded, window, channels=3, dct_method=dct_method)
    image = tf.cast(tf.round(tf.image.resize(image, (SIDE, SIDE), antialias=antialias)), tf.uint8)
    return tf.ensure_shape(image, (SIDE, SIDE, 3))


def tf_paper_window(shape: Any) -> Any:
    """Return top, left, height and width in the original of a crop of the image at a random shorter side."""
    import tensorflow as tf

    size = tf.cast(shape[:2], tf.float32)
    shorter = tf.cast(tf.random.uniform((), images.SHORTEST, images.LONGEST + 1, tf.int32), tf.float32)
    scale = tf.reduce_min(size) / shorter
    extent = tf.minimum(tf.cast(tf.round(SIDE * scale), tf.int32), shape[:2])
    corner = tf.cast(tf.random.uniform((2,)) * tf.cast(shape[:2] - extent + 1, tf.float32), tf.int32)
    return tf.concat((corner, extent), 0)


def tf_random_resized_window(shape: Any) -> Any:
    """Return top, left, height and width of TensorFlow's own version of a random resized crop."""
    import tensorflow as tf

    begin, size, _ = tf.image.sample_distorted_bounding_box(
        shape,
        tf.zeros((1, 0, 4)),
        min_object_covered=0.0,
        aspect_ratio_range=images.RATIOS,
        area_range=images.AREAS,
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    return tf.concat((begin[:2], size[:2]), 0)


def random_shorter_side(image: Image.Image) -> Image.Image:
    """Return ``image`` resized to a shorter side of 256 to 480."""
    shorter = int(torch.randint(images.SHORTEST, images.LONGEST + 1, ()))
    return transforms.functional.resize(image, shorter)


def torch_crops(augmentation: str) -> list[Callable[..., Any]]:
    """Return the transforms of torchvision that draw what ``augmentation`` draws."""
    if augmentation == "paper":
        return [transforms.Lambda(random_shorter_side), transforms.RandomCrop(SIDE)]
    return [transforms.RandomResizedCrop(SIDE)]


def dataloader(root: str, augmentation: str, workers: int, batch: int = BATCH) -> Batches:
    """Yield what ``ours`` does, made by a PyTorch DataLoader with PIL."""
    return batches_of_torch(root, [*torch_crops(augmentation), np.array], workers, batch)


def dataloader_as_written(root: str, augmentation: str, workers: int, batch: int = BATCH) -> Batches:
    """Yield float32 ``[batch, 3, 224, 224]`` and labels of a PyTorch DataLoader as its users write it."""
    users = [transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize(MEAN, DEVIATION)]
    return batches_of_torch(root, [*torch_crops(augmentation), *users], workers, batch)


def batches_of_torch(root: str, steps: list[Callable[..., Any]], workers: int, batch: int) -> Batches:
    """Yield batches of an endless DataLoader that applies ``steps`` to each PIL image."""
    dataset = datasets.ImageFolder(root, transforms.Compose(steps))
    loader = torch.utils.data.DataLoader(
        dataset,
        batch,
        sampler=torch.utils.data.RandomSampler(dataset, num_samples=10**9),
        num_workers=workers,
        persistent_workers=True,
        multiprocessing_context="spawn",  # The threads of the others would not survive a fork.
    )
    for crops, labels in loader:
        yield crops.numpy(), labels.numpy()


PIPELINES: dict[str, Callable[..., Batches]] = {
    "ours": ours,
    "tf.data": tf_data,
    "tf.data as written": tf_data_as_written,
    "DataLoader": dataloader,
    "DataLoader as written": dataloader_as_written,
}


def busy() -> float:
    """Return the seconds that cores were busy with this process and its children."""
    this = psutil.Process()
    return sum(sum(each.cpu_times()[:2]) for each in (this, *this.children(recursive=True)))


def wait_until_idle() -> None:
    """Wait until the other pipelines have prefetched all they can."""
    before, now = -1.0, busy()
    while now - before > IDLE * 0.3:
        time.sleep(0.3)
        before, now = now, busy()


def turn(batches: Batches) -> tuple[float, float]:
    """Return images per second of a pipeline, and core milliseconds per image."""
    wait_until_idle()
    for _ in range(AHEAD):
        next(batches)
    start, busy_before = time.perf_counter(), busy()
    for _ in range(COUNTED):
        next(batches)
    seconds, core_seconds = time.perf_counter() - start, busy() - busy_before
    return COUNTED * BATCH / seconds, 1e3 * core_seconds / (COUNTED * BATCH)


def compare(root: str, augmentation: str, rounds: int, cores: int) -> dict[str, Any]:
    """Return images per second of each pipeline, and the ratio of ours to the others."""
    open_ones = {name: make(root, augmentation, cores) for name, make in PIPELINES.items()}
    speeds: dict[str, list[float]] = {name: [] for name in open_ones}
    work: dict[str, list[float]] = {name: [] for name in open_ones}
    try:
        for _ in range(rounds):
            for name, batches in open_ones.items():
                speed, milliseconds = turn(batches)
                speeds[name].append(speed)
                work[name].append(milliseconds)
                logging.info("%s, %s: %.0f images/s, %.2f ms", augmentation, name, speed, milliseconds)
    finally:
        for batches in open_ones.values():
            batches.close()  # type: ignore[attr-defined]
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    busy_for = {name: statistics.median(values) for name, values in work.items()}
    return {
        "augmentation": augmentation,
        "images a second": {name: round(value) for name, value in medians.items()},
        "images a second a core": {name: round(value / cores) for name, value in medians.items()},
        "lowest and highest": {name: [round(min(values)), round(max(values))] for name, values in speeds.items()},
        "ms of a core an image": {name: round(value, 2) for name, value in busy_for.items()},
        "by them, ours to others": {
            name: round(busy_for[name] / busy_for["ours"], 2) for name in medians if name != "ours"
        },
        "ours to others": {name: round(medians["ours"] / medians[name], 2) for name in medians if name != "ours"},
    }


def cores_of_a_host(speed: float) -> list[dict[str, Any]]:
    """Return the number of cores that feed a host's chips if one decodes ``speed`` images per second."""
    return [
        {"chip": chip, "images a second a chip": rate, "chips": chips, "cores": -(-rate * chips // round(speed))}
        for chip, rate in CHIPS.items()
        for chips in CHIPS_OF_A_HOST
    ]


def describe(root: str) -> dict[str, Any]:
    """Return number and mean size of the images under ``root``."""
    source = folder.scan(pathlib.Path(root))
    files = [source[index] for index in range(len(source))]
    sizes = np.array([images.size(encoded, where) for encoded, _, where in files])
    return {
        "number": len(files),
        "mean width and height": sizes.mean(axis=0).round().astype(int).tolist(),
        "mean bytes": round(statistics.mean(len(encoded) for encoded, _, _ in files)),
    }


def main(_: list[str]) -> int:
    """Measure with each augmentation, and record."""
    if _IMAGES.value is None:
        raise UserError(
            "--images is missing; give a folder with one folder of JPEGs per class, e.g. a hundred images of ImageNet."
        )
    cores = measure.hardware()["cores"]
    sample = describe(_IMAGES.value)
    ways = [compare(_IMAGES.value, augmentation, _ROUNDS.value, cores) for augmentation in images.AUGMENTATIONS]
    slowest = min(way["images a second a core"]["ours"] for way in ways)
    results = {
        "images": sample,
        "batch": BATCH,
        "workers": cores,
        "rounds": _ROUNDS.value,
        "ways": ways,
        "to feed a host": cores_of_a_host(slowest),
    }
    measure.save("input_pipeline", results)
    return 0


if __name__ == "__main__":
    command.run(main)
