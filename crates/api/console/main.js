// The frame of all pages: navigation without reloading, the notices above each page, and the form for the token.

import * as api from "./api.js";
import { action, command, field, fill, h, section, setText, words } from "./dom.js";
import { follow, live, now, onLive, tryToken } from "./live.js";
import { clock, duration, relative, seconds } from "./words.js";
import { checks } from "./checks.js";
import { deadLetters } from "./dead-letters.js";
import { overview } from "./overview.js";
import { product } from "./product.js";
import { queue } from "./queue.js";
import { stock } from "./stock.js";
import { system } from "./system.js";

const PAGES = [
  ["/console", "Overview", overview],
  ["/console/queue", "Queue", queue],
  ["/console/dead-letters", "Dead letters", deadLetters],
  ["/console/product", "Product", product],
  ["/console/stock", "Stock", stock],
  ["/console/checks", "Checks", checks],
  ["/console/system", "System", system],
];

const byId = (id) => document.getElementById(id);
const content = byId("content");
let current = null;
let leave = null;
/** Pages are not shown while a token is asked for. */
let tokenAsked = false;

/** What a page is given: its place, and what ends with it. */
function handle(controller) {
  const { signal } = controller;
  return {
    signal,
    get: (path) => api.get(path, signal),
    onLive(tell) {
      onLive(tell, signal);
      tell(live);
    },
    /** Calls `work` now, and again `every` seconds after it ended or when the page is seen again. Returns how to call it at once; calls
     * follow one another, so that no old answer overtakes a new one. */
    poll(every, work) {
      let timer = 0;
      let last = Promise.resolve();
      const once = async () => {
        clearTimeout(timer);
        if (signal.aborted) return;
        try {
          if (!document.hidden) await work();
        } finally {
          clearTimeout(timer);
          timer = setTimeout(run, every * 1e3);
        }
      };
      const run = () => (last = last.then(once, once));
      signal.addEventListener("abort", () => clearTimeout(timer));
      document.addEventListener("visibilitychange", () => !document.hidden && run(), { signal });
      run();
      return run;
    },
    every(seconds, work) {
      const timer = setInterval(work, seconds * 1e3);
      signal.addEventListener("abort", () => clearInterval(timer));
    },
    go,
  };
}

function pageOf(path) {
  const bare = path.replace(/\/+$/, "");
  return PAGES.find(([at]) => at === bare) ?? PAGES[0];
}

