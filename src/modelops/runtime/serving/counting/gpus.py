"""What the machine's GPUs do, by NVIDIA's management library (NVML), for a replica's metrics.

On where `SERVING_NVML_ENABLED` is true. All GPUs are told that the library shows, whichever of them a model uses.
"""

import importlib
import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from modelops.contracts.errors import DeploymentError

_EVERY_S = 5.0
_ON, _OFF = frozenset({"1", "true", "yes", "on"}), frozenset({"", "0", "false", "no", "off"})
_FAMILIES = (
    ("serving_gpu_utilization", "The share of the last moments in which the GPU worked, 0 to 1.", "utilization"),
    ("serving_gpu_memory_used_bytes", "Memory of the GPU in use, by whatever process.", "memory_used"),
    ("serving_gpu_memory_total_bytes", "Memory of the GPU.", "memory_total"),
    ("serving_gpu_temperature_celsius", "Temperature of the GPU.", "temperature"),
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """What one GPU did a moment ago; None is what it does not tell."""

    index: int
    uuid: str
    utilization: float | None
    memory_used: float | None
    memory_total: float | None
    temperature: float | None


class Gpus:
    """Reads the GPUs every few seconds, on a thread of its own.

    Args:
        nvml: The module `pynvml`, initialised.
    """

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._complained = False
        self.readings: Sequence[Reading] = self._read()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gpus", daemon=True)
        self._thread.start()

    def families(self, labels: Sequence[str], values: Sequence[str]) -> Iterable[Metric]:
        """Return Prometheus' families, with these labels and the GPU's own."""
        for name, text, member in _FAMILIES:
            family = GaugeMetricFamily(name, text, labels=(*labels, "gpu", "uuid"))
            for reading in self.readings:
                value = getattr(reading, member)
                if value is not None:
                    family.add_metric([*values, str(reading.index), reading.uuid], value)
            yield family

    def close(self) -> None:
        """End."""
        self._ended.set()
        self._thread.join()
        self._nvml.nvmlShutdown()

    def _run(self) -> None:
        while not self._ended.wait(_EVERY_S):
            self.readings = self._read()

    def _read(self) -> list[Reading]:
        nvml = self._nvml
        try:
            handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError as wrong:
            if not self._complained:
                _log.warning("the GPUs cannot be read any more: %s", wrong)
            self._complained = True
            return []
        return [self._reading(index, handle) for index, handle in enumerate(handles)]

    def _reading(self, index: int, handle: Any) -> Reading:
        nvml = self._nvml
        uuid, memory = self._told(nvml.nvmlDeviceGetUUID, handle), self._told(nvml.nvmlDeviceGetMemoryInfo, handle)
        rates = self._told(nvml.nvmlDeviceGetUtilizationRates, handle)
        return Reading(
            index=index,
            uuid=uuid.decode() if isinstance(uuid, bytes) else uuid or "",
            utilization=None if rates is None else rates.gpu / 100,
            memory_used=None if memory is None else memory.used,
            memory_total=None if memory is None else memory.total,
            temperature=self._told(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
        )

    def _told(self, ask: Any, *given: Any) -> Any:
        """Return what a GPU says; None where it does not tell, as parts of a divided one do not."""
        try:
            return ask(*given)
        except self._nvml.NVMLError:
            return None


def gpus_of(environ: Mapping[str, str]) -> Gpus | None:
    """Begin to read the GPUs; None where they are not to be read, and, with a warning, where they cannot be.

    Raises:
        DeploymentError: `SERVING_NVML_ENABLED` is neither true nor false.
    """
    wanted = environ.get("SERVING_NVML_ENABLED", "").lower()
    if wanted in _OFF:
        return None
    if wanted not in _ON:
        raise DeploymentError(f"SERVING_NVML_ENABLED must be true or false, not '{wanted[:40]}'.")
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        _log.warning("the GPUs cannot be read: install `modelops[gpu]`")
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as wrong:
        _log.warning("the GPUs cannot be read, for NVIDIA's library does not start: %s", wrong)
        return None
    return Gpus(nvml)
