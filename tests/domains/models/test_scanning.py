"""The scan: what a pickle would import is told without running it, whatever it is wrapped in; what cannot be told is refused."""

import bz2
import collections
import copyreg
import gzip
import io
import json
import lzma
import os
import pickle
import struct
import subprocess
import tarfile
import zipfile
import zlib
from datetime import datetime

import cloudpickle
import joblib
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from modelops.domains.models.rules import ScanRefused
from modelops.domains.models.scanning import FileScan, PackageScan, Reading, judge, scan_file
from modelops.domains.models.scanning.allowed import is_allowed

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def scan(content, reading=Reading.PICKLE):
    return scan_file(io.BytesIO(content), reading)


def refused(content, flavour="sklearn", reading=Reading.PICKLE, **words):
    """Judge a package of one file, and return why it is refused."""
    with pytest.raises(ScanRefused) as refusal:
        accepted(content, flavour, reading, **words)
    return refusal.value.detail


def accepted(content, flavour="sklearn", reading=Reading.PICKLE, *, runs_code=False, allow_unsafe=False, more=()):
    package = PackageScan({"model.pkl": scan(content, reading)})
    return judge(package, flavour, runs_code=runs_code, allow_unsafe=allow_unsafe, accepted_by="usr_1", more=more)


class Calls:
    """Pickles as a call."""

    def __init__(self, called, *arguments):
        self.called, self.arguments = called, arguments

    def __reduce__(self):
        return self.called, self.arguments


ATTACKS = {
    "posix:system": Calls(os.system, "true"),
    "subprocess:Popen": Calls(subprocess.Popen, ["true"]),
    "builtins:eval": Calls(eval, "1"),
    "builtins:exec": Calls(exec, "1"),
    "builtins:__import__": Calls(__import__, "os"),
    "io:open": Calls(open, "/etc/passwd"),
    "builtins:getattr": Calls(getattr, "x", "upper"),
    "numpy:fromfile": Calls(np.fromfile, "/dev/zero"),
    "numpy:load": Calls(np.load, "x.npy"),
    "joblib.numpy_pickle:load": Calls(joblib.load, "x"),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ATTACKS)
def test_calls_are_seen_at_every_protocol(name, protocol):
    content = pickle.dumps({"model": [ATTACKS[name]]}, protocol=protocol)
    found = scan(content)
    assert found.unreadable is None
    shown = {
        one.replace("numpy.lib._npyio_impl", "numpy").replace("numpy._core.multiarray", "numpy")
        for one in found.imports
    }
    assert name in shown
    assert "imports" in refused(content)


WRAPPERS = {
    "nested in bytes of a zip": lambda inner: zipped({"archive/data.pkl": inner}),
    "npy of the type object": lambda inner: b"\x93NUMPY\x01\x00" + struct.pack("<H", len(OBJECT)) + OBJECT + inner,
    "npy of fields": lambda inner: b"\x93NUMPY\x01\x00" + struct.pack("<H", len(FIELDS)) + FIELDS + inner,
    "zip in a zip": lambda inner: zipped({"a/b.pt": zipped({"x/data.pkl": inner})}),
    "zip behind something": lambda inner: b"%PDF-1.4\n" + zipped({"data.pkl": inner}),
    "tar": lambda inner: tarred({"model/data.pkl": inner}),
    "tar.gz": lambda inner: gzip.compress(tarred({"data.pkl": inner})),
    "npy": lambda inner: b"\x93NUMPY\x01\x00" + struct.pack("<H", len(HEADER)) + HEADER + inner,
    "npz": lambda inner: zipped({"a.npy": b"\x93NUMPY\x01\x00" + struct.pack("<H", len(HEADER)) + HEADER + inner}),
    "after another pickle": lambda inner: pickle.dumps([1]) + inner,
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda inner: lzma.compress(inner, format=lzma.FORMAT_ALONE),
    "zlib": zlib.compress,
    "gzip twice": lambda inner: gzip.compress(gzip.compress(inner)),
    "a stored zip": lambda inner: zipped({"data.pkl": inner}, zipfile.ZIP_STORED),
    "a member without a name that tells": lambda inner: zipped({"weights": inner}),
}
OBJECT = b"{'descr': 'object', 'fortran_order': False, 'shape': (1,), }\n"
FIELDS = b"{'descr': [('a', '<f8'), ('b', '|O')], 'fortran_order': False, 'shape': (1,), }\n"
HEADER = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n"


