// Asks for the token and goes on to where one wanted to be; only ever to an address of this server.
import { $, ROOT } from "./page.js";

function wanted() {
  const next = new URL(new URLSearchParams(location.search).get("next") ?? "", ROOT);
  return next.href.startsWith(ROOT.href) ? next : ROOT;
}

function say(text) {
  const problem = $("#problem");
  problem.textContent = text;
  problem.hidden = false;
}

$("#form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const answer = await fetch(new URL("api/authenticate", ROOT), {
      method: "POST",
      headers: { Authorization: `Bearer ${$("#token").value.trim()}` },
    });
    if (answer.ok) location.replace(wanted());
    else say(answer.status === 403 ? "That token opens nothing here." : await answer.text());
  } catch {
    say("The server can't be reached, or what was typed can't be a token.");
  }
});
