"""Bad input is reported in one line that names the field or file, with exit status 2, and writes nothing."""

import contextlib
import functools
import signal
import tempfile

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from configs import recipes
from resnet_jax.config import default, flatten
from resnet_jax.errors import UserError
from resnet_jax.fields import FIELDS, LARGEST_FLOAT, LARGEST_INT
from resnet_jax.training import scaling, train
from tests.data.bad_sets import BAD_SETS
from tests.data.conftest import tiny_splits, write_set

pytestmark = pytest.mark.xdist_group("bad_input")  # One process runs all commands.
CONFIG = "--config=configs/digits_plain20.py"

# A mistake on the command line, and how its message begins. The commands run on two devices.
BAD_COMMANDS = [
    ("--config.seed=" + "9" * 5000, "--config.seed=99999"),
    ("--config.batch_size=127", "config.batch_size=127 cannot be divided among 2 devices; give a multiple of 2."),
    ("--config.batch_size=1502", "config.batch_size=1502 is more than the 1500 training examples; give at most 1500."),
    ("--config.model.family=imagenet", "config.model.depth=20 is not a depth of the imagenet family"),
    ("--config.model.family=wide", "config.model.depth=20 is not 6n+4"),
    ("--config.model.family=densenet", "config.model.depth=20 is not 3n+4"),
    ("--config.model.family=imagenet_densenet", "config.model.depth=20 is not a depth of the imagenet_densenet family"),
    ("--config.model.family=inception_v4", "config.model.depth=20: Inception-v4 has 76 layers; give that depth."),
    ("--config.model.family=inception_resnet_v2", "config.model.depth=20: Inception-ResNet-v2 has 176 layers; give"),
    (
        "--config.model.depth=21",
        "config.model.depth=21 is not 6n+2",
    ),
    ("--config.model.depth=2", "config.model.depth=2 is not 6n+2"),
    (
        "--config.model.stem_activation=False",
        "config.model.stem_activation=False needs config.model.order='preactivation', not",
    ),
    (
        "--config.model.widening=1.01",
        "config.model.widening=1.01 makes widths [16.16, 32.32, 64.64] that are not whole",
    ),
    ("--config.model.gating_bias=nan", "config.model.gating_bias=nan must be finite."),
    ("--config.gates.shortcut_factor=-1", "config.gates.shortcut_factor=(-1,) must be at least 0."),
    ("--config.gates.branch_factor=(1,-1)", "config.gates.branch_factor=(1, -1) must be at least 0."),
    ("--config.gates.shortcut_gradient=half", "config.gates.shortcut_gradient=('half',): expected a tuple of numbers."),
    ("--config.gates.branch_gradient=1e999", "config.gates.branch_gradient=(inf,) must be finite."),
    (
        "--config.gates.shortcut_factor=(1,0.5)",
        "config.gates.shortcut_factor=(1, 0.5) needs blocks with shortcuts, wh",
    ),
    ("--config.gates.final=(0,1)", "config.gates.final=(0, 1) has 2 numbers; give four."),
    ("--config.gates.phase=(0.5,0.5)", "config.gates.phase=(0.5, 0.5) must be two rising fractions of config.steps,"),
    ("--config.gates.phase=(0.5,1.5)", "config.gates.phase=(0.5, 1.5) must be at most 1."),
    ("--config.gates.route=both_ways", "config.gates.route='both_ways' is unknown; choose one of both, stop_gradient,"),
    ("--config.gates.without=stage2", "config.gates.without='stage2' is unknown; choose one of none, every_second, "),
    (
        "--config.optimizer.frozen_below=stage4/block0",
        "config.optimizer.frozen_below='stage4/block0' is not a block of plain-20; valid blocks: stage1/block0 to "
        "stage3/block2.",
    ),
    ("--config.data.name=", "config.data.name='' is not a data set name"),
    ("--config.data.name=../digits", "config.data.name='../digits' is not a data set name"),
    ("--config.data.name=cifar11", "config.data.name='cifar11' is unknown to TFDS"),
    ("--config.data.data_dir=/\udcff", "config.data.data_dir='/\\udcff': expected printable text or None."),
    ("--config.data.validation_examples=-1", "config.data.validation_examples=-1 must be from 0 to 1499: there are"),
    ("--config.data.validation_examples=1500", "config.data.validation_examples=1500 must be from 0 to 1499: there"),
    ("--config.data.validation_examples=1490", "config.batch_size=128 is more than the 10 training examples; give at"),
    (
        "--config.data.downsample=3",
        "config.data.downsample=3 does not divide images of 8x8 pixels; give one of 1, 2, 4, 8.",
    ),
    ("--config.data.padding=9", "config.data.padding=9 is more than the images of 8x8 pixels have; give at most 8."),
    ("--config.data.padding=1000000", "config.data.padding=1000000 is more than the images of 8x8 pixels have; give"),
    ("--config.optimizer.learning_rate=nan", "config.optimizer.learning_rate=nan must be finite."),
    ("--config.optimizer.learning_rate=1e999", "config.optimizer.learning_rate=inf must be finite."),
    ("--config.optimizer.learning_rate=1e39", "config.optimizer.learning_rate=1e+39 must be at most 3.40282"),
    (
        "--config.optimizer.milestones=(5,2)",
        "config.optimizer.milestones=(5, 2) must be rising fractions of config.steps, above 0 and",
    ),
    (
        "--config.optimizer.milestones=(5,5)",
        "config.optimizer.milestones=(5, 5) must be rising fractions of config.steps, above 0 and",
    ),
    (
        "--config.optimizer.milestones=0",
        "config.optimizer.milestones=(0,) must be rising fractions of config.steps, above 0 and",
    ),
    (
        "--config.optimizer.milestones=200",
        "config.optimizer.milestones=(200,) must be rising fractions of config.steps, above 0 and",
    ),
    ("--config.optimizer.milestones=(0.5,1.0)", "config.optimizer.milestones=(0.5, 1.0) must be rising fractions of"),
    ("--config.optimizer.milestones=soon", "config.optimizer.milestones=('soon',): expected a tuple of numbers."),
    ("--config.optimizer.milestones=a b", "--config.optimizer.milestones=a b: expected a tuple of numbers."),
    ("--config.optimizer.milestones=True", "config.optimizer.milestones=(True,): expected a tuple of numbers."),
    ("--config.optimizer.milestones=" + "-" * 9999 + "1", "--config cannot be loaded: "),
    (
        f"--config.optimizer.milestones={tuple(range(1, 150))}",
        "config.optimizer.milestones has 149 milestones; give at",
    ),
    ("--config.per_device_batch_size=2000000000", "config.per_device_batch_size=2000000000 on 2 devices turns"),
    ("--config.model.dept=8", "unknown field config.model.dept; did you mean config.model.depth?"),
    ("--config.zzz=8", "unknown field config.zzz; --fields lists all fields."),
    ("--config.seed.x=8", "unknown field config.seed.x; did you mean config.seed?"),
    ("--config.model[depth]=8", "unknown field config.model[depth]; did you mean config.model.depth?"),
    ("--config.=8", "unknown field config.; --fields lists all fields."),
    ("--config.model=5", "--config.model=5: set one field at a time."),
    ("--config.model={}", "config.model.family is missing; build the config on a recipe of configs/recipes.py."),
    ("--steps=10", "unknown flag --steps; did you mean --config.steps?"),
    ("--depth=8", "unknown flag --depth; did you mean --config.model.depth?"),
    ("--wokdir=a", "Unknown command line flag 'wokdir'. Did you mean: workdir"),
    ("--config.data.data_dir=gs://bucket/a", "config.data.data_dir=gs://bucket/a is a URL; give a path on this"),
    ("--config.data.data_dir=~no_such_user", "config.data.data_dir=~no_such_user: ~no_such_user has no home folder"),
    ("--config.from_run=s3://bucket/a", "config.from_run=s3://bucket/a is a URL; give a path on this machine"),
    ("--workdir=hdfs://name/a", "--workdir=hdfs://name/a is a URL; give a path on this machine"),
    ("--flagfile=/nonexistent", "--flagfile cannot be read: [Errno 2] No such file or directory: '/nonexistent'."),
    ("--config.seed", "Missing value for flag --config.seed; see --help."),
    ("--config=configs/none.py", "--config=configs/none.py: no such file;"),
]


