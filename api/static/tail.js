// A session's events as they happen, from {session}/live (server-sent events). Whatever comes in is bounded here:
// at most MAX_ROWS rows stand on the page and as many wait for it; what is pushed out is counted.
import { $, ROOT, ask, h, kindOf, number, ownSession, plural, sessionId, sessionPath, setUp, stamp, statusMark, step, taskPage, telling, words } from "./page.js";
import { byAlias, stayWith, watchCluster } from "./cluster.js";

const KINDS = ["task", "actor", "node", "job", "worker", "log", "session"];
const FIELDS = ["name", "state", "job", "node"];
const STATES = ["RUNNING", "FINISHED", "FAILED", "PENDING_ARGS_AVAIL", "PENDING_NODE_ASSIGNMENT", "SUBMITTED_TO_WORKER", "ALIVE", "DEAD", "RESTARTING"];
const MAX_ROWS = 2000;
const RETRY_FIRST = 2000;
const RETRY_MOST = 30000;

let own = ownSession();
const form = $("#filters");
const list = $("#rows");
const stream = $("#stream");
const address = new URLSearchParams(location.search);
const totals = { received: 0, dropped: 0 };
let source = null;
let named = !byAlias; // whether `own` is the session's own name
let position = ""; // of the last event that was taken: a connection of ours goes on behind it
let told = null; // the session's status as the last row of it has it
let retry = 0;
let ended = false;
let heard = null; // the last word of a session that is lost
let wait = RETRY_FIRST;
let waiting = []; // events that are not on the page yet
let drawing = false;
let paused = false;
let following = true;

// -- the connection ---------------------------------------------------------------------------

/** Only what was asked for goes to the server; `since` and `speed` of this page's address go with it, for a replay. */
function query() {
  const asked = new URLSearchParams();
  const kinds = [...form.querySelectorAll("#kinds input:checked")].map((box) => box.value);
  if (kinds.length < KINDS.length) asked.set("kind", kinds.join(","));
  for (const name of FIELDS) {
    const value = form.elements[name].value.trim();
    if (value) asked.set(name, value);
  }
  for (const name of ["since", "speed"]) if (address.has(name)) asked.set(name, address.get(name));
  return asked;
}

function connect() {
  disconnect();
  const asked = query();
  if (asked.get("kind") === "") return say("closed", "No kind of event is chosen");
  say("waiting", "Connecting …");
  if (position) asked.set("last_event_id", position);
  source = new EventSource(new URL(`${sessionPath(own, "live")}?${asked}`, ROOT));
  source.addEventListener("open", () => {
    wait = RETRY_FIRST;
    connected();
  });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CONNECTING) return say("waiting", ended ? "The session has ended" : "Connection lost, trying again …");
    if (ended) return say("closed", "The session has ended, nothing more will come");
    // Closed by an answer that is no stream (a proxy's 502): the browser gives up, and forgets where it was. We don't.
    const seconds = Math.round(wait / 1000);
    retry = setTimeout(connect, wait);
    wait = Math.min(wait * 2, RETRY_MOST);
    say("waiting", `The server gave no stream, trying again in ${seconds} s`);
    explain();
  });
  for (const kind of KINDS) source.addEventListener(kind, (event) => take(kind, event));
  source.addEventListener("resync", (event) => {
    note(event);
    add({ gap: "Events were missed here: the server no longer had them." });
  });
}

/** Not every event has a position; one without leaves that of the last that had. */
function note(event) {
  if (event.lastEventId) position = event.lastEventId;
}

/** "live" and "latest" name the session of the moment at which the page was opened: go on with that one. */
function settle({ namespace, name, session }) {
  own = { namespace, name, session };
  named = true;
  show();
  connect();
}

function show() {
  $("#which").textContent = sessionId(own);
  document.title = `Live tail · ${own.name}${named ? ` · ${own.session}` : ""}`;
  if (named) stayWith(own);
}

/** A stream of a lost session is open like any other, and tells nothing: then that is said. */
function connected() {
  say("open", heard === null ? "Connected" : `Connected; nothing was heard since ${stamp(heard)}`);
}

