"""The Chinese pages say what the English ones say: the same headings, commands, code, links and figures, in order.

Everything is compared section by section, and what differs is printed with the section it is in, so that a change of
the English page shows which lines of the other want a change too.
"""

import re
from collections.abc import Callable
from itertools import zip_longest

import pytest

from tests.pages import Block, blocks, headings, links, prose
from tests.runs import ROOT

PAIRS = [(f"{page}.md", f"{page}.zh-CN.md") for page in ("README", "docs/start", "docs/commands")]
CHINESE = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture(params=PAIRS, ids=lambda pair: pair[1])
def pages(request: pytest.FixtureRequest) -> tuple[str, str]:
    english, chinese = request.param
    return tuple((ROOT / name).read_text(encoding="utf-8") for name in (english, chinese))


def sections(text: str) -> list[tuple[str, str]]:
    """(heading, text up to the next heading), fenced blocks untouched."""
    starts, inside, offset = [], False, 0
    for line in text.splitlines(keepends=True):
        inside ^= line.startswith("```")
        if not inside and line.startswith("#"):
            starts.append(offset)
        offset += len(line)
    cuts = [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]
    return [(cut.splitlines()[0].lstrip("# "), cut) for cut in cuts]


def compare(what: str, pages: tuple[str, str], of: Callable[[str], list[str]]) -> None:
    """Fails with every section in which `of(text)`, a list, differs between the two pages."""
    wrong = []
    for (name, english), (_, chinese) in zip(*map(sections, pages), strict=True):
        expected, found = of(english), of(chinese)
        if expected != found:
            missing = [item for item in expected if expected.count(item) > found.count(item)]
            more = [item for item in found if found.count(item) > expected.count(item)]
            wrong.append(
                f"section {name!r}: missing {missing}, too much {more}" + ("" if missing or more else ", order")
            )
    assert not wrong, f"{what} differ:\n" + "\n".join(wrong)


def uncommented(block: Block) -> list[str]:
    """The lines of a block without their comments, which are translated."""
    return [re.sub(r"\s+#\s.*$", "", line).rstrip() for line in block.lines]


def paths(block: Block) -> list[str]:
    """The paths in a listing whose words are translated too."""
    return re.findall(r"[\w.]+/[\w./]*", block.text)


def canonical(link: str) -> str:
    """A page in either language is one page."""
    return link.replace(".zh-CN.md", ".md")


def figures(text: str) -> list[str]:
    """Every number of the running text and its tables, without those in code, sorted."""
    plain = re.sub(r"`[^`]*`|\]\([^)]*\)", " ", prose(text))
    return sorted(number.rstrip(".,") for number in re.findall(r"\d[\d,.]*", plain))


def test_the_headings_are_the_same(pages) -> None:
    english, chinese = (headings(page) for page in pages)
    pairs = "\n".join(f"{a} {b}" for a, b in zip(english, chinese, strict=False))
    assert [level for level, _ in english] == [level for level, _ in chinese], f"headings differ:\n{pairs}"


def test_the_code_is_the_same(pages) -> None:
    """Block by block; of listings with words in Chinese only the paths."""
    for (name, english), (_, chinese) in zip(*map(sections, pages), strict=True):
        for ours, theirs in zip(blocks(english), blocks(chinese), strict=True):
            of = paths if CHINESE.search("\n".join(uncommented(theirs))) else uncommented
            changed = [pair for pair in zip_longest(of(ours), of(theirs)) if pair[0] != pair[1]]
            assert not changed, f"section {name!r}, line {theirs.line} of it: (English, Chinese) {changed}"


def test_the_links_are_the_same(pages) -> None:
    compare("links", pages, lambda text: sorted(map(canonical, links(text))))


def test_the_figures_are_the_same(pages) -> None:
    compare("figures", pages, figures)


def test_the_tables_have_the_same_rows(pages) -> None:
    compare("rows of tables", pages, lambda text: ["|"] * len(re.findall(r"^\|", prose(text), re.M)))


def test_it_is_chinese(pages) -> None:
    """Most paragraphs of the translation hold Chinese characters, none of the English does."""
    english, chinese = ([p for p in prose(page).split("\n\n") if len(p) > 60] for page in pages)
    assert sum(bool(CHINESE.search(p)) for p in chinese) == len(chinese)
    assert sum(bool(CHINESE.search(p)) for p in english) <= 1  # the link to the translation
