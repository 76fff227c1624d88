"""Pages of documentation taken apart: headings, links, fenced blocks, and the commands in them.

The rule about commands, the same for every page:

- a fenced block marked `bash` or `console`, or not marked at all, may hold commands: the lines that begin with the name
  of a program, in `console` behind a `$`. All else in a block is output or a listing.
- what a command needs and a fresh machine lacks is said to the reader: in the line above the block ("Needs Blender:")
  or in the comment behind the command ("# needs Blender: ..."). Such a command is not run.
- NAME, FILE, DIR in capitals and ... stand for something: a command with them shows a form and is not run.
"""

import re
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("thetafit", "python", "make", "git", "pip", "apt-get", "torchrun", "srun", "tracker", "unzip", "cp")
SHELL = ("", "bash", "console")
PLACEHOLDER = re.compile(r"(^|[\s=/'\[])([A-Z]{3,}|<[^>]+>|\.\.\.)($|[\s/'\].])")
FENCE = re.compile(r"^( *)```(\w*)\s*$")


@dataclass(frozen=True)
class Block:
    """A fenced block; line: number of its first line of text; above: the last line of text before it."""

    line: int
    language: str
    lines: tuple[str, ...]
    above: str

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def needs(self) -> bool:
        """Whether the line above says that the block needs something."""
        return self.above.startswith(("Needs ", "需要"))


@dataclass(frozen=True)
class Command:
    """One command of a page without its comment; needs: it cannot run on a fresh machine, and the page says so."""

    line: int
    text: str
    comment: str
    needs: bool

    @property
    def form(self) -> bool:
        """Whether it shows a form, with words in capitals to be filled in."""
        return PLACEHOLDER.search(self.text) is not None


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page."""
    found: list[Block] = []
    opening, inside, above = None, [], ""
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.match(line)
        if opening and fence:
            found.append(Block(number - len(inside), opening[2], tuple(inside), above))
            opening, inside, above = None, [], ""
        elif opening:
            inside.append(line.removeprefix(opening[1]))
        elif fence:
            opening = fence
        elif line.strip():
            above = line.strip()
    return found


def commands(text: str) -> list[Command]:
    """The commands in a page's blocks, lines that end in a backslash joined with the next."""
    return [command for block in blocks(text) if block.language in SHELL for command in block_commands(block)]


def block_commands(block: Block) -> list[Command]:
    """The commands of one block."""
    found, joined, start = [], "", 0
    for number, line in enumerate(block.lines, block.line):
        start = start if joined else number
        joined += line.removeprefix("$ ") if block.language == "console" and line.startswith("$ ") else line
        if joined.endswith("\\"):
            joined = joined[:-1]
            continue
        command, _, comment = re.sub(r"\s+#\s", "\0", joined, count=1).partition("\0")
        if command.split(" ")[0] in PROGRAMS:
            needs = block.needs or comment.strip().startswith(("needs", "需要"))
            found.append(Command(start, " ".join(command.split()), comment.strip(), needs))
        joined = ""
    return found


def prose(text: str) -> str:
    """The page without its fenced blocks."""
    kept, inside = [], False
    for line in text.splitlines():
        if FENCE.match(line):
            inside = not inside
        elif not inside:
            kept.append(line)
    return "\n".join(kept)


def headings(text: str) -> list[tuple[int, str]]:
    """(level, words) of every heading."""
    return [(len(level), words) for level, words in re.findall(r"^(#+) (.+)$", prose(text), re.M)]


def links(text: str) -> list[str]:
    """The targets of links and images, in order."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))


def anchor(heading: str) -> str:
    """The name under which GitHub links to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def relative(text: str) -> list[str]:
    """The links that lead to files of the repository or to headings."""
    return [link for link in links(text) if not re.match(r"[a-z]+:", link)]


def resolve(page: Path, link: str) -> str | None:
    """What is wrong with a relative link on a page; None when it leads somewhere."""
    path, _, name = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return f"{link}: there is no {target}"
    if name and name not in {anchor(words) for _, words in headings(target.read_text(encoding="utf-8"))}:
        return f"{link}: no heading of {target.name} is called so"
    return None
