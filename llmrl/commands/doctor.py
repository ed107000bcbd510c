"""llmrl doctor [outputs/]

Says what is installed here, what is missing and how to get it: packages and extras, GPU, rendering, Atari games, local
language models, keys (their names, never their values), wandb, the sandbox's layers, and whether runs can be kept and
locked in the outputs directory. The exit code is 1 where something is missing that every run needs.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from llmrl.conf_files import group_file, options
from llmrl.runs.lease import STALE_S

OK, MISSING, OPTIONAL = "ok", "MISSING", "-"
CONTEXT = 8192  # tokens, as in conf/llm/scripted.yaml
Finding = tuple[str, str, str]  # (mark, what, note)

DRAW = """
import mujoco
model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><light pos="0 0 3"/><geom size="1"/></worldbody></mujoco>')
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 64, 64)
renderer.update_scene(data)
assert renderer.render().max() > 0, "a black image"
print("drawn")
"""
RENDERING = "apt-get install libegl1 libgl1-mesa-dri (egl) or libosmesa6 (osmesa); needed for videos only"


def main(args: list[str]) -> int:
    parser = argparse.ArgumentParser("llmrl doctor", add_help=False)
    parser.add_argument("outputs", type=Path, nargs="?", default=Path("outputs"))
    outputs = parser.parse_args(args).outputs
    parts = {
        "Packages": packages(), "Computing": gpu(), "Environments": environments(), "Rendering (MuJoCo)": rendering(),
        "Local language models": local_models(), "Keys": key_variables(),
        "Sandbox for generated code": sandbox(), f"Files ({outputs})": files(outputs),
    }  # fmt: skip
    missing = 0
    for title, findings in parts.items():
        print(title, flush=True)
        for mark, what, note in findings:
            print(f"  {mark:<8} {what:<26} {note}".rstrip(), flush=True)
            missing += mark == MISSING
    print(f"\nMissing that every run needs: {missing} of the above." if missing else "\nAll that runs need is here.")
    return 1 if missing else 0


def packages() -> Iterator[Finding]:
    """Python, and what llmrl's own metadata requires, with its extras."""
    from packaging.requirements import Requirement  # comes with matplotlib

    yield OK, "python", f"{platform.python_version()} ({sys.executable})"
    try:
        required = [Requirement(text) for text in metadata.requires("llmrl") or []]
        yield OK, "llmrl", f"{metadata.version('llmrl')} ({Path(__file__).resolve().parents[1]})"
    except metadata.PackageNotFoundError:
        yield MISSING, "llmrl", "not installed, only found: pip install -e . in its directory"
        return
    for requirement in required:
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _package(requirement, None)
    for extra in metadata.metadata("llmrl").get_all("Provides-Extra") or []:
        own = [r for r in required if r.marker and r.marker.evaluate({"extra": extra}) and r.name != "llmrl"]
        found = [_package(r, extra) for r in own if r.marker and not r.marker.evaluate({"extra": ""})]
        gone = [what for mark, what, _ in found if mark != OK]
        note = f"missing: {', '.join(gone)}. Get them: pip install 'llmrl[{extra}]'" if gone else "complete"
        yield (OPTIONAL if gone else OK), f"extra {extra}", note


def _package(requirement: Any, extra: str | None) -> Finding:
    name, specifier = requirement.name, requirement.specifier
    lack = MISSING if extra is None else OPTIONAL
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return lack, name, f"not installed: pip install '{name}{specifier}'"
    if specifier.contains(version, prereleases=True):
        return OK, name, version
    return lack, name, f"{version}, but {specifier} is needed: pip install '{name}{specifier}'"


def gpu() -> Iterator[Finding]:
    yield OK, "CPU cores", f"{len(os.sched_getaffinity(0))} for this process"
    try:
        import torch
    except Exception as error:  # noqa: BLE001 (a broken installation raises anything)
        yield MISSING, "torch", f"cannot be imported: {error}"
        return
    if not torch.cuda.is_available():
        build = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
        yield OPTIONAL, "CUDA", f"no GPU to be used ({build}); compute=default runs on the CPU"
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(number)
        yield OK, f"cuda:{number}", f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"


def environments() -> Iterator[Finding]:
    from llmrl.commands.list import missing

    for suite in sorted({name.partition("/")[0] for name in options("env")}):
        needs = missing(suite)
        yield (OPTIONAL if needs else OK), suite, "; ".join(needs) or "its packages are here"
    try:
        from ale_py import roms

        games = roms.get_all_rom_ids()
        there = sum(Path(roms.get_rom_path(game) or "/nowhere").exists() for game in games)
        note = f"{there} of {len(games)} games of ale-py are here"
        yield (OK if there == len(games) else OPTIONAL), "Atari ROMs", note
    except Exception as error:  # noqa: BLE001 (no ale-py, or one without ROMs)
        yield OPTIONAL, "Atari ROMs", f"not found ({error}): pip install --force-reinstall ale-py"


