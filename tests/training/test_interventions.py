"""Gates over the steps of a run and frozen parameters, against constant gates, static nets and the initial values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax import data, evaluation, models
from resnet_jax.config import from_record
from resnet_jax.data import sampling
from resnet_jax.errors import UserError
from resnet_jax.fields import FIELDS
from resnet_jax.models import gates as gates_of
from resnet_jax.models.gates import Gate
from resnet_jax.training import feed, parallel, train
from resnet_jax.training.interventions import (
    PATTERNS,
    block_gates,
    check_gates,
    gates_at,
    interventions_of,
)
from resnet_jax.training.program import evaluate, make_program
from tests.models.nets import evaluated, images, loss_and_gradients, quick_jit, small_net

pytestmark = pytest.mark.usefixtures("quick_compiling")
IMAGE = (8, 8, 1)


def prepared(config):
    """Return the program of ``config`` on one device, its inputs and the ranges of the splits."""
    mesh = parallel.device_mesh(jax.devices()[:1])
    program = make_program(config, 10, mesh)
    dataset = data.load(config.data)
    examples, splits = feed.place(dataset, data.normalisation(dataset, config.data), config.seed, mesh)
    return program, examples._replace(**program.interventions(IMAGE)._asdict()), splits


def batches(config, splits, steps):
    return sampling.batch_indices(config.seed, steps, config.batch_size, len(splits["train"]))


def trained(config, steps=range(3)):
    """Return the losses of ``steps``, the state after them and the mean test loss."""
    program, examples, splits = prepared(config)
    state, metrics = program.train_steps(program.init(IMAGE), examples, batches(config, splits, steps))
    figures = evaluate(program, state, examples, sampling.evaluation_batches(splits["test"], 104))
    return np.asarray(metrics["loss"]), state, figures["loss"]


def schedule(config):
    return interventions_of(config, models.build(config.model, 10), IMAGE).gates


def gate_in(collection, stage, block="block0"):
    return Gate(*np.asarray(collection[stage][block]["gate"], float))


def test_a_config_without_interventions_leaves_the_ungated_program(config):
    assert interventions_of(config, models.build(config.model, 10), IMAGE) == (None, None)


def test_every_route_and_pattern_of_the_table_of_fields_is_there():
    assert tuple(gates_of.ROUTES) == FIELDS["gates.route"].choices
    assert tuple(PATTERNS) == FIELDS["gates.without"].choices


@pytest.mark.parametrize(
    ("fields", "stage2"),
    [
        ({"route": "stop_gradient"}, gates_of.STOP_GRADIENT),
        ({"route": "mirror"}, gates_of.MIRROR),
        ({"route": "shortcut_gradient_only"}, gates_of.SHORTCUT_GRADIENT_ONLY),
        ({"shortcut_factor": (0.5,)}, Gate(0.5, 0.5, 1, 1)),
        ({"shortcut_factor": (1.0, 0.25, 1.0)}, Gate(0.25, 0.25, 1, 1)),
        ({"shortcut_gradient": (2.0,)}, Gate(1, 2, 1, 1)),
        ({"route": "mirror", "shortcut_factor": (0.5,), "shortcut_gradient": (3.0,)}, Gate(0, 1.5, 1, 1)),
        ({"branch_factor": (1, 0, 1), "branch_gradient": (0.5,)}, Gate(1, 1, 0, 0.5)),
    ],
)
def test_factors_multiply_the_gate_of_the_route_in_the_blocks_of_their_stage(config, fields, stage2):
    config.gates.update(fields)
    gates = schedule(config)
    for step in (0, 5, config.steps):
        assert gate_in(gates_at(gates, step), "stage2") == stage2
    if len(fields.get("shortcut_factor", ())) == 3:
        assert gate_in(gates.first, "stage1") == gate_in(gates.first, "stage3") == gates_of.RESIDUAL


def names(*blocks_by_stage):
    return {f"stage{stage}/block{block}" for stage, blocks in enumerate(blocks_by_stage, 1) for block in blocks}


WITHOUT = {
    ("every_second", 20): names([1], [0, 2], [1]),
    ("every_second", 56): names([1, 3, 5, 7], [0, 2, 4, 6, 8], [1, 3, 5, 7]),
    ("all_but_first", 20): names([1, 2], [1, 2], [1, 2]),
    ("all_but_first", 56): names(range(1, 9), range(1, 9), range(1, 9)),
    ("last_stage", 20): names([], [], [0, 1, 2]),
    ("last_stage", 56): names([], [], range(9)),
}


@pytest.mark.parametrize(("pattern", "depth"), WITHOUT)
def test_a_pattern_removes_the_shortcuts_of_its_blocks(config, pattern, depth):
    config.model.depth, config.gates.without, config.gates.final = depth, pattern, (0.5, 1, 1, 1)
    blocks = models.block_names(models.build(config.model, 10), IMAGE)
    assert len(blocks) == (depth - 2) / 2
    first, last = block_gates(config.gates, blocks)
    assert {block for block, gate in first.items() if gate == gates_of.PLAIN} == WITHOUT[pattern, depth]
    assert {block for block, gate in first.items() if gate == gates_of.RESIDUAL} == {*blocks} - WITHOUT[pattern, depth]
    assert {block for block, gate in last.items() if gate == gates_of.PLAIN} == WITHOUT[pattern, depth]


def test_patterns_follow_the_stages_of_every_family():
    """Inception-ResNet-v2 has stages of 10, 20, 9 and 1 blocks."""
    blocks = [f"stage{stage}/block{block}" for stage, count in enumerate((10, 20, 9, 1), 1) for block in range(count)]
    assert PATTERNS["last_stage"](blocks) == {"stage4/block0"}
    assert blocks[0] not in PATTERNS["every_second"](blocks)
    assert len(PATTERNS["every_second"](blocks)) == 20
    assert len(PATTERNS["all_but_first"](blocks)) == 9 + 19 + 8 + 0


def test_a_residual_inception_net_takes_patterns_and_one_factor_a_block(config):
    config.model.family, config.model.depth = "inception", 44
    config.gates.without, config.gates.branch_factor = "last_stage", (1, 2, 3, 4, 5, 6, 7, 8, 9)
    first = models.unstack(schedule(config).first)
    found = {f"{stage}/{block}": Gate(*leaf.tolist()) for (stage, block, _), leaf in first.items()}
    kept = {
        f"stage{stage}/block{block}": Gate(stage < 3, stage < 3, 3 * stage + block - 2, 1)
        for stage in (1, 2, 3)
        for block in (0, 1, 2)
    }
    assert found == kept


def test_a_number_for_each_block_is_the_number_of_its_stage_where_these_agree(config):
    config.model.depth = 20
    blocks = models.block_names(models.build(config.model, 10), IMAGE)
    for field in ("shortcut_factor", "shortcut_gradient", "branch_factor", "branch_gradient"):
        config.gates[field] = (1, 0.5, 0)
        by_stage = block_gates(config.gates, blocks)
        config.gates[field] = (1, 1, 1, 0.5, 0.5, 0.5, 0, 0, 0)
        assert block_gates(config.gates, blocks) == by_stage
    config.gates.shortcut_factor = (1, 1, 1, 0.5, 0.25, 0.5, 0, 0, 0)
    changed = {name for name, gate in block_gates(config.gates, blocks)[0].items() if gate != by_stage[0][name]}
    assert changed == {"stage2/block1"}


def test_a_pattern_multiplies_the_other_gates(config):
    config.gates.without, config.gates.route = "every_second", "stop_gradient"
    config.gates.shortcut_factor, config.gates.branch_factor = (0.5, 0.5, 3), (2,)
    first, _ = block_gates(config.gates, ["stage1/block0", "stage2/block0", "stage3/block0"])
    assert [*first.values()] == [Gate(0.5, 0, 2, 1), Gate(0, 0, 2, 1), Gate(3, 0, 2, 1)]


def hand_written(params, images, without):
    """Return the logits, in training, of a residual net of basic blocks whose blocks ``without`` are plain."""

    def layer(x, name, number="", stride=1):
        kernel, order = params[f"{name}/conv{number}/kernel"], ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(x, kernel, (stride, stride), [(1, 1), (1, 1)], dimension_numbers=order)
        mean, var = x.mean((0, 1, 2), keepdims=True), x.var((0, 1, 2), keepdims=True)
        scale, bias = (params[f"{name}/bn{number}/{part}"].reshape(1, 1, 1, -1) for part in ("scale", "bias"))
        return (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias

    x = jax.nn.relu(layer(images, "stem"))
    for block in sorted(path.removesuffix("/conv1/kernel") for path in params if path.endswith("/conv1/kernel")):
        stride = 2 if block == "stage2/block0" else 1
        y = layer(jax.nn.relu(layer(x, block, 1, stride)), block, 2)
        if block not in without:
            half = (y.shape[-1] - x.shape[-1]) // 2
            y += jnp.pad(x[:, ::stride, ::stride], [(0, 0), (0, 0), (0, 0), (half, half)])
        x = jax.nn.relu(y)
    return x.mean((1, 2)) @ params["head/kernel"] + params["head/bias"].reshape(1, -1)


def test_value_and_gradients_without_every_second_shortcut_are_those_of_a_hand_written_net(config):
    config.gates.without = "every_second"
    model = small_net((3, 2))
    blocks = models.block_names(model, IMAGE)
    variables, x = models.initial_variables(model, 0, IMAGE), images(IMAGE, batch=8)
    gated = variables | {"gates": models.gate_blocks(model, IMAGE, block_gates(config.gates, blocks)[0])}
    (value, _), gradients = loss_and_gradients(model, gated, x)

    def loss_by_hand(params):
        return -jax.nn.log_softmax(hand_written(params, x, names([1], [0])))[:, 0].mean()

    expected, expected_gradients = quick_jit(jax.value_and_grad(loss_by_hand))(by_block(variables["params"]))
    assert value == pytest.approx(expected, rel=1e-4)
    for path, gradient in by_block(gradients).items():
        np.testing.assert_allclose(gradient, expected_gradients[path], rtol=2e-2, atol=1e-4, err_msg=path)


def test_a_pattern_has_the_gates_of_its_factors_given_by_hand(config):
    config.gates.without = "every_second"
    pattern = schedule(config)
    config.gates.without, config.gates.shortcut_factor = "none", (1, 0, 1)
    jax.tree.map(np.testing.assert_array_equal, pattern, schedule(config))


def test_gates_move_linearly_within_the_phase_and_are_exact_outside(config):
    config.steps = 100
    config.gates.shortcut_factor, config.gates.final, config.gates.phase = (0.7,), (0, 1, 3, 1), (0.2, 0.6)
    (first, last) = (each["stage1/block0"] for each in block_gates(config.gates, ["stage1/block0"]))
    assert first == Gate(0.7, 0.7, 1, 1)
    assert last == Gate(0, 0, 3, 1)
    gates = schedule(config)
    for step, share in ((0, 0), (20, 0), (30, 0.25), (50, 0.75), (60, 1), (100, 1)):
        found = gate_in(gates_at(gates, step), "stage3")
        assert found == pytest.approx(Gate(*np.add(np.multiply(1 - share, first), np.multiply(share, last))), rel=1e-6)
        if share in (0, 1):
            assert found == Gate(*np.float32(last if share else first).astype(float))


@pytest.mark.slow
@pytest.mark.devices(8)
def test_a_phase_trains_and_evaluates_each_step_with_the_gates_of_that_step(config):
    config.steps, config.gates.final, config.gates.phase = 4, (0, 1, 1, 1), (0, 1)
    program, examples, splits = prepared(config)

    def step_by_step(inputs_of):
        losses, state = [], program.init(IMAGE)
        for step in range(4):
            state, metrics = program.train_steps(state, inputs_of(step), batches(config, splits, range(step, step + 1)))
            losses.append(metrics["loss"][0])
        return losses, state

    def constant(step):
        config.gates.shortcut_factor = (1 - step / 4,)
        return examples._replace(gates=parallel.replicate(schedule(config), program.mesh))

    losses, final = step_by_step(lambda step: examples)
    test_loss = evaluate(program, final, examples, sampling.evaluation_batches(splits["test"], 104))["loss"]
    config.gates.final = (1, 1, 1, 1)
    np.testing.assert_allclose(losses, step_by_step(constant)[0], rtol=1e-5)
    # After the last step the shortcuts are gone, so this is the plain net.
    config.model.residual, config.gates.shortcut_factor = False, (1,)
    variables = {"params": final.params, "batch_stats": final.batch_stats}
    dataset = data.load(config.data)
    mean, _ = data.normalisation(dataset, config.data)
    pixels, labels = dataset.splits["test"]
    logits = evaluated(models.build(config.model, 10), variables, pixels / np.float32(255) - mean)
    expected = -np.mean(jax.nn.log_softmax(np.asarray(logits, np.float64))[np.arange(len(labels)), labels])
    assert test_loss == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.slow
@pytest.mark.devices(8)
def test_shortcuts_times_zero_are_the_plain_net(config):
    config.gates.shortcut_factor = (0,)
    gated = trained(config)
    config.gates.shortcut_factor, config.model.residual = (1,), False
    plain = trained(config)
    np.testing.assert_allclose(gated[0], plain[0], rtol=1e-5)
    assert gated[2] == pytest.approx(plain[2], rel=1e-4)


def test_other_interventions_run_the_same_program(config):
    def lowered():
        mesh = parallel.device_mesh(jax.devices()[:1])
        program = make_program(config, 10, mesh)
        dataset = data.load(config.data)
        examples, _ = feed.place(dataset, data.normalisation(dataset, config.data), config.seed, mesh)
        examples = examples._replace(**program.interventions(IMAGE)._asdict())
        return program.train_steps.lower(program.init(IMAGE), examples, np.zeros((1, 32), np.int32)).as_text()

    config.gates.route, config.optimizer.frozen_below = "mirror", "stage2/block0"
    first = lowered()
    config.gates.route, config.gates.final, config.gates.phase = "stop_gradient", (0, 1, 1, 1), (0.5, 0.75)
    config.optimizer.frozen_below = "stage3/block0"
    assert lowered() == first


def by_block(tree):
    """Return the leaves of parameters by path, each block's on its own."""
    return {"/".join(path): np.asarray(leaf) for path, leaf in models.unstack(jax.device_get(tree)).items()}


