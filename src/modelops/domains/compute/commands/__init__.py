"""The commands of compute, a file a group."""
