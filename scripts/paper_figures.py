"""Draws docs/papers/figures/<paper>.svg: what the language model does in each paper's loop, as boxes and arrows.

`python scripts/paper_figures.py` writes all of them. Boxes stand on a grid; those of the language model are coloured.
"""

from html import escape
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "papers" / "figures"
WIDTH, HEIGHT, GAP_X, GAP_Y = 184, 54, 58, 40  # of a box, and between boxes, in px
FILL = {"llm": "#fde7c8", "code": "#dcebdc", "rl": "#dde8f6"}  # asks an LLM; generated code, checked; learning
LEGEND = {"llm": "language model", "code": "its answer, checked", "rl": "reinforcement learning"}

# paper: ({box: (column, row, kind, lines)}, [(from, to, label)])
FIGURES = {
    "llm_explorer": (
        {
            "act": (0, 0, "rl", ["agent explores", "one episode"]),
            "status": (1, 0, "llm", ["call 1: describes", "the episode"]),
            "strategy": (2, 0, "llm", ["call 2: where to", "explore next"]),
            "p": (2, 1, "code", ["p over actions,", "or bias of the noise"]),
            "learn": (0, 1, "rl", ["replay buffer,", "agent learns"]),
        },
        [("act", "status", "actions"), ("status", "strategy", "text"), ("strategy", "p", ""),
         ("p", "act", "every K episodes"), ("act", "learn", "")],
    ),
    "lesr": (
        {
            "task": (0, 0, "rl", ["task, meaning of", "each state dimension"]),
            "write": (1, 0, "llm", ["writes features F(s)", "and reward G"]),
            "check": (2, 0, "code", ["K programs, checked,", "in a sandbox"]),
            "train": (2, 1, "rl", ["an agent trained", "with each"]),
            "feedback": (1, 1, "llm", ["analyses scores and", "Lipschitz constants"]),
            "final": (3, 1, "rl", ["best pair: agents", "from scratch"]),
        },
        [("task", "write", ""), ("write", "check", ""), ("check", "train", ""), ("train", "feedback", ""),
         ("feedback", "write", "I times"), ("train", "final", "best")],
    ),
    "eureka": (
        {
            "task": (0, 0, "rl", ["task, meaning of", "the state"]),
            "write": (1, 0, "llm", ["writes the whole", "reward as code"]),
            "check": (2, 0, "code", ["K programs, checked,", "in a sandbox"]),
            "train": (2, 1, "rl", ["an agent trained", "with each"]),
            "feedback": (1, 1, "llm", ["reads each component", "over the training"]),
            "final": (3, 1, "rl", ["best reward: agents", "from scratch"]),
        },
        [("task", "write", ""), ("write", "check", ""), ("check", "train", ""), ("train", "feedback", ""),
         ("feedback", "write", "N times"), ("train", "final", "best")],
    ),
    "explorllm": (
        {
            "task": (0, 0, "rl", ["task, crops of", "objects"]),
            "write": (1, 0, "llm", ["writes, once: planner,", "affordance, place map"]),
            "check": (2, 0, "code", ["programs, checked", "and scored"]),
            "policy": (1, 1, "rl", ["SAC's policy"]),
            "env": (2, 1, "rl", ["pick-and-place", "table"]),
            "learn": (3, 1, "rl", ["one replay buffer,", "SAC learns"]),
        },
        [("task", "write", ""), ("write", "check", ""), ("check", "env", "probability ε"), ("policy", "env", "1 − ε"),
         ("env", "learn", "")],
    ),
    "kalm": (
        {
            "data": (0, 0, "rl", ["rollouts with their", "goals in words"]),
            "train": (1, 0, "llm", ["language model learns", "states and actions"]),
            "goals": (1, 1, "llm", ["new goals,", "never seen"]),
            "imagine": (2, 0, "code", ["imagined rollouts", "for new goals"]),
            "learn": (3, 0, "rl", ["offline RL: half real,", "half imagined"]),
        },
        [("data", "train", ""), ("train", "imagine", ""), ("goals", "imagine", ""), ("imagine", "learn", "")],
    ),
}  # fmt: skip


