// One session at a glance. Everything comes from one answer (v1/overview); the rest of the page is links.
import { $, ROOT, ago, ask, bytes, duration, h, kindOf, number, ownSession, plural, poll, problem, ranked, sessionId, sessionPath, setUp, sortable, stamp, statusMark, svg, taskPage, tasksWith, telling, time, words } from "./page.js";
import { stayWith, watchCluster } from "./cluster.js";

const EVERY = 5000;
const EVERY_ENDED = 20_000; // other nodes' last segments come after the end, and a head may be heard again
const PROGRESS_EVERY = 400;
const HEIGHT = 120;

let own = ownSession();
const at = (rest = "") => new URL(sessionPath(own, rest), ROOT).href;
const kept = new Map(); // details by key: they stay the elements they were when the page is drawn again
let sort = { key: "p95_ms", descending: true };
let last = "";
let names = null;
let ended = false;
let found = false; // whether `own` is the session's own name

// -- loading ----------------------------------------------------------------------------------

async function load() {
  const watch = last ? null : watchProgress();
  try {
    const answer = await ask(sessionPath(own, "v1/overview"));
    problem(null);
    const { session } = answer;
    if (!found) {
      // "live" and "latest" name the session of this moment: go on with that one.
      own = { namespace: session.namespace, name: session.name, session: session.session };
      stayWith(own);
      found = true;
    }
    ended = session.status === "ended";
    const text = JSON.stringify([answer.overview, session.status, answer.completeness]);
    if (text !== last) {
      last = text;
      show(answer);
    }
    countOn(session);
    return true;
  } catch (error) {
    problem(error);
    return error.status !== 404;
  } finally {
    watch?.();
  }
}

/** While the first answer is on its way: how far the server has come. */
function watchProgress() {
  const place = $("#loading");
  const bar = $("#loading-bar");
  let over = false;
  let timer = setTimeout(look, PROGRESS_EVERY);
  async function look() {
    try {
      const found = await ask(sessionPath(own, "progress"));
      place.hidden = over;
      if (found.look?.bytes) {
        bar.max = found.look.bytes;
        bar.value = found.look.bytes_done;
        $("#loading-text").textContent = `Reading the session: ${bytes(found.look.bytes_done)} of ${bytes(found.look.bytes)}`;
      }
    } catch {
      // the answer itself will say what is wrong
    }
    if (!over) timer = setTimeout(look, PROGRESS_EVERY);
  }
  return () => {
    over = true;
    clearTimeout(timer);
    place.hidden = true;
  };
}

// -- the page ---------------------------------------------------------------------------------

function show({ session, overview, completeness }) {
  document.title = `${session.name} · ${session.session}`;
  const focused = $("#page").contains(document.activeElement) ? document.activeElement : null;
  const first = names === null;
  $("#head").replaceChildren(...heading(session));
  names = overview;
  $("#page").replaceChildren(
    summary(session, overview, completeness),
    failures(overview),
    ...(overview.activity.running.length ? [picture(overview.activity, session)] : []),
    durations(overview),
    h("div", { class: "columns" }, jobs(overview), nodes(overview, session)),
    rawApi(session),
  );
  if (focused) alike(focused)?.focus({ preventScroll: true });
  if (first && location.hash === "#failures") $("#failures")?.scrollIntoView();
}

/** What stands where an element stood before the page was drawn again. */
function alike(old) {
  if (old.isConnected) return old;
  const said = (element) => JSON.stringify([element.getAttribute("href"), element.getAttribute("aria-label"), element.textContent]);
  return [...$("#page").querySelectorAll(old.tagName)].find((element) => said(element) === said(old));
}

function heading(session) {
  return [
    h("p", { class: "crumbs" }, h("a", { href: ROOT.href }, "Sessions"), " / ",
      h("a", { href: `${ROOT.href}?${new URLSearchParams({ namespace: session.namespace })}` }, session.namespace), " / ",
      h("a", { href: `${ROOT.href}?${new URLSearchParams({ search: `${session.namespace}/${session.name}/` })}` }, session.name)),
    h("div", { class: "title" },
      h("h1", { class: "mono" }, session.session), statusMark(session.status),
      h("div", { class: "links" },
        h("a", { class: "button primary", href: at() }, "Ray dashboard"),
        h("a", { class: "button", href: at("tail") }, "Live tail"),
        h("a", { class: "button", href: `${ROOT.href}compare?${new URLSearchParams({ a: sessionId(session) })}` }, "Compare with …"))),
  ];
}

