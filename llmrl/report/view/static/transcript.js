// A transcript: its calls by purpose, verdict and text. A call's texts are fetched when it is unfolded.
import { field, get, notice, rounded, select, whole } from "./parts.js";

const NAMES = { none: "no verdict" };

export async function transcript(place, path) {
  const asked = { purpose: "", verdict: "", text: "" };
  const line = element("div", "filter"), count = element("output", "quiet"), calls = element("div"), more = element("button", "action");
  const search = element("input");
  const shown = new Map(); // number -> details
  let offered = "", turn = 0, reach = 0; // calls that were asked for so far
  search.type = "search";
  search.placeholder = "words in prompt or answer";
  more.type = "button";
  place.append(line, count, calls, more);
  let waiting = null;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => change("text", search.value), 150);
  });
  more.addEventListener("click", () => load(reach));

  function change(key, value) {
    asked[key] = value;
    reach = 0;
    return load(0, true);
  }

  function offer(data) {
    const choices = (name, counts) => [["", `all (${whole(data.total)})`],
      ...Object.entries(counts).map(([value, n]) => [value, `${NAMES[value] || value} (${whole(n)})`])];
    const key = JSON.stringify([data.total, data.purposes, data.verdicts]);
    if (key === offered) return;
    offered = key;
    const focused = document.activeElement;
    line.replaceChildren(
      field("Call", select(choices("purpose", data.purposes), asked.purpose, (value) => change("purpose", value))),
      field("Verdict", select(choices("verdict", data.verdicts), asked.verdict, (value) => change("verdict", value))),
      field("Text", search),
    );
    if (focused === search) search.focus();
  }

  async function load(begin, fresh = false) {
    const mine = ++turn;
    let data;
    try {
      data = await get("calls", { run: path, ...asked, begin });
    } catch (error) {
      if (mine === turn) calls.replaceChildren(notice(error.message));
      return;
    }
    if (mine !== turn) return; // something else has been asked for since
    if (fresh) {
      shown.clear();
      calls.replaceChildren();
    }
    for (const call of data.calls) {
      const there = shown.get(call.number);
      if (there) title(there.firstChild, call);
      else {
        const made = unfolding(call);
        shown.set(call.number, made);
        calls.append(made);
      }
    }
    reach = Math.max(reach, begin + data.calls.length);
    offer(data);
    count.textContent = `${whole(data.matching)} of ${whole(data.total)} calls`;
    more.hidden = reach >= data.matching;
    more.textContent = `Show more (${whole(data.matching - reach)} left)`;
  }

  function title(summary, call) {
    const tokens = call.prompt_tokens === null ? "" : `${whole(call.prompt_tokens)}+${whole(call.completion_tokens)} tokens`;
    const usd = call.usd ? `${rounded(call.usd)} USD` : "";
    const facts = [call.model, tokens, usd].filter(Boolean).join(" · ");
    summary.replaceChildren(element("span", "index", `${call.purpose} ${call.index}`), " ");
    if (call.verdict) summary.append(element("span", `status ${call.verdict.replace(" ", "-")}`, call.verdict), " ");
    summary.append(element("span", "quiet", facts));
    if (call.reason || call.begin) summary.append(element("span", "begin quiet", call.reason || call.begin));
  }

  function unfolding(call) {
    const made = element("details", "call"), summary = element("summary");
    title(summary, call);
    made.append(summary);
    made.addEventListener("toggle", async () => {
      if (!made.open || made.childElementCount > 1) return;
      const inside = element("div");
      made.append(inside);
      try {
        const whole = await get("call", { run: path, number: call.number });
        for (const [role, text] of whole.messages) inside.append(element("p", "role", role), element("pre", "", text));
        if (whole.answer !== null) inside.append(element("p", "role", "answer"), element("pre", "answer", whole.answer));
        for (const line of whole.after) inside.append(element("p", "quiet", line));
      } catch (error) {
        inside.append(notice(error.message));
      }
    });
    return made;
  }

  await load(0);
  // what was listed last may have got a verdict since, and there may be more
  return { update: () => load(Math.max(0, reach - 50)) };
}
