// Two sessions side by side, from v1/compare: A before, B after. What differs is marked and stands first.
import { $, ROOT, ask, duration, h, number, plural, problem, ranked, sessionId, sessionPath, setUp, sortable, stateBar, statusMark, time, words } from "./page.js";

const asked = Object.fromEntries(["a", "b"].map((side) => [side, new URLSearchParams(location.search).get(side) ?? ""]));
let compared = null;
let only = true;
let search = "";
let sort = { key: "", descending: true };

async function load() {
  if (!asked.a || !asked.b) return;
  $("#loading").hidden = false;
  try {
    compared = await ask(`v1/compare?${new URLSearchParams(asked)}`);
    problem(null);
    only = compared.comparison.different > 0;
    show();
  } catch (error) {
    problem(error);
  } finally {
    $("#loading").hidden = true;
  }
}

// -- the two sides ----------------------------------------------------------------------------

function show() {
  const { a, b, comparison } = compared;
  document.title = `${a.name} and ${b.name} compared`;
  $("#page").replaceChildren(
    ...[h("div", { class: "sides" }, side("A", a), side("B", b)), totals(a, b), failures(comparison)].filter(Boolean),
    h("section", { class: "panel", "aria-labelledby": "names" },
      h("div", { class: "head" }, h("h2", { id: "names" }, "Tasks"),
        h("span", { class: "quiet" }, `${number(comparison.different)} of ${number(comparison.row_count)} ${comparison.grouped_by === "function" ? "functions" : "names"} differ`)),
      h("div", { class: "body bar-of-tools" },
        h("input", { type: "search", class: "grow", id: "search", value: search, placeholder: "Search names  ( / )", "aria-label": "Search names", oninput: (event) => { search = event.target.value; rows(); } }),
        h("button", { type: "button", id: "only", "aria-pressed": String(only), onclick: () => { only = !only; $("#only").setAttribute("aria-pressed", String(only)); rows(); } }, "Differences only")),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Tasks by name" }, h("table", { id: "compared" }, h("thead"), h("tbody"))),
      h("div", { class: "empty", id: "empty", hidden: true })),
  );
  rows();
}

function side(letter, known) {
  const at = new URL(sessionPath(known), ROOT).href;
  const owner = [known.owner_kind, known.owner_name].filter(Boolean).join(" ");
  return h("section", { class: "panel", "aria-label": `Session ${letter}` },
    h("div", { class: "head" }, h("h2", {}, h("span", { class: "side-letter" }, letter), h("a", { href: `${at}overview` }, `${known.namespace}/${known.name}`)), statusMark(known.status)),
    h("div", { class: "body" },
      h("div", { class: "mono cut" }, known.session),
      h("div", {}, time(known.created_ms), h("span", { class: "quiet" }, ` · ${duration(known.length_ms)}${owner ? ` · ${owner}` : ""}${known.ray_version ? ` · Ray ${known.ray_version}` : ""}`)),
      h("div", {}, stateBar(known.summary.counts.tasks), known.summary.complete ? null : h("span", { class: "pill wait" }, "incomplete"))));
}

/** Counts by state, a row each. */
function totals(a, b) {
  return h("div", { class: "columns" },
    totalsPanel("totals", "Tasks by state", ["tasks"], a, b),
    totalsPanel("others", "Actors, jobs, nodes", ["actors", "jobs", "nodes"], a, b));
}

function totalsPanel(id, title, kinds, a, b) {
  const lines = kinds.flatMap((what) => {
    const [one, other] = [a, b].map((known) => known.summary.counts[what]);
    const both = Object.fromEntries([...Object.keys(one), ...Object.keys(other)].map((state) => [state, (one[state] ?? 0) + (other[state] ?? 0)]));
    return ranked(both).map(([state, , kind]) => ({ what, state, kind, one: one[state] ?? 0, other: other[state] ?? 0 }));
  });
  const head = [["State"], ["A", "right"], ["B", "right"], ["B − A", "right"]];
  return h("section", { class: "panel", "aria-labelledby": id }, h("h2", { id }, title),
    lines.length
      ? h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title }, h("table", {},
          h("thead", {}, h("tr", {}, head.map(([text, style]) => h("th", { scope: "col", class: style }, text)))),
          h("tbody", {}, lines.map((line) => total(line, kinds.length > 1)))))
      : h("p", { class: "said quiet" }, "None on either side."));
}

function total({ what, state, kind, one, other }, several) {
  return h("tr", {},
    h("td", {}, several ? `${what} ` : null, h("span", { class: kind }, words(state))),
    h("td", { class: "right" }, number(one)),
    h("td", { class: "right" }, number(other)),
    h("td", { class: "right" }, one === other ? h("span", { class: "quiet" }, "same") : h("b", {}, signed(other - one))));
}

/** Kinds of failures; those that only one side has stand first. */
function failures({ failures: kinds, failure_count: count }) {
  if (!count) return null;
  const aside = count > kinds.length ? `${number(kinds.length)} of ${number(count)} kinds` : plural(count, "kind");
  const heads = [["Error"], ["A", "right"], ["B", "right"], ["B − A", "right"]];
  return h("section", { class: "panel", "aria-labelledby": "failures" },
    h("div", { class: "head" }, h("h2", { id: "failures" }, "Failures"), h("span", { class: "quiet" }, aside)),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Failures by kind" }, h("table", {},
      h("thead", {}, h("tr", {}, heads.map(([text, style]) => h("th", { scope: "col", class: style }, text)))),
      h("tbody", {}, kinds.map((kind) => h("tr", {},
        h("td", { class: "wrap" }, h("div", { class: "quiet mono" }, kind.error_type || "no error type"),
          h("span", { class: "mono" }, kind.message || "(no message)"), kind.a && kind.b ? null : h("span", {}, " ", h("span", { class: "pill wait" }, kind.a ? "only in A" : "only in B"))),
        h("td", { class: "right" }, number(kind.a)),
        h("td", { class: "right" }, number(kind.b)),
        h("td", { class: "right" }, kind.a === kind.b ? h("span", { class: "quiet" }, "same") : h("b", { class: kind.b > kind.a ? "bad" : "done" }, signed(kind.b - kind.a)))))))));
}