def mistakes_in_each_kind_of_field():
    """Return a word of each wrong type and beyond each kind of limit, and how its message begins.

    tests/test_config.py checks these messages for every field; here is what the command makes of them.
    """
    found = {}
    for name, field in FIELDS.items():
        expected = f"--config.{name}=a b: expected {field.expected}."
        if field.type is not str:
            found.setdefault(field.expected, (f"--config.{name}=a b", expected))
        if field.choices:
            found.setdefault("choices", (f"--config.{name}=other", f"config.{name}='other' is unknown; choose one of"))
        if field.type in (int, float):
            for kind, limit in field.limits._asdict().items():
                if abs(limit) != float("inf"):
                    beyond = field.type(limit + {"at_least": -1, "at_most": 1 + abs(limit)}.get(kind, 0))
                    message = f"config.{name}={beyond} must be {kind.replace('_', ' ')} {limit}."
                    found.setdefault((field.type, kind), (f"--config.{name}={beyond}", message))
    return list(found.values())


BAD_COMMANDS += mistakes_in_each_kind_of_field()

# What a config file does to the config, and how the message begins.
BAD_FILES = [
    ("config.data.data_dir = 'gs://bucket/a'", "config.data.data_dir=gs://bucket/a is a URL; give a path on this"),
    (
        "del config.optimizer",
        "config.optimizer.name is missing; build the config on a recipe of configs/recipes.py.",
    ),
    ("config.sede = 3", "unknown field config.sede; did you mean config.seed?"),
    ("config.model.width = 3", "unknown field config.model.width; --fields lists all fields."),
    ("config.seed = None", "config.seed=None: expected int."),
    ("config.seed = 10**5000", "config.seed=... must be at most 4294967295."),
    ("config.model.depth = [8, 14]", "config.model.depth=(8, 14): expected int."),
    ("config.model = None", "unknown field config.model; --fields lists all fields."),
    ("config.dtype = float", "config.dtype=<class 'float'>: expected printable text."),
    ("config.data.name = 'a\\0b'", "config.data.name='a\\x00b': expected printable text."),
    (
        "config.optimizer.milestones = (50, (100,))",
        "config.optimizer.milestones=(50, (100,)): expected a tuple of numbers.",
    ),
    ("config[1] = 2", "the config cannot be read ("),
]

