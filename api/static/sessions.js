// All sessions: a page of them from the server, kept up to date. The server counts them unasked; asked for are only those in
// sight whose turn hasn't come yet, and those that may live, a few at a time.
import { $, ROOT, ago, ask, bytes, duration, h, number, plural, poll, problem, ranked, byKind, sessionId, sessionPath, setUp, sortable, stamp, stateBar, statusMark, step, time, words } from "./page.js";

const EVERY = 5000;
const STALE = 60000; // from this age on it is said of counts that may have grown
const LIMIT = 50;
const COUNTED_AT_ONCE = 3;
const COLUMNS = [
  [null, "", "pick"],
  ["status", "Status", "col-status"],
  ["name", "Cluster", "col-name"],
  [null, "Session", "col-session"],
  [null, "Owner", "col-owner"],
  ["start", "Started", "col-start"],
  ["length", "Length", "col-length right"],
  ["failed", "Tasks", "col-tasks", "Sort by failed tasks"],
  [null, "", "col-links"],
];

const asked = readAddress();
const picked = new Map(); // session id -> session, for the comparison
const counted = new Map(); // session id -> what its summary said, until a list knows better
const unread = new Map(); // session id -> {failures, next}: those that could not be read, and when to ask again
let shown = null;
let rows = new Map(); // session id -> {text, element}

function readAddress() {
  const query = new URLSearchParams(location.search);
  return {
    search: query.get("search") ?? "",
    namespace: query.get("namespace") ?? "",
    status: query.get("status") ?? "",
    failed: query.get("failed") === "1" ? "1" : "",
    sort: query.get("sort") || "-start",
    offset: Math.max(0, Number.parseInt(query.get("offset") ?? "0", 10) || 0),
  };
}

function writeAddress() {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(asked)) {
    if (value && !(name === "sort" && value === "-start")) query.set(name, value);
  }
  const text = query.toString();
  history.replaceState(null, "", text ? `?${text}` : location.pathname);
}

/** Ask for something else: from the first page on, unless it is another page. */
function change(what, now = true) {
  Object.assign(asked, { offset: 0 }, what);
  writeAddress();
  if (now) load();
}

// -- the list ---------------------------------------------------------------------------------

let newest = 0;
let last = "";

/** The newest question's answer counts, whatever order they arrive in. */
async function load() {
  const own = ++newest;
  const query = new URLSearchParams({ ...asked, limit: LIMIT });
  try {
    const page = await ask(`v1/sessions?${query}`);
    if (own !== newest) return;
    problem(null);
    const text = JSON.stringify(page);
    shown = page;
    if (text !== last) show();
    last = text;
    count();
  } catch (error) {
    if (own === newest) problem(error);
  }
}

function show() {
  const { total, matched, offset, sessions } = shown;
  showFilters();
  const sort = { key: asked.sort.replace("-", ""), descending: asked.sort.startsWith("-") };
  const head = $("#sessions thead");
  const focused = head.contains(document.activeElement) ? document.activeElement.dataset.sort : null;
  head.replaceChildren(sortable(COLUMNS, sort, (key) => change({ sort: turned(key, sort) })));
  if (focused) $(`[data-sort="${focused}"]`, head)?.focus();
  showRows(sessions);
  const empty = $("#empty");
  empty.hidden = sessions.length > 0;
  $("#sessions").hidden = sessions.length === 0;
  empty.textContent = total ? "No session matches." : "No session yet. `ray-history up` beside a running Ray makes the first one.";
  const found = matched === total ? plural(total, "session") : `${number(matched)} of ${plural(total, "session")}`;
  const byCounts = asked.failed || ["failed", "tasks"].includes(sort.key);
  $("#said").textContent = byCounts && shown.uncounted ? `${found}, ${number(shown.uncounted)} not counted yet` : found;
  $("#range").textContent = sessions.length ? `${number(offset + 1)}–${number(offset + sessions.length)}` : "";
  $("#previous").disabled = offset === 0;
  $("#next").disabled = offset + sessions.length >= matched;
}

