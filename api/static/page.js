// What every page shares: making elements, asking the server, writing numbers and times, theme and keys.
// Nothing here or elsewhere makes HTML from a string: text goes in as text (the content policy holds us to it).

/** The server's own address, whatever path a proxy gives it: this file stands in {root}ui/. */
export const ROOT = new URL("../", import.meta.url);

const SVG = "http://www.w3.org/2000/svg";

/** An element. Properties: `class`, `on…` listeners, `data`; anything else is an attribute, left out where null or false. */
export function h(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

/** The same for pictures. */
export function svg(tag, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children);
}

function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const $ = (selector, within = document) => within.querySelector(selector);

/** JSON from the server; what it refuses is an Error that says why. */
export async function ask(path, { signal } = {}) {
  let answer;
  try {
    answer = await fetch(new URL(path, ROOT), { signal, headers: { Accept: "application/json" } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the server can't be reached");
  }
  const text = await answer.text();
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    // some of Ray's refusals are plain text
  }
  if (!answer.ok || body === null) {
    const refused = new Error(body?.msg || (answer.ok ? "the server's answer can't be read" : text.slice(0, 500)) || `the server answered ${answer.status}`);
    refused.status = answer.status;
    throw refused;
  }
  return body;
}

/** Where a session's own things are, relative to ROOT. */
export const sessionPath = (known, rest = "") =>
  ["sessions", known.namespace, known.name, known.session].map(encodeURIComponent).join("/") + "/" + rest;

export const sessionId = (known) => `${known.namespace}/${known.name}/${known.session}`;

/** The session that this page's address names. */
export function ownSession() {
  const parts = location.pathname.slice(ROOT.pathname.length).split("/").map(decodeURIComponent);
  return { namespace: parts[1] ?? "", name: parts[2] ?? "", session: parts[3] ?? "" };
}

// -- numbers and times ------------------------------------------------------------------------

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
export const number = (value) => whole.format(value);

/** 1 session, 2 sessions. */
export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** 12 ms, 3.4 s, 5 m 06 s, 2 h 03 m, 4 d 05 h. */
export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 10) return `${ms.toFixed(ms < 1 ? 2 : 1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 59.95) return `${seconds.toFixed(seconds < 9.95 ? 2 : 1)} s`;
  const units = [[86400, "d", 3600, "h"], [3600, "h", 60, "m"], [60, "m", 1, "s"]];
  const rounded = Math.round(seconds);
  const [size, unit, smaller, next] = units.find(([length]) => rounded >= length);
  return `${Math.floor(rounded / size)} ${unit} ${String(Math.floor((rounded % size) / smaller)).padStart(2, "0")} ${next}`;
}

const two = (value) => String(value).padStart(2, "0");

/** 2026-01-16 02:00:00, in the reader's own time zone. */
export function stamp(ms, { seconds = true, fraction = false } = {}) {
  const at = new Date(ms);
  if (Number.isNaN(at.getTime())) return "–";
  const date = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}${seconds ? `:${two(at.getSeconds())}` : ""}`;
  return `${date} ${clock}${fraction ? `.${String(at.getMilliseconds()).padStart(3, "0")}` : ""}`;
}

/** A time element; its title says the same in UTC and how long ago that was. */
export function time(ms, options = {}) {
  if (!ms || Number.isNaN(new Date(ms).getTime())) return h("span", { class: "quiet" }, "–");
  const utc = new Date(ms).toISOString();
  return h("time", { datetime: utc, title: `${utc}, ${ago(ms)}` }, options.text ?? stamp(ms, options));
}

export function ago(ms, now = Date.now()) {
  const gone = now - ms;
  if (Math.abs(gone) < 1000) return "now";
  return gone < 0 ? `in ${duration(-gone)}` : `${duration(gone)} ago`;
}

export const bytes = (size) => (size < 1e6 ? `${Math.round(size / 1e3)} kB` : `${(size / 1e6).toFixed(1)} MB`);

/** The line of a message that says what went wrong: of a traceback the exception, otherwise the first. */
export function telling(message) {
  const lines = message.split("\nSystem error:", 1)[0].split("\n");
  const frame = lines.findLastIndex((line) => line.startsWith('  File "'));
  const said = (line) => /^\S/.test(line) && !/^(CreationTaskError: )?User exception:$/.test(line);
  return lines.slice(frame + 1).find(said) ?? lines.find((line) => line.trim()) ?? "";
}

// -- states -----------------------------------------------------------------------------------

const KINDS = {
  FAILED: "bad", ERROR: "bad", FATAL: "bad", FINISHED: "done", SUCCEEDED: "done", ALIVE: "run", live: "run",
  DEAD: "quiet", STOPPED: "quiet", INFO: "quiet", DEBUG: "quiet", TRACE: "quiet", ended: "quiet",
};

/** bad, run, wait, done or quiet: the colour of a state. */
export function kindOf(state) {
  return KINDS[state] ?? (String(state).startsWith("RUNNING") || state === "RESTARTING" ? "run" : "wait");
}

/** FINISHED reads as finished, PENDING_NODE_ASSIGNMENT as pending node assignment. */
export const words = (state) => String(state).toLowerCase().replaceAll("_", " ");

const RANK = { bad: 0, run: 1, wait: 2, done: 3, quiet: 4 };

/** Counts by state as [state, count, kind], failures first. */
export const ranked = (counts) =>
  Object.entries(counts ?? {})
    .map(([state, count]) => [state, count, kindOf(state)])
    .sort((a, b) => RANK[a[2]] - RANK[b[2]] || b[1] - a[1]);

