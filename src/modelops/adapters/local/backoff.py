"""When a replica that ended is started again: at once the first time, then ever later, so that one that cannot run
costs next to nothing."""

LONGEST_S = 30.0
STEADY_AFTER_S = 60.0


def failures_in_a_row(before: int, uptime_s: float) -> int:
    """Return how many times in a row a replica was started again, given the count before its last start; a replica
    that was up for a minute begins anew."""
    return 0 if uptime_s >= STEADY_AFTER_S else before


def restart_delay_s(failures: int) -> float:
    """Return the seconds to wait before the next start: 0, then 1, 2, 4, … up to 30."""
    return 0.0 if failures == 0 else min(LONGEST_S, 2.0 ** min(failures - 1, 10))
