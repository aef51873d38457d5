// A page of one session, and its cluster: the page stays with the session that its address meant when it was opened,
// and says when the cluster has begun a newer one.
import { $, ROOT, ask, h, ownSession, poll, sessionPath } from "./page.js";

const EVERY = 20_000;
const LOOKED_AT = 20; // sessions of a cluster, the newest first

/** Whether this page's address names no session but the one of a moment. */
export const byAlias = ["live", "latest"].includes(ownSession().session);

const isOf = (known) => (line) => line.namespace === known.namespace && line.name === known.name;

/** Has the links of the page's head lead to a session's own name, whatever name the address has. */
export function stayWith(known) {
  for (const link of document.querySelectorAll("header.top nav a")) {
    const rest = link.getAttribute("href").split("/").pop();
    if (["overview", "tail"].includes(rest)) link.href = new URL(sessionPath(known, rest), ROOT).href;
  }
}

/**
 * Looks at the cluster now and then. `current` gives the session that the page shows, null while that isn't known;
 * `heard` is told its line of the list. Where the address was an alias, a newer session is said, with a link to its `rest`.
 */
export function watchCluster(rest, current, heard = () => {}) {
  const place = h("p", { id: "newer", class: "panel said", role: "status", hidden: true });
  $("#problem").after(place);
  poll(async () => {
    const known = current();
    if (!known) return;
    try {
      const asked = new URLSearchParams({ namespace: known.namespace, search: `${known.namespace}/${known.name}/`, limit: LOOKED_AT });
      const lines = (await ask(`v1/sessions?${asked}`)).sessions.filter(isOf(known));
      const at = lines.findIndex((line) => line.session === known.session);
      if (at >= 0) heard(lines[at]);
      const newer = byAlias && at !== 0 ? lines.find((line) => line.status === "live" || line.status === null) : null;
      if (newer && (at < 0 || lines.indexOf(newer) < at)) tell(newer);
      else place.hidden = true;
    } catch {
      // the page itself says when the server can't be reached
    }
  }, EVERY);

  function tell(newer) {
    if (!place.hidden && place.dataset.session === newer.session) return; // said already: nothing to read out again
    place.dataset.session = newer.session;
    place.replaceChildren("This cluster has begun a newer session: ", h("a", { class: "mono", href: new URL(sessionPath(newer, rest), ROOT).href }, newer.session));
    place.hidden = false;
  }
}