def rendering() -> Iterator[Finding]:
    """Draws 64 x 64 pixels with every library that MuJoCo can use, each in a process of its own: it may be aborted."""
    works = []
    for library in ("egl", "osmesa", *(["glfw"] if os.environ.get("DISPLAY") else [])):
        environment = os.environ | {"MUJOCO_GL": library, "PYOPENGL_PLATFORM": library if library != "glfw" else ""}
        try:
            done = _python(DRAW, env=environment, timeout=60)
            drawn = done.returncode == 0
            complaint = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        except subprocess.TimeoutExpired:
            drawn, complaint = False, "no image within 60 s"
        works += [library] if drawn else []
        yield (OK if drawn else OPTIONAL), f"MUJOCO_GL={library}", "draws" if drawn else complaint[:90]
    if not works:
        yield OPTIONAL, "", f"nothing draws here: {RENDERING}"


def local_models() -> Iterator[Finding]:
    """Whether llm=local has llama.cpp, the weights that it names by itself, and the memory for them."""
    import importlib.util

    import yaml

    from llmrl.checks import ConfigError
    from llmrl.llm.local import weights

    here = importlib.util.find_spec("xllamacpp") is not None
    note = "llama.cpp is here" if here else f"for llm=local: {weights.MISSING_EXTRA}"
    yield (OK if here else OPTIONAL), "xllamacpp", note
    preset = yaml.safe_load((group_file("llm", "local") or Path("/dev/null")).read_text())
    file = Path(preset["weights"])
    there = [f"{path.name} ({path.stat().st_size / 1e9:.1f} GB)" for path in sorted(file.parent.glob("*.gguf"))]
    if not file.is_file():
        note = f"not here: make local-model, or llm.weights=…; in {file.parent}/: {', '.join(there) or 'none'}"
        yield OPTIONAL, "weights", note
        return
    try:
        needed, free = weights.read(file).memory(CONTEXT), weights.memory()[1]
    except ConfigError as error:
        yield OPTIONAL, "weights", str(error)
        return
    yield OK, "weights", ", ".join(there)
    note = f"{free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed for {file.name}"
    yield (OK if needed <= free else OPTIONAL), "memory", note


def _python(code: str, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, **options)


def key_variables() -> Iterator[Finding]:
    """Which variables with keys are set; wandb also keeps one in ~/.netrc. No value is ever shown."""
    for name in sorted({*_named_in_conf(), *(n for n in os.environ if n.endswith("_API_KEY"))} - {"WANDB_API_KEY"}):
        yield (OK, name, "set") if os.environ.get(name, "").strip() else (OPTIONAL, name, "not set")
    if os.environ.get("WANDB_API_KEY", "").strip():
        yield OK, "wandb", "WANDB_API_KEY is set"
    elif _in_netrc():
        yield OK, "wandb", "logged in (netrc)"
    else:
        yield OPTIONAL, "wandb", "not logged in: wandb login; needed for log.wandb=online only"


def _named_in_conf() -> set[str]:
    """The key_env of every conf/llm/*.yaml."""
    import yaml

    files = [group_file("llm", name) for name in options("llm")]
    values = [(yaml.safe_load(file.read_text()) or {}).get("key_env") for file in files if file]
    return {value for value in values if value}


def _in_netrc() -> bool:
    import netrc
    from urllib.parse import urlparse

    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def sandbox() -> Iterator[Finding]:
    """Which layers of protection a child for an LLM's programs has here (docs/sandbox.md)."""
    from llmrl.llm.sandbox import layers_available

    for layer, state in layers_available().items():
        yield (OK if state == "on" else OPTIONAL), layer, state


def files(outputs: Path) -> Iterator[Finding]:
    """Space, write access, and the file server's clock, by which a run is known to be alive (runs/lease.py)."""
    folder = next(path for path in (outputs, *outputs.absolute().parents) if path.is_dir())
    space = shutil.disk_usage(folder)
    few = "; an Atari run needs up to 8 GB" if space.free < 10 * 2**30 else ""
    yield OK, "free space", f"{space.free / 2**30:,.0f} of {space.total / 2**30:,.0f} GiB{few}"
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            skew = os.fstat(file.fileno()).st_mtime - time.time()
    except OSError as error:
        yield MISSING, "write access", f"{folder}/: {error}. Choose another place: compute.outputs=…"
        return
    yield OK, "write access", f"{folder}/" + ("" if outputs.is_dir() else f" ({outputs} will be made)")
    near = abs(skew) < STALE_S / 3
    note = "a killed run of another machine shows so late, or a live one as killed: set the clocks"
    yield (OK if near else OPTIONAL), "clock of its server", f"{skew:+.1f} s" + ("" if near else f"; {note}")
