"""How a revision takes over: the strategies, and the course of a rollout by them."""
