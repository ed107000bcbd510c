"""SAC that looks at what its action names, against the same written down plainly; and what it keeps to."""

import copy

import numpy as np
import pytest
import torch
from plain_crops import RESIDUAL, check_alone_and_among_others, check_restored, crop_batch, crop_space, image_space
from small_agents import box, make, vectors
from torch import nn
from torch.nn import functional as F

from llmrl.agents.nets_objects import CNN, Layout, Means, RunningNorm, pixels, scenes
from llmrl.agents.sac_objects import of_named
from llmrl.checks import ConfigError
from llmrl.replay.crops import CropReplay

SMALL = {"hidden": (16, 12), "learning_rate": 1e-3, "temperature_learning_rate": 3e-3, "tau": 0.1, "batch_size": 8}
EPS = 1e-5  # of Adam: a weight without a gradient, but for rounding errors, stays where it is


class Plain:
    """One update, with a loop over the scenes and autograd through everything that has a gradient."""

    def __init__(self, agent):
        self.goal, self.c, self.target_entropy = agent.layout.goal, agent.config, agent.target_entropy
        self.hand_weight = agent.hand_weight
        self.encoder, self.actor = copy.deepcopy(agent.encoder), self.linear(agent.actor.layers)
        self.critics, self.targets = ([self.linear(net.layers) for net in nets.nets]
                                      for nets in (agent.critic, agent.target_critic))  # fmt: skip
        self.log_alpha = agent.temperature.weights.clone().requires_grad_()
        rate = self.c.learning_rate
        self.encoder_adam = torch.optim.Adam(self.encoder.parameters(), rate, eps=EPS)
        self.actor_adam = torch.optim.Adam(self.actor.parameters(), rate, eps=EPS)
        critics = [p for net in self.critics for p in net.parameters()]
        self.critic_adam = torch.optim.Adam(critics, rate, eps=EPS)
        self.temperature_adam = torch.optim.Adam([self.log_alpha], self.c.temperature_learning_rate)

    @staticmethod
    def linear(layers):
        parts = []
        for layer in layers:
            own = nn.Linear(layer.in_features, layer.out_features)
            own.load_state_dict({name: value.clone() for name, value in layer.state_dict().items()})
            parts += [own, nn.ReLU()]
        return nn.Sequential(*parts[:-1])

    def crop(self, obs, i, slots):
        both = [torch.cat([obs["rgb"][i, s].float() / 255, obs["height"][i, s].float()[..., None]], 2) for s in slots]
        return self.encoder(torch.stack(both).permute(0, 3, 1, 2))

    def facts(self, obs, i, slot):
        """What is known of an object."""
        if self.goal:
            letter, bowl = obs["goal"][i].int().tolist()
            marks = [float(slot == letter), float(slot == 3 + bowl)]
        else:
            marks = [*self.to_partner(obs, i, slot), float(slot < 3)]
        return torch.cat([obs["position"][i, slot], torch.tensor(marks)])

    @staticmethod
    def to_partner(obs, i, slot):
        """Where from a letter its bowl is, from a bowl its letter: in half crops, no farther than two."""
        own, other = obs["position"][i, slot].tolist(), obs["position"][i, (slot + 3) % 6].tolist()
        return [max(-2.0, min(2.0, (there - here) / (28 / 224))) for here, there in zip(own, other)]

    def shared(self, obs, i):
        if self.goal:
            marks = [self.facts(obs, i, slot)[2:] for slot in range(6)]
        else:
            marks = [torch.tensor(self.to_partner(obs, i, letter)) for letter in range(3)]
        return torch.cat([obs["in_hand"][i], *marks])

    def slots(self, obs, i):
        return [int(obs["goal"][i, 0]), 3 + int(obs["goal"][i, 1])] if self.goal else []

    def policy(self, obs, features, eps):
        """features: of each scene's goal, or of all its objects -> action and log pi"""
        actions, logs = [], []
        for i, seen in enumerate(features):
            facts = torch.stack([self.facts(obs, i, slot) for slot in self.slots(obs, i) or range(6)])
            tokens = torch.cat([seen, facts], 1)
            if self.goal:
                mean, log_std = self.actor(torch.cat([tokens.flatten(), self.shared(obs, i)])).chunk(2)
            else:
                out = torch.stack([self.actor(torch.cat([token, self.shared(obs, i)])) for token in tokens])
                named = (out[:, 0] + out[:, 4].clamp(-20, 2).exp() * eps[i, 1:7]).argmax()
                mean, log_std = (
                    torch.cat([out[named, k + 1 : k + 2], out[:, k], out[named, k + 2 : k + 4]]) for k in (0, 4)
                )
            log_std = log_std.clamp(-20, 2)
            u = mean + log_std.exp() * eps[i]
            normal = torch.distributions.Normal(mean, log_std.exp())
            logs.append((normal.log_prob(u) - torch.log(1 - u.tanh() ** 2 + 1e-6)).sum())
            actions.append(u.tanh())
        return torch.stack(actions), torch.stack(logs)

    def q(self, critics, obs, action, named_features, goal_features, output=0):
        """The object with the highest score forwards, the softmax's mean of what is known backwards."""
        rows = []
        for i, a in enumerate(action):
            all_facts = torch.stack([self.facts(obs, i, slot) for slot in range(6)])
            soft = torch.softmax(a[1:7], 0)
            hard = F.one_hot(soft.argmax(), 6) + soft - soft.detach()
            facts = [hard @ all_facts, *(self.facts(obs, i, slot) for slot in self.slots(obs, i))]
            features = [named_features[i], *(goal_features[i] if self.goal else [])]
            rows.append(torch.cat([*facts, *features, self.shared(obs, i), a[:1], a[7:]]))
        return torch.stack([net(torch.stack(rows)) for net in critics])[..., output]

    def best(self, obs, features, action, eps):
        """Without a goal: sum_j w_j min Q_j of each scene, of object j with the primitive and offset of its own, by the
        softmax of the scores. Only the scores have a gradient."""
        found = []
        for i, a in enumerate(action):
            one = {key: value[i : i + 1] for key, value in obs.items()}
            with torch.no_grad():
                q = []
                for j in range(6):
                    token = torch.cat([features[i][j], self.facts(obs, i, j), self.shared(obs, i)])
                    mean, log_std = self.actor(token).chunk(2)
                    u = (mean + log_std.clamp(-20, 2).exp() * eps[i, [j, 0, 7, 8]])[1:].tanh()
                    naming = torch.cat([u[:1], F.one_hot(torch.tensor(j), 6), u[1:]])[None]
                    q.append(self.q(self.critics, one, naming, [features[i][j]], None).amin())
            found.append(torch.softmax(4 * a[1:7], 0) @ torch.stack(q))
        return torch.stack(found)

    def hand_loss(self, logits, after):
        """Mean cross entropy of what the hand holds afterwards, of both critics: logits (2, n)"""
        held = after["in_hand"][:, 0].expand_as(logits)
        return F.binary_cross_entropy_with_logits(logits, held, reduction="none").mean(1).sum()

    def update(self, batch, action, eps):
        obs, after, n = batch.obs, batch.next_obs, len(action)
        named = [int(a[1:7].argmax()) for a in action]
        self.encoder.train()
        looked_at = [[named[i], *self.slots(obs, i)] for i in range(n)]
        images = [torch.cat([obs["rgb"][i, s].float() / 255, obs["height"][i, s].float()[..., None]], 2)
                    for i in range(n) for s in looked_at[i]]  # fmt: skip
        features = self.encoder(torch.stack(images).permute(0, 3, 1, 2)).unflatten(0, (n, -1))
        self.encoder.eval()
        with torch.no_grad():
            shown = [features[i, 1:].detach() if self.goal else self.crop(obs, i, range(6)) for i in range(n)]
            next_shown = [self.crop(after, i, self.slots(after, i) or range(6)) for i in range(n)]
            next_action, next_log = self.policy(after, next_shown, eps[n:])
            next_named = [self.crop(after, i, [int(next_action[i, 1:7].argmax())])[0] for i in range(n)]
            alpha = self.log_alpha.exp()
            next_q = self.q(self.targets, after, next_action, next_named, next_shown).amin(0) - alpha * next_log
            y = batch.reward + batch.discount * (1 - batch.terminated) * next_q
        new_action, log_pi = self.policy(obs, shown, eps[:n])
        with torch.no_grad():
            new_named = [self.crop(obs, i, [int(new_action[i, 1:7].argmax())])[0] for i in range(n)]

        q = self.q(self.critics, obs, action, features[:, 0], features[:, 1:])
        critic_loss, hand = 0.5 * ((q - y) ** 2).mean(1).sum(), torch.zeros(())
        if self.hand_weight:
            logits = self.q(self.critics, obs, action, features[:, 0], features[:, 1:], output=1)
            hand = self.hand_loss(logits, after)
        self.step(critic_loss + self.hand_weight * hand, self.critic_adam, self.encoder_adam)
        if self.goal:
            new_q = self.q(self.critics, obs, new_action, new_named, shown).amin(0)
        else:
            chosen = torch.cat([new_action[:, :1], new_action[:, 1:7].detach(), new_action[:, 7:]], 1)
            best = self.best(obs, shown, new_action, eps)
            new_q = self.q(self.critics, obs, chosen, new_named, shown).amin(0) + best - best.detach()
        actor_loss = (alpha * log_pi - new_q).mean()
        self.step(actor_loss, self.actor_adam)
        self.step(-(self.log_alpha * (log_pi.detach() + self.target_entropy)).mean(), self.temperature_adam)
        for slow, fast in zip(self.targets, self.critics):
            for s, f in zip(slow.parameters(), fast.parameters()):
                s.data += self.c.tau * (f.data - s.data)
        said = {"critic_loss": critic_loss, "actor_loss": actor_loss, "temperature": alpha.sum()}
        return said | {"hand_loss": hand} if self.hand_weight else said

    @staticmethod
    def step(loss, *adams):
        for adam in adams:
            adam.zero_grad()
        loss.backward()
        for adam in adams:
            adam.step()


