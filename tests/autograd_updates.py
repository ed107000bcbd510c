"""The updates of agents by autograd and torch.optim.Adam, from the formulas: the reference for the gradients that the
agents write out by hand."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from llmrl.agents.nets import flatten


class Reference:
    """Copies of an agent's networks, under the same names, that learn by `UPDATES`."""

    def __init__(self, agent):
        self.config, self.updates, self.action_space = agent.config, 0, agent.action_space
        self.gen = torch.Generator()
        self.gen.set_state(agent.gen.get_state())
        for name, module in vars(agent).items():
            if isinstance(module, nn.Module):
                setattr(self, name, copy.deepcopy(module))
        self.adams = {}

    def minimise(self, name, loss, parameters, *, learning_rate, eps=1e-8, max_grad_norm=None):
        """A step of the Adam of this name along the gradient of `loss`."""
        parameters = list(parameters)
        if name not in self.adams:
            self.adams[name] = torch.optim.Adam(parameters, lr=learning_rate, eps=eps)
        for p, g in zip(parameters, torch.autograd.grad(loss, parameters)):
            p.grad = g
        if max_grad_norm is not None:
            nn.utils.clip_grad_norm_(parameters, max_grad_norm)
        self.adams[name].step()

    def normal(self, batch):
        """One number for each action of each row."""
        return torch.randn((len(batch.reward), self.action_space.shape[0]), generator=self.gen)


@torch.no_grad()
def track(target, online, tau):
    for slow, fast in zip(target.parameters(), online.parameters()):
        slow.copy_((1 - tau) * slow + tau * fast)


def bounds(space):
    """low, high, middle and half range of actions."""
    low, high = (torch.as_tensor(bound).to(torch.get_default_dtype()) for bound in (space.low, space.high))
    return low, high, (high + low) / 2, (high - low) / 2


def bootstrapped(batch, next_value):
    """y = r + gamma (1 - d) next_value"""
    return batch.reward + batch.discount * (1 - batch.terminated) * next_value


# --- actors and critics ---------------------------------------------------------------------------------------------


def ddpg(ref, batch):
    ref.updates += 1
    obs, next_obs = flatten(batch.obs), flatten(batch.next_obs)
    with torch.no_grad():
        y = bootstrapped(batch, ref.target_critic(next_obs, ref.target_actor(next_obs))[0])
    q = ref.critic(obs, batch.action.flatten(1))[0]
    critic_loss = F.mse_loss(q, y)
    minimise_ddpg(ref, "critic", critic_loss)
    return {"critic_loss": critic_loss, "q": q.mean(), "actor_loss": ddpg_actor(ref, obs)}


def td3(ref, batch):
    ref.updates += 1
    c, obs, next_obs = ref.config, flatten(batch.obs), flatten(batch.next_obs)
    low, high, _, half_range = bounds(ref.action_space)
    scale = half_range if c.noise_units == "relative" else torch.ones_like(half_range)
    with torch.no_grad():
        smoothing = (c.target_noise * scale * ref.normal(batch)).clamp(-c.target_noise_clip * scale,
                                                                      c.target_noise_clip * scale)  # fmt: skip
        next_action = (ref.target_actor(next_obs) + smoothing).clamp(low, high)
        y = bootstrapped(batch, ref.target_critic(next_obs, next_action).amin(0))
    q = ref.critic(obs, batch.action.flatten(1))
    critic_loss = (q - y).square().mean(1).sum()
    minimise_ddpg(ref, "critic", critic_loss)
    metrics = {"critic_loss": critic_loss, "q": q.mean()}
    if ref.updates % c.policy_delay == 0:
        metrics["actor_loss"] = ddpg_actor(ref, obs)
    return metrics


def ddpg_actor(ref, obs):
    """Maximises Q_1(s, mu(s)); then the targets track."""
    actor_loss = -ref.critic.first(obs, ref.actor(obs)).mean()
    minimise_ddpg(ref, "actor", actor_loss)
    track(ref.target_critic, ref.critic, ref.config.tau)
    track(ref.target_actor, ref.actor, ref.config.tau)
    return actor_loss


def minimise_ddpg(ref, name, loss):
    rate = getattr(ref.config, f"{name}_learning_rate")
    ref.minimise(name, loss, getattr(ref, name).parameters(), learning_rate=rate, eps=ref.config.adam_epsilon)


