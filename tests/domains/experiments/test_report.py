"""Reports: whole HTML files, that ask nobody, and say nothing that a run's texts could have smuggled in."""

import math
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.contracts.errors import InvalidInput, NotFound
from modelops.domains.experiments.plots import Axis, Item, parallel_coordinates, scatter
from modelops.domains.experiments.scales import scale_of
from modelops.domains.experiments.schemas import MetricPoint

HOSTILE = "</title></svg><script>alert(1)</script>\"'&<img src=x onerror=alert(2)>"
VOID = {"meta", "img", "br", "link"}
DRAWN = {"svg", "path", "line", "circle", "rect", "text", "title"}
WORDS = (
    "html head meta style body main h1 h2 h3 p section dl div dt dd figure figcaption ul li details summary table caption "
    "thead tbody tr th td"
)
KNOWN = DRAWN | set(WORDS.split())
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


class Page(HTMLParser):
    """Reads a page, and holds each tag to be closed."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], set(), set(), []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def check(html):
    page = Page(html)
    assert page.tags <= KNOWN
    assert not {name for name in page.attributes if name.startswith("on")}
    assert not page.attributes & {"src", "href", "srcset", "action", "style"}
    assert not re.search(r"https?:|//|url\(|@import", html)
    assert "default-src 'none'" in html
    assert "prefers-color-scheme:dark" in html
    return " ".join(" ".join(page.text).split())


def fill(experiments, count=12, history=5):
    ids = []
    for n in range(count):
        parameters = {"lr": 10.0 ** -(n % 4), "kind": "ab"[n % 2], "seed": n}
        run = experiments.create_run(
            "trials", name=f"trial {n}", parameters=parameters, tags={"folds": "k", "git.commit": "a"}
        )
        points = [MetricPoint(key="loss", value=1 / (s + 1), step=s, timestamp=BEGAN) for s in range(history)]
        points += [
            MetricPoint(key="fold_accuracy", value=n / 50 + s * s / 100, step=s, timestamp=BEGAN) for s in range(4)
        ]
        points += [MetricPoint(key="accuracy", value=0.5 + n / 40), MetricPoint(key="latency_ms", value=n * n + 1.0)]
        experiments.log_batch(run.id, metrics=points)
        ids.append(experiments.update_run(run.id, status="finished").id)
    return ids


@pytest.fixture
def trials(sqlite_platform):
    experiments = sqlite_platform.client().experiments
    experiments.create_experiment("trials")
    return experiments


def test_a_report_tells_everything(trials):
    ids = fill(trials)
    text = check(trials.report(experiment="trials", objective=["accuracy:max", "latency_ms:min"]))
    for said in (
        "Experiment trials",
        "Best runs",
        "highest accuracy",
        "How parameters and metrics go together",
        "Pareto front",
        "Curves",
        "What mattered",
        "More than noise?",
        "share its folds",
        "What differs",
        "Provenance",
        *ids,
    ):
        assert said in text
    assert "No objective was named" not in text


def test_a_report_chooses_what_was_not_named(trials):
    fill(trials)
    text = check(trials.report(experiment="trials"))
    assert "'accuracy' was taken, more being better" in text
    assert text.index("trial 11 finished") < text.index("trial 0 finished")  # the best come first


def test_a_comparison_of_a_few_runs_is_a_report(trials):
    ids = fill(trials)[:3]
    text = check(trials.report(*ids, title="Three", curve=["loss"]))
    assert "Three" in text
    assert "loss in numbers" in text
    assert "chance rules" in text


def test_a_spike_is_drawn(trials):
    run = trials.create_run("trials", name="spiky").id
    values = [(7.5 if step == 700 else 1.0) for step in range(2_000)]
    trials.log_batch(
        run, metrics=[MetricPoint(key="loss", value=v, step=n, timestamp=BEGAN) for n, v in enumerate(values)]
    )
    text = check(trials.report(run))
    assert "spiky 2000 1 7.5 1 0" in text  # run, points, least, greatest, last, NaN


def test_an_empty_experiment_has_a_report(trials):
    assert "There are no runs." in check(trials.report(experiment="trials"))


def test_a_report_on_a_view(trials):
    fill(trials)
    trials.create_view("good", experiment="trials", filter="metrics.accuracy > 0.7")
    assert "View good" in check(trials.report(view="good"))


def test_texts_of_runs_stay_texts(trials):
    for n in range(9):
        run = trials.create_run(
            "trials",
            parameters={HOSTILE: f"{HOSTILE}{n % 2}", "n": n},
            tags={HOSTILE: HOSTILE, f"git.{HOSTILE}": str(n)},
        )
        trials.log_batch(
            run.id, metrics=[MetricPoint(key=HOSTILE, value=float(n + s), step=s, timestamp=BEGAN) for s in (0, 1)]
        )
    html = trials.report(experiment="trials", objective=[f"{HOSTILE}:max"], title=HOSTILE)
    text = check(html)
    assert "<script" not in html
    assert "<img" not in html
    assert HOSTILE in text


def test_numbers_that_are_none_are_drawn_around(trials):
    for n, value in enumerate([math.nan, math.inf, -math.inf, 0.0, 1e308, -1e308, 5e-324, 1.0, 2.0]):
        run = trials.create_run("trials", parameters={"a": n, "big": 10**30 * n, "none": None, "list": [n]}).id
        points = [MetricPoint(key="m", value=v, step=s, timestamp=BEGAN) for s, v in enumerate([1.0, math.nan, value])]
        trials.log_batch(run, metrics=points)
    html = trials.report(experiment="trials", objective=["m:min"])
    check(html)
    coordinates = " ".join(re.findall(r' (?:d|x|y|x1|x2|y1|y2|cx|cy|width)="([^"]*)"', html))
    assert "nan" not in coordinates
    assert "inf" not in coordinates


def test_the_answer_may_not_run_anything(sqlite_platform, trials):
    answer = trials._rest.request("GET", "/run-report", params={"experiment": "trials"})
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert answer.headers["content-disposition"].startswith("attachment")


def test_what_cannot_be_reported_is_told(trials):
    with pytest.raises(NotFound):
        trials.report(experiment="nowhere")
    with pytest.raises(InvalidInput):
        trials.report(experiment="trials", objective=["a:min", "a:max"])


ANY = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5)


@given(st.lists(st.tuples(ANY, ANY), min_size=1, max_size=12))
def test_plots_of_anything_are_whole(rows):
    axes = [Axis(HOSTILE, scale) for column in zip(*rows, strict=True) if (scale := scale_of(column))]
    if len(axes) < 2:
        return
    items = [Item(HOSTILE, row, n % 2 == 0) for n, row in enumerate(rows)]
    for drawn in (parallel_coordinates(axes, items, HOSTILE), scatter(axes[0], axes[1], items, HOSTILE, front=True)):
        page = Page(drawn)
        assert page.tags <= DRAWN
        assert "nan" not in " ".join(re.findall(r' (?:d|cx|cy)="([^"]*)"', drawn))