def corner(column: int, row: int) -> tuple[int, int]:
    return 16 + column * (WIDTH + GAP_X), 16 + row * (HEIGHT + GAP_Y)


def arrow(start: tuple, end: tuple, label: str) -> str:
    """From the middle of a side to that of the side that faces it; label above, beside or below its middle."""
    (x0, y0), (x1, y1) = corner(*start[:2]), corner(*end[:2])
    if start[0] != end[0]:
        right = end[0] > start[0]
        a = (x0 + (WIDTH if right else 0), y0 + HEIGHT // 2)
        b = (x1 + (0 if right else WIDTH), y1 + HEIGHT // 2)
        if start[1] != end[1]:  # leaves below its middle, arrives above it, or the other way round
            shift = 14 if end[1] > start[1] else -14
            a, b = (a[0], a[1] + shift), (b[0], b[1] - shift)
    else:
        down = end[1] > start[1]
        a = (x0 + WIDTH // 2, y0 + (HEIGHT if down else 0))
        b = (x1 + WIDTH // 2, y1 + (0 if down else HEIGHT))
    line = f'<path d="M{a[0]} {a[1]} L{b[0]} {b[1]}" class="a" marker-end="url(#h)"/>'
    if not label:
        return line
    x, y = (a[0] + b[0]) // 2, (a[1] + b[1]) // 2
    if start[0] != end[0] and a[1] != b[1]:  # below a slanted arrow, clear of it: a letter is some 7 px wide
        y += 18 + round(abs((b[1] - a[1]) / (b[0] - a[0])) * 3.5 * len(label))
    place = f'x="{x + 8}" y="{y + 4}"' if start[0] == end[0] else f'x="{x}" y="{y - 6}" text-anchor="middle"'
    return f'{line}<text {place} class="l">{escape(label)}</text>'


def box(column: int, row: int, kind: str, lines: list[str]) -> str:
    x, y = corner(column, row)
    top = y + HEIGHT // 2 + 5 - 9 * (len(lines) - 1)
    rows = "".join(f'<text x="{x + WIDTH // 2}" y="{top + 18 * i}" text-anchor="middle">{escape(line)}</text>'
                   for i, line in enumerate(lines))  # fmt: skip
    return f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{FILL[kind]}" class="b"/>{rows}'


def draw(paper: str) -> str:
    """The figure of a paper, as svg."""
    boxes, arrows = FIGURES[paper]
    columns, rows = (1 + max(one[i] for one in boxes.values()) for i in (0, 1))
    width, bottom = corner(columns, 0)[0] - GAP_X + 16, corner(0, rows)[1] - GAP_Y
    key = "".join(
        f'<rect x="{16 + 190 * i}" y="{bottom + 20}" width="14" height="14" rx="3" fill="{FILL[kind]}" class="b"/>'
        f'<text x="{36 + 190 * i}" y="{bottom + 32}" class="l">{text}</text>'
        for i, (kind, text) in enumerate(LEGEND.items())
    )
    width = max(width, 580)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom + 50}" role="img">',
        "<style>text{font:14px sans-serif;fill:#222}.l{font-size:13px;fill:#444}.b{stroke:#888}"
        ".a{stroke:#555;stroke-width:1.5;fill:none}</style>",
        '<marker id="h" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#555"/></marker>',
        f'<rect width="{width}" height="{bottom + 50}" rx="8" fill="#fff"/>',
        *(arrow(boxes[start], boxes[end], label) for start, end, label in arrows),
        *(box(*one) for one in boxes.values()),
        key,
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for paper in FIGURES:
        (FOLDER / f"{paper}.svg").write_text(draw(paper), encoding="utf-8")
        print(FOLDER / f"{paper}.svg")
