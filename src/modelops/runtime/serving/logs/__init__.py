"""Logged predictions: sampled, written as Arrow streams, sent to the platform once."""