function fact(term, ...said) {
  return h("div", {}, h("dt", {}, term), h("dd", {}, said));
}

function summary(session, overview, completeness) {
  const { counts } = overview;
  const alive = counts.nodes.ALIVE ?? 0;
  const dead = counts.nodes.DEAD ?? 0;
  return h(
    "section",
    { class: "panel", "aria-label": "Summary" },
    h("dl", { class: "facts" },
      fact("Owner", session.owner_kind || session.owner_name ? `${session.owner_kind} ${session.owner_name}` : "–"),
      fact("Started", time(session.created_ms)),
      session.ended_ms ? fact("Ended", time(session.ended_ms)) : fact("Last word", session.heard_ms ? [time(session.heard_ms), h("span", { class: "quiet" }, ` ${ago(session.heard_ms)}`)] : "–"),
      fact("Length", duration(session.length_ms)),
      fact("Ray", session.ray_version ?? "–"),
      fact("Nodes", `${number(alive + dead)}`, dead ? h("span", { class: "quiet" }, ` (${number(dead)} dead)`) : null),
      fact("Actors", stateList(counts.actors)),
      fact("Jobs", stateList(counts.jobs))),
    tiles(counts.tasks),
    completenessLine(completeness, session.summary.records),
  );
}

function stateList(counts) {
  const parts = ranked(counts).map(([state, count, kind], place) => [place ? ", " : "", h("span", { class: kind }, `${number(count)} ${words(state)}`)]);
  return parts.length ? parts : "none";
}

function tiles(counts) {
  const states = ranked(counts);
  if (!states.length) return h("p", { class: "said quiet" }, "No task was recorded.");
  return h("div", { class: "tiles" }, states.map(([state, count, kind]) =>
    h("a", { class: `tile ${kind}`, ...(state === "FAILED" ? { href: "#failures" } : { href: at(tasksWith("state", state)), title: `Tasks ${words(state)} as Ray lists them (JSON)` }) },
      h("b", {}, number(count)), h("span", {}, words(state)))));
}

function completenessLine({ complete, warning }, records) {
  const link = h("a", { href: at("completeness") }, "what it has and lacks");
  return complete
    ? h("p", { class: "said quiet" }, h("span", { class: "done" }, "✓ Complete. "), `${number(records)} records, nothing known to be missing (`, link, ").")
    : h("p", { class: "said lacking" }, h("b", {}, "Incomplete. "), `${warning.replace(/^this session is incomplete: /, "").replace(/ \(see \/completeness\)$/, "")} (`, link, ").");
}

// -- the picture ------------------------------------------------------------------------------

