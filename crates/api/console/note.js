// What a page says when its figures could not be had: why, and of when those are that it still shows.

import { h, setText, words } from "./dom.js";
import { away, live, now } from "./live.js";
import { clock } from "./words.js";

/** Which store it is the stream knows, and what to do the overview says. */
function why(problem) {
  const store = problem.status === 503 && live.sample && away(live.sample);
  return store ? `${store} ${store.includes(" ") ? "are" : "is"} away: the overview says what to do` : words(problem);
}

export function loadNote() {
  const element = h("p.refusal", { role: "alert" });
  let had = null;
  let failed = false;
  return {
    element,
    failed: () => failed,
    /** Runs `work`, which asks and shows. */
    async load(work) {
      try {
        await work();
        had = now();
        failed = false;
        setText(element, "");
      } catch (problem) {
        if (problem?.name === "AbortError") return;
        failed = true;
        setText(element, `${why(problem)}.${had ? ` Shown is what was so at ${clock(had, now())}.` : ""}`.replace(/\.\.(?= |$)/, "."));
      }
    },
  };
}
