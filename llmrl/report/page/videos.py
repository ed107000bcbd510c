"""The page's videos: small ones inside it, the others linked."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from llmrl.contracts.report import Section
from llmrl.report.page.html import each_run, link, title_of
from llmrl.report.store.groups import Group

MAX_VIDEO_MB, MAX_VIDEOS_MB = 8, 40  # one video, all of them; what is larger is linked
VIDEOS = {".mp4": "video/mp4", ".webm": "video/webm"}


def videos(groups: Sequence[Group], at: Path) -> list[Section]:
    """A section, where any run has a video."""
    inside, linked, room = [], [], MAX_VIDEOS_MB * 1e6
    for group, run in each_run(groups):
        for path in sorted(p for p in (run.path / "video").glob("*") if p.suffix in VIDEOS):
            size, name = path.stat().st_size, f"{title_of(group, run)} · {path.name}"
            if size > min(MAX_VIDEO_MB * 1e6, room):
                linked.append(f"<li>{link(path, at, name)} ({size / 1e6:.1f} MB)</li>")
                continue
            room -= size
            source = f"data:{VIDEOS[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
            film = f'<video controls preload="metadata" aria-label="{escape(name)}" src="{source}"></video>'
            inside.append(f"<figure>{film}<figcaption>{escape(name)}</figcaption></figure>")
    if not inside and not linked:
        return []
    why = f"<p>Larger than {MAX_VIDEO_MB} MB, or beyond {MAX_VIDEOS_MB} MB in all, and therefore beside this page:</p>"
    return [Section("videos", "Videos", f'<div class="videos">{"".join(inside)}</div>'
             + (f"{why}<ul>{''.join(linked)}</ul>" if linked else ""))]  # fmt: skip