function picture(activity, session) {
  const { running, waiting, finished, failed, start_ms: start, bin_ms: bin } = activity;
  const bins = running.length;
  const most = Math.max(1, ...running.map((value, place) => value + waiting[place]));
  const y = (value) => HEIGHT - (value / most) * (HEIGHT - 4);
  const area = (low, high) => {
    let path = `M0 ${y(low(0)).toFixed(2)}`;
    for (let place = 0; place < bins; place += 1) path += `V${y(high(place)).toFixed(2)}H${place + 1}`;
    for (let place = bins - 1; place >= 0; place -= 1) path += `V${y(low(place)).toFixed(2)}H${place}`;
    return `${path}Z`;
  };
  const worst = Math.max(1, ...failed);
  const marks = failed.map((count, place) => {
    const size = count ? 6 + (count / worst) * 8 : 0;
    return count ? svg("rect", { class: "bad", x: place + 0.08, width: 0.84, y: HEIGHT + 20 - size, height: size }) : null;
  });
  const over = running.map((value, place) => svg("rect", { class: "over", x: place, y: 0, width: 1, height: HEIGHT + 20 }, svg("title", {}, binText(place))));
  function binText(place) {
    const from = start + place * bin;
    return `${stamp(from, { fraction: bin < 1000 })}, ${duration(bin)}\n${fine(running[place])} running, ${fine(waiting[place])} waiting\n${number(finished[place])} finished, ${number(failed[place])} failed`;
  }
  const total = bins * bin;
  const failures = failed.reduce((sum, count) => sum + count, 0);
  const text = `Tasks over ${duration(total)}: up to ${fine(Math.max(...running))} running and ${fine(Math.max(...waiting))} waiting at a time, ${plural(failures, "failure")}.`;
  const labels = [0, 0.25, 0.5, 0.75, 1].map((share) => start + total * share);
  const day = total > 20 * 3600e3;
  return h(
    "section",
    { class: "panel", "aria-labelledby": "activity-title" },
    h("div", { class: "head" }, h("h2", { id: "activity-title" }, "Activity"), h("span", { class: "quiet" }, `up to ${fine(most)} ${most === 1 ? "task" : "tasks"} at a time`),
      h("span", { class: "end" })),
    h("figure", {},
      svg("svg", { viewBox: `0 0 ${bins} ${HEIGHT + 20}`, preserveAspectRatio: "none", role: "img", "aria-label": text },
        svg("path", { class: "run", d: area(() => 0, (place) => running[place]) }),
        svg("path", { class: "wait", d: area((place) => running[place], (place) => running[place] + waiting[place]) }),
        svg("line", { class: "axis", x1: 0, x2: bins, y1: HEIGHT, y2: HEIGHT }),
        marks, over),
      h("div", { class: "scale", "aria-hidden": "true" }, labels.map((ms) => h("span", {}, day ? stamp(ms, { seconds: false }) : stamp(ms, { fraction: total < 20e3 }).slice(11)))),
      h("figcaption", { class: "key" },
        h("span", {}, h("i", { class: "run" }), "running"), h("span", {}, h("i", { class: "wait" }), "waiting"), h("span", {}, h("i", { class: "bad" }), "failed"),
        h("span", {}, `each step ${duration(bin)}`))),
  );
}

const fine = (value) => (value >= 100 ? number(value) : String(+value.toFixed(value < 10 ? 1 : 0)));

// -- tables -----------------------------------------------------------------------------------

function panel(id, title, aside, ...content) {
  return h("section", { class: "panel", "aria-labelledby": id }, h("div", { class: "head" }, h("h2", { id }, title), aside ? h("span", { class: "quiet" }, aside) : null), content);
}

function table(label, head, rows, style = null) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, h("table", { class: style }, h("thead", {}, head), h("tbody", {}, rows)));
}

const heads = (...columns) => h("tr", {}, columns.map(([text, style]) => h("th", { scope: "col", class: style }, text)));

/** Jobs that failed, then attempts by what went wrong. */
function failures({ failures: found, counts, jobs: all }) {
  const total = Object.values(counts.tasks).reduce((sum, count) => sum + count, 0);
  const broken = all.filter((job) => job.status === "FAILED");
  if (!found.total && !broken.length) return total ? panel("failures", "Failures", null, h("p", { class: "said quiet" }, h("span", { class: "done" }, "✓ "), "No attempt failed.")) : h("span");
  const kinds = found.group_count > found.groups.length ? `the ${found.groups.length} largest of ${number(found.group_count)} kinds` : plural(found.group_count, "kind");
  const aside = [broken.length ? plural(broken.length, "job") : null, found.total ? `${number(found.total)} of ${plural(total, "attempt")}, ${kinds}` : null].filter(Boolean).join(" · ");
  return panel("failures", "Failures", aside,
    table("Failures", heads(["Count", "right"], ["Error"], ["Tasks", "names"], ["Last"], ["", ""]), [...broken.map(brokenJob), ...found.groups.map(failureRow)], "stack"));
}