@pytest.mark.slow
@pytest.mark.devices(8)
@pytest.mark.parametrize("residual", [True, False], ids=["residual", "plain"])
def test_all_below_a_block_stays_at_its_initial_values_to_the_bit_and_the_rest_is_trained(config, residual):
    config.model.depth, config.model.residual, config.optimizer.weight_decay = 14, residual, 0.1
    whole = by_block(trained(config, range(1))[1].params)
    config.optimizer.frozen_below = "stage2/block1"
    program, examples, splits = prepared(config)
    state, states = program.init(IMAGE), [program.init(IMAGE)]
    for step in range(3):
        state, _ = program.train_steps(state, examples, batches(config, splits, range(step, step + 1)))
        states.append(jax.tree.map(np.array, state))  # A copy: the next step takes over the memory.
    initial, after_one, _, after_three = states
    before, one, three = map(by_block, (initial.params, after_one.params, after_three.params))
    frozen = {path for path in before if path.startswith(("stem", "stage1", "stage2/block0"))}
    assert {path.split("/")[0] for path in before.keys() - frozen} == {"stage2", "stage3", "head"}
    for path in before:
        if path in frozen:
            np.testing.assert_array_equal(three[path], before[path])
        else:
            assert np.any(three[path] != before[path])
            np.testing.assert_array_equal(one[path], whole[path])  # The first step of the whole net.
    running = (by_block(each.batch_stats) for each in (initial, after_three))
    before, after = running
    assert all(np.any(after[path] != before[path]) for path in before)