def zipped(members, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappings_hide_nothing(wrapper, protocol):
    content = WRAPPERS[wrapper](pickle.dumps(ATTACKS["posix:system"], protocol=protocol))
    assert "posix:system" in scan(content, Reading.ANY).imports
    assert "posix:system" in scan(content, Reading.JOBLIB).imports or scan(content, Reading.JOBLIB).unreadable
    assert "posix:system" in refused(content, reading=Reading.ANY)


BY_HAND = {
    "a computed name": b"\x80\x04(\x8c\x02os\x8c\x03sys\x8c\x03temt\x93.",
    "a name from a list": b"\x80\x04]\x8c\x06system\x93.",
    "a name from a call": b"\x80\x04cbuiltins\nstr\n)R\x8c\x06system\x93.",
    "an extension's code": b"\x80\x02\x82\x01.",
    "a wide extension's code": b"\x80\x02\x84\x01\x00\x00\x00.",
    "calling what was made": b"\x80\x02cfunctools\npartial\ncbuiltins\nlen\n\x85R)R.",
    "an instance of what was made": b"\x80\x02cfunctools\npartial\ncbuiltins\nlen\n\x85R)\x81.",
    "OBJ of a text": b"(S'os'\nS'system'\no.",
    "OBJ of nothing": b"(o.",
    "changing a module": b"csklearn\nutils\n}S'a'\nS'b'\nsb.",
    "changing a class": b"cnumpy\nndarray\n}b.",
    "setting an item of an import": b"csklearn\nutils\nS'a'\nS'b'\ns.",
    "a module that is no name": b"cos\\system\nx\n.",
    "a name with a blank": b"cos\nsystem x\n.",
    "an empty file": b"",
    "truncated": pickle.dumps(RandomForestClassifier(2).fit([[1], [2]], [0, 1]))[:-20],
    "truncated in a length": b"\x80\x04\x8e\xff",
    "longer than it is": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "an underflow": b"\x80\x02R.",
    "no mark": b"\x80\x02t.",
    "an unknown opcode": b"\x80\x04\xff.",
    "something behind": pickle.dumps([1]) + b"\x00\x01",
    "a recalled nothing": b"\x80\x02h\x05.",
    "a broken zip": zipped({"data.pkl": b"x" * 100})[:60],
    "a cut archive": b"PK\x03\x04",
    "compressed for no loader": gzip.compress(pickle.dumps(1)),
    "joblib's array in a plain pickle": b"\x80\x02cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}b.",
}


@pytest.mark.parametrize("reading", [Reading.PICKLE, Reading.JOBLIB, Reading.ANY])
def test_a_pickle_with_another_format_s_mark_is_followed(reading):
    as_tar = tarred({"x": b""})
    behind = as_tar[200:]  # the mark lies in a text that the pickle begins with
    marked = b"\x80\x04B" + struct.pack("<I", 193 + len(behind)) + as_tar[7:200] + behind + b"0"
    content = marked + pickle.dumps(ATTACKS["posix:system"])[2:]
    assert content[257:262] == b"ustar"
    assert refused(content, reading=reading)
    bzip = b"BZh\x00\x00" + b"a" * 0x685A + b"0" + pickle.dumps(ATTACKS["posix:system"], protocol=0)
    assert pickle.loads(bzip.replace(b"posix\nsystem", b"builtins\nrepr")) == "'true'"
    assert refused(bzip, reading=reading)


@pytest.mark.parametrize(
    "name",
    [
        *("keras.layers:TFSMLayer", "keras.layers:Lambda", "keras.models:load_model", "torch:load", "torch.hub:load"),
        *("pandas:HDFStore", "pandas:read_pickle", "pandas.core.computation.eval:eval", "sklearn.datasets:load_files"),
        *("torch.storage:_load_from_bytes", "numpy.f2py:compile", "sklearn.externals._arff:load", "sklearn.utils:sys"),
        *("builtins:getattr", "builtins:type", "operator:attrgetter", "numpy:f2py", "numpy.testing:runstring", "os:"),
    ],
)
def test_names_that_no_model_needs(name):
    assert not any(
        is_allowed(name, flavour, code=False) for flavour in ("sklearn", "mlflow", "keras", "pytorch", "pyod")
    )


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zlib.compress])
def test_what_lies_before_a_damage_is_still_seen(pack):
    packed = pack(pickle.dumps(ATTACKS["posix:system"]) + os.urandom(300_000))
    assert scan(packed[:-10], Reading.ANY).unreadable
    assert scan(packed[:-10], Reading.JOBLIB).unreadable


