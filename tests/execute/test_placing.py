"""Nothing is given twice, whole devices stay whole, and units meet where their cache is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from benchmark.execute.costs import Needs
from benchmark.execute.placing import EIGHTHS, Node, Placer

GIB = 2**30
BIG = Node("big", cpus=16, memory_bytes=64 * GIB, n_gpus=2, gpu_bytes=80 * GIB)

needs = st.builds(
    Needs,
    cpus=st.integers(1, 4),
    memory_bytes=st.integers(0, 20).map(lambda n: n * GIB),
    n_gpus=st.integers(0, 2),
    gpu_bytes=st.none() | st.integers(1, 90).map(lambda n: n * GIB),
)


@given(st.lists(st.tuples(needs, st.booleans()), max_size=40))
def test_no_core_byte_or_device_is_ever_given_twice(steps):
    nodes = {"big": BIG, "small": Node("small", cpus=2, memory_bytes=4 * GIB)}
    placer, held = Placer(nodes.values()), []
    for wanted, give_back in steps:
        if give_back and held:
            placer.release(held.pop(0))
        slot = placer.place(wanted)
        if slot is not None:
            held.append(slot)
        for name, node in nodes.items():
            mine = [s for s in held if s.node == name]
            assert sum(s.cpus for s in mine) <= node.cpus
            assert sum(s.memory_bytes for s in mine) <= node.memory_bytes
            for gpu in range(node.n_gpus):
                assert sum(s.eighths for s in mine if gpu in s.gpus) <= EIGHTHS
    for slot in held:
        placer.release(slot)
    assert placer.used() == (0, 0.0)


def test_measured_memory_becomes_a_share_and_unknown_memory_a_whole_device():
    placer = Placer([BIG])
    quarter = [placer.place(Needs(n_gpus=1, gpu_bytes=20 * GIB)) for _ in range(2)]
    assert [(slot.gpus, slot.share) for slot in quarter] == [((0,), 0.25)] * 2  # on one device: the other stays whole
    assert placer.place(Needs(n_gpus=1)).gpus == (1,)
    assert placer.place(Needs(n_gpus=1)) is None


def test_a_job_of_two_devices_has_both_to_itself():
    placer = Placer([BIG])
    assert placer.place(Needs(n_gpus=2, gpu_bytes=GIB)).eighths == EIGHTHS
    assert placer.place(Needs(n_gpus=1, gpu_bytes=GIB)) is None
    assert not Placer([BIG]).possible(Needs(n_gpus=3))


def test_units_of_one_cache_meet_on_one_node_while_there_is_room():
    placer = Placer([Node("a", cpus=2), Node("b", cpus=4)])
    first = placer.place(Needs(), near=("rsna",))
    assert first.node == "b"  # the emptiest
    placer.place(Needs(cpus=2), near=("siim",))
    assert placer.place(Needs(), near=("rsna",)).node == first.node


def test_units_of_one_encoder_meet_where_its_features_are():
    placer = Placer([Node("a", cpus=8), Node("b", cpus=4), Node("c", cpus=9)])
    assert placer.place(Needs(cpus=8), near=("rsna", "one on rsna")).node == "c"
    assert placer.place(Needs(cpus=5), near=("rsna", "two on rsna")).node == "a"
    assert placer.place(Needs(), near=("rsna", "two on rsna")).node == "a"
    assert placer.place(Needs(), near=("rsna", "one on rsna")).node == "c"  # emptier or not: the features are there
    assert placer.place(Needs(), near=("siim",)).node == "b"


def test_what_a_node_can_never_hold_is_cut_to_all_of_it():
    placer = Placer([Node("a", cpus=2, memory_bytes=GIB)])
    slot = placer.place(Needs(cpus=8, memory_bytes=8 * GIB))
    assert (slot.cpus, slot.memory_bytes) == (2, GIB)


def test_a_node_that_left_takes_its_slots_with_it():
    placer = Placer([Node("a", cpus=2)])
    slot = placer.place(Needs())
    placer.leave("a")
    placer.release(slot)
    assert placer.place(Needs()) is None