function turned(key, sort) {
  if (key === sort.key) return sort.descending ? key : `-${key}`;
  return key === "name" || key === "status" ? key : `-${key}`;
}

/** Rows that say the same as before stay the elements they were, so that focus and selection stay too. */
function showRows(sessions) {
  const next = new Map();
  for (const known of sessions) {
    const id = sessionId(known);
    const merged = withCounts(known);
    const text = JSON.stringify([merged, isUnreadable(id), picked.has(id), asOf(merged)]);
    const old = rows.get(id);
    const element = old?.text === text ? old.element : row(merged, old || rows.size === 0 ? "" : "new");
    next.set(id, { text, element });
  }
  const body = $("#sessions tbody");
  const wanted = [...next.values()].map((item) => item.element);
  const present = [...body.children];
  if (wanted.length !== present.length || wanted.some((element, at) => element !== present[at])) {
    const active = document.activeElement;
    const focus = body.contains(active) ? [active.closest("tr").dataset.id, active.dataset.part] : null;
    if (wanted.length === present.length && wanted.every((element, at) => element.dataset.id === present[at].dataset.id)) {
      wanted.forEach((element, at) => element !== present[at] && present[at].replaceWith(element));
    } else {
      body.replaceChildren(...wanted);
    }
    if (focus) next.get(focus[0])?.element.querySelector(`[data-part="${focus[1]}"]`)?.focus({ preventScroll: true });
  }
  rows = next;
}

function withCounts(known) {
  const own = counted.get(sessionId(known));
  if (!own || (known.summary && !(own.summary?.as_of_ms >= known.summary.as_of_ms))) return known;
  const { summary, too_large } = own;
  return known.status === null ? { ...known, ...own } : { ...known, summary, too_large }; // of what lives, the newest list knows best
}

function row(known, style) {
  const id = sessionId(known);
  const failed = (known.summary?.counts.tasks.FAILED ?? 0) + (known.summary?.counts.jobs.FAILED ?? 0);
  const pick = h("input", {
    type: "checkbox", data: { part: "pick" }, "aria-label": `Compare ${known.name} ${known.session}`,
    onchange: (event) => choose(known, event.target),
  });
  pick.checked = picked.has(id);
  const at = new URL(sessionPath(known), ROOT).href;
  return h(
    "tr",
    { class: [failed ? "failed" : "", style].join(" ").trim() || null, data: { id } },
    h("td", { class: "pick" }, pick),
    h("td", { class: "col-status" }, statusMark(known.status)),
    h("td", { class: "col-name", title: `${known.namespace}/${known.name}` },
      h("a", { href: `${at}overview`, data: { part: "open" }, "aria-label": `${known.name}, ${known.session}` }, h("span", { class: "quiet ns" }, known.namespace), h("span", { class: "quiet slash" }, "/"), h("span", { class: "own" }, known.name))),
    h("td", { class: "col-session mono quiet", title: known.session }, known.session.replace(/^session_/, "")),
    h("td", { class: "col-owner", title: known.owner_name }, known.owner_kind ? h("span", { class: "quiet" }, `${known.owner_kind} `) : null, known.owner_name || (known.owner_kind ? "" : h("span", { class: "quiet" }, "–"))),
    h("td", { class: "col-start" }, time(known.created_ms, { seconds: false })),
    h("td", { class: "col-length", title: lastWord(known) }, duration(known.length_ms)),
    h("td", { class: "col-tasks" }, tasks(known, id)),
    h("td", { class: "col-links right" }, h("a", { href: at, data: { part: "dashboard" }, "aria-label": `Ray dashboard of ${known.name} ${known.session}` }, "dashboard")),
  );
}

function lastWord(known) {
  if (known.ended_ms) return `ended ${stamp(known.ended_ms)}`;
  return known.heard_ms ? `last word ${stamp(known.heard_ms)}, ${ago(known.heard_ms)}` : null;
}