# What a config file does instead of returning a config, and the message after its name.
BROKEN_FILES = [
    ("raise RuntimeError('why')", ", line 8: RuntimeError: why."),
    ("raise ValueError('why')", ", line 8: ValueError: why."),
    ("raise BaseException('two\\nlines')", ", line 8: BaseException: two lines."),
    ("open('/no/such/file')", ", line 8: FileNotFoundError: [Errno 2] No such file or directory: '/no/such/file'."),
    ("import no_such_module", ", line 8: ModuleNotFoundError: No module named 'no_such_module'."),
    ("import sys; sys.exit()", ", line 8: SystemExit."),
    ("import sys; sys.exit(0)", ", line 8: SystemExit: 0."),
    ("raise SystemExit('enough')", ", line 8: SystemExit: enough."),
    ("exit()", ", line 8: SystemExit: None."),
    ("recipes.digits(depth=8)", ", line 8: TypeError: digits() missing 1 required positional argument: 'residual'."),
    ("return None", ", line 5: get_config() returns None; it must return a ConfigDict."),
    ("return 3", ", line 5: get_config() returns 3; it must return a ConfigDict."),
    ("return {'seed': 3}", ", line 5: get_config() returns {'seed': 3}; it must return a ConfigDict."),
    ("no python", ", line 8: SyntaxError: invalid syntax."),
    ("return config\nimport sys; sys.exit(0)", ", line 9: SystemExit: 0."),
    (
        "return config\nopen('/no/such/file')",
        ", line 9: FileNotFoundError: [Errno 2] No such file or directory: '/no/su",
    ),
    ("return config\ndel get_config", " has no get_config(), which returns the config; "),
]