function disconnect() {
  clearTimeout(retry);
  source?.close();
  source = null;
}

/** An event source doesn't tell why it was refused; the session itself does. */
async function explain() {
  try {
    const { session } = await ask(sessionPath(own, "v1/summary"));
    $("#which").replaceChildren(sessionId(session), " ", statusMark(session.status));
  } catch (error) {
    $("#link").textContent += `: ${error.message}`;
  }
}

function say(state, text) {
  const place = $("#link");
  place.dataset.state = state;
  place.textContent = text;
  $("#again").hidden = state === "open" || ended;
  $("#replay").hidden = address.has("since") || !(ended || heard !== null);
}

// -- events to rows ---------------------------------------------------------------------------

function take(kind, event) {
  note(event);
  let data;
  try {
    data = JSON.parse(event.data);
  } catch {
    data = { message: event.data };
  }
  if (data === null || typeof data !== "object") data = { message: String(data) };
  if (kind === "session" && !named && [data.namespace, data.name, data.session].every((part) => typeof part === "string")) return settle(data);
  if (kind === "session" && typeof data.status === "string") {
    ended = data.status === "ended";
    heard = data.status === "lost" ? (data.heard_ms ?? data.created_ms ?? 0) : null;
    if (source?.readyState === EventSource.OPEN) connected();
    $("#which").replaceChildren(sessionId(own), " ", statusMark(data.status));
    if (data.status === told) return; // begins every connection: news the first time only
    told = data.status;
  }
  totals.received += 1;
  add({ kind, data, at: Date.now() });
}

function add(item) {
  waiting.push(item);
  if (waiting.length > MAX_ROWS) {
    waiting.shift();
    totals.dropped += 1;
  }
  if (!drawing) {
    drawing = true;
    requestAnimationFrame(draw);
  }
}

function draw() {
  drawing = false;
  if (!paused) {
    const fresh = waiting;
    waiting = [];
    const over = list.children.length + fresh.length - MAX_ROWS;
    for (let gone = 0; gone < over; gone += 1) list.firstElementChild?.remove();
    list.append(...fresh.map(row));
    $("#empty").hidden = list.children.length > 0;
    if (following) stream.scrollTop = stream.scrollHeight;
  }
  showCounts();
}

function showCounts() {
  const parts = [plural(totals.received, "event"), `${number(list.children.length)} on the page`];
  if (paused && waiting.length) parts.push(`${number(waiting.length)} waiting`);
  if (totals.dropped) parts.push(`${number(totals.dropped)} passed by unseen`);
  $("#counts").textContent = parts.join(" · ");
}

function row(item) {
  if (item.gap) return h("li", { class: "gap" }, item.gap);
  const { kind, data } = item;
  const state = data.state ?? data.status ?? data.severity ?? (data.is_alive === false ? "DEAD" : "");
  const name = data.name || data.class_name || data.func_or_class_name || data.entrypoint || data.submission_id || data.node_ip || data.label || idOf(kind, data);
  const told = data.error_message || data.message || data.state_message || data.exit_detail || data.death_cause || data.error_type || "";
  const where = [data.job_id && `job ${data.job_id}`, data.node_id && kind !== "node" && `node ${String(data.node_id).slice(0, 8)}`].filter(Boolean).join(" ");
  const details = h("details", {
    ontoggle: () => {
      if (!details.open) return;
      follow(false); // someone reads here
      if (details.children.length === 1) details.append(...more(kind, data));
    },
  }, h("summary", { tabindex: "-1" },
    h("span", { class: "quiet", title: stamp(timeOf(item), { fraction: true }) }, clock(timeOf(item))),
    h("span", { class: "kind" }, kind),
    h("span", { class: kindOf(state) }, words(state)),
    h("span", { class: "what" }, String(name), data.attempt_number ? h("span", { class: "quiet" }, ` attempt ${data.attempt_number}`) : null, told ? h("span", { class: "quiet" }, ` ${telling(String(told)).slice(0, 300)}`) : null),
    h("span", { class: "quiet where" }, where)));
  return h("li", { class: kind }, details);
}

