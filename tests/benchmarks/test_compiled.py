"""Work, exchange and transfers, read from a program's text."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.programs.compiled import CompiledProgram, Exchange, Work, collectives, host_transfers, work

# A loop of five turns that XLA does not state. A turn takes one of five rows of 4 x 8, adds it to a sum and stores the
# sum; the sum is exchanged while the row is copied, then copied to the host.
HAND_WRITTEN = """HloModule written_by_hand, is_scheduled=true

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add = f32[] add(%a, %b)
}

%fused (rows: bf16[5,4,8], total: f32[4,8], row: s32[]) -> f32[4,8] {
  %rows = bf16[5,4,8]{2,1,0} parameter(0)
  %total = f32[4,8]{1,0} parameter(1)
  %row = s32[] parameter(2)
  %zero = s32[] constant(0)
  %slice = bf16[1,4,8]{2,1,0} dynamic-slice(%rows, %row, %zero, %zero), dynamic_slice_sizes={1,4,8}
  %bits = bf16[4,8]{1,0} bitcast(%slice)
  %wide = f32[4,8]{1,0} convert(%bits)
  ROOT %sum.1 = f32[4,8]{1,0} add(%wide, %total)
}

%body (state: (s32[], bf16[5,4,8], f32[4,8], f32[5,4,8])) -> (s32[], bf16[5,4,8], f32[4,8], f32[5,4,8]) {
  %state = (s32[], bf16[5,4,8]{2,1,0}, f32[4,8]{1,0}, /*index=3*/f32[5,4,8]{2,1,0}) parameter(0)
  %turn = s32[] get-tuple-element(%state), index=0
  %one = s32[] constant(1)
  %zero.1 = s32[] constant(0)
  %next = s32[] add(%turn, %one)
  %rows.1 = bf16[5,4,8]{2,1,0} get-tuple-element(%state), index=1
  %total.1 = f32[4,8]{1,0} get-tuple-element(%state), index=2
  %store = f32[5,4,8]{2,1,0} get-tuple-element(%state), index=3
  %more = f32[4,8]{1,0} fusion(%rows.1, %total.1, %turn), calls=%fused, metadata={op_name="jit(f)/while/body/mul"}
  %start = f32[4,8]{1,0} all-reduce-start(%more), to_apply=%sum, metadata={op_name="jit(f)/while/body/psum"}
  %update = f32[1,4,8]{2,1,0} bitcast(%more)
  %stored = f32[5,4,8]{2,1,0} dynamic-update-slice(%store, %update, %turn, %zero.1, %zero.1)
  %done = f32[4,8]{1,0} all-reduce-done(%start)
  ROOT %result = (s32[], bf16[5,4,8]{2,1,0}, f32[4,8]{1,0}, f32[5,4,8]{2,1,0}) tuple(%next, %rows.1, %done, %stored)
}

%condition (state.1: (s32[], bf16[5,4,8], f32[4,8], f32[5,4,8])) -> pred[] {
  %state.1 = (s32[], bf16[5,4,8]{2,1,0}, f32[4,8]{1,0}, f32[5,4,8]{2,1,0}) parameter(0)
  %turn.1 = s32[] get-tuple-element(%state.1), index=0
  %end = s32[] constant(7)
  ROOT %less = pred[] compare(%turn.1, %end), direction=LT
}