const signed = (value) => (value > 0 ? `+${number(value)}` : `−${number(-value)}`);

// -- names ------------------------------------------------------------------------------------

const COLUMNS = [
  ["name", "Name"],
  ["count", "Count A", "right first"], [null, "B", "right"],
  ["failed", "Failed A", "right first"], [null, "B", "right"],
  ["p50", "p50 A", "right first"], [null, "B", "right"], [null, "B / A", "right"],
  ["p95", "p95 A", "right first"], [null, "B", "right"], [null, "B / A", "right"],
];
const VALUES = {
  name: (row) => row.name,
  count: (row) => row.a?.attempts ?? null,
  failed: (row) => row.a?.failed ?? null,
  p50: (row) => row.a?.p50_ms ?? null,
  p95: (row) => row.a?.p95_ms ?? null,
};

function rows() {
  const all = compared.comparison.rows;
  let found = all.filter((row) => (!only || row.differs.length) && row.name.toLowerCase().includes(search.toLowerCase()));
  if (sort.key) {
    const value = VALUES[sort.key];
    const known = found.filter((row) => value(row) !== null);
    known.sort((x, y) => (sort.key === "name" ? x.name.localeCompare(y.name) : value(x) - value(y)) * (sort.descending ? -1 : 1));
    found = [...known, ...found.filter((row) => value(row) === null)];
  }
  $("#compared thead").replaceChildren(sortable(COLUMNS, sort, resort));
  $("#compared tbody").replaceChildren(...found.map(row));
  const empty = $("#empty");
  empty.hidden = found.length > 0;
  empty.textContent = all.length ? "No name matches." : "Neither session has tasks.";
}

function resort(key) {
  sort = { key, descending: key === sort.key ? !sort.descending : key !== "name" };
  rows();
  $(`[data-sort="${key}"]`)?.focus();
}

function row({ name, a, b, p50_ratio, p95_ratio, differs }) {
  const missing = h("span", { class: "quiet" }, "–");
  const both = a && b;
  const cell = (said, differs, worse, first) => h("td", { class: ["right", first ? "first" : "", differs ? "diff" : "", differs && worse !== undefined ? (worse ? "worse" : "better") : ""].join(" ").trim() }, said);
  const times = (key, ratio) => [
    cell(a?.[key] == null ? missing.cloneNode(true) : duration(a[key]), false, undefined, true),
    cell(b?.[key] == null ? missing.cloneNode(true) : duration(b[key])),
    cell(ratio === null ? missing.cloneNode(true) : `× ${ratio >= 100 ? number(ratio) : ratio.toFixed(2)}`, differs.includes(key.slice(0, 3)), ratio > 1),
  ];
  return h("tr", {},
    h("td", { class: "wrap name" }, h("div", { class: "named" }, name ? h("span", { class: "clamp mono", title: name }, name) : h("span", { class: "quiet" }, "(no name)"), both ? null : h("span", { class: "pill wait" }, a ? "only in A" : "only in B"))),
    cell(a ? number(a.attempts) : missing.cloneNode(true), false, undefined, true),
    cell(b ? number(b.attempts) : missing.cloneNode(true), differs.includes("count")),
    cell(a ? number(a.failed) : missing.cloneNode(true), false, undefined, true),
    cell(b ? number(b.failed) : missing.cloneNode(true), differs.includes("failed"), both ? b.failed > a.failed : undefined),
    ...times("p50_ms", p50_ratio),
    ...times("p95_ms", p95_ratio));
}

// -- choosing ---------------------------------------------------------------------------------

for (const name of ["a", "b"]) $(`#${name}`).value = asked[name];
let pause = 0;
$("#choose").addEventListener("input", (event) => {
  clearTimeout(pause);
  pause = setTimeout(() => suggest(event.target.value), 200);
});
$("#choose").addEventListener("submit", (event) => {
  event.preventDefault();
  for (const name of ["a", "b"]) asked[name] = $(`#${name}`).value.trim();
  if (!asked.a || !asked.b) return problem(new Error("Two sessions are needed, each as namespace/name/session."));
  history.pushState(null, "", `?${new URLSearchParams(asked)}`);
  load();
});
$("#swap").addEventListener("click", () => {
  const [one, other] = [$("#a"), $("#b")];
  [one.value, other.value] = [other.value, one.value];
  if (one.value && other.value) $("#choose").requestSubmit();
});
addEventListener("popstate", () => location.reload());

/** Sessions whose name holds what was typed, for the browser's own list. */
async function suggest(text) {
  try {
    const page = await ask(`v1/sessions?${new URLSearchParams({ search: text.trim().slice(0, 200), limit: "20" })}`);
    $("#known").replaceChildren(...page.sessions.map((known) => h("option", { value: sessionId(known) })));
  } catch {
    // the comparison itself will say what is wrong
  }
}

setUp({
  "/": ["search names", () => $("#search")?.focus()],
  d: ["differences only, all names", () => $("#only")?.click()],
  s: ["swap A and B", () => $("#swap").click()],
  u: ["back to all sessions", () => (location.href = ROOT.href)],
});
suggest("");
load();
