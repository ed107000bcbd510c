"use strict";
// Tables sort and filter; what an LLM read and answered is built when it is unfolded. Texts only ever become text
// nodes: an LLM's answer is never taken for HTML.

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// --- tables ---------------------------------------------------------------------------------------------------------

function sortValue(row, column) {
  const cell = row.cells[column];
  return cell.dataset.value !== undefined ? cell.dataset.value : cell.textContent;
}

function compare(a, b, numeric) {
  return numeric ? Number(a) - Number(b) : a.localeCompare(b, undefined, { numeric: true });
}

function sort(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  const head = heads[column];
  const rising = head.getAttribute("aria-sort") !== "ascending";
  const numeric = head.classList.contains("number");
  const rows = [...table.tBodies[0].rows];
  rows.sort((x, y) => {
    const a = sortValue(x, column), b = sortValue(y, column);
    if (a === "" || b === "") return (a === "") - (b === ""); // what is missing stands last, either way
    return rising ? compare(a, b, numeric) : compare(b, a, numeric);
  });
  table.tBodies[0].append(...rows);
  heads.forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", rising ? "ascending" : "descending");
}

function filter(table, words, told) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of table.tBodies[0].rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !wanted.every((word) => text.includes(word));
    shown += !row.hidden;
  }
  told.textContent = `${shown} of ${table.tBodies[0].rows.length} rows`;
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = element("button", "", head.textContent);
    button.type = "button";
    head.replaceChildren(button);
    button.addEventListener("click", () => sort(table, column));
  });
}

for (const box of document.querySelectorAll(".filter")) {
  const table = document.getElementById(box.dataset.table);
  box.querySelector("input").addEventListener("input", (event) => filter(table, event.target.value, box.querySelector("output")));
}

// --- transcripts ----------------------------------------------------------------------------------------------------

function transcript(data) {
  return data.calls.map((call) => {
    if (call.gap) return element("p", "quiet", call.gap);
    const one = element("details", "call");
    one.append(element("summary", "", call.title));
    one.addEventListener("toggle", () => {
      if (one.childElementCount > 1) return;
      for (const [role, text] of call.messages) {
        one.append(element("p", "role", role), element("pre", "", data.texts[text]));
      }
      one.append(element("p", "role", "answer"), element("pre", "answer", data.texts[call.answer]));
      for (const line of call.after) one.append(element("p", "quiet", line));
    });
    return one;
  });
}

function vector(data, values) {
  const box = element("div", "vector");
  const largest = Math.max(...values.map(Math.abs)) || 1;
  values.forEach((value, i) => {
    const track = element("span", "track"), fill = element("span", "fill");
    const share = data.vector === "bias" ? Math.abs(value) / largest / 2 : value; // a bias grows from the middle
    fill.style.width = `${100 * share}%`;
    fill.style.left = data.vector === "bias" ? `${value < 0 ? 50 - 100 * share : 50}%` : "0";
    track.append(fill);
    box.append(element("span", "", data.actions[i]), element("span", "value", value.toFixed(4)), track);
  });
  return box;
}

function episodes(data) {
  const table = element("table"), head = table.createTHead().insertRow(), body = table.createTBody();
  for (const name of ["after episode", "env_steps", "return", "told of the episode", "described as", "answered", "explored with"]) {
    const th = element("th", "", name);
    th.scope = "col";
    head.append(th);
  }
  for (const one of data.episodes) {
    const row = body.insertRow();
    if (one.gap) {
      const cell = row.insertCell();
      cell.colSpan = 7;
      cell.textContent = one.gap;
      continue;
    }
    for (const number of [one.episode, one.env_steps, one.return]) row.append(element("td", "number", number));
    row.append(element("td", "wide", one.shown), element("td", "wide", one.description));
    row.append(element("td", "wide", [...one.answers, ...one.rejected.map((why) => `not usable: ${why}`)].join("\n")));
    const used = row.insertCell();
    used.append(one.vector ? vector(data, one.vector) : element("span", "", "no usable answer"));
  }
  const scroll = element("div", "scroll");
  scroll.tabIndex = 0;
  scroll.append(table);
  return [scroll];
}

const builders = { transcript, episodes };
for (const details of document.querySelectorAll("details[data-build]")) {
  details.addEventListener("toggle", () => {
    if (details.dataset.built) return;
    details.dataset.built = "yes";
    const data = JSON.parse(document.getElementById(details.dataset.from).textContent);
    details.append(...builders[details.dataset.build](data));
  });
}