function show(focus) {
  leave?.abort();
  leave = new AbortController();
  const [path, title, make] = (current = pageOf(location.pathname));
  for (const link of byId("pages").querySelectorAll("a")) {
    if (link.getAttribute("href") === path) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const heading = h("h1", { tabindex: "-1" }, title);
  content.replaceChildren(heading);
  content.append(...(tokenAsked ? [tokenForm()] : make(handle(leave))));
  setTitle();
  if (focus) {
    heading.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

/** Goes to another page, or to the same one with another query. */
function go(path) {
  history.pushState(null, "", path);
  show(true);
}

function setTitle() {
  const trouble = live.status === "live" && live.verdict?.state === "trouble" ? "Trouble: " : "";
  const title = `${trouble}${current[1]} · ${location.host} · Inventory`;
  if (document.title !== title) document.title = title;
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='/console']");
  if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(link.getAttribute("href"));
});
addEventListener("popstate", () => show(true));

/** Asks for a token where the page would be. */
function tokenForm() {
  const input = h("input", { type: "password", autocomplete: "off", spellcheck: "false", required: true, size: "60" });
  const secret = field("Token", input, "Starts with inv_. It is kept until this tab is closed.");
  const submit = h("button.primary", { type: "submit" }, "Use this token");
  if (api.token.get() && live.problem) secret.tell(words(live.problem));
  async function use(event) {
    event.preventDefault();
    if (submit.getAttribute("aria-disabled")) return;
    submit.setAttribute("aria-disabled", "true");
    try {
      await tryToken(input.value.trim());
      tokenAsked = false;
      follow();
      show(true);
    } catch (problem) {
      secret.tell(words(problem));
      input.focus();
    } finally {
      submit.removeAttribute("aria-disabled");
    }
  }
  const why = h("p", {}, "This listener answers only those who show a token with the scope admin.");
  const made = "inventoryctl token new --name console --scopes admin >> tokens.toml";
  const how = h("p.hint", {}, "To make one, where the tokens file of this API is: ", command(made), " It is shown once. Then ", command("systemctl reload inventory-api"));
  return section("Token", why, h("form", { onsubmit: use }, secret.element, submit), how);
}

function askForToken(problem) {
  Object.assign(live, { status: "token", problem });
  renderFrame();
  if (tokenAsked) return;
  tokenAsked = true;
  show(false);
}

api.onTokenNeeded(askForToken);

const CONNECTION = { connecting: "connecting", live: "live", cut: "no answer", token: "token needed" };

function renderFrame() {
  setText(byId("connection"), CONNECTION[live.status]);
  byId("connection").dataset.status = live.status;
  setTitle();
  renderBanners();
  sayVerdict();
  const held = api.token.get() && !tokenAsked;
  fill(byId("footer"), `${!!held}`, () => [
    h("p", {}, "Times are UTC. The same in a terminal: inventoryctl --help."),
    held && h("button.small", { type: "button", onclick: forget }, "Forget the token"),
  ]);
}

function forget() {
  api.token.forget();
  live.problem = null;
  follow();
}

const cutBanner = h("section", { class: "banner trouble", "aria-label": "No answer" });
const pauseBanner = h("section", { class: "banner watch", "aria-label": "Queue paused" });
const cutText = h("p", { role: "alert" });
const pauseText = h("p");
const resume = action("Resume the queue", async () => {
  await api.post("/queue/resume");
  return "Resumed: workers go on within a second.";
});
cutBanner.append(cutText);
pauseBanner.append(pauseText, resume.row, command("inventoryctl queue resume"));

function renderBanners() {
  const shown = [live.status === "cut" && cutBanner, live.paused && pauseBanner].filter(Boolean);
  if (live.status === "cut") setText(cutText, cutWords());
  if (live.paused) setText(pauseText, pausedWords(live.paused));
  else if (pauseBanner.isConnected) resume.result.replaceChildren();
  const banners = byId("banners");
  if (shown.length !== banners.children.length || shown.some((each, n) => banners.children[n] !== each)) banners.replaceChildren(...shown);
}

function cutWords() {
  const figures = live.sample ? `figures are those of ${clock(live.sample.at, now())}` : "there are no figures yet";
  const answers = live.problem?.status ? `has answered with a problem (${words(live.problem)})` : "has not answered";
  return `The API ${answers} since ${clock(live.cutSince, now())}; ${figures}. It is asked again every other second.`;
}

function pausedWords({ since, by, reason }) {
  const at = seconds(since);
  return `The queue has been paused since ${clock(at, now())} (${relative(now() - at)}) by ${by}: ${reason ?? "no reason was given"}. Views are accepted and wait.`;
}

/** Screen readers hear of another verdict, not of each figure in it. */
let said = "";
function sayVerdict() {
  const key = live.status === "live" ? `${live.verdict.state} ${live.verdict.alert}` : live.status;
  if (key === said || live.status === "connecting") return;
  said = key;
  const text = live.status === "live" ? `${live.verdict.sentence} ${live.verdict.remedy ?? ""}` : live.status === "cut" ? "The API does not answer." : "";
  byId("verdict-said").textContent = text;
}

byId("pages").append(...PAGES.map(([path, title]) => h("li", {}, h("a", { href: path }, title))));
byId("host").textContent = location.host;
onLive(() => {
  if (live.status === "token") askForToken(live.problem);
  renderFrame();
});
show(false);
renderFrame();
follow();
// The time since a cut goes on where no event comes.
setInterval(() => live.status === "cut" && renderBanners(), 1_000);
