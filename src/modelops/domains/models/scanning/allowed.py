"""The names that models are made of: what a loader may import without anybody's word.

A line is a pattern of modules and a pattern of names in them. Lines hold classes and pure functions; what reads files, opens
connections, evaluates texts or starts processes is on none, and the names and modules below are on none whatever a line says.
"""

import re
import sys
from collections.abc import Iterable

_CLASS = r"_*[A-Z]\w*"
_ANY = r"\w+"

_MATH = (
    "abs|absolute|add|amax|amin|arccos|arcsin|arcsinh|arctan|arctanh|array|asarray|cbrt|ceil|clip|cos|cosh|deg2rad|divide|"
    "exp|exp2|expm1|fabs|float_power|floor|fmax|fmin|hypot|identity|isfinite|isinf|isnan|log|log10|log1p|log2|max|maximum|"
    "mean|median|min|minimum|mod|multiply|nan_to_num|nanmax|nanmean|nanmedian|nanmin|nanstd|negative|positive|power|prod|"
    "quantile|rad2deg|ravel|reciprocal|reshape|rint|round|sign|sin|sinh|sqrt|square|squeeze|std|subtract|sum|tan|tanh|"
    "transpose|trunc|var|where|zeros|ones|column_stack|hstack|vstack|argmax|argmin"
)
_NUMPY_TYPES = (
    r"ndarray|dtype|bool_?|u?int(p|c|8|16|32|64)?|u?(byte|short|long|longlong)|float(16|32|64|128|ing)?|half|single|double|"
    r"longdouble|complex(64|128|256)?|str_|bytes_|object_|void|datetime64|timedelta64|number|integer|matrix|recarray|record|"
    r"MaskedArray|RandomState|Generator"
)

COMMON: tuple[tuple[str, str], ...] = (
    (
        "builtins",
        "object|int|float|complex|bool|str|bytes|bytearray|list|tuple|dict|set|frozenset|slice|range|len|abs|round|sum|"
        "min|max|sorted|reversed|zip|enumerate|any|all|Ellipsis|NotImplemented|[A-Z][A-Za-z]*(Error|Exception|Warning)",
    ),
    ("collections", "OrderedDict|defaultdict|Counter|deque|ChainMap"),
    ("copyreg", "_reconstructor|__newobj__|__newobj_ex__"),
    ("_codecs", "encode"),
    ("array", "array|_array_reconstructor"),
    ("datetime", "date|datetime|time|timedelta|timezone"),
    ("decimal", "Decimal"),
    ("fractions", "Fraction"),
    ("functools", "partial"),
    ("math", _ANY),
    ("operator", "itemgetter|add|sub|mul|truediv|neg|abs"),
    (r"pathlib(\._local)?", "Path|PurePath|PosixPath|PurePosixPath|WindowsPath|PureWindowsPath"),
    ("random", "Random"),
    ("re", "_compile"),
    ("types", "SimpleNamespace"),
    ("uuid", "UUID|SafeUUID"),
    (r"numpy|numpy\.(_core|core)\.(\w+)", f"{_NUMPY_TYPES}|{_MATH}"),
    (r"numpy\.(_core|core)\.multiarray", "_reconstruct|scalar"),
    (r"numpy\.(_core|core)\.numeric", "_frombuffer"),
    (r"numpy\.dtypes", r"\w+DType"),
    (r"numpy\.ma(\.core)?", "MaskedArray|MaskedConstant|_mareconstruct"),
    (r"numpy\.random\._pickle", "__(randomstate|generator|bit_generator)_ctor"),
    (r"numpy\.random\.(_?\w+)", f"MT19937|PCG64|PCG64DXSM|Philox|SFC64|SeedSequence|{_NUMPY_TYPES}"),
    (r"numpy\.random\.bit_generator", "__pyx_unpickle_SeedSequence"),
    (r"numpy\.polynomial(\.\w+)*", _CLASS),
    (r"scipy\.sparse(\._\w+)?", "(csr|csc|coo|bsr|dia|dok|lil)_(matrix|array)"),
    (r"scipy\.stats\._(continuous|discrete)_distns", r"\w+_gen"),
    (r"scipy\.stats(\._\w+)?", r"rv_\w+|\w*KDE|gaussian_kde"),
    (r"scipy\.interpolate(\._\w+)?", _CLASS + "|interp1d"),
    (r"scipy\.spatial(\._\w+)?", "c?KDTree|ConvexHull|Delaunay"),
    (
        r"scipy\.special(\._\w+)?",
        "expit|logit|softmax|log_softmax|logsumexp|erf|erfc|gamma|gammaln|boxcox|inv_boxcox|xlogy",
    ),
    (r"scipy\._lib\.array_api_compat\.numpy\._aliases", "asarray"),
    (r"sklearn(\.\w+)*", f"{_ANY}"),
    (r"pandas", f"{_CLASS}"),
    (r"pandas\.(core|arrays|tseries)(\.\w+)*", f"{_CLASS}|_new_\\w+|new_block"),
    (r"pandas\._libs(\.\w+)*", rf"{_CLASS}|__pyx_unpickle_\w+|_unpickle_\w+|_nat_unpickle"),
    (r"pyarrow\.lib", r"_restore_array|type_for_alias|py_buffer|[a-z]\w*_?(string|int\d*|float\d*|bool_)|Table|Schema"),
    (r"xgboost\.(core|sklearn)", r"Booster|XGB\w+"),
    (r"lightgbm\.(basic|sklearn)", r"Booster|LGBM\w+|_\w+Wrapper"),
    (r"catboost\.core", r"CatBoost\w*|_CatBoost\w*"),
    (r"imblearn(\.\w+)*", _CLASS),
)
"""What every flavour may import."""