@pytest.mark.parametrize("equal", [False, True], ids=["", "equal critics"])
@pytest.mark.parametrize("encoder", ["cnn", "means"])
@pytest.mark.parametrize(
    ("goal", "hand_weight"), [(True, None), (False, None), (True, 0.7), (False, 0.0)],
    ids=["short", "long", "short, and the hand", "long, without the hand"],
)  # fmt: skip
def test_an_update_is_the_one_written_down_plainly(goal, hand_weight, encoder, equal):
    """Also where both critics say the same: then each counts half for the actor."""
    space = crop_space(goal)
    ours = make("sac_objects", space, RESIDUAL, encoder=encoder, hand_weight=hand_weight, **SMALL)
    assert ours.hand_weight == (float(not goal) if hand_weight is None else hand_weight)
    if equal:
        for critic in (ours.critic, ours.target_critic):
            critic.nets[1].load_state_dict(critic.nets[0].state_dict())
    plain = Plain(ours)
    ours.policy.adam.eps = ours.q.adam.eps = ours.encoder_optimizer.adam.param_groups[0]["eps"] = EPS
    for i in range(3):
        batch = crop_batch(space, RESIDUAL, 8, seed=i)
        action = (batch.action - torch.tensor([0.5] * 7 + [0] * 2)) * torch.tensor([2] * 7 + [1] * 2)
        ours.gen.manual_seed(i)
        eps = torch.cat([torch.randn((8, 9), generator=ours.gen) for _ in range(2)])
        ours.gen.manual_seed(i)
        theirs, out = plain.update(batch, action, eps), ours.update(batch)
        for name, value in theirs.items():
            assert out[name].item() == pytest.approx(value.item(), rel=1e-4), (i, name)
        pairs = [*zip(plain.encoder.state_dict().values(), ours.encoder.state_dict().values())]
        nets = [(plain.actor, ours.actor), *zip(plain.critics, ours.critic.nets),
                *zip(plain.targets, ours.target_critic.nets)]  # fmt: skip
        pairs += [pair for their, our in nets for pair in zip(their.parameters(), our.parameters())]
        for their, our in pairs:
            torch.testing.assert_close(our.data, their.data, rtol=1e-4, atol=2e-5)


