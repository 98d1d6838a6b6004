"""What GPUs do, told by NVIDIA's management library (NVML, part of its driver) over ctypes.

The supervisor loads this file by its path, where there is such a driver: it imports the standard library alone. The names
and types of NVML's functions are those of its API reference (`nvmlDeviceGetUtilizationRates`, `nvmlDeviceGetMemoryInfo`).
"""

import ctypes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LIBRARY = "libnvidia-ml.so.1"


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def open_meter(visible: "str | None") -> "Callable[[], tuple[float, float]] | None":
    """Return what measures some GPUs: percent of time in use and bytes of memory in use, summed; None where there are none.

    Args:
        visible: `CUDA_VISIBLE_DEVICES`: indexes or UUIDs, parted by commas; None means every GPU.

    Raises:
        OSError: the library is not there.
    """
    nvml = ctypes.CDLL(_LIBRARY)
    if nvml.nvmlInit_v2() != 0:
        return None
    handles = [handle for name in _names(nvml, visible) if (handle := _handle(nvml, name)) is not None]

    def measure() -> "tuple[float, float]":
        percent, used = 0.0, 0.0
        for handle in handles:
            rates, memory = _Utilization(), _Memory()
            if nvml.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(rates)) == 0:
                percent += rates.gpu
            if nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == 0:
                used += memory.used
        return percent, used

    return measure if handles else None


def _names(nvml: ctypes.CDLL, visible: "str | None") -> "list[str]":
    """Return the GPUs by index or UUID. As CUDA reads the variable, the first that is not valid ends the list."""
    if visible is None:
        count = ctypes.c_uint()
        return [str(n) for n in range(count.value)] if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0 else []
    return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]


def _handle(nvml: ctypes.CDLL, name: str) -> "ctypes.c_void_p | None":
    handle = ctypes.c_void_p()
    if name.isdigit():
        failed = nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(int(name)), ctypes.byref(handle))
    else:
        failed = nvml.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(handle))
    return None if failed else handle
