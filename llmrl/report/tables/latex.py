"""A table as LaTeX, never wider than the column that it stands in: rows by columns, the rest as notes below."""

import re

from llmrl.report.tables.caption import MIXED, SCRIPTED
from llmrl.report.tables.fill import FilledTable
from llmrl.report.tables.render import compact, legend, verdicts

WIDTH = 60  # letters that fit into a column of a paper without being made smaller
PREAMBLE = "% needs \\usepackage{booktabs,graphicx}"
OF_THE_LIST = ("Last evaluation", "Last tenth", "Difference")  # sentences about what is not in this form
SHRUNK = r"\resizebox{\ifdim\width>\linewidth \linewidth\else \width\fi}{!}{%"


def latex(filled: FilledTable) -> str:
    """A table environment for booktabs and graphicx, with \\label{tab:<paper>/<table>}."""
    head, *rows = [[escaped(cell) for cell in row] for row in compact(filled, WIDTH)]
    body = "\n".join(f"    {' & '.join(row)} \\\\" for row in rows)
    title, numbers, *more = filled.caption
    caption = f"{title.removeprefix(f'{filled.name}: ')} {numbers} Cells: {legend(filled)}."
    notes = "\n".join(f"    {escaped(sentence)}\\par" for sentence in (*more, *verdicts(filled))
                      if not sentence.startswith(OF_THE_LIST))  # fmt: skip
    return (
        f"{PREAMBLE}\n\\begin{{table}}\n  \\centering\n  \\caption{{{escaped(caption)}}}\n"
        f"  \\label{{tab:{filled.name}}}\n  \\smallskip\n  {SHRUNK}\n"
        f"  \\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}\n    \\toprule\n"
        f"    {' & '.join(head)} \\\\\n    \\midrule\n{body}\n    \\bottomrule\n  \\end{{tabular}}}}\n"
        f"  \\par\\smallskip\n  \\parbox{{\\linewidth}}{{\\footnotesize\\raggedright\n{notes}}}\n\\end{{table}}\n"
    )


TEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
       "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}", "<": r"\textless{}",
       ">": r"\textgreater{}", SCRIPTED: r"\dag{}", MIXED: r"\ddag{}", "§": r"\S{}", "¶": r"\P{}", "‖": r"$\Vert$",
       "±": r"$\pm$", "–": "--", "“": "``", "”": "''", "…": r"\dots{}", "*": r"$^*$"}  # fmt: skip


def escaped(text: str) -> str:
    """Special letters as TeX writes them, quotes in pairs, and a minus before a number."""
    text = re.sub(r'"([^"]*)"', r"“\1”", text)
    return re.sub(r"(?<![\w.$-])-(?=\d)", "$-$", "".join(TEX.get(letter, letter) for letter in text))
