"""Updates of several seeds as one: each training stands in a thread of its own and waits for the others here."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from llmrl.agents.capturable import Stackable, each, side_by_side
from llmrl.agents.cuda_graphs import CUDAGraphs, Learn
from llmrl.checks import ConfigError
from llmrl.contracts.agent import Agent
from llmrl.contracts.replay import Batch

Update = Callable[[Batch], Mapping[str, Tensor]]


@dataclass(eq=False)
class _Wish:
    """What a training waits for."""

    seat: int
    agent: Stackable
    batch: Batch
    out: Mapping[str, Tensor] | None = None
    error: Exception | None = None


class Lockstep:
    """As many seats as trainings. When all that have not left wait for an update, it is made for all of them at once.

    Trainings that were interrupted at different updates go on from there: those with the fewest are alone until they
    have caught up.
    """

    def __init__(self, seats: int) -> None:
        self._changed = threading.Condition()
        self._here = seats
        self._waiting: list[_Wish] = []
        self._stacked: tuple[list[Stackable], Stackable] | None = None  # whose networks are views of whose
        self._learn: Learn

    def update(self, seat: int, agent: Agent) -> Update:
        """The update of a training's agent. Raises ConfigError where it cannot be made together with others'."""
        if not (isinstance(agent, Stackable) and agent.stackable):
            raise ConfigError(
                f"compute.stack: updates of this {type(agent).__name__} cannot be made for several seeds at once"
            )

        def update(batch: Batch) -> Mapping[str, Tensor]:
            wish = _Wish(seat, agent, batch)
            with self._changed:
                self._waiting.append(wish)
                self._go_on()
                self._changed.wait_for(lambda: wish.out is not None or wish.error is not None)
            if wish.out is None:
                raise RuntimeError(f"the update of several seeds at once failed: {wish.error}") from wish.error
            return wish.out

        return update

    def leave(self) -> None:
        """A training is over; the others go on without it."""
        with self._changed:
            self._here -= 1
            self._go_on()

    def _go_on(self) -> None:
        if not self._waiting or len(self._waiting) < self._here:
            return
        fewest = min(wish.agent.updates for wish in self._waiting)
        first = sorted((w for w in self._waiting if w.agent.updates == fewest), key=lambda wish: wish.seat)
        self._waiting = [wish for wish in self._waiting if wish not in first]
        try:
            self._update(first)
        except Exception as error:  # each training ends by it
            for wish in first:
                wish.error = error
        self._changed.notify_all()

    def _update(self, wishes: list[_Wish]) -> None:
        if len(wishes) == 1:
            wishes[0].out = wishes[0].agent.update(wishes[0].batch)
            return
        agents = [wish.agent for wish in wishes]
        if self._stacked is None or self._stacked[0] != agents:
            self._stacked = agents, agents[0].stacked(agents)
            learn = self._stacked[1].learn_together
            self._learn = CUDAGraphs(learn) if agents[0].captured else learn
        stacked = self._stacked[1]
        for agent in agents:
            agent.updates += 1
        stacked.updates = agents[0].updates
        noises = [wish.agent.noise(len(wish.batch.reward)) for wish in wishes]
        noise = stacked.on_device(each(lambda *parts: torch.stack(parts), *noises))
        batch = side_by_side([wish.batch for wish in wishes], stacked.features)
        with torch.no_grad():
            out = self._learn(batch, noise, due=stacked.due())
        for i, wish in enumerate(wishes):
            wish.out = {name: value[i] for name, value in out.items()}