@pytest.mark.slow
def test_a_run_with_a_phase_is_evaluated_with_the_gates_of_its_last_step(config, tmp_path):
    config.gates.final = (0, 1, 1, 1)
    config.optimizer.frozen_below = "stage3/block0"
    train(config, tmp_path / "run")
    net = evaluation.of_run(tmp_path / "run", parallel.device_mesh())
    assert gate_in(net.variables["gates"], "stage1") == gates_of.PLAIN


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model.residual": False, "gates.branch_factor": (0.5,)}, r"^config\.gates\.branch_factor=\(0\.5,\) needs b"),
        ({"model.family": "densenet", "model.depth": 40, "gates.route": "mirror"}, r"needs blocks with shortcuts, wh"),
        (
            {"gates.shortcut_factor": (1, 2)},
            r"^config\.gates\.shortcut_factor=\(1, 2\) has 2 numbers; give one, or one for each of the 3 stages or the",
        ),
        (
            {"model.depth": 56, "gates.branch_gradient": (1,) * 26},
            r"^config\.gates\.branch_gradient=\(1, .* 1\) has 26 numbers; .* the 3 stages or the 27 blocks, which --de",
        ),
        ({"model.residual": False, "gates.without": "last_stage"}, r"^config\.gates\.without='last_stage' needs bloc"),
        (
            {"optimizer.frozen_below": "stem"},
            r"frozen_below='stem' is not a block of residual-8; valid blocks: s",
        ),
    ],
)
def test_interventions_on_another_net_are_refused(config, fields, message):
    config.update_from_flattened_dict(fields)
    with pytest.raises(UserError, match=message):
        interventions_of(config, models.build(config.model, 10), (32, 32, 3))