PYOD: tuple[tuple[str, str], ...] = (
    (r"pyod\.models(\.\w+)*", _ANY),
    (r"pyod\.utils\.(stat_models|utility|torch_utility)", f"{_CLASS}|pairwise_distances_no_broadcast"),
)
TORCH: tuple[tuple[str, str], ...] = (
    (
        "torch",
        r"\w+Storage|Size|device|Tensor|Generator|Parameter|b?float\d*|half|double|u?int\d*|long|short|bool|complex\d*|"
        r"strided|contiguous_format|preserve_format|relu|sigmoid|tanh|softmax",
    ),
    (
        r"torch\._utils",
        r"_rebuild_(parameter|parameter_with_state|tensor|tensor_v2|tensor_v3|sparse_tensor|qtensor|wrapper_subclass)",
    ),
    (r"torch\._tensor", "_rebuild_from_type_v2"),
    (r"torch\.storage", "TypedStorage|UntypedStorage"),
    (r"torch\.serialization", "_get_layout"),
    (r"torch\.nn\.parameter", _CLASS),
    (r"torch\.nn\.modules(\.\w+)*", _CLASS),
    (r"torch\.nn\.functional", r"[a-z]\w*"),
    (r"__torch__(\.\w+)*", _ANY),
)
KERAS: tuple[tuple[str, str], ...] = (
    (
        r"keras(\.(src\.)?(layers|models|activations|initializers|regularizers|constraints|losses|metrics|optimizers|"
        r"dtype_policies|quantizers)(\.\w+)*)?",
        _ANY,
    ),
    (
        "builtins",
        "relu|relu6|leaky_relu|sigmoid|hard_sigmoid|tanh|softmax|log_softmax|softplus|softsign|gelu|elu|celu|selu|silu|swish|"
        "mish|linear|exponential",
    ),
)
MLFLOW: tuple[tuple[str, str], ...] = (
    (
        r"mlflow\.(sklearn|xgboost|lightgbm|onnx|pytorch|keras|catboost|statsmodels|prophet|spacy|shap|pyfunc\.model)",
        "",
    ),
    (r"modelops\.domains\.models\.flavours\.pyfunc", ""),
    (r"mlflow\.pyfunc(\.model)?", "PythonModel|PythonModelContext|_FunctionPythonModel"),
    (r"mlflow\.(types|models\.signature)(\.\w+)*", _CLASS),
)
BY_FLAVOUR: dict[str, tuple[tuple[str, str], ...]] = {
    "pyod": PYOD + TORCH,
    "pytorch": TORCH,
    "keras": KERAS,
    "mlflow": TORCH + KERAS + MLFLOW,
    "callable": TORCH + PYOD,
}

