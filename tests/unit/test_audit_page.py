"""The audit's page: everything escaped, nothing fetched, nothing that a browser complains of, wide and narrow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from include.backup.audit.build import build_report
from include.backup.audit.charts import CHARACTER, Bar, column_chart
from include.backup.audit.facts import Use
from include.backup.audit.html import page, shown
from include.backup.audit.slack import summary
from tests.support.audits import HOSTILE, SOURCE, audit_report, backup, busy_month, shipped
from tests.support.browser import CHROMIUM, Browser, browser

# What of them could run, fetch or embed something.
FORBIDDEN = {"script", "iframe", "img", "link", "object", "embed", "form", "base", "image", "use", "foreignobject", "a"}


class Reader(HTMLParser):
    """The tags, attributes and texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def busy() -> str:
    return page(build_report(busy_month(), shipped()))


def test_hostile_names_are_shown_as_they_are_and_make_no_tag_or_attribute(busy: str) -> None:
    reader = Reader()
    reader.feed(busy)
    assert not reader.tags & FORBIDDEN
    assert {"table", "svg", "style"} <= reader.tags
    assert not [name for name in reader.attributes if name.startswith("on") or name in ("href", "src", "action")]
    seen = "".join(reader.texts)
    assert seen.count(shown(HOSTILE)) >= 8
    assert HOSTILE not in seen
    busy.encode()


def test_texts_that_no_encoding_has_do_not_break_the_page() -> None:
    report = audit_report(backups=(backup(1, left_out="partial: table \udcff\u202e"),))
    assert "partial: table \ufffd\ufffd" in page(report).encode().decode()


def test_an_empty_month_has_a_page_too() -> None:
    text = page(audit_report())
    for words in ("No backup is in the store.", "nothing was restored", "no alert", "not shown"):
        assert words in text


def test_names_in_charts_are_escaped() -> None:
    chart = column_chart([Bar(label=HOSTILE, parts={HOSTILE: 1.0, "b": 2.0})], title=HOSTILE, unit="<u>")
    assert "<script" not in chart
    assert "<u>" not in chart
    assert column_chart([], title="x", unit="y") == ""


def test_a_legend_of_every_tier_lies_within_the_chart_and_each_has_a_colour_of_its_own() -> None:
    names = [*shipped().tiers, "incremental", "safety", "wal"]
    chart = column_chart([Bar(label="2026-05", parts=dict.fromkeys(names, 1.0))], title="x", unit="USD")
    width, height = map(int, re.findall(r'viewBox="0 0 (\d+) (\d+)"', chart)[0])
    keys = re.findall(r'<rect x="([\d.]+)" y="(\d+)" width="11" height="11" fill="(#\w+)"/><text [^>]+>([^<]+)<', chart)
    assert [name for *_, name in keys] == names
    assert len({colour for *_, colour, _ in keys}) == len(names)
    assert max(float(x) + 16 + CHARACTER * len(name) for x, _, _, name in keys) <= width
    assert max(int(y) + 11 for _, y, _, _ in keys) <= height


def test_a_cost_of_less_than_a_cent_is_not_nothing_and_its_scale_is_exact() -> None:
    chart = column_chart([Bar(label="2026-05", parts={"daily": 8e-7})], title="x", unit="USD")
    assert re.findall(r">([\d.e-]+) USD</text>", chart) == ["0", "2.5e-07", "5e-07", "7.5e-07", "1e-06"]
    small = audit_report(uses=(Use(tier="daily", storage_class="STANDARD", objects=1, size=4096),))
    assert "a month costs<b>&lt; 0.01 USD</b>" in page(small)


def test_slack_gets_a_few_lines_in_which_nobody_can_mention_everybody() -> None:
    report = build_report(busy_month(incomplete=("<!channel> & <https://evil|x>",)), shipped())
    text = summary(report, where="s3://b/k.html", url="https://airflow/run")
    assert text.startswith(f"🟠 *{SOURCE}* audit of 2026-05: ")
    assert "<!channel>" not in text
    assert len(text.splitlines()) < 12
    assert text.endswith("<https://airflow/run|run>")


# --- in a real browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip("chromium is not installed: apt-get install chromium")
    with browser(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture(scope="module")
def busy_file(busy: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "audit.html"
    path.write_bytes(busy.encode())
    return path


@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_the_page_without_a_request_or_a_complaint(
    chromium: Browser, busy_file: Path, width: int
) -> None:
    chromium.open(busy_file, width=width)
    assert chromium.seen.requests == [busy_file.as_uri()]
    assert chromium.seen.complaints == []
    text = chromium.evaluate("document.body.innerText")
    for words in ("pulse_messages, 2026-05", "11 findings", "SOC 2", "A.8.13 a", "164.308(a)(7)(ii)(D)", "not shown"):
        assert words in text
    assert shown(HOSTILE) in text
    # Tables may scroll within themselves; the page as a whole never does.
    assert chromium.evaluate("document.documentElement.scrollWidth") <= width
    charts = chromium.evaluate("[...document.querySelectorAll('svg')].map(svg => svg.getBoundingClientRect().height)")
    assert len(charts) == 4
    assert min(charts) > 100
    assert chromium.screenshot().startswith(b"\x89PNG")


def test_the_page_prints(chromium: Browser, busy_file: Path) -> None:
    chromium.open(busy_file)
    document = chromium.pdf()
    assert document.startswith(b"%PDF")
    assert document.count(b"/Type /Page\n") + document.count(b"/Type /Page ") >= 2


@pytest.mark.parametrize("policy", [True, False])
def test_a_page_that_fetches_or_runs_something_would_be_seen(
    chromium: Browser, busy: str, tmp_path: Path, policy: bool
) -> None:
    """The control of this file's checks: the browser refuses by the page's policy, without it the request is seen."""
    bad = busy.replace("</body>", "<img src='http://127.0.0.1:9/x.png'><script>console.error('ran')</script></body>")
    if not policy:
        bad = bad.replace("Content-Security-Policy", "X-Nothing")
    path = tmp_path / "bad.html"
    path.write_bytes(bad.encode())
    chromium.open(path)
    assert chromium.seen.complaints
    assert any("127.0.0.1:9" in url for url in chromium.seen.requests) or policy
    assert any('"ran"' in text for text in chromium.seen.complaints) is not policy