function failureRow(group) {
  const { example } = group;
  const rest = group.name_count - group.names.length;
  return h("tr", {},
    h("td", { class: "right" }, h("span", { class: "pill bad" }, number(group.count))),
    h("td", { class: "wrap error" },
      h("div", { class: "quiet mono" }, group.error_type || "no error type"),
      disclosure(`failure ${group.error_type} ${group.message}`, h("span", { class: "mono clamp" }, group.message || "(no message)"), () => [
        h("p", { class: "quiet" }, group.count > 1 ? "The last of them: " : null, h("span", { class: "mono" }, `task ${example.task_id}`), example.attempt_number ? ` attempt ${example.attempt_number}` : null),
        h("pre", { tabindex: "0" }, example.message || "(no message)"),
        logEnds({ task_id: example.task_id, attempt_number: example.attempt_number })])),
    h("td", { class: "wrap names" }, group.names.map(({ name, count }) => h("div", { class: "clamp mono", title: name }, group.names.length > 1 || rest ? h("span", { class: "quiet" }, `${number(count)} × `) : null, name)), rest ? h("div", { class: "quiet" }, `and ${plural(rest, "more name")}`) : null),
    h("td", {}, time(group.last_ms, { text: group.last_ms ? stamp(group.last_ms).slice(5) : "–" })),
    h("td", { class: "right" }, h("a", { href: at(taskPage(example)), "aria-label": `Task ${example.task_id} in the Ray dashboard` }, "task"), " · ",
      h("a", { href: at(tasksWith("task_id", example.task_id)), "aria-label": `Task ${example.task_id} as JSON` }, "JSON")));
}

function brokenJob(job) {
  const id = job.submission_id ?? job.job_id ?? "";
  return h("tr", {},
    h("td", { class: "right" }, h("span", { class: "pill bad" }, "job")),
    h("td", { class: "wrap error" },
      h("div", { class: "quiet mono" }, id),
      disclosure(`job ${id}`, h("span", { class: "mono clamp" }, telling(job.message) || "(no message)"), () => [
        h("pre", { tabindex: "0" }, job.message || "(no message)"),
        job.submission_id ? logEnds({ submission_id: job.submission_id }) : null])),
    h("td", { class: "wrap names" }, h("div", { class: "clamp mono", title: job.entrypoint }, job.entrypoint || "–")),
    h("td", {}, time(job.end_ms, { text: job.end_ms ? stamp(job.end_ms).slice(5) : "–" })),
    h("td", { class: "right" }, h("a", { href: at(`#/jobs/${encodeURIComponent(id)}`), "aria-label": `Job ${id} in the Ray dashboard` }, "job"), " · ",
      h("a", { href: at(`api/jobs/${encodeURIComponent(id)}`), "aria-label": `Job ${id} as JSON` }, "JSON")));
}

/** Something to open, which shows what was so when it was opened: nothing moves under the eyes of who reads. */
function disclosure(key, head, body) {
  const known = kept.get(key);
  if (known) {
    known.body = body;
    return known.element;
  }
  const place = h("div");
  const item = { body, element: h("details", { class: "message", ontoggle: () => item.element.open && place.replaceChildren(...item.body().filter(Boolean)) }, h("summary", {}, head), place) };
  kept.set(key, item);
  return item.element;
}

/** What was logged last by what failed. */
function logEnds(query) {
  const place = h("div", {}, h("p", { class: "quiet" }, "Reading the log …"));
  const fill = async () => {
    try {
      const { ends, why, later } = await ask(sessionPath(own, `v1/log_ends?${new URLSearchParams(query)}`));
      const told = ends.filter((end) => end.text);
      const silent = ends.filter((end) => !end.text).map((end) => end.of);
      place.replaceChildren(
        ...told.map(logEnd),
        ...(silent.length ? [h("p", { class: "quiet" }, `Nothing was written to ${silent.join(" and ")}.`)] : []),
        ...(ends.length ? [] : [h("p", { class: "quiet" }, `No log: ${why}`)]));
      for (const text of place.querySelectorAll("pre")) text.scrollTop = text.scrollHeight;
      if (later) setTimeout(() => place.isConnected && fill(), EVERY);
    } catch (error) {
      place.replaceChildren(h("p", { class: "quiet" }, `The log can't be read: ${error.message}`));
    }
  };
  fill();
  return place;
}

function logEnd({ of, text, whole, query }) {
  const link = query ? [" · ", h("a", { href: at(`api/v0/logs/file?${query}`) }, whole ? "as a file" : "all of it")] : null;
  return h("div", {}, h("p", { class: "quiet" }, whole ? of : `the end of ${of}`, link), h("pre", { tabindex: "0" }, text));
}

const NAME_COLUMNS = [
  ["name", "Name"], ["attempts", "Count", "right"], ["failed", "Failed", "right"], ["p50_ms", "p50", "right"], ["p95_ms", "p95", "right"],
  ["p99_ms", "p99", "right"], ["max_ms", "Longest", "right"], ["total_ms", "Total", "right", "All runs of this name added up"],
];