/** What an event says, and where more stands. */
function more(kind, data) {
  const id = typeof data.task_id === "string" ? data.task_id : "";
  const links = kind === "task" && id
    ? [h("a", { href: new URL(sessionPath(own, taskPage(data)), ROOT).href, "aria-label": `Task ${id} in the Ray dashboard` }, "task"), " · "]
    : [];
  return [
    h("p", { class: "quiet" }, links, h("a", { href: new URL(sessionPath(own, "overview#failures"), ROOT).href }, "failures and logs")),
    h("pre", { tabindex: "0" }, JSON.stringify(data, null, 2)),
  ];
}

const idOf = (kind, data) => String(data[`${kind}_id`] ?? "").slice(0, 16);
const clock = (ms) => stamp(ms, { fraction: true }).slice(11);

/** When it happened, where the event says; else when it came in. A session's event has the time of its creation. */
function timeOf({ kind, data, at }) {
  if (kind === "session") return data.ended_ms ?? (data.status === "lost" ? data.heard_ms : null) ?? at;
  return typeof data.created_ms === "number" && data.created_ms > 0 ? data.created_ms : at;
}

// -- controls ---------------------------------------------------------------------------------

function pause(on) {
  paused = on;
  const button = $("#pause");
  button.setAttribute("aria-pressed", String(on));
  button.textContent = on ? "Go on" : "Pause";
  draw();
}

function follow(on) {
  following = on;
  $("#follow").setAttribute("aria-pressed", String(on));
  if (on) stream.scrollTop = stream.scrollHeight;
}

function clear() {
  list.replaceChildren();
  waiting = [];
  told = null;
  $("#empty").hidden = false;
  showCounts();
}

let settling = 0;
function filtered() {
  clearTimeout(settling);
  settling = setTimeout(() => {
    const asked = query();
    history.replaceState(null, "", asked.size ? `?${asked}` : location.pathname);
    clear();
    position = ""; // what is asked for now is another stream
    connect();
  }, 250);
}

const chosen = address.get("kind")?.split(",");
$("#kinds").append(...KINDS.map((kind) => {
  const box = h("input", { type: "checkbox", value: kind });
  box.checked = !chosen || chosen.includes(kind);
  return h("label", {}, box, kind);
}));
$("#states").append(...STATES.map((state) => h("option", { value: state })));
for (const name of FIELDS) form.elements[name].value = address.get(name) ?? "";
form.addEventListener("input", filtered);
form.addEventListener("submit", (event) => event.preventDefault());
$("#pause").addEventListener("click", () => pause(!paused));
$("#follow").addEventListener("click", () => follow(!following));
$("#clear").addEventListener("click", clear);
$("#again").addEventListener("click", connect);
$("#replay").addEventListener("click", () => {
  address.set("since", "0");
  address.set("speed", "0");
  filtered();
});
stream.addEventListener("scroll", () => {
  const atEnd = stream.scrollHeight - stream.scrollTop - stream.clientHeight < 40;
  if (atEnd !== following) follow(atEnd);
});
addEventListener("pagehide", disconnect);
addEventListener("pageshow", (event) => event.persisted && connect());

setUp({
  "/": ["filter by name", () => form.elements.name.focus()],
  " ": ["pause, go on", () => pause(!paused)],
  f: ["auto-scroll on, off", () => follow(!following)],
  j: ["next event", () => step("#stream summary", 1)],
  k: ["previous event", () => { follow(false); step("#stream summary", -1); }],
  o: ["overview of this session", () => (location.href = new URL(sessionPath(own, "overview"), ROOT).href)],
  u: ["back to all sessions", () => (location.href = ROOT.href)],
});
show();
showCounts();
connect();
watchCluster("tail", () => (named ? own : null), ({ status }) => {
  // Its head is heard again after it said that the session had ended.
  if (ended && status !== "ended" && source?.readyState === EventSource.CLOSED) connect();
});
