"""Rows of studies.

Trials lie by their study and number; a change of one is counted by its study, so that a worker reads what it has not seen.
Documents are kept as their own JSON text: they are written often and never searched.
"""

from datetime import datetime

from sqlalchemy import BigInteger, Double, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from modelops.kernel.database import Base, BigId, InProject, JsonColumn, Moment, Revised, Tracked, sparse_index

_CLUSTERED = {"sqlite_with_rowid": False}


class StudyRow(Tracked, Revised, InProject, Base):
    """A study. `changes` counts those of its trials; `best_at` is how many were complete when the best one was."""

    __tablename__ = "studies"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    number: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(40), unique=True)
    name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(Text)
    objectives: Mapped[str] = mapped_column(Text)
    space: Mapped[str | None] = mapped_column(Text)
    sampler: Mapped[str] = mapped_column(Text)
    pruner: Mapped[str] = mapped_column(Text)
    experiment_id: Mapped[str] = mapped_column(String(40))
    max_trials: Mapped[int | None] = mapped_column(Integer)
    max_seconds: Mapped[float | None] = mapped_column(Double)
    target: Mapped[float | None] = mapped_column(Double)
    patience: Mapped[int | None] = mapped_column(Integer)
    max_failures: Mapped[int | None] = mapped_column(Integer)
    retries: Mapped[int] = mapped_column(Integer)
    lease_s: Mapped[float] = mapped_column(Double)
    tags: Mapped[dict[str, str]] = mapped_column(JsonColumn)
    state: Mapped[str] = mapped_column(String(20))
    reason: Mapped[str | None] = mapped_column(Text)
    trials: Mapped[int] = mapped_column(Integer)
    completed: Mapped[int] = mapped_column(Integer)
    pruned: Mapped[int] = mapped_column(Integer)
    failed: Mapped[int] = mapped_column(Integer)
    best_value: Mapped[float | None] = mapped_column(Double)
    best_number: Mapped[int | None] = mapped_column(Integer)
    best_at: Mapped[int] = mapped_column(Integer)
    changes: Mapped[int] = mapped_column(BigInteger)
    started_at: Mapped[datetime | None] = mapped_column(Moment)
    ended_at: Mapped[datetime | None] = mapped_column(Moment)


class TrialRow(Base):
    """A trial. `attempt` grows each time that a worker takes it, and fences the one before; `lapses` counts silences.

    `ask_key` is the worker's own name for its request, so that one that is sent again gets the same trial.
    """

    __tablename__ = "trials"
    __table_args__ = (
        Index("ix_trials_study_number_change", "study_number", "change"),
        sparse_index("trials", "study_number", "ask_key", unique=True),
        sparse_index("trials", "lease_until"),
        _CLUSTERED,
    )

    study_number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    change: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(20))
    attempt: Mapped[int] = mapped_column(Integer)
    lapses: Mapped[int] = mapped_column(Integer)
    parameters: Mapped[str] = mapped_column(Text)
    space: Mapped[str] = mapped_column(Text)
    attributes: Mapped[str] = mapped_column(Text)
    system: Mapped[str] = mapped_column(Text)
    results: Mapped[str | None] = mapped_column(Text)
    value: Mapped[float | None] = mapped_column(Double)
    run_id: Mapped[str | None] = mapped_column(String(40))
    holder: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[datetime | None] = mapped_column(Moment)
    reason: Mapped[str | None] = mapped_column(Text)
    ask_key: Mapped[str | None] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(Moment)
    started_at: Mapped[datetime | None] = mapped_column(Moment)
    ended_at: Mapped[datetime | None] = mapped_column(Moment)


class IntermediateRow(Base):
    """A value that a trial reported on its way; null stands for NaN."""

    __tablename__ = "trial_values"
    __table_args__ = (Index("ix_trial_values_study_number_change", "study_number", "change"), _CLUSTERED)

    study_number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    change: Mapped[int] = mapped_column(BigInteger)
    value: Mapped[float | None] = mapped_column(Double)
