"""What a processor is to a result: another model, or other vector instructions, may round sums otherwise."""

import platform
import re
from hashlib import sha256
from pathlib import Path

SIMD = re.compile(r"sse4_2|avx\w*|amx\w*|fma|f16c|neon|asimd\w*|sve\w*")
CPUINFO = Path("/proc/cpuinfo")


def processor(cpuinfo: Path = CPUINFO) -> dict[str, str]:
    """The model and its vector instructions, with what torch makes of them; part of every start in versions.json."""
    import torch

    facts: dict[str, str] = {}
    try:
        for line in cpuinfo.read_text(errors="replace").split("\n\n")[0].splitlines():
            name, _, value = line.partition(":")
            facts[name.strip()] = value.strip()
    except OSError:  # no Linux
        pass
    flags = sorted(filter(SIMD.fullmatch, (facts.get("flags") or facts.get("Features", "")).split()))
    model = facts.get("model name") or platform.processor() or platform.machine()
    told = f"torch {torch.backends.cpu.get_cpu_capability()}"
    return {"processor": model, "simd": " ".join([*flags, told])}


def processor_name(start: dict) -> str | None:
    """The processor of a start in a few words, for comparing: model, what torch makes of it, and its instructions as a
    hash. None where an older start does not say it."""
    if "processor" not in start:
        return None
    simd = start.get("simd", "")
    return f"{start['processor']}, {simd.rpartition(' ')[2]}, simd {sha256(simd.encode()).hexdigest()[:4]}"