function durations({ names: rows, name_count: count, grouped_by: by }) {
  if (!rows.length) return h("span");
  const value = (row) => row[sort.key];
  const ordered = rows.filter((row) => value(row) !== null);
  ordered.sort((a, b) => (sort.key === "name" ? a.name.localeCompare(b.name) : value(a) - value(b)) * (sort.descending ? -1 : 1));
  const all = [...ordered, ...rows.filter((row) => value(row) === null)];
  const most = Math.max(...rows.map((row) => row.total_ms), 1);
  const aside = [by === "function" ? "by function, as names are too many" : "by name", count > rows.length ? `, the ${number(rows.length)} slowest of ${number(count)}` : ""].join("");
  return panel("durations", "Run times", aside,
    table("Run times", sortable(NAME_COLUMNS, sort, resort), all.map((row) => h("tr", {},
      h("td", { class: "wrap" }, row.name ? h("div", { class: "clamp mono", title: row.name }, row.name) : h("span", { class: "quiet" }, "(no name)")),
      h("td", { class: "right" }, number(row.attempts)),
      h("td", { class: "right" }, row.failed ? h("span", { class: "pill bad" }, number(row.failed)) : h("span", { class: "quiet" }, "0")),
      ...["p50_ms", "p95_ms", "p99_ms", "max_ms"].map((key) => h("td", { class: "right" }, row[key] === null ? h("span", { class: "quiet" }, "–") : duration(row[key]))),
      h("td", { class: "right" }, row.ran ? [svg("svg", { class: "meter", viewBox: "0 0 64 6", "aria-hidden": "true" }, svg("rect", { x: (64 - (row.total_ms / most) * 64).toFixed(1), width: ((row.total_ms / most) * 64).toFixed(1), height: 6, rx: 2 })), h("span", { class: "sum" }, duration(row.total_ms))] : h("span", { class: "quiet" }, "–"))))));
}

function resort(key) {
  sort = { key, descending: key === sort.key ? !sort.descending : key !== "name" };
  const old = $("#durations").closest("section");
  old.replaceWith(durations(names));
  $(`[data-sort="${key}"]`)?.focus();
}

function jobs({ jobs: rows, counts }) {
  const total = Object.values(counts.jobs).reduce((sum, count) => sum + count, 0);
  return panel("jobs", "Jobs", total > rows.length ? `${rows.length} of ${number(total)}` : null,
    rows.length
      ? table("Jobs", heads(["Job"], ["Status"], ["Entrypoint"], ["Length", "right"]), rows.map((job) => h("tr", {},
          h("td", {}, h("a", { class: "mono", href: at(`#/jobs/${encodeURIComponent(job.job_id ?? job.submission_id)}`) }, job.submission_id ?? job.job_id ?? "–")),
          h("td", { title: job.message }, h("span", { class: kindOf(job.status) }, words(job.status))),
          h("td", { class: "wrap" }, h("div", { class: "clamp mono", title: job.entrypoint }, job.entrypoint || "–")),
          h("td", { class: "right", title: job.start_ms ? `started ${stamp(job.start_ms)}` : null }, job.start_ms && job.end_ms >= job.start_ms ? duration(job.end_ms - job.start_ms) : "–"))))
      : h("p", { class: "said quiet" }, "None was recorded."));
}

function nodes({ nodes: rows, counts }, session) {
  const total = Object.values(counts.nodes).reduce((sum, count) => sum + count, 0);
  return panel("nodes", "Nodes", total > rows.length ? `${rows.length} of ${number(total)}` : null,
    rows.length
      ? table("Nodes", heads(["Node"], ["State"], ["CPU", "right"], ["GPU", "right"], ["Memory", "right"], ["Up", "right"]), rows.map((node) => h("tr", {},
          h("td", {}, h("a", { class: "mono", href: at(`#/cluster/nodes/${node.node_id}`), title: node.node_id }, node.ip || node.node_id.slice(0, 8)), node.is_head ? h("span", { class: "quiet" }, " head") : null),
          h("td", { title: node.message }, h("span", { class: kindOf(node.state) }, words(node.state))),
          h("td", { class: "right" }, amount(node.resources.CPU)),
          h("td", { class: "right" }, amount(node.resources.GPU)),
          h("td", { class: "right" }, node.resources.memory ? `${(node.resources.memory / 2 ** 30).toFixed(1)} GiB` : "–"),
          h("td", { class: "right", title: node.start_ms ? `since ${stamp(node.start_ms)}` : null, data: node.start_ms && node.state === "ALIVE" ? { since: node.start_ms } : {} }, upFor(node, session)))))
      : h("p", { class: "said quiet" }, "None was recorded."),
    rows.length ? logs(rows) : null);
}