@pytest.mark.parametrize("name", BY_HAND)
def test_tricks_are_refused(name):
    assert refused(BY_HAND[name])


def test_names_inside_of_names_are_refused():
    content = b"\x80\x04\x8c\x07sklearn\x8c\x10utils._joblib.os\x93."
    assert scan(content).imports == ["sklearn:utils._joblib.os"]
    assert "utils._joblib.os" in refused(content)
    assert refused(content, "callable")


def test_names_of_python_2_mean_what_its_reader_takes_them_for():
    assert scan(b"c__builtin__\neval\n.").imports == ["builtins:eval"]
    assert scan(b"ccommands\ngetoutput\n.").imports == ["subprocess:getoutput"]
    assert scan(b"\x80\x03c__builtin__\neval\n.").imports == ["__builtin__:eval"]


def test_a_registered_extension_is_refused():
    copyreg.add_extension("os", "system", 240)
    try:
        content = pickle.dumps(os.system, protocol=2) if os.system.__module__ == "os" else b"\x80\x02\x82\xf0."
    finally:
        copyreg.remove_extension("os", "system", 240)
    assert "depends on the process" in scan(content).unreadable


def test_instances_of_old_classes_are_seen():
    assert scan(b"(S'true'\nios\nsystem\n.").imports == ["os:system"]
    assert scan(b"(cos\nsystem\nS'true'\no.").imports == ["os:system"]


def test_an_array_may_not_hide_opcodes_from_the_loader_that_would_run_them():
    """`pickle.load` would run the bytes that `joblib.load` takes for an array."""
    file = io.BytesIO()
    joblib.dump({"a": np.frombuffer(pickle.dumps(ATTACKS["posix:system"], protocol=0), dtype=np.uint8)}, file)
    assert scan(file.getvalue(), Reading.JOBLIB).unreadable is None
    assert refused(file.getvalue())


@pytest.mark.parametrize("compress", [0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("lzma", 3), ("xz", 3)], ids=str)
def test_what_joblib_wrote(compress):
    model = make_pipeline(StandardScaler(), RandomForestClassifier(3, random_state=0)).fit(np.eye(4), [0, 1, 0, 1])
    things = {
        "model": model,
        "scalar": np.array(5.0),
        "bytes": np.arange(7, dtype=np.int8),
        "fortran": np.asfortranarray(np.ones((3, 2))),
        "texts": np.array(["ab", "c"]),
        "objects": np.array(["a", None], dtype=object),
        "times": np.array(["2020-01-01"], dtype="M8[D]"),
        "after": [1, 2],
    }
    file = io.BytesIO()
    joblib.dump(things, file, compress=compress)
    found = scan(file.getvalue(), Reading.JOBLIB)
    assert found.unreadable is None
    assert all(is_allowed(name, "sklearn", code=False) for name in found.imports)

    joblib.dump(
        {"objects": np.array([ATTACKS["builtins:eval"]], dtype=object)}, (file := io.BytesIO()), compress=compress
    )
    assert "builtins:eval" in scan(file.getvalue(), Reading.JOBLIB).imports


