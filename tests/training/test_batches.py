"""Every kept token is supervised once, at the position that predicts it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitnet_core.errors import BitnetError
from bitnet_core.traces.dataset import TraceSequence
from bitnet_core.traces.examples import Examples, batches_in_order, collate, collate_rows
from bitnet_core.training.batches import Sampler, epoch_plan, fill_rows
from tests.training.conftest import make_sequence


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=6),
    st.integers(1, 60),
)
def test_each_supervised_state_has_read_exactly_what_precedes_its_token(
    sizes: list[tuple[int, int]], max_len: int
) -> None:
    sequences = [make_sequence(n, prompt=p, completion=c) for n, (p, c) in enumerate(sizes)]
    examples = Examples(sequences, max_len)
    cuts = examples.cuts
    batch = collate(examples)
    width = batch.ids_BT.shape[1]
    assert width <= max_len
    row = 0
    for place, (sequence, example) in enumerate(zip(sequences, examples, strict=True)):
        kept = example.supervised
        assert kept >= 1
        stream = np.concatenate([sequence.prompt_ids_P, sequence.completion_ids_C])
        for j in range(kept):
            position = int(batch.positions_N[row])
            assert position // width == place
            read = batch.ids_BT[place, : position % width + 1].tolist()
            end = len(sequence.prompt_ids_P) + j
            assert read == stream[max(0, end - len(read)) : end].tolist()
            assert len(read) == end or cuts.prompts
            assert int(batch.targets.observed_N[row]) == stream[end]
            assert batch.targets.topk_ids_NK[row].tolist() == sequence.topk_ids_CK[j].tolist()
            row += 1
    assert row == len(batch.targets) == batch.counts.ce
    assert batch.counts.kd == int(batch.targets.kd_valid_N.sum())
    assert batch.counts.format == int(batch.targets.is_struct_N.sum())
    lost = sum(len(s.completion_ids_C) for s in sequences) - row
    assert lost == cuts.completion_tokens


def test_a_long_prompt_leaves_room_for_the_head_of_the_completion() -> None:
    examples = Examples([make_sequence(0, prompt=200, completion=50)], 40)
    (example,), cuts = examples, examples.cuts
    assert example.supervised == 10
    assert example.length == 40
    assert (cuts.prompts, cuts.completions) == (1, 1)
    examples = Examples([make_sequence(0, prompt=25, completion=50)], 40)
    (example,), cuts = examples, examples.cuts
    assert example.prompt == 25  # the whole prompt is kept where it leaves a quarter of the room
    assert (cuts.prompts, cuts.completion_tokens) == (0, 50 - 16)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=90), st.integers(1, 9), st.integers(0, 99), st.integers(0, 5)
)
def test_an_epoch_has_every_sequence_once_and_pads_little(
    lengths: list[int], batch_size: int, seed: int, epoch: int
) -> None:
    plan = epoch_plan(lengths, batch_size, seed, epoch)
    assert sorted(index for batch in plan for (index,) in batch) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= batch_size for batch in plan)
    assert plan == epoch_plan(lengths, batch_size, seed, epoch)
    padded = sum(max(lengths[i] for (i,) in batch) * len(batch) for batch in plan)
    order = np.random.default_rng(0).permutation(len(lengths))
    shuffled = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if len(lengths) <= batch_size * 16 and len(lengths) > 4 * batch_size:
        assert padded <= sum(max(lengths[i] for i in batch) * len(batch) for batch in shuffled)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 64), min_size=1, max_size=120), st.integers(64, 200), st.integers(1, 5))
def test_packed_rows_hold_every_sequence_once_and_waste_little(
    lengths: list[int], capacity: int, batch_size: int
) -> None:
    rows = fill_rows(lengths, capacity)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    filled = [sum(lengths[index] for index in row) for row in rows]
    assert max(filled) <= capacity
    # Two rows that fit into one would have been one: all but one row are more than half full.
    assert sum(2 * length <= capacity for length in filled) <= 1
    plan = epoch_plan(lengths, batch_size, 0, 0, capacity)
    assert sorted(index for batch in plan for row in batch for index in row) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= batch_size for batch in plan)
    assert all(sum(lengths[index] for index in row) <= capacity for batch in plan for row in batch)


def test_a_packed_batch_supervises_what_the_unpacked_ones_do(sequences: list[TraceSequence]) -> None:
    examples = Examples(sequences[:5], 48)
    packed, single = collate_rows([examples[:3], examples[3:]]), collate(examples)
    assert packed.segments_BT is not None and single.segments_BT is None
    for field in ("observed_N", "topk_ids_NK", "topk_logprobs_NK", "is_struct_N"):
        assert torch.equal(getattr(packed.targets, field), getattr(single.targets, field))
    assert packed.counts == single.counts
    # The token read at each supervised position, and how many of its own sequence stand before it.
    for batch, other in ((packed, single), (single, packed)):
        assert torch.equal(batch.ids_BT.flatten()[batch.positions_N], other.ids_BT.flatten()[other.positions_N])
    widths = [example.length for example in examples]
    assert packed.segments_BT[0, : sum(widths[:3])].tolist() == [n for n in range(3) for _ in range(widths[n])]
    assert (packed.segments_BT[0, sum(widths[:3]) :] == -1).all()


def test_epochs_and_seeds_differ() -> None:
    lengths = list(range(1, 60))
    plans = [epoch_plan(lengths, 4, seed, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert plans[0] != plans[1] != plans[2] != plans[0]


@pytest.mark.parametrize("taken", [0, 3, 11, 25])
def test_a_restored_cursor_gives_the_same_batches(sequences: list[TraceSequence], taken: int) -> None:
    examples = Examples(sequences, 48)
    whole = Sampler(examples, 5, seed=3)
    for _ in range(taken):
        whole.next()
    again = Sampler(examples, 5, seed=3)
    again.restore(whole.state())
    for _ in range(15):
        assert torch.equal(whole.next().ids_BT, again.next().ids_BT)


def test_preparing_batches_in_threads_changes_nothing(sequences: list[TraceSequence]) -> None:
    examples = Examples(sequences, 48)
    plain, threaded = Sampler(examples, 5, 3, 48), Sampler(examples, 5, 3, 48, workers=3)
    for taken in range(40):
        if taken == 20:  # as a roll-back does
            plain.restore({"epoch": 1, "place": 1})
            threaded.restore({"epoch": 1, "place": 1})
        one, other = plain.next(), threaded.next()
        assert torch.equal(one.ids_BT, other.ids_BT) and torch.equal(one.positions_N, other.positions_N)
        assert plain.state() == threaded.state()


def test_the_fingerprint_depends_on_data_batch_size_and_seed(sequences: list[TraceSequence]) -> None:
    examples = Examples(sequences, 48)
    same = Sampler(examples, 5, seed=3).fingerprint
    assert Sampler(Examples(list(sequences), 48), 5, seed=3).fingerprint == same
    fewer = Examples(sequences[1:], 48)
    others = [Sampler(fewer, 5, seed=3), Sampler(examples, 6, seed=3), Sampler(examples, 5, seed=4)]
    assert same not in [other.fingerprint for other in others]


def test_evaluation_order_has_everything_once(sequences: list[TraceSequence]) -> None:
    examples = Examples(sequences, 48)
    batches = list(batches_in_order(examples, 7))
    assert sum(batch.counts.ce for batch in batches) == sum(example.supervised for example in examples)
    again = list(batches_in_order(list(examples), 7))
    assert all(torch.equal(a.ids_BT, b.ids_BT) for a, b in zip(batches, again, strict=True))


def test_no_examples_raise() -> None:
    with pytest.raises(BitnetError, match="no sequence"):
        Sampler(Examples([], 48), 4, 0)