def test_the_critics_see_the_crop_of_the_object_that_the_action_names_and_of_the_goals_alone():
    space = crop_space()
    agent = make("sac_objects", space, RESIDUAL, **SMALL)
    obs = crop_batch(space, RESIDUAL, 1, seed=0).obs
    obs["goal"][:] = torch.tensor([2.0, 0.0])  # slots 2 and 3
    action = torch.full((1, 9), -1.0)
    action[0, 1 + 5] = 0.5
    agent.encoder.eval()  # training moves its statistics

    def value(obs):
        seen = scenes(obs)
        named = agent.named(action)
        assert named.tolist() == [[5]]
        index = torch.cat([named, seen.goal], dim=1)
        x = agent.for_critic(seen, named, agent.encoded(seen, index))
        return agent.critic(x, agent.behind(action))

    before = value(obs)
    for slot in range(6):
        changed = obs | {"rgb": obs["rgb"].clone()}
        changed["rgb"][:, slot] = 255 - changed["rgb"][:, slot]
        assert torch.equal(value(changed), before) == (slot in (0, 1, 4))


def test_a_score_has_the_gradient_of_naming_its_object_more():
    """Where the critics like the goal's letter, its score rises and the others' fall."""
    agent = make("sac_objects", crop_space(), RESIDUAL, **SMALL)
    seen = scenes(crop_batch(crop_space(), RESIDUAL, 5, seed=1).obs)
    dq_dx = torch.zeros(5, agent.critic_size + 3)
    dq_dx[:, 2] = 1  # by "is the goal's letter" of the named object
    unused = torch.zeros(0)  # of the actor, whom a scene with a goal does not ask for each object
    gradient = agent.dq_dscores(seen, unused, unused, unused, torch.zeros(5, 9), dq_dx)
    for scores, (letter, _) in zip(gradient, seen.goal.tolist()):
        assert scores[letter] > 0 and scores.sum().abs() < 1e-6
        assert all(scores[slot] < 0 for slot in range(6) if slot != letter)