@pytest.mark.parametrize(
    ("field", "value"),
    [("route", "mirror"), ("without", "last_stage"), ("shortcut_factor", (1, 0, 1)), ("final", (0, 1, 1, 1))],
)
def test_removed_shortcuts_are_refused_where_blocks_are_dropped(config, field, value):
    config.model.survival, config.gates[field] = 0.5, value
    message = rf"^config\.gates\.{field}=.* removes shortcuts, but with config\.model\.survival=0\.5 a dropped block is"
    with pytest.raises(UserError, match=message):
        make_program(config, 10)


def test_scaled_shortcuts_are_accepted_where_blocks_are_dropped(config):
    config.model.survival = 0.5
    config.gates.shortcut_factor, config.gates.shortcut_gradient, config.gates.branch_factor = (0.5,), (0,), (0,)
    check_gates(config)


def test_a_config_without_the_field_of_patterns_has_all_shortcuts(config):
    recorded = config.to_dict()
    del recorded["gates"]["without"]
    assert from_record(recorded, version=2).gates == config.gates


def test_a_factor_that_was_one_number_is_read_as_a_tuple(config):
    recorded = config.to_dict()
    recorded["gates"] = {"shortcut_factor": 0.5, "branch_factor": 1.0}
    read = from_record(recorded, version=2)
    assert read.gates.shortcut_factor == (0.5,)
    assert read.gates.to_dict() == config.gates.to_dict() | {"shortcut_factor": (0.5,)}