FILE = """
from configs import recipes


def get_config():
    config = recipes.digits(depth=8, residual=True)
    with config.unlocked(), config.ignore_type():
        {change}
    return config
"""


@pytest.fixture(scope="module")
def run(commands):
    return functools.partial(commands, "main")


def assert_reported(done, beginning):
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: {beginning}")
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("\n")
    assert done.stdout == ""


def test_a_good_config_is_accepted(run):
    done = run(CONFIG, only_check=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("word", "beginning"), BAD_COMMANDS, ids=[word[9:50] for word, _ in BAD_COMMANDS])
def test_a_bad_override(run, tmp_path, word, beginning):
    assert_reported(run(CONFIG, f"--workdir={tmp_path / 'run'}", word), beginning)
    assert list(tmp_path.iterdir()) == []


def test_a_bad_override_where_nothing_is_trained(run):
    assert_reported(run(CONFIG, "--config.model.shortcut=D", "--describe"), "config.model.shortcut='D' is unknown;")


def test_a_workdir_of_too_long_a_name(run, tmp_path):
    workdir = tmp_path / ("x" * 300)
    assert_reported(run(CONFIG, f"--workdir={workdir}"), f"--workdir={workdir} cannot be (File name too long); give")


@pytest.mark.parametrize(("change", "beginning"), BAD_FILES, ids=[change for change, _ in BAD_FILES])
def test_a_bad_config_file(run, tmp_path, change, beginning):
    (tmp_path / "config.py").write_text(FILE.format(change=change))
    assert_reported(run(f"--config={tmp_path / 'config.py'}", f"--workdir={tmp_path / 'run'}"), beginning)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("change", "message"), BROKEN_FILES, ids=[change for change, _ in BROKEN_FILES])
def test_a_config_file_that_fails_is_reported_with_its_line(run, tmp_path, change, message):
    file = tmp_path / "config.py"
    file.write_text(FILE.format(change=change).removesuffix("    return config\n" if "return config" in change else ""))
    assert_reported(run(f"--config={file}", f"--workdir={tmp_path / 'run'}"), f"--config={file}{message}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "make"),
    [
        pytest.param(*case[:2], id=case[0], marks=pytest.mark.slow if number % 12 else ())
        for number, case in enumerate(BAD_SETS)
    ],
)
def test_a_bad_data_set(run, tmp_path, name, make):
    """The message of each is checked in tests/data/test_prepared.py."""
    make(tmp_path / "sets")
    assert_reported(load(run, tmp_path), str(tmp_path / "sets" / "tiny" / "1.0.0"))
    assert not (tmp_path / "run").exists()


def load(run, tmp_path, *words, data_dir=None):
    words = ("--config.data.name=tiny", "--config.batch_size=16", *words, "--verbosity=-1")  # Without the log.
    data_dir = data_dir or tmp_path / "sets"
    return run(CONFIG, f"--config.data.data_dir={data_dir}", *words, f"--workdir={tmp_path / 'run'}")