def test_without_a_goal_primitive_and_offset_are_those_of_the_object_that_the_sample_names():
    out = torch.zeros(2, 6, 8)
    out[:, :, 1:4] = torch.arange(6.0)[:, None] + torch.tensor([0.1, 0.2, 0.3])
    out[:, 4, 0] = 1
    eps = torch.zeros(2, 9)
    eps[1, 1 + 2] = 1.5  # sigma is 1: the second sample names object 2
    for noise, named in ((None, [4, 4]), (eps, [4, 2])):
        action = of_named(out, noise)[:, :9]
        expected = torch.tensor(named, dtype=torch.float32)[:, None] + torch.tensor([0.1, 0.2, 0.3])
        torch.testing.assert_close(action[:, [0, 7, 8]], expected)


def test_scores_that_tanh_makes_equal_name_the_object_that_the_action_names():
    out = torch.zeros(1, 6, 8)
    out[0, :, 1:4] = torch.arange(6.0)[:, None]
    out[0, 2, 0], out[0, 4, 0] = 20.0, 30.0
    for noise in (None, torch.zeros(1, 9)):
        action = of_named(out, noise)[:, :9]
        assert action.tanh()[0, 1:7].argmax() == 2 and action[0, [0, 7, 8]].tolist() == [2.0] * 3