# Honest models


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(3, random_state=0),
        make_pipeline(SelectKBest(f_classif, k=1), LogisticRegression()),
        make_pipeline(FunctionTransformer(np.log1p), StandardScaler(), KNeighborsClassifier(1)),
    ],
    ids=["forest", "pipeline", "functions"],
)
def test_honest_models_pass(model, protocol):
    model.fit(np.arange(8.0).reshape(4, 2), [0, 1, 0, 1])
    kept, runs_code = accepted(pickle.dumps(model, protocol=protocol))
    assert (kept.unsafe, kept.accepted_by, runs_code) == ([], None, False)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=300)
    | st.datetimes()
    | st.just(np.arange(3.0))
    | st.just(np.float32(1)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4).map(collections.OrderedDict)
        | st.frozensets(st.integers(), max_size=3)
    ),
    max_leaves=20,
)


@given(value=PLAIN, protocol=st.sampled_from(PROTOCOLS))
@example(value={"a": [datetime(2020, 1, 1)]}, protocol=0)
def test_plain_values_pass_at_every_protocol(value, protocol):
    kept, runs_code = accepted(pickle.dumps(value, protocol=protocol))
    assert (kept.unsafe, runs_code) == ([], False)


@given(value=PLAIN, protocol=st.sampled_from(PROTOCOLS), attack=st.sampled_from(sorted(ATTACKS)), data=st.data())
def test_an_attack_among_plain_values_is_found(value, protocol, attack, data):
    hidden = data.draw(st.sampled_from([[value, ATTACKS[attack]], {"a": value, "b": {"c": (ATTACKS[attack],)}}]))
    assert refused(pickle.dumps(hidden, protocol=protocol))


@given(content=st.binary(max_size=400), reading=st.sampled_from(Reading))
def test_no_bytes_break_it(content, reading):
    assert isinstance(scan(content, reading), FileScan)


@given(st.lists(st.integers(0, 255), min_size=1, max_size=40), st.sampled_from(["<f4", "<f8", "<i8", "<i4", "u1"]))
def test_numbers_are_data(numbers, kind):
    content = (np.array(numbers) / (7 if "f" in kind else 1)).astype(kind).tobytes()
    assert scan(content, Reading.ANY) == FileScan()
    assert scan(zipped({"data/0": content}), Reading.ANY) == FileScan()


@given(
    start=st.sampled_from(
        [zipped({"a/data.pkl": pickle.dumps([1, "x"])}), tarred({"a.pkl": b"N."}), gzip.compress(b"N.")]
    )
    | PLAIN.map(pickle.dumps),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6),
)
def test_no_damage_breaks_it(start, changes):
    damaged = bytearray(start)
    for position, value in changes:
        damaged[position % len(damaged)] = value
    for reading in (Reading.ANY, Reading.PICKLE, Reading.JOBLIB):
        assert isinstance(scan(bytes(damaged), reading), FileScan)


@given(st.text())
def test_texts_are_no_pickles(text):
    found = scan(text.encode("utf-8", "surrogatepass"), Reading.TEXT)
    assert (found.imports, found.code) == ([], []) or found.unreadable


@pytest.mark.parametrize(
    "content",
    [
        b"channels:\n- conda-forge\n",
        b"cloudpickle==3.1\nnumpy==2\n",
        b"tree\nversion=v4\n",
        b"{}",
        b"\x00" * 1000,
        b"",
        b"x",
        b"model weights",
        b"\x08\x0a\x12\x07skl2onnx",
        b"\x80\x04 numbers that begin as a pickle does",
        b"]\x00\x00\x00\x00\x00\x00\x00" * 8,
        b"\x1f\x8b\x00\x00" * 20,
    ],
)
def test_data_is_data(content):
    assert scan(content, Reading.ANY) == FileScan()


