"""What replicas tell, and what follows from two such tellings."""

from hypothesis import given
from hypothesis import strategies as st
from tests.domains.serving.metering import exposition

from modelops.domains.serving.replicas.figures import Counted, Reading, Spread, Told, summed, together
from modelops.domains.serving.replicas.reading import told_by
from modelops.domains.serving.scaling.observations import KEPT_S, Observations
from modelops.domains.serving.scaling.scaling import sample_of
from modelops.domains.serving.schemas import ReplicaStats

BOUNDS = (0.01, 0.1)


def told(requests=0, **about):
    return told_by(ReplicaStats.model_validate_json(exposition(requests=requests, **about)))


def test_figures_are_read():
    found = told(10, failed=2, inflight=3, waiting=4, latencies=(5, 4, 1), total_s=1.5, waits=(9, 0, 1))
    assert (found.inflight, found.waiting) == (3, 4)
    assert found.variants == {
        "champion": Counted(10, 2, 2, Spread(BOUNDS, (5, 4, 1), 1.5), Spread(BOUNDS, (9, 0, 1), 0.0))
    }


@given(st.lists(st.integers(0, 50), min_size=3, max_size=3), st.floats(0.01, 1))
def test_a_quantile_lies_in_its_bucket(counts, share):
    value = Spread(BOUNDS, tuple(counts)).quantile_ms(share)
    if sum(counts) == 0:
        assert value is None
        return
    rank, cumulated = share * sum(counts), [sum(counts[: n + 1]) for n in range(3)]
    bucket = next(n for n, total in enumerate(cumulated) if total >= rank and counts[n])
    low, high = [(0, 10), (10, 100), (100, 100)][bucket]
    assert low - 1e-9 <= value <= high + 1e-9


def test_what_was_counted_since():
    before, now = Reading(0.0, {"a": told(5), "b": None}), Reading(1.0, {"a": told(8), "b": told(70), "c": told(2)})
    grown = now.since(before)
    assert grown["champion"].requests == 3 + 2  # b did not answer before: nothing is known of it; c is new
    assert Reading(2.0, {"a": None}).since(now) == {}


def test_one_that_began_anew_counts_from_nothing():
    before, now = (
        Reading(0.0, {"a": told(500, latencies=(500, 0, 0))}),
        Reading(1.0, {"a": told(3, latencies=(3, 0, 0))}),
    )
    assert now.since(before)["champion"].latencies.counts == (3, 0, 0)


def test_sums():
    one = Counted(1, 0, 0, Spread(BOUNDS, (1, 0, 0), 0.5))
    assert summed([one, one, Counted()]).latencies == Spread(BOUNDS, (2, 0, 0), 1.0)
    assert together([]) == Spread()
    assert together([Spread(BOUNDS, (1, 0, 0)), Spread((1.0,), (1, 1))]).counts == (1, 0, 0)


class TestSamples:
    def test_a_fast_model_is_measured_by_the_time_its_requests_took(self):
        """Whoever looks finds nobody in it, but requests took two seconds of one: two were there at once."""
        before, now = (
            Reading(0.0, {"a": told(0)}),
            Reading(1.0, {"a": told(2_000, total_s=2.0, latencies=(2_000, 0, 0))}),
        )
        sample = sample_of(now, before, 1, asked=False)
        assert (sample.inflight, sample.asked, sample.complete) == (2.0, True, True)

    def test_a_slow_one_by_who_is_there(self):
        before, now = (
            Reading(0.0, {"a": told(0)}),
            Reading(1.0, {"a": told(0, inflight=1, waiting=6, waits=(0, 20, 0))}),
        )
        sample = sample_of(now, before, 2, asked=False)
        assert (sample.inflight, sample.wait_ms, sample.asked) == (7.0, 95.5, False)
        assert not sample.complete

    def test_explanations_are_asked_for_too(self):
        before, now = Reading(0.0, {"a": told(explanations=1)}), Reading(1.0, {"a": told(explanations=2), "b": None})
        assert sample_of(now, before, 1, asked=False).asked
        assert not sample_of(now, now, 1, asked=False).asked

    def test_nobody_knows_what_a_silent_one_does(self):
        sample = sample_of(Reading(1.0, {"a": None, "b": Told()}), None, 2, asked=False)
        assert (sample.answered, sample.complete, sample.wait_ms) == (1, False, None)


class TestObservations:
    def test_readings_are_kept_for_a_while(self):
        known = Observations()
        for at in range(20):
            known.add("d", Reading(float(at), {}))
        assert known.before("d", 15.5).at == 15.0
        assert known.before("d", 0.0).at == 19.0 - KEPT_S
        assert known.latest("d").at == 19.0
        assert known.before("other", 1.0) is None

    def test_old_ones_say_nothing(self):
        known = Observations()
        known.add("d", Reading(0.0, {}))
        assert known.before("d", 100.0) is None

    def test_who_asked_last(self):
        known = Observations()
        assert known.asked_at("d") == float("-inf")
        known.asked("d", 3.0)
        known.rest("d")
        assert known.asked_at("d") == 3.0

    def test_it_remembers_so_many(self):
        known = Observations()
        for number in range(5_000):
            known.asked(f"d{number}", 1.0)
        assert known.asked_at("d0") == float("-inf")
        assert known.asked_at("d4999") == 1.0