def test_what_is_seen_of_a_crop_does_not_depend_on_the_batch_and_the_statistics_are_the_batches():
    norm, x = RunningNorm(3), torch.randn(10, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 3 + 1
    for part in x.split(5):
        norm(part)
    torch.testing.assert_close(norm.mean, x.mean((0, 2, 3)))
    own = norm.eval()(x).detach()
    assert torch.equal(own[3:4], norm(x[3:4])) and own.std() == pytest.approx(1, abs=0.1)
    norm.train()
    for _ in range(38):
        norm(x)
    before = norm.mean.clone()
    norm(x + 2)  # the 41st batch: the mean of all is no longer followed, but the momentum of 1/20
    torch.testing.assert_close(norm.mean, before + 0.05 * (x.mean((0, 2, 3)) + 2 - before))


@pytest.mark.parametrize("make_encoder", [CNN, Means])
def test_pixels_are_those_of_the_named_crops(make_encoder):
    obs = crop_batch(crop_space(), RESIDUAL, 3, seed=0).obs
    index = torch.tensor([[0, 5], [1, 1], [4, 2]])
    found = pixels(scenes(obs), index)
    assert found.shape == (6, 4, 28, 28) and found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found[5, :3], obs["rgb"][2, 2].permute(2, 0, 1) / 255)
    assert torch.equal(found[1, 3], obs["height"][0, 5].float())
    assert make_encoder()(found).shape == (6, 32)


@pytest.mark.parametrize("goal", [True, False], ids=["short", "long"])
def test_a_restored_agent_goes_on_exactly_and_acting_changes_nothing(goal, tmp_path):
    agent, other = (make("sac_objects", crop_space(goal), RESIDUAL, seed=seed, **SMALL) for seed in (0, 9))
    check_restored(agent, other, ("encoder", "actor", "critic"), tmp_path / "state.pt")


def test_one_observation_gets_the_same_action_alone_and_among_others():
    agent = make("sac_objects", crop_space(), RESIDUAL, **SMALL)
    check_alone_and_among_others(agent, atol=1e-5)


@pytest.mark.parametrize("name", ["sac_objects", "sac_crops", "sac"])
def test_evaluations_play_the_mean_or_samples(name):
    space = vectors(3) if name == "sac" else crop_space()
    actions = box([-1] * 3, [1] * 3) if name == "sac" else RESIDUAL
    mean, sample = (make(name, space, actions, hidden=(8,), evaluate=which) for which in ("mean", "sample"))
    obs = np.zeros((1, 3), np.float32)
    if name != "sac":
        obs = {key: part.numpy() for key, part in crop_batch(space, actions, 1, seed=0).obs.items()}

    def acts(agent, explore, seed):
        return agent.act(obs, explore=explore, gen=torch.Generator().manual_seed(seed)).tolist()

    assert acts(mean, False, 0) == acts(mean, False, 1) != acts(mean, True, 0)
    assert acts(sample, False, 0) == acts(mean, True, 0) != acts(sample, False, 1)


def test_the_temperature_has_a_rate_of_its_own():
    for own, rate in ((None, 1e-3), (0.02, 0.02)):
        agent = make("sac_objects", crop_space(), RESIDUAL, **SMALL | {"temperature_learning_rate": own})
        assert agent.temperature.learning_rate == rate and agent.q.adam.learning_rate == 1e-3


def test_unfit_spaces_are_refused_with_what_to_do():
    with pytest.raises(ConfigError, match="SACObjects needs observations with position.*agent=sac_crops"):
        make("sac_objects", image_space(32), RESIDUAL)
    with pytest.raises(ConfigError, match="SACObjects needs actions that name an object.*agent=sac_crops"):
        make("sac_objects", crop_space(), box([0] * 3, [1] * 3))
    assert Layout.of(crop_space(goal=False), RESIDUAL) == Layout(6, False)
    assert isinstance(make("sac_objects", crop_space(), RESIDUAL).replay_buffer(), CropReplay)
