"""Whether a candidate is worse than its champion: what is compared, by which tests."""
