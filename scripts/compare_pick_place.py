"""How far the computed pick-and-place table and the simulated one agree: what is seen, what is held, where things land.

Both get the same scenes, the same primitives and the same noise. Needs OpenGL, as env.mode=physics does.

Usage: python scripts/compare_pick_place.py [--scenes 200] [--actions 500] [--seed 0]
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402

from llmrl.envs.pick_place.analytic import AnalyticWorld  # noqa: E402
from llmrl.envs.pick_place.detect import ColourSegments  # noqa: E402
from llmrl.envs.pick_place.letters import BOWL_RADIUS, PIXEL  # noqa: E402
from llmrl.envs.pick_place.physics import PhysicsWorld  # noqa: E402
from llmrl.envs.pick_place.scene import BOWL_COLOURS, BOWL_HEIGHT, FRAME, HOME_PIXEL, Scene, sample_scene  # noqa: E402

# (horizon, letters, scale) of scenes, in turn
KINDS = [("short", "ORV", 1.0), ("long", "ORV", 0.9), ("short", "OTG", 1.0), ("long", "OTG", 0.9)]
REACH = 14.0  # pixels, of a primitive around an object
PLACES = ("of the letter's middle near a bowl's", "of the cup near a bowl", "anywhere")
SAME_PLACE = 0.005  # m
LEANS = 0.060  # m, from a bowl's rim to the middle of a letter that still touches it


def worlds() -> tuple[AnalyticWorld, PhysicsWorld]:
    return AnalyticWorld(0.0), PhysicsWorld(film=False)


def scene(seed: int) -> tuple[Scene, np.random.Generator]:
    """A scene of each kind in turn, and the generator for what is done in it."""
    rng = np.random.default_rng(seed)
    horizon, names, scale = KINDS[seed % len(KINDS)]
    return sample_scene(rng, horizon=horizon, letters=tuple(names), colours=BOWL_COLOURS, scale=scale), rng


def compare_crops(computed: AnalyticWorld, simulated: PhysicsWorld, scenes: int, seed: int) -> np.ndarray:
    """(scenes, 3) of the six crops of each scene: mean absolute error of RGB (of 255) and of height (m), and the share
    of pixels whose colour differs."""
    rows = []
    for i in range(scenes):
        start, _ = scene(seed + i)
        seen = []
        for world in (computed, simulated):
            world.reset(start, np.random.default_rng(i))
            seen.append(world.crops([(int(u) // 2, int(v) // 2) for u, v in start.position.tolist()]))
        (rgb, height), (rgb_too, height_too) = seen
        wrong = np.abs(rgb.astype(int) - rgb_too)
        rows.append((wrong.mean(), np.abs(height - height_too).mean(), (wrong.max(-1) > 8).mean()))
    return np.array(rows)


def compare_actions(computed: AnalyticWorld, simulated: PhysicsWorld, actions: int, seed: int) -> dict[str, np.ndarray]:
    """Picks within REACH of a letter, and places of what both hold, each pair in a scene of its own. In turn, the
    letter's middle goes within REACH of a bowl's, the cup does, and the cup goes anywhere.

    picked: (actions, 2) slot by world. For each place, kind: 0-2 in this order; gap: m between where the letter lies in
    the two worlds; on_bowl: (places, 2) whether it lies on something, by world; rim: m from the nearest bowl's rim to
    where its middle was let go, negative over the bowl."""
    both, picked, kinds, gaps, on_bowl, rims = (computed, simulated), [], [], [], [], []
    for i in range(actions):
        start, rng = scene(seed + i)
        for world in both:
            world.reset(start, np.random.default_rng(i))
        pick = start.position[rng.integers(3)] + rng.uniform(-REACH, REACH, 2)
        picked.append([world.pick(*pick) for world in both])
        slot, other = picked[-1]
        if slot != other or slot < 0:
            continue
        kind = i % 3
        target = start.position[3 + rng.integers(3)] + rng.uniform(-REACH, REACH, 2)
        if kind == 0:
            target -= computed.position[slot] - HOME_PIXEL
        elif kind == 2:
            target = rng.uniform(0, FRAME, 2)
        for world in both:
            world.place(*np.clip(target, 0, FRAME - 1))
        kinds.append(kind)
        gaps.append(np.linalg.norm(computed.position[slot] - simulated.position[slot]) * PIXEL)
        on_bowl.append([world.z[slot] > BOWL_HEIGHT for world in both])
        nearest = np.linalg.norm(computed.position[3:] - computed.position[slot], axis=1).min()
        rims.append(nearest * PIXEL - BOWL_RADIUS / 1000)
    found = {"picked": picked, "kind": kinds, "gap": gaps, "on_bowl": on_bowl, "rim": rims}
    return {key: np.array(value) for key, value in found.items()}


def detection_errors(simulated: PhysicsWorld, scenes: int, seed: int) -> np.ndarray:
    """(scenes, 6) pixels between the middles and where the colour detector finds them on the rendered picture, with
    letters of different colours."""
    rows = []
    for i in range(scenes):
        start, rng = scene(seed + 1 + 2 * i)  # long horizon: a colour for each letter
        simulated.reset(start, rng)
        found = np.array(ColourSegments().start(simulated, start, rng)) + 0.5
        rows.append(np.linalg.norm(found - start.position, axis=1))
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--actions", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    pair = worlds()
    rgb, height, share = compare_crops(*pair, args.scenes, args.seed).T
    print(
        f"crops of {args.scenes} scenes: mean absolute error of RGB {rgb.mean():.2f} of 255 (worst {rgb.max():.2f}), "
        f"of height {1000 * height.mean():.3f} mm (worst {1000 * height.max():.3f}); "
        f"{100 * share.mean():.2f} % of pixels have another colour (worst {100 * share.max():.2f})"
    )
    done = compare_actions(*pair, args.actions, args.seed)
    same = (done["picked"][:, 0] == done["picked"][:, 1]).mean()
    held = (done["picked"] >= 0).mean(0)
    print(
        f"{args.actions} picks: the same outcome in {100 * same:.1f} % (held: computed {100 * held[0]:.1f} %, "
        f"simulated {100 * held[1]:.1f} %)"
    )
    for kind, name in enumerate(PLACES):
        gap, lies = 1000 * done["gap"][done["kind"] == kind], done["on_bowl"][done["kind"] == kind]
        print(
            f"{len(gap)} places {name}: {100 * (gap < 1000 * SAME_PLACE).mean():.1f} % within 5 mm; median "
            f"{np.median(gap):.2f} mm, 95 % {np.quantile(gap, 0.95):.2f}, worst {gap.max():.1f}; "
            f"on a bowl: computed {100 * lies[:, 0].mean():.1f} %, simulated {100 * lies[:, 1].mean():.1f} %"
        )
    same = done["gap"] < SAME_PLACE
    leans = (done["rim"] > 0) & (done["rim"] < LEANS)
    print(
        f"all {len(same)} places: {100 * same.mean():.1f} % within 5 mm; {100 * same[~leans].mean():.1f} % of the "
        f"{(~leans).sum()} without those let go up to {1000 * LEANS:.0f} mm outside of a rim, "
        f"where letters lean or tip in the simulated world alone"
    )
    wrong = detection_errors(pair[1], args.scenes, args.seed)
    print(
        f"colour detector on {args.scenes} rendered pictures: median {np.median(wrong):.2f} pixels, "
        f"95 % {np.quantile(wrong, 0.95):.2f}, worst {wrong.max():.1f}"
    )


if __name__ == "__main__":
    main()