def test_a_folder_without_the_set(run, tmp_path):
    (tmp_path / "file").write_text("")
    assert_reported(load(run, tmp_path), "config.data.name='tiny' is unknown to TFDS and not found under")
    assert_reported(load(run, tmp_path, data_dir=tmp_path / "file"), f"{tmp_path / 'file'} is a file; set config.data")
    assert_reported(load(run, tmp_path, data_dir=tmp_path / ("x" * 300)), f"{tmp_path / ('x' * 300)} cannot be read (")
    assert_reported(load(run, tmp_path, data_dir="~nobody here"), "config.data.data_dir=~nobody here: ~nobody")
    assert_reported(load(run, tmp_path, "--config.data.name=cifar10"), "data set 'cifar10' is not under")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_config_that_does_not_suit_a_good_set(run, tmp_path):
    write_set(tmp_path / "sets", "tiny", tiny_splits())
    for word, beginning in (
        ("--config.batch_size=42", "config.batch_size=42 is more than the 40 training examples; give at most 40."),
        (
            "--config.data.padding=9",
            "config.data.padding=9 is more than the images of 8x8 pixels have; give at most 8.",
        ),
        ("--config.data.validation_examples=40", "config.data.validation_examples=40 must be from 0 to 39: there are"),
    ):
        assert_reported(load(run, tmp_path, word), beginning)
    assert not (tmp_path / "run").exists()


# Random input. Everything is drawn from a fixed seed and nothing is kept, so that a test does today what it did
# yesterday; of deadlines there is one only, far above what a slow machine needs.
HOME = tempfile.TemporaryDirectory(prefix="hypothesis")  # Of its own tables, which it would keep in the working tree.
set_hypothesis_home_dir(HOME.name)
DRAWN = {"derandomize": True, "database": None, "deadline": None}


@contextlib.contextmanager
def time_limit(seconds):
    """Raise TimeoutError after ``seconds``."""

    def stop(number, frame):
        raise TimeoutError(f"it hangs: {seconds} s are over")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


INTEGERS = st.integers() | st.integers(-3, 300) | st.sampled_from([10**400, -(10**400), 2**31, 2**32, 2**63])
NUMBERS = INTEGERS | st.floats(allow_nan=True, allow_infinity=True)
WORDS = st.text() | st.sampled_from(["A", "cifar", "imagenet", "pmap", "bfloat16", "first", "digits", "~", "/", "None"])
SCALARS = NUMBERS | WORDS | st.booleans() | st.none() | st.binary() | st.complex_numbers()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner)
        | st.lists(INTEGERS, max_size=5).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
RECIPES = [default, lambda: recipes.digits(8, False), lambda: recipes.imagenet(50, True)]
NAMES = st.sampled_from([*FIELDS, "model", "data", "optimizer", "compile"])
NEW_NAMES = st.text(min_size=1, max_size=8).filter(lambda name: "." not in name)
CHANGES = st.lists(
    st.tuples(st.just("set"), NAMES, VALUES)
    | st.tuples(st.just("delete"), NAMES, st.none())
    | st.tuples(st.just("add"), NEW_NAMES, VALUES),
    min_size=1,
    max_size=3,
)


def change(config, action, name, value):
    """Set, delete or add one field of ``config``; return whether it could be done."""
    *parts, last = name.split(".")
    holder = config
    try:
        for part in parts:
            holder = holder[part]
        if action == "delete":
            del holder[last]
        else:
            holder[last] = value
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):  # The ConfigDict takes no such value.
        return False
    return True


@settings(max_examples=250, **DRAWN)
@given(st.sampled_from(RECIPES), CHANGES, st.sampled_from([1, 2, 8]))
def test_any_change_of_a_good_config_passes_or_is_reported_in_one_line(recipe, changes, devices):
    config = recipe().unlock()
    with config.ignore_type():
        assume(all(change(config, *each) for each in changes))
    with time_limit(60):
        try:
            config = scaling.resolved(config, devices)
        except UserError as error:
            message = str(error)
            assert message.startswith(("config.", "unknown field config.", "the config cannot be read ("))
            assert "\n" not in message
            assert message.endswith((".", "?"))
        else:
            assert flatten(config.to_dict()).keys() == FIELDS.keys()


@settings(max_examples=60, **DRAWN)
@given(
    words=st.lists(
        st.tuples(
            st.sampled_from(["--config.", "--config.", "--config.", "--noconfig.", "--", "--config", ""]),
            st.sampled_from(list(FIELDS)) | WORDS,
            st.just("=") | st.just(""),
            VALUES.map(lambda value: value if isinstance(value, str) else repr(value)) | WORDS,
        ).map("".join),
        min_size=1,
        max_size=3,
    ).filter(lambda words: not any("\0" in word for word in words))  # No shell can say these.
)
def test_any_words_on_the_command_line_pass_or_are_reported_in_one_line(run, words):
    done = run(CONFIG, *words, only_check=True)
    if done.returncode == 2:
        assert_reported(done, "")
    else:
        assert (done.returncode, done.stderr) == (0, "")


