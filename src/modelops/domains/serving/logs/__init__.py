"""Logged predictions on the platform: taken, kept for their time, handed out as one table."""