/** The last moment of a session that is known, by the server's clock: now while it lives. */
const until = (session) => (session.status === "live" ? session.summary.as_of_ms : session.ended_ms ?? session.heard_ms);

/** How long a node was up; of one that never died, until now or until the session's last moment. */
function upFor(node, session) {
  const end = node.state === "ALIVE" ? until(session) : node.end_ms;
  return node.start_ms && end >= node.start_ms ? duration(end - node.start_ms) : "–";
}

/** Nodes that are up count on, though nothing else of the page has changed. */
function countOn(session) {
  for (const cell of document.querySelectorAll("#page [data-since]")) cell.textContent = upFor({ state: "ALIVE", start_ms: Number(cell.dataset.since) }, session);
}

const amount = (value) => (value === undefined ? "–" : String(+value.toFixed(2)));

// -- logs and the API -------------------------------------------------------------------------

/** The list of a node's log files is asked for when someone opens it. */
function logs(rows) {
  return h("div", { class: "body" }, rows.slice(0, 20).map((node) => disclosure(`logs ${node.node_id}`, `Log files of ${node.ip || node.node_id.slice(0, 8)}`, () => {
    const place = h("div", {}, h("p", { class: "quiet" }, "…"));
    fillLogs(node, place);
    return [place];
  })));
}

async function fillLogs(node, place) {
  try {
    const answer = await ask(sessionPath(own, `api/v0/logs?${new URLSearchParams({ node_id: node.node_id })}`));
    const files = Object.entries(answer.data.result).flatMap(([group, list]) => list.map((name) => [group, name])).slice(0, 1000);
    place.replaceChildren(files.length
      ? h("ul", {}, files.map(([, name]) => h("li", { class: "mono" }, name.endsWith("/")
          ? name
          : h("a", { href: at(`api/v0/logs/file?${new URLSearchParams({ node_id: node.node_id, filename: name, lines: "50000" })}`) }, name))))
      : h("p", { class: "quiet" }, "None was stored."));
  } catch (error) {
    place.replaceChildren(h("p", { class: "quiet" }, `No log file can be listed: ${error.message}`));
  }
}

function rawApi(session) {
  const lines = [
    ["Failed tasks", tasksWith("state", "FAILED")],
    ["Tasks by name", "api/v0/tasks/summarize"],
    ["Actors", "api/v0/actors?detail=1"],
    ["Jobs", "api/jobs/"],
    ["Nodes", "nodes?view=summary"],
    ["Timeline for Perfetto", "api/v0/tasks/timeline?download=1"],
    ["This page", "v1/overview"],
  ];
  const base = at().replace(/\/$/, "");
  return panel("api", "The same as data", null, h("div", { class: "body" },
    lines.map(([what, path]) => curl(what, at(path))),
    h("p", { class: "quiet" }, "Ray's own command line reads it too:"),
    command(`ray list tasks --address ${base}`)));
}

function curl(what, url) {
  return h("div", { class: "curl" }, h("code", {}, "curl -s ", h("a", { href: url, title: what }, `'${url}'`)), copier(`curl -s '${url}'`, what));
}

function command(text) {
  return h("div", { class: "curl" }, h("code", {}, text), copier(text, "the command"));
}

function copier(text, what) {
  return h("button", { type: "button", "aria-label": `Copy: ${what}`, onclick: async (event) => {
    const button = event.currentTarget;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "copied";
    } catch {
      button.textContent = "can't";
    }
    setTimeout(() => (button.textContent = "copy"), 1500);
  } }, "copy");
}

setUp({
  d: ["open the Ray dashboard of this session", () => (location.href = at())],
  l: ["live tail", () => (location.href = at("tail"))],
  u: ["back to all sessions", () => (location.href = ROOT.href)],
});
poll(load, () => (ended ? EVERY_ENDED : EVERY));
watchCluster("overview", () => (found ? own : null));