function tasks(known, id) {
  if (!known.summary) {
    if (isUnreadable(id)) return h("span", { class: "quiet", title: "it could not be read" }, "unreadable");
    if (!known.too_large) return h("span", { class: "quiet", data: { part: "tasks" }, title: "not counted yet" }, "–");
    return h("button", { type: "button", class: "plain quiet", data: { part: "tasks" }, title: `too large to be counted unasked: at least ${bytes(known.too_large)} to read`, onclick: () => countOne(known, true) }, "count");
  }
  const counts = known.summary.counts.tasks;
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
  const jobs = known.summary.counts.jobs.FAILED ?? 0;
  const old = asOf(known);
  const aside = old ? h("span", { class: "quiet as-of", title: `counted ${stamp(known.summary.as_of_ms)}` }, old) : null;
  if (!total && !jobs) return h("div", { class: "tasks" }, h("span", { class: "quiet" }, "no tasks"), aside);
  const sums = byKind(counts);
  const whole = ranked(counts).map(([state, count]) => `${number(count)} ${words(state)}`).join(", ");
  const rest = [["run", "running"], ["wait", "waiting"], ["done", "finished"], ["quiet", "other"]]
    .filter(([kind]) => sums[kind])
    .map(([kind, word]) => `${number(sums[kind])} ${word}`);
  return h(
    "div",
    { class: "tasks", title: known.summary.complete ? whole : `${whole}; this session is incomplete` },
    stateBar(counts),
    jobs ? toFailures(known, "failed-jobs", jobs === 1 ? "job failed" : `${number(jobs)} jobs failed`) : null,
    sums.bad ? toFailures(known, "failed", `${number(sums.bad)} failed`) : null,
    h("span", { class: "rest" }, total ? rest.join(" · ") : "no tasks"),
    known.summary.complete ? null : h("span", { class: "pill wait" }, "incomplete"),
    aside,
  );
}

/** How old the counts of a session are that may have grown since. */
function asOf(known) {
  if (!known.summary || known.summary.final || !mayLive(known)) return "";
  const age = Date.now() - known.summary.as_of_ms;
  if (age < STALE) return "";
  return age < 3600000 ? `${Math.round(age / 60000)} min ago` : `as of ${stamp(known.summary.as_of_ms, { seconds: false })}`;
}

/** One failure may be a server that is being restarted. */
const isUnreadable = (id) => unread.get(id)?.failures > 1;

const mayLive = (known) => known.status === "live" || known.status === null;

/** To what went wrong. */
function toFailures(known, part, text) {
  return h("a", { class: "pill bad", href: new URL(sessionPath(known, "overview#failures"), ROOT).href, data: { part } }, text);
}

// -- counting what is in sight ----------------------------------------------------------------

let counting = 0;
const queue = [];

/** Sessions of this page that were not counted yet, and again those that may live; the others count as long as nothing is news of them. */
function count() {
  queue.length = 0;
  for (const known of shown.sessions) {
    const merged = withCounts(known);
    const wanted = merged.summary
      ? !merged.summary.final && mayLive(merged) && Date.now() - merged.summary.as_of_ms > EVERY
      : !merged.too_large && !(Date.now() < unread.get(sessionId(known))?.next);
    if (wanted) queue.push(known);
  }
  while (counting < COUNTED_AT_ONCE && queue.length) countNext();
}

async function countNext() {
  const known = queue.shift();
  if (!known) return;
  counting += 1;
  await countOne(known, false);
  counting -= 1;
  if (!document.hidden) countNext();
}

async function countOne(known, whole) {
  const id = sessionId(known);
  try {
    const found = await ask(sessionPath(known, `v1/summary${whole ? "?load=1" : ""}`));
    counted.set(id, { ...found.session, too_large: found.session.summary ? null : found.too_large });
    unread.delete(id);
  } catch (error) {
    const failures = (unread.get(id)?.failures ?? 0) + 1;
    unread.set(id, { failures, next: Date.now() + Math.min(EVERY * 2 ** (failures - 1), 60000) - EVERY / 2 });
    if (whole) problem(error);
  }
  if (counted.size > 2000) counted.delete(counted.keys().next().value);
  showRows(shown.sessions);
}

