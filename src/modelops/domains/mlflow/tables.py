"""Rows of what only MLflow knows."""

from datetime import datetime

from sqlalchemy import BigInteger, Double, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from modelops.kernel.database import Base, InProject, JsonColumn, Moment, Tracked


class FileRow(Base):
    """A file of the artifact proxy's tree that is no run's: a logged model's, a trace's, or the project's own."""

    __tablename__ = "mlflow_files"

    project_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    owner: Mapped[str] = mapped_column(String(80), primary_key=True)
    path: Mapped[str] = mapped_column(String(500), primary_key=True)
    digest: Mapped[str] = mapped_column(String(80), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    media_type: Mapped[str] = mapped_column(String(200))


class LoggedModelRow(Tracked, InProject, Base):
    __tablename__ = "mlflow_logged_models"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    experiment_id: Mapped[str] = mapped_column(String(40), index=True)
    location: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(String(250))
    model_type: Mapped[str] = mapped_column(String(250))
    source_run_id: Mapped[str] = mapped_column(String(250), index=True)
    status: Mapped[str] = mapped_column(String(20))
    tags: Mapped[dict[str, str]] = mapped_column(JsonColumn)
    params: Mapped[dict[str, str]] = mapped_column(JsonColumn)
    updated_at: Mapped[datetime] = mapped_column(Moment)
    deleted_at: Mapped[datetime | None] = mapped_column(Moment)


class LoggedModelMetricRow(Base):
    """A point of a metric of a logged model. The whole point is the key, so one that is sent again is the same row."""

    __tablename__ = "mlflow_logged_model_metrics"

    model_id: Mapped[str] = mapped_column(ForeignKey("mlflow_logged_models.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(250), primary_key=True)
    run_id: Mapped[str] = mapped_column(String(40), primary_key=True, index=True)
    time_us: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    value: Mapped[float] = mapped_column(Double)
    is_nan: Mapped[bool]
    dataset_name: Mapped[str] = mapped_column(String(500))
    dataset_digest: Mapped[str] = mapped_column(String(100))


class DatasetRow(InProject, Base):
    """A data set as a run named it; nothing says that it is kept here."""

    __tablename__ = "mlflow_datasets"
    __table_args__ = (UniqueConstraint("experiment_id", "name", "digest"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    experiment_id: Mapped[str] = mapped_column(String(40))
    name: Mapped[str] = mapped_column(String(500))
    digest: Mapped[str] = mapped_column(String(100))
    source_type: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text)
    schema: Mapped[str | None] = mapped_column(Text)
    profile: Mapped[str | None] = mapped_column(Text)


class DatasetInputRow(Base):
    __tablename__ = "mlflow_dataset_inputs"

    run_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("mlflow_datasets.id"), primary_key=True, index=True)
    tags: Mapped[dict[str, str]] = mapped_column(JsonColumn)


class RunModelRow(Base):
    """That a run took a logged model (`input`) or made it (`output`)."""

    __tablename__ = "mlflow_run_models"

    run_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    kind: Mapped[str] = mapped_column(String(10), primary_key=True)
    model_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