def sac(ref, batch):
    ref.updates += 1
    c, obs, next_obs = ref.config, flatten(batch.obs), flatten(batch.next_obs)
    _, _, middle, half_range = bounds(ref.action_space)
    if not hasattr(ref, "log_alpha"):
        ref.log_alpha = torch.tensor([c.temperature]).log().requires_grad_()
    alpha = ref.log_alpha.detach().exp()
    new_action, log_pi = squashed_sample(ref.actor.mlp(obs), ref.normal(batch))
    if c.learn_temperature:
        target_entropy = -len(middle) if c.target_entropy is None else c.target_entropy
        loss = -(ref.log_alpha * (log_pi.detach() + target_entropy)).mean()
        ref.minimise("temperature", loss, [ref.log_alpha], learning_rate=c.learning_rate)
    with torch.no_grad():
        next_action, next_log_pi = squashed_sample(ref.actor.mlp(next_obs), ref.normal(batch))
        y = bootstrapped(batch, ref.target_critic(next_obs, next_action).amin(0) - alpha * next_log_pi)
    q = ref.critic(obs, (batch.action.flatten(1) - middle) / half_range)
    critic_loss = 0.5 * (q - y).square().mean(1).sum()
    ref.minimise("critic", critic_loss, ref.critic.parameters(), learning_rate=c.learning_rate)
    actor_loss = (alpha * log_pi - ref.critic(obs, new_action).amin(0)).mean()
    ref.minimise("actor", actor_loss, ref.actor.parameters(), learning_rate=c.learning_rate)
    track(ref.target_critic, ref.critic, c.tau)
    metrics = {"critic_loss": critic_loss, "actor_loss": actor_loss, "q": q.mean(), "entropy": -log_pi.mean()}
    return metrics | {"temperature": alpha[0]}


def squashed_sample(out, eps):
    """a = tanh(u), u ~ N(mu, sigma), and log pi(a | s) = log N(u; mu, sigma) - sum log(1 - a^2 + 1e-6)"""
    mean, log_std = out.chunk(2, dim=1)
    log_std = log_std.clamp(-20, 2)
    action = (mean + log_std.exp() * eps).tanh()
    log_normal = torch.distributions.Normal(0.0, 1.0).log_prob(eps) - log_std
    return action, (log_normal - (1 - action.square() + 1e-6).log()).sum(1)


# --- discrete actions -----------------------------------------------------------------------------------------------


def dqn(ref, batch):
    ref.updates += 1
    c = ref.config
    with torch.no_grad():
        next_q = ref.target(batch.next_obs)
        best = (ref.q(batch.next_obs) if c.double else next_q).argmax(1, keepdim=True)
        y = bootstrapped(batch, next_q.gather(1, best).squeeze(1))
    q = taken(ref.q(batch.obs), batch.action)
    loss = F.mse_loss(q, y) if c.loss == "mse" else F.huber_loss(q, y)
    ref.minimise("q", loss, ref.q.parameters(), learning_rate=c.learning_rate, max_grad_norm=c.max_grad_norm)
    copy_when_due(ref, ref.q)
    return {"loss": loss, "q": q.mean()}


def taken(values, action):
    return values.gather(1, action.unsqueeze(1)).squeeze(1)


def copy_when_due(ref, online):
    if ref.updates % ref.config.target_update_every == 0:
        track(ref.target, online, 1.0)


def bc(ref, batch):
    log_pi = F.log_softmax(ref.policy(flatten(batch.obs)), dim=1)
    nll = F.nll_loss(log_pi, batch.action)
    loss = nll + ref.config.beta * log_pi.square().mean()
    ref.minimise("policy", loss, ref.policy.parameters(), learning_rate=ref.config.learning_rate)
    return {"loss": loss, "nll": nll, "agreement": (log_pi.argmax(1) == batch.action).float().mean()}


def cql(ref, batch):
    ref.updates += 1
    c, obs, next_obs = ref.config, flatten(batch.obs), flatten(batch.next_obs)
    with torch.no_grad():
        y = bootstrapped(batch, taken(ref.target(next_obs), ref.q(next_obs).argmax(1)))
    values = ref.q(obs)
    q = taken(values, batch.action)
    td_loss, conservative_loss = F.huber_loss(q, y), (values.logsumexp(1) - q).mean()
    loss = td_loss + c.alpha * conservative_loss
    ref.minimise("q", loss, ref.q.parameters(), learning_rate=c.learning_rate)
    copy_when_due(ref, ref.q)
    return {"loss": loss, "td_loss": td_loss, "conservative_loss": conservative_loss, "q": q.mean()}


def bcq(ref, batch):
    ref.updates += 1
    c, obs, next_obs = ref.config, flatten(batch.obs), flatten(batch.next_obs)
    with torch.no_grad():
        next_values, next_logits = ref.net(next_obs).chunk(2, dim=1)
        g = next_logits.softmax(1)
        allowed = g / g.amax(1, keepdim=True) > c.threshold
        best = next_values.where(allowed, -torch.inf).argmax(1)
        y = bootstrapped(batch, taken(ref.target(next_obs).chunk(2, dim=1)[0], best))
    values, logits = ref.net(obs).chunk(2, dim=1)
    q, log_g = taken(values, batch.action), F.log_softmax(logits, dim=1)
    td_loss = F.huber_loss(q, y)
    imitator_loss = F.nll_loss(log_g, batch.action) + c.beta * log_g.square().mean()
    loss = td_loss + imitator_loss
    ref.minimise("net", loss, ref.net.parameters(), learning_rate=c.learning_rate)
    copy_when_due(ref, ref.net)
    return {"loss": loss, "td_loss": td_loss, "imitator_loss": imitator_loss, "q": q.mean()}


UPDATES = {"ddpg": ddpg, "td3": td3, "sac": sac, "dqn": dqn, "bc": bc, "cql": cql, "bcq": bcq}