_CODE_ROOTS = (
    "abc|collections|copy|dataclasses|datetime|decimal|enum|fractions|functools|heapq|itertools|json|logging|math|numbers|"
    "operator|random|re|statistics|string|time|types|typing|typing_extensions|unicodedata|uuid|warnings|weakref|zoneinfo|"
    "catboost|imblearn|joblib|keras|lightgbm|mlflow|numba|numpy|onnx|onnxruntime|pandas|polars|pyarrow|pydantic|pyod|scipy|"
    "shap|sklearn|skops|statsmodels|threadpoolctl|torch|transformers|xgboost|modelops"
)
CODE: tuple[tuple[str, str], ...] = (
    (rf"({_CODE_ROOTS})(\.\w+)*", r"\w*"),
    (
        "builtins",
        "type|getattr|hasattr|isinstance|issubclass|map|filter|print|property|staticmethod|classmethod|super|iter|next|repr",
    ),
    (r"_thread|threading", "RLock|Lock|_RLock"),
    ("_operator", r"\w+"),
)
"""What declared code by value may name besides: the libraries that it works with, and Python's own that reach nothing outside."""

_NEVER_NAMES = frozenset(
    {
        *sys.stdlib_module_names,
        *(
            "eval",
            "exec",
            "execfile",
            "compile",
            "open",
            "input",
            "breakpoint",
            "load",
            "loads",
            "run",
            "call",
            "system",
        ),
        *(
            "popen",
            "spawn",
            "import_module",
            "runstring",
            "load_library",
            "ctypeslib",
            "memmap",
            "fromfile",
            "genfromtxt",
        ),
        *("f2py", "DataSource", "attrgetter", "methodcaller", "HDFStore", "ExcelFile", "ExcelWriter"),
        *("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"),
    }
    - {"array", "operator", "random", "copy", "statistics", "time", "datetime", "string", "types", "numbers", "trace"}
)
_NEVER_BEGINNINGS = re.compile(r"^(load|save|dump|read|write|fetch|download|open|exec|eval|spawn|popen|import)(_|s?$)")
_NEVER_PARTS = frozenset(
    {
        *(
            "_testing",
            "testing",
            "tests",
            "conftest",
            "_build_utils",
            "externals",
            "datasets",
            "f2py",
            "distutils",
            "hub",
        ),
        *(
            "cpp_extension",
            "_inductor",
            "_dynamo",
            "package",
            "multiprocessing",
            "distributed",
            "io",
            "ctypeslib",
            "setup",
        ),
    }
)


def is_allowed(found: str, flavour: str, *, code: bool, more: Iterable[str] = ()) -> bool:
    """Tell whether models of a flavour may import a name.

    Args:
        found: `module:name`; with no name, the module itself.
        flavour: The version's flavour.
        code: Whether code by value was declared, which names the libraries that it works with.
        more: Modules that this platform's settings allow besides, each with what lies below it.
    """
    module, _, name = found.partition(":")
    if any(module == one or module.startswith(f"{one}.") for one in more):
        return True
    if _is_never(module, name):
        return False
    lines = COMMON + BY_FLAVOUR.get(flavour, ()) + (CODE if code else ())
    return any(re.fullmatch(modules, module) and re.fullmatch(names, name) for modules, names in lines)


def _is_never(module: str, name: str) -> bool:
    parts = module.split(".")
    # A dotted name is an attribute's attribute, by which any module's own imports are reached.
    return (
        "." in name or name in _NEVER_NAMES or bool(_NEVER_BEGINNINGS.match(name) or _NEVER_PARTS.intersection(parts))
    )
