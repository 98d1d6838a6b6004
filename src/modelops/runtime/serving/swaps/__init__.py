"""From one revision to another, in place, without a request that fails."""