# Changes that leave a net and a run of seconds.
SMALL_CHANGES = st.fixed_dictionaries(
    {
        "steps": st.integers(1, 2),
        "optimizer.milestones": st.sampled_from([(), (0.5, 0.75)]),
        "batch_size": st.sampled_from([8, 16]),
    },
    optional={
        "seed": st.integers(0, 2**32 - 1),
        "dtype": st.sampled_from(["float32", "bfloat16"]),
        "model.residual": st.booleans(),
        "model.shortcut": st.sampled_from("ABC"),
        "model.bottleneck_stride": st.sampled_from(["first", "middle"]),
        "data.validation_examples": st.integers(0, 1480),
        "data.padding": st.integers(0, 8),
        "data.pad": st.sampled_from(["zero", "reflect"]),
        "data.flip": st.booleans(),
        "data.mean": st.sampled_from(["pixel", "channel"]),
        "data.std": st.sampled_from(["none", "channel", "scalar"]),
        "optimizer.learning_rate": st.floats(0, LARGEST_FLOAT),
        "optimizer.factor": st.floats(0, LARGEST_FLOAT, exclude_min=True),
        "optimizer.name": st.sampled_from(["sgd", "rmsprop"]),
        "optimizer.rmsprop_decay": st.floats(0, 1, exclude_max=True),
        "optimizer.rmsprop_epsilon": st.floats(0, LARGEST_FLOAT, exclude_min=True),
        "optimizer.schedule": st.sampled_from(["step", "plateau", "exponential"]),
        "optimizer.decay_steps": st.integers(1, LARGEST_INT),
        "optimizer.plateau_window": st.integers(1, LARGEST_INT),
        "optimizer.plateau_patience": st.integers(1, LARGEST_INT),
        "optimizer.momentum": st.floats(0, 1, exclude_max=True),
        "optimizer.nesterov": st.booleans(),
        "optimizer.average_decay": st.floats(0, 1, exclude_max=True),
        "optimizer.weight_decay": st.floats(0, LARGEST_FLOAT),
        "optimizer.warmup_learning_rate": st.floats(0, LARGEST_FLOAT),
        "optimizer.warmup_steps": st.integers(0, LARGEST_INT),
        "optimizer.warmup_min_depth": st.integers(0, LARGEST_INT),
        "optimizer.rampup_fraction": st.floats(0, 1),
        "optimizer.rampup_steps": st.integers(1, LARGEST_INT),
        "batch_norm.sync": st.booleans(),
        "steps_per_dispatch": st.none() | st.integers(1, 10_000),
        "compile.unroll": st.booleans(),
        "compile.remat": st.booleans(),
        "compile.convolutions": st.sampled_from([None, "lax", "onednn"]),
        "parallel.mapper": st.sampled_from(["shard_map", "pmap"]),
        **dict.fromkeys(("log_every", "eval_every", "checkpoint_every"), st.integers(1, LARGEST_INT)),
        "eval_batch_size": st.integers(64, LARGEST_INT),
    },
)
SMALL = recipes.digits(8, True)


@pytest.mark.slow
@settings(max_examples=6, **DRAWN)
@given(SMALL_CHANGES)
def test_a_changed_config_that_passes_is_trained(tmp_path_factory, changes):
    config = SMALL.copy_and_resolve_references()
    config.update_from_flattened_dict(changes)
    assume(config.optimizer.schedule == "step" or config.optimizer.factor < 1)
    assume(config.data.pad == "zero" or config.data.padding < 8)
    with time_limit(300):
        summary = train(config, tmp_path_factory.mktemp("runs") / "run")
    assert summary["status"] in ("finished", "diverged")
