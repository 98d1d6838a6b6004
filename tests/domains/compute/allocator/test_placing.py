"""Shares on devices: only where the hardware lets them begin, all of a workload's or none, and back again."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelops.domains.compute.allocator.devices import GPUS, offers, room, shares_of_pool
from modelops.domains.compute.allocator.model import Device, Placed, Pool, PoolMode
from modelops.domains.compute.allocator.placing import Bay, Need

# Facts of NVIDIA's MIG user guide and of `nvidia-smi mig -lgipp`: where an instance may begin, and how many slices it takes.
A30 = {"1g.6gb": ((0, 1, 2, 3), 1), "2g.12gb": ((0, 2), 2), "4g.24gb": ((0,), 4)}
SEVEN = {
    "1g.10gb": ((0, 1, 2, 3, 4, 5, 6), 1),
    "1g.20gb": ((0, 2, 4, 6), 2),
    "2g.20gb": ((0, 2, 4), 2),
    "3g.40gb": ((0, 4), 4),
    "4g.40gb": ((0,), 4),
    "7g.80gb": ((0,), 8),
}


def bay(mode=PoolMode.MIG, model="H100-80GB", devices=1, nodes=1, replicas=1):
    named = tuple(Device(f"gpu{number}", f"node{number % nodes}") for number in range(devices))
    return Bay(Pool("p", "f", mode, named, model, replicas))


def place(where, *profiles, count=1):
    return where.place([Need("main", pod, profile, count) for pod, profile in enumerate(profiles)])


@pytest.mark.parametrize(("model", "table"), [("A30", A30), ("H100-80GB", SEVEN), ("A100-80GB", SEVEN)])
def test_the_tables_are_nvidias(model, table):
    for name, (starts, size) in table.items():
        assert (GPUS[model].profiles[name].starts, GPUS[model].profiles[name].size) == (starts, size)
    assert all(max(each.starts) + each.size <= GPUS[model].slices for each in GPUS[model].profiles.values())


@pytest.mark.parametrize("model", sorted(GPUS))
def test_a_gpu_takes_as_many_of_a_profile_as_it_may_and_no_more(model):
    for name, profile in GPUS[model].profiles.items():
        where = bay(model=model)
        assert len(place(where, *[name] * profile.limit)) == profile.limit
        assert place(where, name) is None
        assert sum(GPUS[model].profiles[name].shares for _ in range(profile.limit)) <= GPUS[model].shares


def test_slices_that_are_free_but_apart_hold_nothing_large():
    where = bay()
    held = place(where, *["1g.10gb"] * 7)
    for each in held:
        if each.start in (0, 1, 2, 4, 5):
            where.free(each)
    assert {each.start for each in held} == set(range(7))
    assert place(where, "3g.40gb") is None, "five slices are free, but not four of them where one may begin"
    assert len(place(where, "2g.20gb", "2g.20gb")) == 2


def test_small_ones_are_put_where_the_large_still_fit():
    where = bay(devices=2)
    for _ in range(3):
        place(where, "1g.10gb")
    assert place(where, "7g.80gb") is not None, "all the small ones went to one GPU"
    assert place(where, "3g.40gb") is not None, "and to one half of it"


def test_all_of_a_workload_is_placed_or_nothing():
    where = bay(devices=1)
    before = list(where.taken)
    assert place(where, "3g.40gb", "3g.40gb", "1g.10gb") is None
    assert where.taken == before
    assert len(place(where, "4g.40gb", "3g.40gb")) == 2


def test_a_mixture_is_placed_even_if_the_best_places_lead_nowhere():
    where = bay()
    blocked = where.held(Placed("x", 0, "p", "gpu0", "1g.10gb", 6))
    where.take(blocked)
    assert len(place(where, "3g.40gb", "2g.20gb")) == 2


def test_the_devices_of_a_pod_are_on_one_node():
    where = bay(PoolMode.WHOLE, devices=8, nodes=2)
    held = place(where, "", count=4)
    assert {each.device % 2 for each in held} in ({0}, {1})
    assert place(where, "", count=5) is None
    assert len(place(where, "", count=4)) == 4
    assert place(where, "") is None


def test_turns_are_spread_and_counted():
    where = bay(PoolMode.TIME_SLICE, devices=2, replicas=3)
    held = place(where, "", "")
    assert {each.device for each in held} == {0, 1}
    assert len(place(where, "", "", "", "")) == 4
    assert place(where, "") is None
    assert shares_of_pool(where.pool) == 6


def test_nothing_new_lies_on_a_device_that_is_not_healthy():
    pool = Pool("p", "f", PoolMode.WHOLE, (Device("bad", healthy=False), Device("good")))
    held = Bay(pool).place([Need("main", 0, "", 1)])
    assert [each.placed().device for each in held] == ["good"]
    assert not offers(pool, "1g.10gb")


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), model=st.sampled_from(sorted(GPUS)))
def test_shares_never_overlap_and_what_is_freed_can_be_had_again(seed, model):
    random, where = Random(seed), bay(model=model, devices=2)
    profiles = GPUS[model].profiles
    held = []
    for _ in range(40):
        if held and random.random() < 0.4:
            where.free(held.pop(random.randrange(len(held))))
        else:
            name = random.choice(sorted(profiles))
            before = list(where.taken)
            found = place(where, name)
            if found is None:
                assert where.taken == before
                limit = profiles[name].limit
                for device, taken in enumerate(before):
                    has = sum(each.device == device and each.profile == name for each in held)
                    assert room(model, taken, name) == 0 or has == limit
            held += found or []
        taken = [0, 0]
        for each in held:
            profile = profiles[each.profile]
            bits = ((1 << profile.size) - 1) << each.start
            assert each.start in profile.starts
            assert not taken[each.device] & bits
            taken[each.device] |= bits
        assert taken == where.taken
        for device in (0, 1):
            mine = [each.profile for each in held if each.device == device]
            assert sum(profiles[name].shares for name in mine) <= GPUS[model].shares
            assert all(mine.count(name) <= profiles[name].limit for name in set(mine))
    for each in held:
        where.free(each)
    assert where.taken == [0, 0]
