"""Stands for NVIDIA's `pynvml` on a machine without GPUs: two of them, of which the second tells little."""

# ruff: noqa: N802 - the names are NVIDIA's

import os
from types import SimpleNamespace

NVML_TEMPERATURE_GPU = 0


class NVMLError(Exception):
    pass


def nvmlInit():
    if os.environ.get("FAKE_NVML") == "no driver":
        raise NVMLError("NVML Shared Library Not Found")


def nvmlShutdown():
    pass


def nvmlDeviceGetCount():
    return 2


def nvmlDeviceGetHandleByIndex(index):
    return index


def nvmlDeviceGetUUID(handle):
    return f"GPU-{handle}"


def nvmlDeviceGetMemoryInfo(handle):
    return SimpleNamespace(used=(1 + handle) * 2**30, total=80 * 2**30)


def nvmlDeviceGetUtilizationRates(handle):
    if handle:
        raise NVMLError("Not Supported")
    return SimpleNamespace(gpu=37, memory=5)


def nvmlDeviceGetTemperature(handle, sensor):
    if handle:
        raise NVMLError("Not Supported")
    return 51