ENTRY %main (x: bf16[5,4,8], y: f32[4,8], z: f32[5,4,8]) -> f32[4,8] {
  %x = bf16[5,4,8]{2,1,0:T(8,128)} parameter(0)
  %y = f32[4,8]{1,0} parameter(1)
  %z = f32[5,4,8]{2,1,0} parameter(2)
  %first = s32[] constant(2)
  %begin = (s32[], bf16[5,4,8]{2,1,0}, f32[4,8]{1,0}, f32[5,4,8]{2,1,0}) tuple(%first, %x, %y, %z)
  %loop = (s32[], bf16[5,4,8]{2,1,0}, f32[4,8]{1,0}, f32[5,4,8]{2,1,0}) while(%begin), condition=%condition, body=%body
  %last = f32[4,8]{1,0} get-tuple-element(%loop), index=2
  %near = f32[4,8]{1,0:T(8,128)S(1)} copy(%last), backend_config={"window_config":{"estimated_cycles":"30"}}
  ROOT %away = f32[4,8]{1,0:S(5)} copy(%near)
}
"""


def on_cpu(function, *arguments):
    return CompiledProgram(jax.jit(function).lower(*arguments).compile().as_text())


def runs_of(program, opcode):
    return sum(run.times for run in program.runs() if run.instruction.opcode == opcode)


def test_a_loop_counts_as_often_as_it_turns_and_a_fusion_and_an_asynchronous_pair_once():
    program = CompiledProgram(HAND_WRITTEN)
    assert program.unknown_loops() == 0
    assert {kind: each.kernels for kind, each in work(program).items()} == {
        "add": 5,
        "mul": 5,
        "psum": 5,
        "dynamic_update_slice": 5,
        "copy": 2,
    }


def test_a_slice_moves_only_its_own_bytes():
    moved = {kind: each.bytes for kind, each in work(CompiledProgram(HAND_WRITTEN)).items()}
    row = 4 * 8
    assert moved["mul"] == 5 * (2 * row + 4 * row + 4 * row + 4)  # The row, the sum before and after, the index.
    assert moved["dynamic_update_slice"] == 5 * 2 * 4 * row
    assert moved["psum"] == 5 * 2 * 4 * row


def test_vector_memory_is_not_the_devices_memory_and_cycles_are_the_compilers_estimates():
    copied = work(CompiledProgram(HAND_WRITTEN))["copy"]
    assert copied == Work(kernels=2, bytes=4 * 4 * 8, cycles=30)


def test_tpus_pad_arrays_to_whole_tiles():
    program = CompiledProgram(HAND_WRITTEN)
    array = program.computations["main"]["x"].arrays[0]
    assert array.bytes == 2 * 5 * 4 * 8
    assert array.padded_bytes == 2 * 5 * 8 * 128


def test_an_exchange_counts_the_instructions_that_run_meanwhile():
    exchange = Exchange(number=5, bytes=5 * 4 * 4 * 8, meanwhile=5)
    assert collectives(CompiledProgram(HAND_WRITTEN)) == {"all-reduce": exchange}
    waiting = HAND_WRITTEN.replace("all-reduce-start(", "all-reduce(").replace("all-reduce-done(", "copy(")
    assert collectives(CompiledProgram(waiting)) == {"all-reduce": exchange._replace(meanwhile=0)}


def test_an_exchange_in_a_fusion_is_found():
    text = """HloModule fused
%together (x: f32[10]) -> f32[10] {
  %x = f32[10]{0} parameter(0)
  ROOT %all = f32[10]{0} all-reduce(%x), replica_groups={{0,1}}, to_apply=%sum
}
ENTRY %main (y: f32[10]) -> f32[10] {
  %y = f32[10]{0} parameter(0)
  ROOT %both = f32[10]{0} fusion(%y), kind=kCustom, calls=%together
}
"""
    assert collectives(CompiledProgram(text)) == {"all-reduce": Exchange(number=1, bytes=40, meanwhile=0)}


def test_a_copy_to_the_memory_of_the_host_is_a_host_transfer():
    assert host_transfers(CompiledProgram(HAND_WRITTEN)) == 1
    assert host_transfers(CompiledProgram(HAND_WRITTEN.replace("S(5)", ""))) == 0


def test_a_callback_is_a_host_transfer_at_every_turn():
    def function(x):
        def turn(x, _):
            return jax.pure_callback(lambda y: y, jax.ShapeDtypeStruct((3,), jnp.float32), x), None

        return jax.lax.scan(turn, x, length=4)[0]

    assert host_transfers(on_cpu(function, jnp.ones(3))) == 4


def test_loops_in_loops_multiply():
    def function(x):
        def three(x, _):
            return jax.lax.scan(lambda x, _: (x @ x, None), x, length=3)[0] * 2, None

        return jax.lax.scan(three, x, length=5)[0]

    program = on_cpu(function, jnp.ones((64, 64)))
    assert runs_of(program, "dot") == 15
    assert work(program)["dot_general"].bytes == 15 * 2 * 4 * 64 * 64  # Both operands are the same array.


def test_a_loop_without_a_known_end_counts_once_and_is_reported():
    program = on_cpu(lambda x: jax.lax.while_loop(lambda x: x.sum() < 100, lambda x: x @ x, x), jnp.ones((64, 64)))
    assert program.unknown_loops() == 1
    assert runs_of(program, "dot") == 1


def test_the_branch_of_a_conditional_with_more_work_counts():
    def function(x, many):
        return jax.lax.cond(many, lambda x: x @ x @ (x + 1), lambda x: x @ x, x)

    assert runs_of(on_cpu(function, jnp.ones((64, 64)), True), "dot") == 2


def test_text_that_is_no_program_is_refused():
    with pytest.raises(ValueError, match="ENTRY"):
        CompiledProgram("nothing")