# Code by value


def test_code_by_value_is_told_and_needs_its_author_s_word():
    content = cloudpickle.dumps(lambda rows: json.dumps(rows))
    assert scan(content).code == [": Python code by value"]
    with pytest.raises(ScanRefused, match="runs_code"):
        accepted(content)
    for words in ({"flavour": "callable"}, {"runs_code": True}):
        kept, runs_code = accepted(content, **words)
        assert (kept.unsafe, runs_code) == ([], True)
        assert kept.code


def test_what_code_by_value_imports_is_still_held_to_the_list():
    content = cloudpickle.dumps(lambda rows: os.getcwd())
    assert "imports os" in refused(content, "callable")
    assert "imports os" in refused(content, runs_code=True)
    assert accepted(content, "callable", more=["os"])[0].unsafe == []


def test_somebody_who_may_can_take_the_responsibility():
    kept, _ = accepted(pickle.dumps(ATTACKS["posix:system"]), allow_unsafe=True)
    assert kept.unsafe == ["imports posix:system"]
    assert kept.accepted_by == "usr_1"
    with pytest.raises(ScanRefused, match="cannot be judged"):
        accepted(b"\x80\x04", allow_unsafe=True)


# Other formats


def test_a_lambda_layer_is_refused():
    layer = {"class_name": "Lambda", "module": "keras.layers", "config": {"function": {"class_name": "__lambda__"}}}
    model = zipped({"metadata.json": "{}", "config.json": json.dumps({"config": {"layers": [layer]}})})
    assert "Lambda layer" in refused(model, "keras", Reading.ANY)
    elsewhere = {"class_name": "function", "module": "os", "config": "system"}
    model = zipped({"metadata.json": "{}", "config.json": json.dumps({"config": {"layers": [elsewhere]}})})
    assert "os:system" in refused(model, "keras", Reading.ANY)


def test_a_whole_model_in_hdf5_is_refused():
    assert "HDF5" in refused(b"\x89HDF\r\n\x1a\n" + b"\x00" * 100 + b"model_config", "keras", Reading.ANY)
    assert scan(b"\x89HDF\r\n\x1a\n" + b"\x00" * 100, Reading.ANY) == FileScan()


def test_skops_names_are_held_to_the_list():
    node = {"__class__": "methodcaller", "__module__": "operator", "__loader__": "OperatorFuncNode"}
    assert "operator:methodcaller" in refused(
        zipped({"schema.json": json.dumps({"content": [node]})}), reading=Reading.ANY
    )


def test_sources_and_compiled_code():
    assert scan(b"print()", Reading.SOURCE).code == [": Python source"]
    assert scan(zipped({"pkg/mod.py": "import os"}), Reading.ANY).code == ["!pkg/mod.py: Python source"]
    assert "compiled code" in refused(b"\x7fELF" + b"\x00" * 60, reading=Reading.ANY)
    script = zipped(
        {"m/code/__torch__.py": "x", "m/constants.pkl": pickle.dumps(()), "m/data.pkl": b"c__torch__\nM\n)\x81."}
    )
    assert accepted(script, "pytorch", Reading.ANY)[0].code == []


def test_archives_that_would_never_end():
    bomb = zipped({"a": b""})
    for _ in range(10):
        bomb = zipped({"a.zip": bomb})
    assert "deep" in scan(bomb, Reading.ANY).unreadable
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as archive:
        archive.writestr("data.pkl", b"N.")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("data.pkl", pickle.dumps(ATTACKS["builtins:eval"]))
    assert "two of one name" in scan(twice.getvalue(), Reading.ANY).unreadable


def test_a_scan_runs_nothing(tmp_path):
    content = pickle.dumps(Calls(os.mkdir, str(tmp_path / "sprung")))
    for wrapper in WRAPPERS.values():
        scan(wrapper(content), Reading.ANY)
    assert not (tmp_path / "sprung").exists()