// -- filters and the comparison ---------------------------------------------------------------

function showFilters() {
  const select = $("#namespace");
  const names = Object.entries(shown.namespaces);
  const wanted = JSON.stringify(names);
  if (select.dataset.shown !== wanted) {
    select.dataset.shown = wanted;
    select.replaceChildren(h("option", { value: "" }, "all namespaces"), ...names.map(([name, size]) => h("option", { value: name }, `${name} (${number(size)})`)));
  }
  select.value = asked.namespace;
  const { live = 0, ended = 0, lost = 0, unknown = 0 } = shown.statuses;
  const all = live + ended + lost + unknown;
  for (const [value, size] of [["", all], ["live", live + unknown], ["ended", ended], ["lost", lost]]) {
    const button = $(`[data-status="${value}"]`);
    button.setAttribute("aria-pressed", String(asked.status === value));
    $(".count", button).textContent = number(size);
  }
  $("#failed").setAttribute("aria-pressed", String(asked.failed === "1"));
  $("#failed .count").textContent = number(shown.failed);
}

function choose(known, box) {
  const id = sessionId(known);
  if (!box.checked) picked.delete(id);
  else picked.set(id, known);
  if (picked.size > 2) {
    const [first] = picked.keys();
    picked.delete(first);
    const old = [...document.querySelectorAll("#sessions tr")].find((element) => element.dataset.id === first);
    if (old) $("input", old).checked = false;
  }
  const button = $("#compare");
  button.disabled = picked.size !== 2;
  button.textContent = picked.size === 1 ? "Compare: one more" : "Compare";
}

function compare() {
  const pair = [...picked.values()].sort((one, other) => (one.created_ms ?? 0) - (other.created_ms ?? 0));
  const query = new URLSearchParams({ a: sessionId(pair[0]), b: sessionId(pair[1]) });
  location.href = new URL(`compare?${query}`, ROOT).href;
}

$("#status").append(
  ...[["", "all"], ["live", "live"], ["ended", "ended"], ["lost", "lost"]].map(([value, text]) =>
    h("button", { type: "button", data: { status: value }, "aria-pressed": "false", onclick: () => change({ status: value }) }, text, h("span", { class: "count" })),
  ),
);
$("#failed").addEventListener("click", () => change({ failed: asked.failed ? "" : "1" }));
let pause = 0;
$("#search").value = asked.search;
$("#search").addEventListener("input", (event) => {
  clearTimeout(pause);
  change({ search: event.target.value.trim() }, false);
  pause = setTimeout(load, 150);
});
$("#filters").addEventListener("submit", (event) => {
  event.preventDefault();
  $('[data-part="open"]')?.focus();
});
$("#namespace").addEventListener("change", (event) => change({ namespace: event.target.value }));
$("#compare").addEventListener("click", compare);
$("#previous").addEventListener("click", () => change({ offset: Math.max(0, asked.offset - LIMIT) }));
$("#next").addEventListener("click", () => change({ offset: asked.offset + LIMIT }));

setUp({
  "/": ["search", () => $("#search").focus()],
  j: ["next session", () => step('[data-part="open"]', 1)],
  k: ["previous session", () => step('[data-part="open"]', -1)],
  x: ["mark this session for the comparison", () => $('[data-part="pick"]', document.activeElement.closest("tr") ?? document)?.click()],
  f: ["only sessions in which something failed", () => $("#failed").click()],
  c: ["compare the two marked sessions", () => $("#compare").click()],
  n: ["next page", () => $("#next").click()],
  p: ["previous page", () => $("#previous").click()],
});

poll(load, EVERY);
