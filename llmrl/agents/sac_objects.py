"""SAC for scenes of objects, whose critics look at the object that an action names: ExploRLLM's agent, our design.

All crops side by side do not tell a critic which of them an action is about (docs/papers/explorllm.md). Here a critic
gets the token of the object with the highest score, and of the action only the primitive and the offset. The actor gets
the tokens of the goal's letter and bowl; where there is no goal, one head looks at each object by itself.

Without a goal no reward says whether a pick holds, only what follows does. There an auxiliary loss has each critic
predict whether the hand holds something after an action, so that its features tell holds from misses.

One encoder makes all tokens. As in DrQ-v2 (Yarats et al. 2021, arXiv 2107.09645, section 3.1) it is trained by the
critics' loss alone, and has no slow copy.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from llmrl.agents import sac
from llmrl.agents.configs import SACObjectsConfig as Config
from llmrl.agents.nets import MLP, Critics, Optimizer, initialised_by, normal, tensors, weights
from llmrl.agents.nets_gaussian import SquashedSample
from llmrl.agents.nets_objects import ENCODERS, Layout, Scenes, known, pixels, scenes
from llmrl.agents.perceptrons import Perceptrons
from llmrl.contracts.replay import Batch
from llmrl.replay.crops import CropReplay
from llmrl.replay.ring import Sampling

SHARPNESS = 4.0  # of the weights of objects in a scene without a goal: a score of 1 beside five of -1 weighs 0.998
BEHIND = 3  # numbers of an action beside its scores: the primitive before them, the offset behind them


class SACObjects(sac.SAC):
    """Q(s, a) sees the object that a names; pi sees the goal's, or each."""

    config: Config
    observation_space: spaces.Dict

    def make_networks(self) -> None:
        c, rate = self.config, self.config.learning_rate
        self.layout = layout = Layout.of(self.observation_space, self.action_space)
        if layout.goal:
            looked_at, seen, out = 3, 2 * layout.token_size, 2 * self.action_size
        else:  # the head's: mean and log sigma of a score, and of primitive and offset
            looked_at, seen, out = 1, layout.token_size, 2 * (1 + BEHIND)
        self.critic_size = looked_at * layout.token_size + layout.shared_size
        with initialised_by(self.gen):
            self.encoder = ENCODERS[c.encoder]().to(self.device)
            self.actor = MLP((seen + layout.shared_size, *c.hidden, out)).to(self.device)
            self.hand_weight = float(not layout.goal) if c.hand_weight is None else c.hand_weight
            self.outputs = 2 if self.hand_weight else 1  # Q, and the logit of "the hand holds something then"
            self.critic = Critics(2, self.critic_size, BEHIND, c.hidden, self.outputs).to(self.device)
        self.target_critic = copy.deepcopy(self.critic)
        self.policy = Perceptrons([self.actor.layers], learning_rate=rate)
        self.q = Perceptrons([net.layers for net in self.critic.nets], learning_rate=rate)
        self.target_q = Perceptrons([net.layers for net in self.target_critic.nets])
        self.encoder_optimizer = Optimizer(self.encoder, rate)

    # --- what the networks see ----------------------------------------------------------------------------------------

    def encoded(self, seen: Scenes, index: Tensor) -> Tensor:
        """Of the crops of objects (batch, k) -> (batch, k, FEATURES)"""
        return self.encoder(pixels(seen, index)).unflatten(0, index.shape)

    def shown(self, seen: Scenes) -> Tensor:
        """The numbers of the objects that the actor sees: the goal's, or all. (batch, k)"""
        n, objects = len(seen), self.layout.objects
        return seen.goal if self.layout.goal else torch.arange(objects, device=seen.goal.device).expand(n, -1)

    def for_actor(self, seen: Scenes, features: Tensor) -> Tensor:
        """Features of what is shown -> the actor's input, (batch, size) or without a goal (batch * objects, size)."""
        tokens = torch.cat([features, known(seen, self.shown(seen))], dim=2)
        if self.layout.goal:
            return torch.cat([tokens.flatten(1), seen.shared], dim=1)
        shared = seen.shared.unsqueeze(1).expand(-1, tokens.shape[1], -1)
        return torch.cat([tokens, shared], dim=2).flatten(0, 1)

    def for_critic(self, seen: Scenes, named: Tensor, features: Tensor) -> Tensor:
        """Features of the named object (batch, 1, …), with a goal also of the goal's -> (batch, critic_size). What is
        known of the named one comes first, then all features."""
        index = torch.cat([named, seen.goal], dim=1)
        return torch.cat([known(seen, index).flatten(1), features.flatten(1), seen.shared], dim=1)

    def named(self, action: Tensor) -> Tensor:
        """The object with the highest score, (batch, 1)."""
        return action[:, 1 : 1 + self.layout.objects].argmax(1, keepdim=True)

    def behind(self, action: Tensor) -> Tensor:
        """An action without its scores, (batch, BEHIND)."""
        return torch.cat([action[:, :1], action[:, 1 + self.layout.objects :]], dim=1)

    # --- acting -------------------------------------------------------------------------------------------------------

    def act(self, obs: Any, *, explore: bool, gen: Generator) -> NDArray:
        with torch.inference_mode():
            seen = scenes(tensors(obs, self.device))
            self.encoder.eval()
            x = self.for_actor(seen, self.encoded(seen, self.shown(seen)))
            raw = torch.from_numpy(self.policy.act(x.cpu().numpy())).to(self.device)
            if explore or self.config.evaluate == "sample":
                eps = normal((len(seen), self.action_size), gen, self.device)
                action = SquashedSample(self.gaussian(raw, eps), eps).action
            else:
                action = self.gaussian(raw, None).chunk(2, dim=1)[0].tanh()
            action = torch.addcmul(self.middle, self.half_range, action)
        return action.cpu().numpy().reshape(-1, *self.action_space.shape)

    def gaussian(self, out: Tensor, eps: Tensor | None) -> Tensor:
        """What the actor's network returns -> mu and log sigma of actions, (batch, 2 action). eps: of the sample, whose
        scores say which object's primitive and offset these are; None: those of the mean."""
        return out if self.layout.goal else of_named(out.unflatten(0, (-1, self.layout.objects)), eps)

    # --- learning -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def learn(self, batch: Batch, noise: Any, *, due: bool) -> Mapping[str, Tensor]:
        n = len(batch.reward)
        seen, next_seen = scenes(batch.obs), scenes(batch.next_obs)
        action = (batch.action.flatten(1) - self.middle) / self.half_range
        named = self.named(action)

        # what the critics see of s: the one pass that the encoder learns from, and its statistics
        self.encoder.train()
        with torch.enable_grad():
            features = self.encoded(seen, torch.cat([named, seen.goal], dim=1))
        self.encoder.eval()
        shown = features.detach()[:, 1:] if self.layout.goal else self.encoded(seen, self.shown(seen))
        next_shown = self.encoded(next_seen, self.shown(next_seen))

        # a ~ pi(. | s) and a' ~ pi(. | s'), in one pass
        x = torch.cat([self.for_actor(seen, shown), self.for_actor(next_seen, next_shown)])
        raw = self.policy.forward(x[None])[0]
        eps = noise.flatten(0, 1)
        sample = SquashedSample(self.gaussian(raw, eps), eps)
        (new_action, next_action), (log_pi, next_log_pi) = sample.action.split(n), sample.log_pi.split(n)

        alpha = self.temperature.weights.exp()
        if self.config.learn_temperature:
            self.learn_temperature(log_pi[None])

        # y = r + gamma (1 - d) (min_i Q'_i(s', a') - alpha log pi(a' | s'))
        next_x = self.critic_input(next_seen, next_shown, self.named(next_action))
        next_q = self.target_q.forward(next_x[None], self.behind(next_action)[None])[..., 0].amin(0)
        y = batch.reward + batch.discount * (1 - batch.terminated) * (next_q - alpha * next_log_pi)

        new_x = self.critic_input(seen, shown, self.named(new_action))  # by the encoder as it still is

        found = self.learn_critics(seen, named, features, action, y, next_seen.in_hand)

        # minimise the mean of alpha log pi(a | s) - min_i Q_i(s, a), by d min_i Q_i / da and d log pi / da
        new_q = self.q.forward(new_x[None], self.behind(new_action)[None])[..., 0]
        min_q = new_q.amin(0)
        smaller = new_q == min_q  # where both are equal, each counts half
        share = new_q.new_zeros(2, n, self.outputs)
        share[..., 0] = smaller / (n * smaller.sum(0))
        dq_dx = self.q.input_gradient(share, slice(0, None)).sum(0)
        dq_da = self.to_action(new_action, dq_dx, self.dq_dscores(seen, shown, raw, eps, new_action, dq_dx))
        self.policy.backward(self.to_raw(raw, eps, sample.gradient(-dq_da, alpha / n))[None])
        self.policy.step()

        self.target_q.track(self.q, self.config.tau)
        return {
            **found,
            "actor_loss": (alpha * log_pi - min_q).mean(),
            "entropy": -log_pi.mean(),
            "temperature": alpha.sum(),
        }

    def learn_critics(
        self, seen: Scenes, named: Tensor, features: Tensor, action: Tensor, y: Tensor, held: Tensor
    ) -> dict[str, Tensor]:
        """A step of the critics, and of the encoder by what they make of its features. held: in s', (batch,)

        Minimises the mean of 1/2 (Q_1(s, a) - y)^2 + 1/2 (Q_2(s, a) - y)^2, dL/dQ_i = (Q_i - y) / n, and w times that
        of the cross entropies of what the hand holds, dL/dlogit_i = w (sigmoid(logit_i) - held) / n.
        """
        n = len(y)
        x = self.for_critic(seen, named, features)
        out = self.q.forward(x[None], self.behind(action)[None])
        q, error = out[..., 0], out[..., 0] - y
        dl_dout, found = error.unsqueeze(2) / n, {"critic_loss": 0.5 * error.square().mean(1).sum(), "q": q.mean()}
        if self.hand_weight:
            logit, held = out[..., 1], held.expand(2, -1)
            dl_dout = torch.stack([error / n, (self.hand_weight / n) * (logit.sigmoid() - held)], dim=2)
            found["hand_loss"] = binary_cross_entropy_with_logits(logit, held, reduction="none").mean(1).sum()
        first = self.layout.known_size * features.shape[1]
        columns = slice(first, first + features[0].numel())
        dl_dfeatures = self.q.backward_to_input(dl_dout, columns).sum(0)
        self.q.step()
        self.encoder_optimizer.step(features, dl_dfeatures.view_as(features))
        return found

    def critic_input(self, seen: Scenes, shown: Tensor, named: Tensor) -> Tensor:
        """`for_critic` of named objects (batch, 1), given the features of what is shown."""
        if self.layout.goal:
            return self.for_critic(seen, named, torch.cat([self.encoded(seen, named), shown], dim=1))
        features = shown.gather(1, named.unsqueeze(2).expand(-1, -1, shown.shape[2]))
        return self.for_critic(seen, named, features)

    def to_action(self, action: Tensor, dq_dx: Tensor, dq_dscores: Tensor) -> Tensor:
        """dQ/d(critics' input and action without scores), dQ/d(scores) -> dQ/da, (batch, action)."""
        rest = dq_dx[:, self.critic_size :]
        return torch.cat([rest[:, :1], dq_dscores, rest[:, 1:]], dim=1)

    def dq_dscores(
        self, seen: Scenes, shown: Tensor, raw: Tensor, eps: Tensor, action: Tensor, dq_dx: Tensor
    ) -> Tensor:
        """The named object is an argmax, which has no gradient. Backwards it is taken for a softmax: for the mean of
        v_j, w_j ~ exp(score_j), d/d(score_j) = w_j (v_j - sum_k w_k v_k) (straight-through, Bengio et al. 2013, arXiv
        1308.3432). v_j is dQ/d(known) times what is known of object j; without a goal, where each object has an action
        of its own, it is Q of j and that action. (batch, objects)"""
        n, sharpness = len(seen), 1.0 if self.layout.goal else SHARPNESS
        w = action[:, 1 : 1 + self.layout.objects].mul(sharpness).softmax(1)
        if self.layout.goal:
            v = torch.einsum("njk,nk->nj", seen.known, dq_dx[:, : self.layout.known_size])
        else:
            v = self.q_of_each(seen, shown, raw, eps) / n
        return sharpness * w * (v - (w * v).sum(1, keepdim=True))

    def q_of_each(self, seen: Scenes, shown: Tensor, raw: Tensor, eps: Tensor) -> Tensor:
        """min_i Q_i(s, j and its own primitive and offset) of each object j, (batch, objects)"""
        n, objects = len(seen), self.layout.objects
        mean, log_std = raw[: n * objects].unflatten(0, (n, objects)).chunk(2, dim=2)
        own = torch.cat([mean[..., 1:], log_std[..., 1:]], dim=2)
        behind = SquashedSample(own, self.behind(eps[:n]).unsqueeze(1)).action
        each = [self.critic_input(seen, shown, torch.full((n, 1), j, device=raw.device)) for j in range(objects)]
        q = self.q.forward(torch.stack(each, 1).flatten(0, 1)[None], behind.flatten(0, 1)[None])
        return q[..., 0].view(2, n, objects).amin(0)

    def to_raw(self, raw: Tensor, eps: Tensor, gradient: Tensor) -> Tensor:
        """dL/d(mu and log sigma) of the first rows -> dL/d(what the actor's network returned) of them."""
        if self.layout.goal:
            return gradient
        first = raw[: len(gradient) * self.layout.objects].clone().requires_grad_()
        with torch.enable_grad():
            (found,) = torch.autograd.grad(self.gaussian(first, eps[: len(gradient)]), first, gradient)
        return found

    # --- the rest -----------------------------------------------------------------------------------------------------

    def adams(self) -> dict[str, Any]:
        return super().adams() | {"encoder_adam": self.encoder_optimizer.adam}

    def state_dict(self) -> dict:
        return super().state_dict() | {"encoder": weights(self.encoder)}

    def load_state_dict(self, state: dict) -> None:
        self.encoder.load_state_dict(state["encoder"])
        super().load_state_dict(state)

    def replay_buffer(self) -> CropReplay:
        c = self.config
        sampling = Sampling(c.batch_size, c.learning_starts, c.updates_per_env_step, c.gamma, c.sample_with_replacement)
        return CropReplay(
            self.observation_space, self.action_space, capacity=c.replay_size, n_envs=c.n_envs, sampling=sampling
        )


def of_named(out: Tensor, eps: Tensor | None) -> Tensor:
    """What the head says of each object, (batch, objects, 2 (1 + BEHIND)) -> mu and log sigma of an action.

    The scores are each object's own; primitive and offset are those of the object that the scores name.
    """
    mean, log_std = out.chunk(2, dim=2)
    # as they stand in the action: of those that tanh makes equal, both name the first
    scores = mean[..., 0].tanh()
    if eps is not None:
        of_scores = torch.cat([mean[..., 0], log_std[..., 0]], dim=1)
        scores = SquashedSample(of_scores, eps[:, 1 : 1 + out.shape[1]]).action
    named = scores.argmax(1).view(-1, 1, 1)

    def action(each: Tensor) -> Tensor:
        behind = each[..., 1:].gather(1, named.expand(-1, 1, BEHIND)).squeeze(1)
        return torch.cat([behind[:, :1], each[..., 0], behind[:, 1:]], dim=1)

    return torch.cat([action(mean), action(log_std)], dim=1)


AGENT = SACObjects