/** Counts by kind, failures first: {bad: 11, run: 4, …}. */
export function byKind(counts) {
  const sums = {};
  for (const [, count, kind] of ranked(counts)) sums[kind] = (sums[kind] ?? 0) + count;
  return sums;
}

const STATUS = {
  live: ["live", "its collector was heard within the last two minutes"],
  ended: ["ended", "its collector said that it ended"],
  lost: ["lost", "it fell silent without saying that it ended"],
  unknown: ["open", "no end was said; nobody has listened of late"],
};

export function statusMark(status) {
  const [text, meaning] = STATUS[status ?? "unknown"] ?? STATUS.unknown;
  return h("span", { class: `status ${status ?? "unknown"}`, title: meaning }, text);
}

/** A bar of a session's tasks by kind of state. Decoration: the numbers stand beside it. */
export function stateBar(counts, width = 96, height = 8) {
  const sums = byKind(counts);
  const total = Object.values(sums).reduce((sum, count) => sum + count, 0);
  let x = 0;
  const parts = Object.entries(sums).map(([kind, count]) => {
    // A single failure among a million is still to be seen.
    const share = Math.max((count / total) * width, kind === "bad" ? 3 : 0.5);
    const part = svg("rect", { class: kind, x: x.toFixed(1), y: 0, width: share.toFixed(1), height });
    x += share;
    return part;
  });
  return svg("svg", { class: "bar", viewBox: `0 0 ${Math.max(x, width).toFixed(1)} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, parts);
}

// -- the page ---------------------------------------------------------------------------------

/** Calls `work` at once and then `every` ms while the page is in sight; one at a time, and never again once it returns false. */
export function poll(work, every) {
  let timer = 0;
  let busy = false;
  let over = false;
  async function run() {
    clearTimeout(timer);
    if (busy || over) return;
    busy = true;
    try {
      over = (await work()) === false;
    } finally {
      busy = false;
      if (!over && !document.hidden) timer = setTimeout(run, typeof every === "function" ? every() : every);
    }
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : run()));
  run();
}

/** Says what went wrong, or nothing. */
export function problem(error) {
  const place = $("#problem");
  place.hidden = !error;
  place.textContent = error ? error.message : "";
}

const THEMES = ["auto", "light", "dark"];

function setUpTheme() {
  const button = $("#theme");
  const current = () => document.documentElement.dataset.theme ?? "auto";
  const show = () => {
    button.textContent = { auto: "◐", light: "☀", dark: "☾" }[current()];
    button.setAttribute("aria-label", `Theme: ${current()}`);
    button.title = `Theme: ${current()} (t)`;
  };
  button.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(current()) + 1) % THEMES.length];
    if (next === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    try {
      localStorage.setItem("ray-history-theme", next);
    } catch {
      // it holds for this page then
    }
    show();
  });
  show();
}

const typing = (target) =>
  target.isContentEditable || ["TEXTAREA", "SELECT"].includes(target.tagName) ||
  (target.tagName === "INPUT" && !["checkbox", "radio", "button"].includes(target.type));

/** Keys of this page: {key: [what it does, function]}. `t`, `?` and Escape work everywhere. */
export function setUp(keys = {}) {
  setUpTheme();
  const all = { ...keys, t: ["change the theme", () => $("#theme").click()], "?": ["show these keys", () => help.showModal()] };
  const help = helpDialog(all);
  document.body.append(help);
  $("#help").addEventListener("click", () => help.showModal());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    if (typing(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const known = all[event.key];
    if (!known || (event.key === " " && event.target.closest("a, button, input, summary"))) return;
    event.preventDefault();
    known[1](event);
  });
}

function helpDialog(keys) {
  const rows = Object.entries(keys).map(([key, [what]]) =>
    h("div", {}, h("dt", {}, h("kbd", {}, key === " " ? "space" : key)), h("dd", {}, what)),
  );
  return h(
    "dialog",
    { id: "keys", "aria-labelledby": "keys-title" },
    h("form", { method: "dialog" }, h("h2", { id: "keys-title" }, "Keys"), h("dl", {}, rows), h("button", {}, "Close")),
  );
}

/** The page of a task in the Ray dashboard, relative to its session. */
export const taskPage = ({ task_id: task, actor_id: actor, job_id: job }) =>
  actor ? `#/actors/${actor}/tasks/${task}` : `#/jobs/${job ?? ""}/tasks/${task}`;

/** The query of a list of tasks for those that have a value. */
export const tasksWith = (key, value) =>
  `api/v0/tasks?${new URLSearchParams({ detail: "1", limit: "1000", filter_keys: key, filter_predicates: "=", filter_values: value })}`;

/** Moves the focus to the next or previous of the elements that a selector finds. */
export function step(selector, by) {
  const all = [...document.querySelectorAll(selector)];
  const at = all.indexOf(document.activeElement);
  const next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + by, 0), all.length - 1)];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

/** A table's header whose columns sort: [key, text, class]. `sort` is {key, descending}. */
export function sortable(columns, sort, change) {
  return h(
    "tr",
    {},
    columns.map(([key, text, style, title]) => {
      if (!key) return h("th", { scope: "col", class: style, title }, text);
      const own = sort.key === key;
      return h(
        "th",
        { scope: "col", class: style, "aria-sort": own ? (sort.descending ? "descending" : "ascending") : null },
        h("button", { type: "button", title, data: { sort: key }, onclick: () => change(key) }, text, h("span", { class: "arrow", "aria-hidden": "true" }, own ? (sort.descending ? "▾" : "▴") : "")),
      );
    }),
  );
}
